"""Weights: each gives every host a number, the larger the better; each is scaled to 0…1 over the hosts that are left, then added up.

A host's number comes from its own row alone: when what is free on it changes, its number is asked for again, and nobody else's (kept.py).
"""

from collections.abc import Callable

from cumulet.compute.scheduler.columns import Column, Columns
from cumulet.compute.scheduler.snapshot import Wanted
from cumulet.compute.scheduler.weights import free_resources

__all__ = ["WEIGHTS", "Weight"]

Weight = Callable[[Columns, Wanted], Column]

#: name, function, multiplier
WEIGHTS: tuple[tuple[str, Weight, float], ...] = (
    ("RAMWeigher", free_resources.memory, 1.0),
    ("CPUWeigher", free_resources.vcpus, 1.0),
    ("DiskWeigher", free_resources.disk, 1.0),
)
