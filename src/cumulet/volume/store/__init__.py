"""The volume service's SQL: one file per table it is about."""
