"""The compute service's only SQL, one file per resource."""
