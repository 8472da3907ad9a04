"""What the volume service does: one file per kind of thing."""
