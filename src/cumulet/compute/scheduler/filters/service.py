"""The host's compute service: enabled and alive; and the host that was asked for by name."""

from cumulet.compute.scheduler.snapshot import HostState, Wanted

__all__ = ["refuse", "refuse_other_hosts"]


def refuse(host: HostState, wanted: Wanted) -> str | None:
    if not host.enabled:
        return "the compute service is disabled"
    if not host.up:
        return "the compute service is down"
    if host.host in wanted.exclude:
        return "the host failed to build this server before"
    return None


def refuse_other_hosts(host: HostState, wanted: Wanted) -> str | None:
    if wanted.host is not None and host.host != wanted.host:
        return f"host {wanted.host} was asked for"
    return None
