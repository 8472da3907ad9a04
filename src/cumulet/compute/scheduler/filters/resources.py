"""Whether the host has room.  The claim in placement decides; this says beforehand what is missing, by resource class."""

from cumulet.compute.scheduler.snapshot import HostState, Wanted

__all__ = ["short_of"]


def short_of(host: HostState, wanted: Wanted) -> dict[str, str]:
    """What the host has too little of, with how much there is."""
    short: dict[str, str] = {}
    for name, amount in wanted.resources.items():
        free, largest = host.free.get(name, 0), host.largest.get(name, amount)
        if amount > largest:
            short[name] = f"{amount} asked for, one server may have {largest}"
        elif amount > free:
            short[name] = f"{amount} asked for, {free} of {host.total.get(name, 0)} free"
    return short
