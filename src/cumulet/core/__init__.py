"""What every room stands on: web, bus, saga, database, policy, errors, clock, ids.  Imports no service."""
