"""What the compute API does, one file per kind of thing."""
