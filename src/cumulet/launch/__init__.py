"""How a server comes to run.  Read `flow.py` first."""
