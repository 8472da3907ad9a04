"""A volume back end that keeps the books and no bytes: for the simulated cloud and for tests of what is above it.

It is honest about what callers can see: ids, sizes, who is there and who is not, room, refusals, and content by name,
so that a snapshot is seen to be what its volume was.  Given a folder it also keeps its books there, and a cloud that
is started again finds its volumes.  A test or a simulated world turns it against its users with `fail`, `total_gib`
and `open_by_guest`.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import msgspec

from cumulet.core.book import Book
from cumulet.core.disk.files import appearing
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
    VolumeInUse,
    VolumeMissing,
    VolumeShrinkRefused,
)

__all__ = ["SimVolumes"]

_TIB_IN_GIB = 1024
#: how the name of a simulated hypervisor's copy ends
_COPY = ".copy"


class _Kept(msgspec.Struct, frozen=True):
    kind: Literal["volume", "snapshot"]
    id: str
    size_gib: int
    #: stands for the bytes
    content: str = ""


class _Failure(msgspec.Struct):
    error: Exception
    times: int
    after: bool


class SimVolumes:
    """`VolumeDriver` on paper."""

    def __init__(
        self,
        *,
        total_gib: int = 16 * _TIB_IN_GIB,
        folder: Path | None = None,
        pause: Callable[[str], None] | None = None,
    ) -> None:
        """`pause` is called with each verb's name before it acts: a world with a clock spends the verb's time there."""
        self.total_gib = total_gib
        #: every verb that was called, in order
        self.calls: list[str] = []
        #: volumes a guest has open: VolumeInUse where the real one would see QEMU's locks
        self.open_by_guest: set[str] = set()
        self.connections: set[tuple[str, str]] = set()
        self._folder = folder
        self._pause = pause
        self._lock = threading.RLock()
        self._failures: dict[str, list[_Failure]] = {}
        self._book = Book(_Kept, folder / "book" if folder is not None else None)

    # What a test or a simulated world does to it

    def fail(self, verb: str, error: Exception | None = None, *, times: int = 1, after: bool = False) -> None:
        """Let the next calls of a verb fail, before their effect or `after` it, as a call does whose answer is lost."""
        failure = _Failure(error or VolumeBackendDown(detail="as the simulation was told"), times, after)
        self._failures.setdefault(verb, []).append(failure)

    def write(self, volume_id: str, content: str) -> None:
        """What a guest writes."""
        with self._lock:
            self._keep(msgspec.structs.replace(self._volume(volume_id), content=content))

    def read(self, volume_id: str) -> str:
        """What a guest would read."""
        with self._lock:
            return self._volume(volume_id).content

    # The verbs

    def create(self, volume: Volume) -> None:
        with self._verb("create"):
            self._make(volume, content="")

    def create_from_image(self, volume: Volume, image: ImageSource) -> None:
        with self._verb("create_from_image"):
            if image.virtual_size > volume.size_gib * GIB:
                raise SourceTooLarge(source_bytes=image.virtual_size, size_gib=volume.size_gib)
            self._make(volume, content=image.path.name)

    def create_from_snapshot(self, volume: Volume, snapshot_id: str) -> None:
        with self._verb("create_from_snapshot"):
            if self._made(volume):
                return
            source = self._book.get(f"snapshot-{snapshot_id}")
            if source is None:
                raise SnapshotMissing(snapshot_id=snapshot_id)
            self._make_copy(volume, source)

    def clone(self, volume: Volume, source_id: str, *, copied: bool = False) -> None:
        with self._verb("clone"):
            if self._made(volume):
                return
            source = self._volume(source_id)
            self._readable(source_id, volume.id if copied else None)
            self._make_copy(volume, source)

    def extend(self, volume_id: str, size_gib: int, *, attached: bool = False) -> Growth:
        with self._verb("extend"):
            volume = self._volume(volume_id)
            if size_gib < volume.size_gib:
                raise VolumeShrinkRefused(current_gib=volume.size_gib, size_gib=size_gib)
            if size_gib == volume.size_gib:
                return Growth.DONE
            self._room(size_gib - volume.size_gib)
            # There is no hypervisor that could grow what is only written down, so the books say it at once.
            self._keep(msgspec.structs.replace(volume, size_gib=size_gib))
            return Growth.BY_HYPERVISOR if attached or volume_id in self.open_by_guest else Growth.DONE

    def delete(self, volume_id: str) -> None:
        with self._verb("delete"):
            if volume_id in self.open_by_guest:
                raise VolumeInUse(volume_id=volume_id)
            self._drop("volume", volume_id)

    def create_snapshot(self, snapshot: Snapshot, *, copied: bool = False) -> None:
        with self._verb("create_snapshot"):
            if self._book.get(f"snapshot-{snapshot.id}") is not None:
                return
            source = self._volume(snapshot.volume_id)
            self._readable(snapshot.volume_id, snapshot.id if copied else None)
            self._room(source.size_gib)
            self._keep(_Kept("snapshot", snapshot.id, source.size_gib, source.content))

    def delete_snapshot(self, snapshot_id: str) -> None:
        with self._verb("delete_snapshot"):
            self._drop("snapshot", snapshot_id)

    def copy_to_image(self, volume_id: str, target: Path, target_format: str, *, copy_id: str | None = None) -> None:
        """The file is a sparse one of the volume's size, so of raw format only."""
        with self._verb("copy_to_image"):
            volume = self._volume(volume_id)
            if target_format != "raw":
                raise ValueError("the simulation writes raw images only")
            self._readable(volume_id, copy_id)
            with appearing(target, durable=False, replace=True) as part, part.open("xb") as file:
                file.write(volume.content.encode())
                file.truncate(volume.size_gib * GIB)

    def place_copy(self, volume_id: str, copy_id: str) -> GuestCopy:
        with self._verb("place_copy"):
            self._volume(volume_id)
            return GuestCopy(_copy_name(volume_id, copy_id))

    def drop_copy(self, volume_id: str, copy_id: str) -> None:
        with self._verb("drop_copy"):
            if self._folder is not None:
                self._copy(volume_id, copy_id).unlink(missing_ok=True)

    def drop_unfinished(self, owner_id: str) -> None:
        with self._verb("drop_unfinished"):
            pass  # books have no half pages

    def connection_info(self, volume_id: str, connector: Connector) -> ConnectionInfo:
        with self._verb("connection_info"):
            self._volume(volume_id)
            self.connections.add((volume_id, connector.host))
            return ConnectionInfo(
                driver_volume_type="sim",
                data={
                    "device_path": f"{self._folder or '/dev/sim'}/volume-{volume_id}",
                    "format": "raw",
                    "volume_id": volume_id,
                    "access_mode": connector.access_mode,
                    "qos_specs": None,
                    "encrypted": False,
                    "cacheable": False,
                    "discard": True,
                },
            )

    def terminate_connection(self, volume_id: str, connector: Connector) -> None:
        with self._verb("terminate_connection"):
            self.connections.discard((volume_id, connector.host))

    def capacity(self) -> Capacity:
        with self._verb("capacity"):
            promised = self._promised()
            free = max(0, self.total_gib - promised)
            return Capacity(total_gib=self.total_gib, free_gib=free, provisioned_gib=promised, thin=False)

    def list(self) -> tuple[Item, ...]:
        with self._verb("list"):
            kept = tuple(
                Item(
                    kind=kept.kind,
                    owner_id=kept.id,
                    name=f"{kept.kind}-{kept.id}",
                    size_bytes=kept.size_gib * GIB,
                    allocated_bytes=kept.size_gib * GIB,
                )
                for kept in sorted(self._book.things(), key=lambda one: (one.kind, one.id))
            )
            return kept + tuple(self._copies("*"))

    # The books

    @contextlib.contextmanager
    def _verb(self, verb: str) -> Iterator[None]:
        if self._pause is not None:
            self._pause(verb)
        with self._lock:
            self.calls.append(verb)
            failure = self._next_failure(verb)
            if failure is not None and not failure.after:
                raise failure.error
            yield
            if failure is not None:
                raise failure.error

    def _next_failure(self, verb: str) -> _Failure | None:
        waiting = self._failures.get(verb)
        if not waiting:
            return None
        failure = waiting[0]
        failure.times -= 1
        if failure.times <= 0:
            waiting.pop(0)
        return failure

    def _volume(self, volume_id: str) -> _Kept:
        volume = self._book.get(f"volume-{volume_id}")
        if volume is None:
            raise VolumeMissing(volume_id=volume_id)
        return volume

    def _made(self, volume: Volume) -> bool:
        there = self._book.get(f"volume-{volume.id}")
        if there is not None and there.size_gib != volume.size_gib:
            raise VolumeDiffers(volume_id=volume.id)
        return there is not None

    def _make(self, volume: Volume, *, content: str) -> None:
        if not self._made(volume):
            self._room(volume.size_gib)
            self._keep(_Kept("volume", volume.id, volume.size_gib, content))

    def _make_copy(self, volume: Volume, source: _Kept) -> None:
        if source.size_gib > volume.size_gib:
            raise SourceTooLarge(source_bytes=source.size_gib * GIB, size_gib=volume.size_gib)
        self._make(volume, content=source.content)

    def _readable(self, volume_id: str, copy_id: str | None) -> None:
        """The volume itself, unless a guest has it open; else its copy.  Without a folder nobody can have written one."""
        if copy_id is None:
            if volume_id in self.open_by_guest:
                raise VolumeInUse(volume_id=volume_id)
        elif self._folder is not None and not self._copy(volume_id, copy_id).exists():
            raise CopyMissing(volume_id=volume_id)

    def _promised(self) -> int:
        return sum(kept.size_gib for kept in self._book.things())

    def _room(self, size_gib: int) -> None:
        if self._promised() + size_gib > self.total_gib:
            raise VolumeBackendFull(detail=f"{size_gib} GiB asked, {self.total_gib - self._promised()} free")

    def _keep(self, kept: _Kept) -> None:
        self._book.put(f"{kept.kind}-{kept.id}", kept)

    def _drop(self, kind: str, thing_id: str) -> None:
        self.connections = {one for one in self.connections if one[0] != thing_id}
        self._book.drop(f"{kind}-{thing_id}")
        if kind == "volume" and self._folder is not None:
            for item in self._copies(thing_id):
                (self._folder / item.name).unlink(missing_ok=True)

    def _copy(self, volume_id: str, copy_id: str) -> Path:
        assert self._folder is not None  # noqa: S101 - without one there are no copies
        return self._folder / _copy_name(volume_id, copy_id)

    def _copies(self, volume_id: str) -> Iterator[Item]:
        """What hypervisors wrote of a volume, or of all ("*")."""
        found = [] if self._folder is None else sorted(self._folder.glob(f"volume-{volume_id}.*{_COPY}"))
        for path in found:
            of, _, copy_id = path.name.removeprefix("volume-").removesuffix(_COPY).partition(".")
            size = path.stat().st_size
            yield Item(kind="copy", owner_id=copy_id, name=path.name, size_bytes=None, allocated_bytes=size, copy_of=of)


def _copy_name(volume_id: str, copy_id: str) -> str:
    return f"volume-{volume_id}.{copy_id}{_COPY}"
