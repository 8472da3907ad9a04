"""Images of this host as raw bases, each fetched and converted once.

A base is named by the image's id and checksum, owned by root and read-only for everybody; it is complete under its
name or not there.  However many launches ask for one at the same time, the first does the work and the others wait
for it.

Bytes pass the gate here once more, although the image service let them in: this host does not depend on another's
care before it lets a converter loose on them.
"""

import os
import re
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from cumulet.core.disk.convert import Limits, convert
from cumulet.core.disk.errors import ImageRefused
from cumulet.core.disk.files import PART, appearing, copy_sparse
from cumulet.core.disk.formats import inspect_file

__all__ = ["BaseImage", "CachedImage", "ImageCache"]

#: a raw file ends where the disk ends, but for the block it ends in
_ROUNDING: Final = 1 << 20
_NOT_NAME: Final = re.compile(r"[^A-Za-z0-9-]")
_CHECKSUM_CHARS: Final = 16

#: writes the image's bytes, checked against its checksum, into the new file it is given
Fetch = Callable[[Path], None]


class CachedImage(msgspec.Struct, frozen=True, kw_only=True):
    """A base: raw, `size` bytes as the guest sees it."""

    path: Path
    size: int
    #: seconds since 1970 when a launch last asked for it
    used_at: float


class BaseImage(msgspec.Struct, frozen=True, kw_only=True):
    """Which image: what the image service tells of it.  `size` is that of its bytes as stored."""

    image_id: str
    checksum: str
    disk_format: str
    size: int

    @property
    def base_name(self) -> str:
        checksum = _NOT_NAME.sub("", self.checksum)[:_CHECKSUM_CHARS]
        return f"{_NOT_NAME.sub('', self.image_id)}_{checksum}.raw"


class ImageCache:
    """The bases in one directory, which is this cache's alone."""

    def __init__(self, directory: Path, *, virtual_bytes_max: int) -> None:
        self._directory = directory
        self._virtual_bytes_max = virtual_bytes_max
        self._lock = threading.Lock()
        self._under_way: dict[str, Future[CachedImage]] = {}
        directory.mkdir(mode=0o711, parents=True, exist_ok=True)  # QEMU walks through, and lists nothing
        for leftover in directory.glob(f"*{PART}"):
            leftover.unlink()

    def ensure_base(self, image: BaseImage, source: Path | Fetch) -> CachedImage:
        """The image's base, made from `source` (a file of this host, or who fetches one) unless it is there.

        Raises ImageRefused, ConversionFailed, OSError, and whatever `source` raises: the same to all who waited.
        """
        name = image.base_name
        with self._lock:
            future = self._under_way.get(name)
            mine = future is None
            if future is None:
                future = self._under_way[name] = Future()
        if not mine:
            return future.result()
        try:
            cached = self._find(name) or self._make(image, source)
        except BaseException as error:  # whatever it is, those who wait have to learn it
            self._finish(name)
            future.set_exception(error)
            raise
        self._finish(name)
        future.set_result(cached)
        return cached

    def find(self, image: BaseImage) -> CachedImage | None:
        """The image's base, if it is here."""
        return self._find(image.base_name)

    def under_way(self, image: BaseImage) -> Future[CachedImage] | None:
        """What settles when the image's base has been made, if somebody is making it: to wait without holding a thread."""
        with self._lock:
            return self._under_way.get(image.base_name)

    def entries(self) -> tuple[CachedImage, ...]:
        """What is cached."""
        found = (self._look(path) for path in sorted(self._directory.glob("*.raw")))
        return tuple(cached for cached in found if cached is not None)

    def evict(self, *, keep: Iterable[Path], unused_since: float) -> tuple[Path, ...]:
        """Remove bases that no disk in use stands on (`keep`) and no launch asked for since; says which."""
        kept = set(keep)
        gone = []
        for cached in self.entries():
            with self._lock:
                busy = cached.path.name in self._under_way
                if not busy and cached.path not in kept and cached.used_at < unused_since:
                    cached.path.unlink(missing_ok=True)
                    gone.append(cached.path)
        return tuple(gone)

    def _finish(self, name: str) -> None:
        with self._lock:
            del self._under_way[name]

    def _find(self, name: str) -> CachedImage | None:
        path = self._directory / name
        with suppress(FileNotFoundError):
            os.utime(path)
        return self._look(path)

    def _look(self, path: Path) -> CachedImage | None:
        try:
            status = path.stat()
        except FileNotFoundError:
            return None
        return CachedImage(path=path, size=status.st_size, used_at=status.st_mtime)

    def _make(self, image: BaseImage, source: Path | Fetch) -> CachedImage:
        path = self._directory / image.base_name
        if isinstance(source, Path):
            self._write_base(image, source, path, is_ours=False)
        else:
            fetched = path.with_name(f"{image.base_name}.fetched{PART}")
            try:
                source(fetched)
                self._write_base(image, fetched, path, is_ours=True)
            finally:
                fetched.unlink(missing_ok=True)
        status = path.stat()
        return CachedImage(path=path, size=status.st_size, used_at=status.st_mtime)

    def _write_base(self, image: BaseImage, source: Path, path: Path, *, is_ours: bool) -> None:
        """Turn an image's bytes into a base.  `is_ours`: the file may become the base itself."""
        if source.stat().st_size != image.size:
            raise ImageRefused(
                "The image's data are not what the image service says.",
                detail=f"{source}: {source.stat().st_size} bytes, not {image.size}",
            )
        facts = inspect_file(source, image.disk_format, virtual_bytes_max=self._virtual_bytes_max)
        with appearing(path, durable=True) as part:
            if facts.qemu_format != "raw":
                limits = Limits(output_bytes=facts.virtual_size + _ROUNDING)
                convert(source, facts.qemu_format, part, "raw", limits=limits)
            elif is_ours:
                os.link(source, part)
            else:
                copy_sparse(source, part)
            part.chmod(0o444)
