"""The volume host: carries out what concerns the bytes, with its driver."""
