"""Spread: the host with more left is better."""

from cumulet.compute.scheduler.columns import Column, Columns
from cumulet.compute.scheduler.snapshot import Wanted

__all__ = ["disk", "memory", "vcpus"]


def memory(hosts: Columns, wanted: Wanted) -> Column:  # noqa: ARG001 - one signature for all weights
    return hosts.free("MEMORY_MB")


def vcpus(hosts: Columns, wanted: Wanted) -> Column:  # noqa: ARG001 - one signature for all weights
    return hosts.free("VCPU")


def disk(hosts: Columns, wanted: Wanted) -> Column:  # noqa: ARG001 - one signature for all weights
    return hosts.free("DISK_GB")
