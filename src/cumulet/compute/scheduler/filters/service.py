"""The host's compute service: enabled and alive; and the host that was asked for by name."""

from cumulet.compute.scheduler.columns import Columns, Mask
from cumulet.compute.scheduler.snapshot import HostState, Wanted

__all__ = ["other_than_requested", "out_of_service", "why_other", "why_out_of_service"]


def out_of_service(hosts: Columns, wanted: Wanted) -> Mask:
    refused = hosts.disabled | hosts.silent
    return refused | hosts.these(wanted.exclude) if wanted.exclude else refused


def why_out_of_service(host: HostState, wanted: Wanted) -> str:  # noqa: ARG001 - one signature for all filters
    if not host.enabled:
        return "the compute service is disabled"
    if not host.up:
        return "the compute service is down"
    return "the host failed to build this server before"


def other_than_requested(hosts: Columns, wanted: Wanted) -> Mask | None:
    return None if wanted.host is None else ~hosts.these([wanted.host])


def why_other(host: HostState, wanted: Wanted) -> str:  # noqa: ARG001 - one signature for all filters
    return f"host {wanted.host} was asked for"
