"""The servers' files on a host: root disks, config drives, console logs, and the images they are based on.

    DIR/instances/SERVER_ID/{root.qcow2, config.iso, console.log, disk-DEVICE.qcow2, kernel, ramdisk}
    DIR/base/…raw

`SimInstances` keeps the same books without writing a byte, for hosts whose hypervisor is simulated.
"""

import hashlib
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Protocol

import msgspec

from cumulet.compute.agent.hypervisor import config_drive, disks
from cumulet.compute.agent.hypervisor.image_cache import BaseImage, CachedImage, ImageCache
from cumulet.compute.records import BlockDevice, Interface, Server
from cumulet.core.disk.files import copy_sparse
from cumulet.core.errors import ServerFault
from cumulet.image.door import ImageInfo

__all__ = ["DirectBoot", "FileInstances", "Files", "Instances", "SimInstances"]

GIB = 1 << 30

#: (server, interfaces) → the config drive's files by path
Files = Callable[[Server, list[Interface]], Mapping[str, bytes]]


class DirectBoot(msgspec.Struct, frozen=True, kw_only=True):
    """What the hypervisor puts into a guest's memory in place of a boot loader's work."""

    kernel: Path
    ramdisk: Path | None = None


class ImageNotReachableError(ServerFault):
    """The image has no location that this host can read."""

    default = "The image's data cannot be reached from the host."


class ImageCorruptError(ServerFault):
    """The image's bytes are not those that were uploaded."""

    default = "The image's data is corrupt: its checksum does not match."


class Instances(Protocol):
    """The servers' files.  Every verb may be repeated."""

    def root_disk(self, server_id: str) -> Path: ...
    def extra_disk(self, server_id: str, device_id: str) -> Path: ...
    def config_drive(self, server_id: str) -> Path: ...
    def console_log(self, server_id: str) -> Path: ...
    def snapshot_path(self, image_id: str) -> Path: ...

    def find_base(self, image: ImageInfo) -> CachedImage | None:
        """The image's base, if this host has it."""

    def base_under_way(self, image: ImageInfo) -> Future[CachedImage] | None:
        """What settles when the image's base is there, if somebody is loading it now."""

    def ensure_base(self, image: ImageInfo) -> CachedImage:
        """The image's base; loaded and converted once, however many ask."""

    def base_of(self, server: Server) -> Path | None:
        """The base that a server's root disk was made on, or None when it boots from a volume."""

    def direct_boot(self, server_id: str) -> DirectBoot | None:
        """The server's own kernel, or None when a boot loader on its disk loads one."""

    def prepare(
        self,
        server: Server,
        interfaces: list[Interface],
        devices: list[BlockDevice],
        base: Path | None,
        direct: DirectBoot | None = None,
    ) -> None:
        """Make what is missing of the server's files.  `direct`: the images' files that its own kernel is copied from."""

    def grow_root(self, server: Server) -> None:
        """Grow the root disk to the flavor's size; never shrinks."""

    def keep_root(self, server_id: str) -> None:
        """Keep a copy of the root disk, for a way back."""

    def restore_root(self, server_id: str) -> None:
        """Put the kept copy back, if there is one."""

    def drop_kept_root(self, server_id: str) -> None: ...

    def copy_idle(self, source: Path, target: Path) -> None:
        """Copy a disk that no guest has open into a new file of the same format."""

    def remove(self, server_id: str) -> None:
        """Remove all files of a server."""

    def owned(self) -> list[str]:
        """Ids of the servers that have files here: for the leak check."""

    def copies(self) -> list[str]:
        """Ids of the images that a copy of a root disk is here for: for the leak check."""

    def drop_idle_bases(self, unused_since: float) -> tuple[Path, ...]:
        """Remove the bases that no server here stands on and no launch asked for since (seconds of 1970); says which."""


class FileInstances:
    """Files below a folder.  files: writes a config drive's documents; cache: the bases."""

    def __init__(self, folder: Path, *, cache: ImageCache, files: Files) -> None:
        self._folder = folder
        self._cache = cache
        self._files = files
        folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        (folder / "snapshots").mkdir(mode=0o711, exist_ok=True)

    def _of(self, server_id: str) -> Path:
        return self._folder / server_id

    def root_disk(self, server_id: str) -> Path:
        return self._of(server_id) / "root.qcow2"

    def extra_disk(self, server_id: str, device_id: str) -> Path:
        return self._of(server_id) / f"disk-{device_id}.qcow2"

    def config_drive(self, server_id: str) -> Path:
        return self._of(server_id) / "config.iso"

    def console_log(self, server_id: str) -> Path:
        return self._of(server_id) / "console.log"

    def snapshot_path(self, image_id: str) -> Path:
        return self._folder / "snapshots" / f"{image_id}.qcow2"

    @staticmethod
    def _base(image: ImageInfo) -> BaseImage:
        checksum = image.os_hash_value or image.checksum or ""
        return BaseImage(
            image_id=image.id, checksum=checksum, disk_format=image.disk_format or "raw", size=image.size or 0
        )

    def find_base(self, image: ImageInfo) -> CachedImage | None:
        return self._cache.find(self._base(image))

    def base_under_way(self, image: ImageInfo) -> Future[CachedImage] | None:
        return self._cache.under_way(self._base(image))

    def ensure_base(self, image: ImageInfo) -> CachedImage:
        if image.location is None or not image.location.startswith("file://"):
            raise ImageNotReachableError(detail=f"image {image.id}: location {image.location!r}")
        source = Path(image.location.removeprefix("file://"))

        def fetch(target: Path) -> None:
            digest = hashlib.sha512()
            with source.open("rb") as read, target.open("wb") as write:
                while chunk := read.read(1 << 20):
                    digest.update(chunk)
                    write.write(chunk)
            if image.os_hash_value and digest.hexdigest() != image.os_hash_value:
                raise ImageCorruptError(detail=f"image {image.id} at {source}")

        return self._cache.ensure_base(self._base(image), fetch)

    def base_of(self, server: Server) -> Path | None:
        link = self._of(server.id) / "base"
        return link.readlink() if link.is_symlink() else None

    def direct_boot(self, server_id: str) -> DirectBoot | None:
        kernel, ramdisk = self._of(server_id) / "kernel", self._of(server_id) / "ramdisk"
        return DirectBoot(kernel=kernel, ramdisk=ramdisk if ramdisk.exists() else None) if kernel.exists() else None

    def prepare(
        self,
        server: Server,
        interfaces: list[Interface],
        devices: list[BlockDevice],
        base: Path | None,
        direct: DirectBoot | None = None,
    ) -> None:
        folder = self._of(server.id)
        folder.mkdir(mode=0o711, exist_ok=True)
        if direct is not None and self.direct_boot(server.id) is None:
            if direct.ramdisk is not None:
                disks.copy_for_guest(direct.ramdisk, folder / "ramdisk")
            disks.copy_for_guest(direct.kernel, folder / "kernel")  # last: with it both are there
        root = self.root_disk(server.id)
        if base is not None and not root.exists():
            link = folder / "base"
            link.unlink(missing_ok=True)
            link.symlink_to(base)  # which base the overlay was made on: a fact of ours, never probed
            disks.make_root(root, base=base, size=max(server.flavor.disk_gb * GIB, base.stat().st_size))
        for device in devices:
            if device.destination == "local" and device.source == "blank" and device.size_gb:
                path = self.extra_disk(server.id, device.id)
                if not path.exists():
                    disks.make_blank(path, size=device.size_gb * GIB)
        if server.config_drive and not self.config_drive(server.id).exists():
            config_drive.write(self.config_drive(server.id), self._files(server, interfaces))

    def grow_root(self, server: Server) -> None:
        root = self.root_disk(server.id)
        if root.exists() and server.flavor.disk_gb:
            disks.grow_root(root, size=server.flavor.disk_gb * GIB)

    def keep_root(self, server_id: str) -> None:
        kept = self._of(server_id) / "root.kept.qcow2"
        root = self.root_disk(server_id)
        if root.exists() and not kept.exists():
            part = kept.with_suffix(".part")
            part.unlink(missing_ok=True)
            copy_sparse(root, part)
            part.rename(kept)

    def restore_root(self, server_id: str) -> None:
        kept = self._of(server_id) / "root.kept.qcow2"
        if kept.exists():
            kept.replace(self.root_disk(server_id))

    def drop_kept_root(self, server_id: str) -> None:
        (self._of(server_id) / "root.kept.qcow2").unlink(missing_ok=True)

    def copy_idle(self, source: Path, target: Path) -> None:
        copy_sparse(source, target)

    def remove(self, server_id: str) -> None:
        shutil.rmtree(self._of(server_id), ignore_errors=True)

    def owned(self) -> list[str]:
        return [path.name for path in self._folder.iterdir() if path.name != "snapshots"]

    def copies(self) -> list[str]:
        return sorted(path.stem for path in (self._folder / "snapshots").glob("*.qcow2"))

    def drop_idle_bases(self, unused_since: float) -> tuple[Path, ...]:
        used = [link.readlink() for link in self._folder.glob("*/base")]
        return self._cache.evict(keep=used, unused_since=unused_since)


class SimInstances(FileInstances):
    """The same paths, and no bytes: the simulated hypervisor reads none."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._bases: dict[str, CachedImage] = {}
        self._servers: dict[str, Path | None] = {}
        self._direct: dict[str, DirectBoot] = {}

    def find_base(self, image: ImageInfo) -> CachedImage | None:
        return self._bases.get(self._base(image).base_name)

    def base_under_way(self, image: ImageInfo) -> Future[CachedImage] | None:
        """Never: it takes no time."""

    def ensure_base(self, image: ImageInfo) -> CachedImage:
        name = self._base(image).base_name
        size = image.virtual_size or image.size or 0
        return self._bases.setdefault(name, CachedImage(path=self._folder / name, size=size, used_at=0.0))

    def base_of(self, server: Server) -> Path | None:
        return self._servers.get(server.id)

    def direct_boot(self, server_id: str) -> DirectBoot | None:
        return self._direct.get(server_id)

    def prepare(
        self,
        server: Server,
        interfaces: list[Interface],
        devices: list[BlockDevice],
        base: Path | None,
        direct: DirectBoot | None = None,
    ) -> None:
        self._servers[server.id] = base
        if direct is not None:
            self._direct.setdefault(server.id, direct)

    def grow_root(self, server: Server) -> None:
        """No bytes to grow."""

    def keep_root(self, server_id: str) -> None:
        """No bytes to keep."""

    def restore_root(self, server_id: str) -> None:
        """No bytes to restore."""

    def drop_kept_root(self, server_id: str) -> None:
        """No bytes to drop."""

    def copy_idle(self, source: Path, target: Path) -> None:
        target.touch(mode=0o600)

    def remove(self, server_id: str) -> None:
        self._servers.pop(server_id, None)
        self._direct.pop(server_id, None)

    def owned(self) -> list[str]:
        return list(self._servers)

    def drop_idle_bases(self, unused_since: float) -> tuple[Path, ...]:
        return ()  # they take no room
