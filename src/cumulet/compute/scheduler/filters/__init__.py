"""Filters: each looks at all hosts at once and says which it refuses, or None when the request leaves it nothing to refuse; and it has the
words for one host that it refused.

The names are the reference's, as operators know them.  Whether there is room comes last, and is told by resource (resources.py): no other
filter looks at what is free, so that their answer holds until something else changes (kept.py).
"""

from collections.abc import Callable

import msgspec

from cumulet.compute.scheduler.columns import Columns, Mask
from cumulet.compute.scheduler.filters import (
    affinity,
    availability_zone,
    capabilities,
    image_properties,
    service,
)
from cumulet.compute.scheduler.snapshot import HostState, Wanted

__all__ = ["FILTERS", "Filter"]


class Filter(msgspec.Struct, frozen=True):
    """refused: which hosts; why: in words, of one of them."""

    name: str
    refused: Callable[[Columns, Wanted], Mask | None]
    why: Callable[[HostState, Wanted], str]


FILTERS: tuple[Filter, ...] = (
    Filter("ComputeFilter", service.out_of_service, service.why_out_of_service),
    Filter("AvailabilityZoneFilter", availability_zone.elsewhere, availability_zone.why),
    Filter("RequestedHostFilter", service.other_than_requested, service.why_other),
    Filter("ComputeCapabilitiesFilter", capabilities.unable, capabilities.why),
    Filter("ImagePropertiesFilter", image_properties.unfit, image_properties.why),
    Filter("SameHostFilter", affinity.other_than_same, affinity.why_other_than_same),
    Filter("DifferentHostFilter", affinity.same, affinity.why_same),
    Filter("ServerGroupAffinityFilter", affinity.apart, affinity.why_apart),
    Filter("ServerGroupAntiAffinityFilter", affinity.together, affinity.why_together),
)
