"""The scheduler: a snapshot of hosts in, a plan out.

`plan.py` is pure: filters and weights over a snapshot, each one small file, each able to say why.  `service.py` reads the snapshot,
claims through placement, and passes the order on to the host.
"""
