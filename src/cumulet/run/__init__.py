"""Who is wired to whom.  The only room that knows all the others.

`cli.py` the program; `all_in_one.py` a whole cloud in one process; `machine.py` which drivers this machine gets; `services.py` the
services and their doors; `state.py` what a state directory holds.
"""
