"""What conductor and hosts say to each other, beyond the steps of sagas."""

from typing import Any

import msgspec

from cumulet.core.bus import call, cast
from cumulet.core.saga import SagaJournal, StepRunner

__all__ = ["ComputeHost", "Conductor", "HostReport", "PowerReport"]


class HostReport(msgspec.Struct, frozen=True, kw_only=True):
    """A host as it is: sent at start and as a heartbeat."""

    host: str
    host_ip: str
    hypervisor_type: str
    hypervisor_version: int
    vcpus: int
    memory_mb: int
    local_gb: int
    cpu_info: dict[str, Any]
    traits: list[str]
    #: physical CPUs offered as VCPU: the allocation ratio
    cpu_ratio: float = 16.0
    ram_ratio: float = 1.0
    disk_ratio: float = 1.0


class PowerReport(msgspec.Struct, frozen=True, kw_only=True):
    """A guest's power state as the hypervisor has it now (the reference's numbers)."""

    host: str
    server_id: str
    power_state: int
    reason: str = ""


class Conductor(SagaJournal, topic="conductor"):
    """The conductor's named queue."""

    @call
    def report_host(self, report: HostReport) -> None:
        """A host says what it is and that it lives."""
        raise NotImplementedError

    @cast
    def report_power(self, report: PowerReport) -> None:
        """A guest's power state changed."""
        raise NotImplementedError

    @call
    def report_guests(self, host: str, reports: list[PowerReport]) -> None:
        """Every guest's power state: single reports may have got lost, or come late."""
        raise NotImplementedError

    @call
    def servers_of(self, host: str) -> list[Any]:
        """The records of all servers that the database has on a host."""
        raise NotImplementedError


class ComputeHost(StepRunner, topic="compute.{host}"):
    """A host's named queue."""

    @call
    def console_output(self, server_id: str, lines: int | None) -> str:
        """The end of the serial console; the guest's own text, hostile."""
        raise NotImplementedError

    @call
    def vnc_address(self, server_id: str) -> tuple[str, int]:
        """Where the guest's screen is served, as seen from the console proxy."""
        raise NotImplementedError

    @call
    def diagnostics(self, server_id: str) -> dict[str, Any]:
        """Counters of a running guest."""
        raise NotImplementedError

    @call
    def uptime(self) -> str:
        """How long the host has been up, as the command of that name prints it."""
        raise NotImplementedError

    @call
    def resize_disk(self, server_id: str, volume_id: str, size: int) -> None:
        """An attached volume has grown to `size` bytes: show the guest."""
        raise NotImplementedError

    @cast
    def wake(self, kind: str, id: str, up: bool) -> None:
        """A port or a volume that a step may wait for has changed; up: a port, which is up now."""
        raise NotImplementedError
