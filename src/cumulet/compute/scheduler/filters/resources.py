"""Whether the host has room.  The claim in placement decides; this says beforehand what is missing, by resource class."""

from cumulet.compute.scheduler.columns import Columns, Mask
from cumulet.compute.scheduler.snapshot import HostState, Wanted

__all__ = ["is_short", "short_of", "why"]


def short_of(hosts: Columns, wanted: Wanted, resource: str) -> Mask:
    """Hosts that have too little of this."""
    return hosts.room(resource) < wanted.resources[resource]


def is_short(hosts: Columns, wanted: Wanted, resource: str, place: int) -> bool:
    """The same of one host."""
    return bool(hosts.room(resource)[place] < wanted.resources[resource])


def why(host: HostState, wanted: Wanted, resource: str) -> str:
    """With how much there is."""
    amount = wanted.resources[resource]
    largest = host.largest.get(resource, amount)
    if amount > largest:
        return f"{amount} asked for, one server may have {largest}"
    return f"{amount} asked for, {host.free.get(resource, 0)} of {host.total.get(resource, 0)} free"
