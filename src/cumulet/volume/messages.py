"""What the volume service's parts say to each other on the bus."""

from typing import Any

import msgspec

from cumulet.core.bus import Interface, call
from cumulet.core.saga import SagaJournal, StepRunner

__all__ = [
    "ConnectRequest",
    "PoolReport",
    "Refusal",
    "SelectRequest",
    "Selected",
    "VolumeHost",
    "VolumeJournal",
    "VolumeScheduler",
]


class SelectRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Choose a back end.  beside: the pool that must be the one, for a copy of what lies there."""

    volume_id: str
    size_gib: int
    type_name: str
    extra_specs: dict[str, str]
    zone: str | None
    multiattach: bool
    beside: str | None = None


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why one pool was refused, and by which filter."""

    pool: str
    by: str
    reason: str


class Selected(msgspec.Struct, frozen=True, kw_only=True):
    """The choice: host@backend#pool, its zone, and who was refused."""

    host: str
    zone: str
    considered: int = 0
    refused: tuple[Refusal, ...] = ()


class PoolReport(msgspec.Struct, frozen=True, kw_only=True):
    """A host's back end as it is: sent at start and as a heartbeat.  GiB."""

    host: str
    pool: str
    backend: str
    protocol: str
    vendor: str
    zone: str
    total_gib: float
    free_gib: float
    thin: bool
    multiattach: bool


class ConnectRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A host that wants, or wanted, to reach a volume."""

    volume_id: str
    connector_host: str
    mode: str = "rw"


class VolumeScheduler(Interface, topic="volume.scheduler"):
    """The volume scheduler's named queue."""

    @call
    def select(self, request: SelectRequest) -> Selected:
        """Raises NoValidBackend."""
        raise NotImplementedError


class VolumeJournal(SagaJournal, topic="volume.conductor"):
    """The volume conductor's named queue: how a volume host reads and writes."""

    @call
    def report_pool(self, report: PoolReport) -> None:
        """A host says what its back end is and that it lives."""
        raise NotImplementedError


class VolumeHost(StepRunner, topic="volume.{host}"):
    """A volume host's named queue; its name is host@backend."""

    @call
    def connect(self, request: ConnectRequest) -> dict[str, Any]:
        """Let a host reach a volume; how, in the reference's shape."""
        raise NotImplementedError

    @call
    def disconnect(self, request: ConnectRequest) -> None:
        """A host has let go of a volume."""
        raise NotImplementedError
