"""Servers: the compute API, the scheduler, the conductor and what runs on a host (Nova)."""
