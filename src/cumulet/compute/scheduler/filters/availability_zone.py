"""The availability zone that was asked for."""

from cumulet.compute.scheduler.columns import Columns, Mask
from cumulet.compute.scheduler.snapshot import HostState, Wanted

__all__ = ["elsewhere", "why"]


def elsewhere(hosts: Columns, wanted: Wanted) -> Mask | None:
    return None if wanted.zone is None else hosts.not_in_zone(wanted.zone)


def why(host: HostState, wanted: Wanted) -> str:
    return f"the host is in zone {host.zone}, {wanted.zone} was asked for"
