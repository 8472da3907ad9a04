"""Whether the host has room.  The claim in placement decides; this says beforehand what is missing."""

from cumulet.compute.scheduler.snapshot import HostState, Wanted

__all__ = ["refuse"]


def refuse(host: HostState, wanted: Wanted) -> str | None:
    short = [
        f"{name}: {amount} asked for, {host.free.get(name, 0)} of {host.total.get(name, 0)} free"
        for name, amount in wanted.resources.items()
        if amount > host.free.get(name, 0)
    ]
    return "; ".join(short) or None
