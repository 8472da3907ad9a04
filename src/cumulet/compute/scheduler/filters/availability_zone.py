"""The availability zone that was asked for."""

from cumulet.compute.scheduler.snapshot import HostState, Wanted

__all__ = ["refuse"]


def refuse(host: HostState, wanted: Wanted) -> str | None:
    if wanted.zone is not None and host.zone != wanted.zone:
        return f"the host is in zone {host.zone}, {wanted.zone} was asked for"
    return None
