"""Together or apart: hints that name servers, and server groups."""

from cumulet.compute.scheduler.snapshot import HostState, Wanted

__all__ = ["refuse_apart", "refuse_other_than_same", "refuse_same", "refuse_together"]


def refuse_other_than_same(host: HostState, wanted: Wanted) -> str | None:
    if wanted.same_host and not host.servers.intersection(wanted.same_host):
        return "none of the servers of the hint same_host is here"
    return None


def refuse_same(host: HostState, wanted: Wanted) -> str | None:
    if host.servers.intersection(wanted.different_host):
        return "a server of the hint different_host is here"
    return None


def refuse_apart(host: HostState, wanted: Wanted) -> str | None:
    if wanted.group_policy != "affinity" or not wanted.group_members:
        return None
    return None if host.servers & wanted.group_members else "the group's servers are elsewhere (affinity)"


def refuse_together(host: HostState, wanted: Wanted) -> str | None:
    if wanted.group_policy != "anti-affinity":
        return None
    here = len(host.servers & wanted.group_members)
    return None if here < wanted.max_server_per_host else f"{here} of the group's servers are here (anti-affinity)"
