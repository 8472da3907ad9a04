"""Spread: the host with more left is better."""

from cumulet.compute.scheduler.snapshot import HostState, Wanted

__all__ = ["disk", "memory", "vcpus"]


def memory(host: HostState, wanted: Wanted) -> float:  # noqa: ARG001 - one signature for all weights
    return float(host.free.get("MEMORY_MB", 0))


def vcpus(host: HostState, wanted: Wanted) -> float:  # noqa: ARG001 - one signature for all weights
    return float(host.free.get("VCPU", 0))


def disk(host: HostState, wanted: Wanted) -> float:  # noqa: ARG001 - one signature for all weights
    return float(host.free.get("DISK_GB", 0))
