"""Together or apart: hints that name servers, and server groups."""

from collections import Counter

from cumulet.compute.scheduler.columns import Columns, Mask
from cumulet.compute.scheduler.snapshot import HostState, Wanted

__all__ = [
    "apart",
    "other_than_same",
    "same",
    "together",
    "why_apart",
    "why_other_than_same",
    "why_same",
    "why_together",
]


def other_than_same(hosts: Columns, wanted: Wanted) -> Mask | None:
    return ~hosts.these(wanted.hosts_of(wanted.same_host)) if wanted.same_host else None


def why_other_than_same(host: HostState, wanted: Wanted) -> str:  # noqa: ARG001 - one signature for all filters
    return "none of the servers of the hint same_host is here"


def same(hosts: Columns, wanted: Wanted) -> Mask | None:
    return hosts.these(wanted.hosts_of(wanted.different_host)) if wanted.different_host else None


def why_same(host: HostState, wanted: Wanted) -> str:  # noqa: ARG001 - one signature for all filters
    return "a server of the hint different_host is here"


def apart(hosts: Columns, wanted: Wanted) -> Mask | None:
    if wanted.group_policy != "affinity" or not wanted.group_members:
        return None
    return ~hosts.these(wanted.hosts_of(wanted.group_members))


def why_apart(host: HostState, wanted: Wanted) -> str:  # noqa: ARG001 - one signature for all filters
    return "the group's servers are elsewhere (affinity)"


def together(hosts: Columns, wanted: Wanted) -> Mask | None:
    if wanted.group_policy != "anti-affinity" or not wanted.group_members:
        return None
    here = Counter(wanted.hosts_of(wanted.group_members))
    return hosts.these(host for host, count in here.items() if count >= wanted.max_server_per_host)


def why_together(host: HostState, wanted: Wanted) -> str:
    return f"{len(host.servers & wanted.group_members)} of the group's servers are here (anti-affinity)"
