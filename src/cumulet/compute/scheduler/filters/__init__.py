"""Filters: each a pure function of one host and what is wanted; None lets the host pass, words refuse it.

The names are the reference's, as operators know them.  Whether there is room comes last, and is told by resource (resources.py).
"""

from collections.abc import Callable

from cumulet.compute.scheduler.filters import (
    affinity,
    availability_zone,
    capabilities,
    image_properties,
    service,
)
from cumulet.compute.scheduler.snapshot import HostState, Wanted

__all__ = ["FILTERS", "Filter"]

Filter = Callable[[HostState, Wanted], str | None]

FILTERS: tuple[tuple[str, Filter], ...] = (
    ("ComputeFilter", service.refuse),
    ("AvailabilityZoneFilter", availability_zone.refuse),
    ("RequestedHostFilter", service.refuse_other_hosts),
    ("ComputeCapabilitiesFilter", capabilities.refuse),
    ("ImagePropertiesFilter", image_properties.refuse),
    ("SameHostFilter", affinity.refuse_other_than_same),
    ("DifferentHostFilter", affinity.refuse_same),
    ("ServerGroupAffinityFilter", affinity.refuse_apart),
    ("ServerGroupAntiAffinityFilter", affinity.refuse_together),
)
