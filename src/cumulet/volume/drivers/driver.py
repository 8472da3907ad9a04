"""What a volume back end does, whatever it is made of.

Every verb is keyed by an id that was recorded before, and may be repeated: what is there already is left as it is,
what is gone already is no error.  Sizes are GiB and decided by the volume service alone; a back end only carries them
out.  A source is copied as it is at that moment, and nothing made from it depends on it afterwards, so things may be
deleted in any order.

A volume that a guest has open is never read here.  `place_copy` says where the hypervisor is to write a copy of it, and
what is then made is made of that copy: `copied`.

`connection_info` has the reference's shape, because hosts and clients know it: `local` here, `rbd` with its monitors
and secret for Ceph.  `attached` is what the volume's record says; a back end that can see for itself who has a disk
open looks as well.
"""

import enum
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from cumulet.core.errors import BadRequest, Conflict, NotFound, ServerFault, Unavailable

__all__ = [
    "GIB",
    "Capacity",
    "ConnectionInfo",
    "Connector",
    "CopyMissing",
    "Growth",
    "GuestCopy",
    "ImageSource",
    "Item",
    "Snapshot",
    "SnapshotMissing",
    "SourceTooLarge",
    "Volume",
    "VolumeBackendDown",
    "VolumeBackendFull",
    "VolumeDiffers",
    "VolumeDriver",
    "VolumeElsewhere",
    "VolumeInUse",
    "VolumeMissing",
    "VolumeShrinkRefused",
]

GIB = 1 << 30


class Volume(msgspec.Struct, frozen=True):
    """A volume to be made."""

    id: str
    size_gib: int


class Snapshot(msgspec.Struct, frozen=True):
    """A snapshot to be made."""

    id: str
    volume_id: str


class ImageSource(msgspec.Struct, frozen=True):
    """An image that passed the gate and lies in a file; `format` in QEMU's name, as the gate gives it."""

    path: Path
    format: str
    virtual_size: int


class Connector(msgspec.Struct, frozen=True, kw_only=True):
    """The host that wants to reach a volume."""

    host: str
    access_mode: Literal["rw", "ro"] = "rw"


class ConnectionInfo(msgspec.Struct, frozen=True):
    """How a host reaches a volume, in the reference's shape, which goes onto the wire as it is."""

    driver_volume_type: str
    data: dict[str, Any]


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """What the volume scheduler needs to know.  GiB."""

    total_gib: float
    free_gib: float
    #: the sum of all sizes promised, whether or not anything was written
    provisioned_gib: float
    thin: bool


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One thing on the back end, for the leak check: whose it is, by id, and what it costs."""

    kind: Literal["volume", "snapshot", "copy", "unfinished", "unknown"]
    #: of the volume or snapshot, or of what is to be made of the copy; None for what the back end does not know
    owner_id: str | None
    name: str
    #: None where it cannot be told
    size_bytes: int | None
    allocated_bytes: int
    #: the volume that a copy is of
    copy_of: str | None = None


class Growth(enum.Enum):
    """Who makes a volume larger."""

    #: it has its new size
    DONE = "done"
    #: a guest has it open: the hypervisor there must grow it to that size, and with it the file
    BY_HYPERVISOR = "by hypervisor"


class GuestCopy(msgspec.Struct, frozen=True):
    """Where the hypervisor that has a volume open is to write a copy of it: a new file's name, beside the volume's own."""

    name: str


class VolumeDriver(Protocol):
    """A back end.  All verbs raise VolumeBackendDown when it cannot be reached, those that write VolumeBackendFull."""

    def create(self, volume: Volume) -> None:
        """An empty volume.  Raises VolumeDiffers if the id is taken by one of another size."""

    def create_from_image(self, volume: Volume, image: ImageSource) -> None:
        """A volume that begins with the image's disk.  Raises SourceTooLarge, ConversionFailed, VolumeDiffers."""

    def create_from_snapshot(self, volume: Volume, snapshot_id: str) -> None:
        """A volume as another was.  Raises SnapshotMissing, SourceTooLarge, VolumeDiffers."""

    def clone(self, volume: Volume, source_id: str, *, copied: bool = False) -> None:
        """A volume as another is, or as its copy under the new volume's id.  Raises VolumeMissing, VolumeInUse, CopyMissing,
        SourceTooLarge, VolumeDiffers.
        """

    def extend(self, volume_id: str, size_gib: int, *, attached: bool = False) -> Growth:
        """Make a volume larger.  Raises VolumeMissing, VolumeShrinkRefused."""

    def delete(self, volume_id: str) -> None:
        """Remove a volume and what attempts to make it left.  Raises VolumeInUse."""

    def create_snapshot(self, snapshot: Snapshot, *, copied: bool = False) -> None:
        """Keep a volume as it is, or its copy under the snapshot's id.  Raises VolumeMissing, VolumeInUse, CopyMissing."""

    def delete_snapshot(self, snapshot_id: str) -> None:
        """Remove a snapshot and what attempts to make it left."""

    def copy_to_image(self, volume_id: str, target: Path, target_format: str, *, copy_id: str | None = None) -> None:
        """Write a volume's disk, or its copy of that id, to a file, in a format of QEMU's name.  Raises VolumeMissing,
        VolumeInUse, CopyMissing, ConversionFailed.
        """

    def place_copy(self, volume_id: str, copy_id: str) -> GuestCopy:
        """Where a hypervisor is to write a copy of a volume, under the id of what is to be made of it.  Makes nothing yet.

        Raises VolumeMissing.
        """

    def drop_copy(self, volume_id: str, copy_id: str) -> None:
        """Remove a copy, also of a volume that is gone.  No hypervisor may be writing it any more."""

    def drop_unfinished(self, owner_id: str) -> None:
        """Remove what attempts to make a volume or snapshot left, and nothing else.  Nobody may be at such an attempt."""

    def connection_info(self, volume_id: str, connector: Connector) -> ConnectionInfo:
        """Let a host reach a volume, and say how.  Raises VolumeMissing, VolumeElsewhere."""

    def terminate_connection(self, volume_id: str, connector: Connector) -> None:
        """Let a host no longer reach a volume; called when the host has confirmed that it let go."""

    def capacity(self) -> Capacity:
        """What there is and what is promised."""

    def list(self) -> tuple[Item, ...]:
        """Everything on the back end."""


class VolumeBackendFull(ServerFault):
    """There is no room for the bytes; nothing was left behind.  Asking again helps nothing until somebody makes room."""

    default = "There is no space left on the volume back end."


class VolumeBackendDown(Unavailable):
    """The back end cannot be reached or read."""

    default = "The volume back end is not available."


class VolumeMissing(NotFound):
    """The back end has no such volume."""

    default = "Volume {volume_id} could not be found."


class SnapshotMissing(NotFound):
    """The back end has no such snapshot."""

    default = "Snapshot {snapshot_id} could not be found."


class VolumeDiffers(Conflict):
    """The id is taken by a volume of another size: two requests went by one id."""

    default = "Volume {volume_id} already exists with another size."


class VolumeInUse(Conflict):
    """A guest may be writing to the volume."""

    default = "Volume {volume_id} is in use."


class CopyMissing(Conflict):
    """There is no copy of the volume under that id."""

    default = "The copy of volume {volume_id} is not there."


class VolumeElsewhere(Conflict):
    """The volume lives on one host, and another wants it."""

    default = "Volume {volume_id} can not be reached from host {host}."


class SourceTooLarge(BadRequest):
    """The volume would be smaller than what it is made from."""

    default = "The source of {source_bytes} bytes does not fit a volume of {size_gib} GiB."


class VolumeShrinkRefused(BadRequest):
    """Volumes only grow."""

    default = "New size for extend must be greater than current size. (current: {current_gib}, extended: {size_gib})."
