"""A whole OpenStack-API-compatible cloud in one program."""
