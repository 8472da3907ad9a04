"""Volumes as files in a folder of one host.

    volume-ID.qcow2    or .raw: the end of its name records a file's format, and nothing ever looks inside for it
    snapshot-ID.qcow2
    *.part             unfinished, named after what they would have become
    volume-ID.qcow2.COPY.part  what a hypervisor wrote of a volume it has open, for what has the id COPY

A snapshot or clone is a full copy: by shared blocks where the file system can (xfs, btrfs), else of the data without
the holes.  So nothing depends on anything, and things are deleted in any order by unlinking.  The alternative, freezing
a volume's file and going on in an overlay, makes a snapshot in microseconds everywhere, but deleting the middle of a
chain then needs merges, and a merge that is killed needs a repair.

New volumes are qcow2 unless told otherwise: the guest then never writes the first bytes of a file, so not even a tool
used by hand can take a guest's bytes for a header.

QEMU takes locks on every image it has open.  They are looked at before a file is copied, grown or removed, whatever the
record says.
"""

import contextlib
import errno
import fcntl
import os
import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import msgspec

from cumulet.core.disk import convert, qcow2
from cumulet.core.disk.errors import ConversionNoSpace, DiskCannotGrow, DiskExists, ImageMalformed
from cumulet.core.disk.files import PART, appearing, copy_sparse, left_by_the_dead
from cumulet.volume.drivers.driver import (
    GIB,
    Capacity,
    ConnectionInfo,
    Connector,
    CopyMissing,
    Growth,
    GuestCopy,
    ImageSource,
    Item,
    Snapshot,
    SnapshotMissing,
    SourceTooLarge,
    Volume,
    VolumeBackendDown,
    VolumeBackendFull,
    VolumeDiffers,
    VolumeElsewhere,
    VolumeInUse,
    VolumeMissing,
    VolumeShrinkRefused,
)

__all__ = ["LocalVolumes"]

_FORMATS = ("qcow2", "raw")
_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{0,63}")
_NAME = re.compile(
    r"(?P<kind>volume|snapshot)-(?P<id>[0-9A-Za-z][0-9A-Za-z-]{0,63})\.(?P<format>qcow2|raw)(?P<rest>.*)"
)
#: a copy goes by an id of the cloud's, any other unfinished file by a process and a number
_COPY = re.compile(r"\.(?P<id>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})" + re.escape(PART))

#: a tool's output may pass the disk's size by so much: tables, rounding
_TABLES_BYTES = 64 << 20

#: fcntl(2): ask who would stand in the way of a lock bound to an open file
_F_OFD_GETLK = 36
_FLOCK = struct.Struct("hhqqi4x")
#: QEMU's block/file-posix.c: one byte per permission it uses, from byte 100; writing is the second
_QEMU_USES = (100, 100)
_QEMU_WRITES = (101, 1)

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class _File(msgspec.Struct, frozen=True):
    path: Path
    format: str

    def size_bytes(self) -> int:
        """The disk's size.  Raises ImageMalformed if a qcow2 file is none."""
        return qcow2.read_header(self.path).size if self.format == "qcow2" else self.path.stat().st_size


class LocalVolumes:
    """`VolumeDriver` in a folder."""

    def __init__(
        self,
        folder: Path,
        *,
        host: str,
        new_format: Literal["qcow2", "raw"] = "qcow2",
        reserve_bytes: int = 256 << 20,
        copy_wall_s: float = 3600.0,
    ) -> None:
        """`host` is the only one that reaches the files; `reserve_bytes` of the file system are left to others."""
        self._folder = folder
        self._host = host
        self._new_format = new_format
        self._reserve = reserve_bytes
        self._copy_wall_s = copy_wall_s
        folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        for part in left_by_the_dead(
            folder
        ):  # attempts that were killed with their process: they begin anew, under another name
            part.unlink(missing_ok=True)

    def create(self, volume: Volume) -> None:
        """Takes half a millisecond, most of it the flush."""
        if not self._made(volume):
            path = self._path("volume", volume.id, self._new_format)
            self._appear(path, needs=0, fill=lambda part: self._write_empty(part, volume.size_gib * GIB))

    def create_from_image(self, volume: Volume, image: ImageSource) -> None:
        if self._made(volume):
            return
        self._fits(volume, image.virtual_size)
        size = volume.size_gib * GIB

        def fill(part: Path) -> None:
            if image.format == "raw" and self._new_format == "raw":
                copy_sparse(image.path, part)
                os.truncate(part, size)
            else:
                convert.convert(image.path, image.format, part, self._new_format, limits=self._limits(size), size=size)

        self._appear(self._path("volume", volume.id, self._new_format), needs=_allocated(image.path), fill=fill)

    def create_from_snapshot(self, volume: Volume, snapshot_id: str) -> None:
        if self._made(volume):
            return
        snapshot = self._find("snapshot", snapshot_id)
        if snapshot is None:
            raise SnapshotMissing(snapshot_id=snapshot_id)
        self._make_copy(volume, snapshot, take=copy_sparse)

    def clone(self, volume: Volume, source_id: str, *, copied: bool = False) -> None:
        if self._made(volume):
            return
        source = self._volume(source_id)
        if copied:
            self._make_copy(volume, self._copied(source_id, source, volume.id), take=os.link)
        else:
            self._make_copy(volume, source, take=lambda there, part: self._copy_still(source_id, there, part))

    def extend(self, volume_id: str, size_gib: int, *, attached: bool = False) -> Growth:
        file = self._volume(volume_id)
        size = size_gib * GIB
        with _backend_errors():
            current = file.size_bytes()
            if size < current:
                raise VolumeShrinkRefused(current_gib=-(-current // GIB), size_gib=size_gib)
            if size == current:
                return Growth.DONE
            if attached or _used(file.path, _QEMU_USES):
                return Growth.BY_HYPERVISOR
            self._grow(file, size)
        return Growth.DONE

    def delete(self, volume_id: str) -> None:
        file = self._find("volume", volume_id)
        with _backend_errors():
            if file is not None:
                if _used(file.path, _QEMU_USES):
                    raise VolumeInUse(volume_id=volume_id)
                file.path.unlink(missing_ok=True)
            self._remove_parts("volume", volume_id)

    def create_snapshot(self, snapshot: Snapshot, *, copied: bool = False) -> None:
        if self._find("snapshot", snapshot.id) is not None:
            return
        source = self._volume(snapshot.volume_id)
        target = self._path("snapshot", snapshot.id, source.format)
        if copied:
            copy = self._copied(snapshot.volume_id, source, snapshot.id)
            self._appear(target, needs=0, fill=lambda part: os.link(copy.path, part))
            return

        def fill(part: Path) -> None:
            self._copy_still(snapshot.volume_id, source.path, part)

        self._appear(target, needs=_allocated(source.path), fill=fill)

    def delete_snapshot(self, snapshot_id: str) -> None:
        file = self._find("snapshot", snapshot_id)
        with _backend_errors():
            if file is not None:
                file.path.unlink(missing_ok=True)
            self._remove_parts("snapshot", snapshot_id)

    def copy_to_image(self, volume_id: str, target: Path, target_format: str, *, copy_id: str | None = None) -> None:
        source = self._volume(volume_id)
        if copy_id is not None:
            source = self._copied(volume_id, source, copy_id)
        self._still(volume_id, source.path)
        with _backend_errors():
            if source.format == target_format == "raw":
                with appearing(target, durable=True, replace=True) as part:
                    copy_sparse(source.path, part)
            else:
                limits = self._limits(source.size_bytes())
                convert.convert(source.path, source.format, target, target_format, limits=limits, replace=True)
        self._still(volume_id, source.path)

    def place_copy(self, volume_id: str, copy_id: str) -> GuestCopy:
        return GuestCopy(_copy_of(self._volume(volume_id), copy_id).name)

    def drop_copy(self, volume_id: str, copy_id: str) -> None:
        with _backend_errors():
            for disk_format in _FORMATS:  # the volume itself may be gone, and a hypervisor have been late
                file = _File(self._path("volume", volume_id, disk_format), disk_format)
                _copy_of(file, copy_id).unlink(missing_ok=True)

    def drop_unfinished(self, owner_id: str) -> None:
        with _backend_errors():
            for item in self.list():
                if item.kind == "unfinished" and item.owner_id == owner_id:
                    (self._folder / item.name).unlink(missing_ok=True)

    def connection_info(self, volume_id: str, connector: Connector) -> ConnectionInfo:
        """A file needs no export; only the host that has it can open it."""
        file = self._volume(volume_id)
        if connector.host != self._host:
            raise VolumeElsewhere(volume_id=volume_id, host=connector.host)
        return ConnectionInfo(
            driver_volume_type="local",
            data={
                "device_path": str(file.path.absolute()),
                "format": file.format,
                "volume_id": volume_id,
                "access_mode": connector.access_mode,
                "qos_specs": None,
                "encrypted": False,
                "cacheable": False,
                "discard": True,
            },
        )

    def terminate_connection(self, volume_id: str, connector: Connector) -> None:
        """Nothing was set up, so nothing is taken down."""

    def capacity(self) -> Capacity:
        with _backend_errors():
            system = os.statvfs(self._folder)
        promised = sum(item.size_bytes or 0 for item in self.list())
        return Capacity(
            total_gib=round(system.f_blocks * system.f_frsize / GIB, 2),
            free_gib=round(max(0, system.f_bavail * system.f_frsize - self._reserve) / GIB, 2),
            provisioned_gib=round(promised / GIB, 2),
            thin=True,
        )

    def list(self) -> tuple[Item, ...]:
        with _backend_errors():
            return tuple(item for entry in sorted(self._folder.iterdir()) if (item := _item(entry)) is not None)

    # How files are found and made

    def _path(self, kind: str, thing_id: str, disk_format: str) -> Path:
        if not _ID.fullmatch(thing_id):
            raise ValueError(f"not an id that may stand in a file's name: {thing_id!r}")
        return self._folder / f"{kind}-{thing_id}.{disk_format}"

    def _find(self, kind: str, thing_id: str) -> _File | None:
        for disk_format in _FORMATS:
            path = self._path(kind, thing_id, disk_format)
            if path.exists():
                return _File(path, disk_format)
        if not self._folder.is_dir():
            raise VolumeBackendDown(detail=f"{self._folder} is not there")
        return None

    def _volume(self, volume_id: str) -> _File:
        file = self._find("volume", volume_id)
        if file is None:
            raise VolumeMissing(volume_id=volume_id)
        return file

    def _made(self, volume: Volume) -> bool:
        """Whether an earlier call made it.  A file has its name only when it is whole."""
        file = self._find("volume", volume.id)
        if file is None:
            return False
        with _backend_errors():
            if file.size_bytes() != volume.size_gib * GIB:
                raise VolumeDiffers(volume_id=volume.id, detail=str(file.path))
        return True

    def _make_copy(self, volume: Volume, source: _File, *, take: Callable[[Path, Path], None]) -> None:
        """A volume in its source's format, which spares a conversion.  take: how the bytes come into the new file."""
        with _backend_errors():
            self._fits(volume, source.size_bytes())

        def fill(part: Path) -> None:
            take(source.path, part)
            self._grow(_File(part, source.format), volume.size_gib * GIB)

        self._appear(self._path("volume", volume.id, source.format), needs=_allocated(source.path), fill=fill)

    def _appear(self, path: Path, *, needs: int, fill: Callable[[Path], None]) -> None:
        with _backend_errors():
            system = os.statvfs(self._folder)
            if system.f_bavail * system.f_frsize - self._reserve < needs:
                raise VolumeBackendFull(
                    detail=f"{self._folder}: {needs} bytes asked, {system.f_bavail * system.f_frsize} free"
                )
            # The same call made twice at once: both made the same thing, one of them first.
            with contextlib.suppress(DiskExists), appearing(path, durable=True) as part:
                fill(part)

    def _write_empty(self, part: Path, size: int) -> None:
        if self._new_format == "qcow2":
            qcow2.write_empty(part, size=size)
        else:
            os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            os.truncate(part, size)

    def _grow(self, file: _File, size: int) -> None:
        if file.format == "raw":
            os.truncate(file.path, size)
            return
        try:
            qcow2.grow(file.path, size=size)
        except DiskCannotGrow:
            convert.resize(file.path, file.format, size, limits=self._limits(size))

    def _fits(self, volume: Volume, source_bytes: int) -> None:
        if source_bytes > volume.size_gib * GIB:
            raise SourceTooLarge(source_bytes=source_bytes, size_gib=volume.size_gib)

    def _limits(self, size: int) -> convert.Limits:
        return convert.Limits(output_bytes=size + size // 256 + _TABLES_BYTES, wall_s=self._copy_wall_s)

    @staticmethod
    def _still(volume_id: str, path: Path) -> None:
        """Raises VolumeInUse if a QEMU process may write to the file."""
        if _used(path, _QEMU_WRITES):
            raise VolumeInUse(volume_id=volume_id)

    def _copy_still(self, volume_id: str, path: Path, part: Path) -> None:
        """Copy a file that nobody writes to, before, meanwhile or since: it may have been attached in between."""
        self._still(volume_id, path)
        copy_sparse(path, part)
        self._still(volume_id, path)

    @staticmethod
    def _copied(volume_id: str, file: _File, copy_id: str) -> _File:
        """What a hypervisor wrote of a volume, complete."""
        copy = _File(_copy_of(file, copy_id), file.format)
        if not copy.path.exists():
            raise CopyMissing(volume_id=volume_id, detail=copy.path.name)
        if _used(copy.path, _QEMU_USES):
            raise VolumeInUse(volume_id=volume_id, detail="a hypervisor still writes its copy")
        return copy

    def _remove_parts(self, kind: str, thing_id: str) -> None:
        mark = f"{kind}-{thing_id}."
        with os.scandir(self._folder) as entries:
            parts = [entry.path for entry in entries if entry.name.startswith(mark) and entry.name.endswith(PART)]
        for part in parts:
            Path(part).unlink(missing_ok=True)


def _copy_of(file: _File, copy_id: str) -> Path:
    if not _ID.fullmatch(copy_id):
        raise ValueError(f"not an id that may stand in a file's name: {copy_id!r}")
    return file.path.with_name(f"{file.path.name}.{copy_id}{PART}")


def _item(entry: Path) -> Item | None:
    """None if it vanished meanwhile."""
    try:
        status = entry.stat()
    except FileNotFoundError:
        return None
    allocated = status.st_blocks * 512
    name = _NAME.fullmatch(entry.name)
    if name is None or (name["rest"] and not name["rest"].endswith(PART)):
        return Item(kind="unknown", owner_id=None, name=entry.name, size_bytes=None, allocated_bytes=allocated)
    if name["kind"] == "volume" and (copy := _COPY.fullmatch(name["rest"])) is not None:
        return Item(
            kind="copy",
            owner_id=copy["id"],
            name=entry.name,
            size_bytes=None,
            allocated_bytes=allocated,
            copy_of=name["id"],
        )
    if name["rest"]:
        return Item(kind="unfinished", owner_id=name["id"], name=entry.name, size_bytes=None, allocated_bytes=allocated)
    size: int | None
    try:
        size = _File(entry, name["format"]).size_bytes()
    except (ImageMalformed, FileNotFoundError):
        size = None
    kind: Literal["volume", "snapshot"] = "volume" if name["kind"] == "volume" else "snapshot"
    return Item(kind=kind, owner_id=name["id"], name=entry.name, size_bytes=size, allocated_bytes=allocated)


def _allocated(path: Path) -> int:
    with _backend_errors():
        return path.stat().st_blocks * 512


def _used(path: Path, span: tuple[int, int]) -> bool:
    """Whether a QEMU process holds a lock in these bytes of the file."""
    start, length = span
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
    with _backend_errors(), path.open("rb", buffering=0) as file:
        kind: int = _FLOCK.unpack(fcntl.fcntl(file, _F_OFD_GETLK, asked))[0]
    return kind != fcntl.F_UNLCK


@contextlib.contextmanager
def _backend_errors() -> Iterator[None]:
    """Name what the file system says."""
    try:
        yield
    except ConversionNoSpace as full:
        raise VolumeBackendFull(detail=full.detail) from full
    except ImageMalformed as broken:
        raise VolumeBackendDown(detail=f"a volume's file is damaged: {broken.message}") from broken
    except OSError as error:
        if error.errno in _FULL:
            raise VolumeBackendFull(detail=str(error)) from error
        raise VolumeBackendDown(detail=str(error)) from error
