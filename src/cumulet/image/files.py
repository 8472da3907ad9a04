"""The bytes of images on disk: how they come in, and that nothing of a failed attempt stays.

    DIR/incoming/ID   while they arrive
    DIR/staging/ID    staged, waiting for an import
    DIR/ID            complete, and through the gate: hosts on this machine read it by this name

A file takes its final name only when it is complete and on disk.  Every function here may wait for the disk: bytes
arrive in the "uploads" pool, and files go in "devices", so that no delete waits for uploads.  None knows the database.
"""

import contextlib
import errno
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec
import structlog

from cumulet.core.disk.formats import Inspector
from cumulet.core.errors import BadRequest, PayloadTooLarge

__all__ = [
    "HASH_ALGORITHM",
    "ImageFiles",
    "ImageSizeLimit",
    "Received",
    "StorageFull",
    "UploadInterrupted",
    "file_chunks",
]

log = structlog.get_logger()

HASH_ALGORITHM = "sha512"
#: bytes per write and per read
CHUNK = 1 << 20

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class UploadInterrupted(BadRequest):
    default = "The upload ended before all data had arrived."


class ImageSizeLimit(PayloadTooLarge):
    default = "The incoming image is too large: it exceeds the limit of {limit} bytes."


class StorageFull(PayloadTooLarge):
    default = "Image storage media is full: There is not enough disk space on the image storage media."


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in the bytes while they came in."""

    size: int
    virtual_size: int
    checksum: str
    os_hash_value: str


class ImageFiles:
    """See the module's docstring.  size_max, virtual_size_max: bytes."""

    def __init__(self, folder: Path, *, size_max: int, virtual_size_max: int) -> None:
        self._folder = folder.absolute()
        self._incoming = self._folder / "incoming"
        self._staging = self._folder / "staging"
        self._size_max = size_max
        self._virtual_size_max = virtual_size_max
        for made in (self._folder, self._incoming, self._staging):
            made.mkdir(mode=0o750, parents=True, exist_ok=True)

    def path(self, image_id: str) -> Path:
        return self._folder / image_id

    def staged(self, image_id: str) -> Path:
        return self._staging / image_id

    def receive(self, image_id: str, chunks: Iterable[bytes], disk_format: str) -> Received:
        """Write an image's bytes, through the gate, to their final place.

        Raises ImageRefused, ImageSizeLimit, StorageFull, UploadInterrupted, OSError; then nothing is left.
        """
        gate = Inspector(disk_format, virtual_bytes_max=self._virtual_size_max)
        # two digests, because the first is what old clients compare and the second is what can be trusted
        checksum, strong = hashlib.md5(usedforsecurity=False), hashlib.sha512()

        def look(chunk: bytes) -> None:
            gate.feed(chunk)
            checksum.update(chunk)
            strong.update(chunk)

        with self._arriving(image_id, self.path(image_id)) as part:
            size = self._write(part, chunks, look)
            facts = gate.finish()
        return Received(
            size=size,
            virtual_size=facts.virtual_size,
            checksum=checksum.hexdigest(),
            os_hash_value=strong.hexdigest(),
        )

    def stage(self, image_id: str, chunks: Iterable[bytes]) -> int:
        """Write bytes aside, unjudged: the import judges them.  How many they are."""
        with self._arriving(image_id, self.staged(image_id)) as part:
            return self._write(part, chunks)

    @contextlib.contextmanager
    def _arriving(self, image_id: str, final: Path) -> Iterator[Path]:
        part = self._incoming / image_id
        try:
            yield part
            part.rename(final)
            _flush_folder(final.parent)
        except ConnectionError as error:
            raise UploadInterrupted(detail=str(error)) from error
        except OSError as error:
            if error.errno in _FULL:
                raise StorageFull(detail=str(error)) from error
            raise
        finally:
            part.unlink(missing_ok=True)

    def _write(self, part: Path, chunks: Iterable[bytes], look: Callable[[bytes], None] | None = None) -> int:
        size = 0
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        with os.fdopen(descriptor, "wb", buffering=CHUNK) as file:
            for chunk in chunks:
                size += len(chunk)
                if size > self._size_max:
                    raise ImageSizeLimit(limit=self._size_max)
                if look is not None:
                    look(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        return size

    def remove(self, image_id: str) -> None:
        """Whatever there is of an image's bytes, except those still arriving."""
        for path in (self.path(image_id), self.staged(image_id)):
            path.unlink(missing_ok=True)

    def remove_staged(self, image_id: str) -> None:
        self.staged(image_id).unlink(missing_ok=True)

    def staged_ids(self) -> set[str]:
        return {path.name for path in self._staging.iterdir()}

    def stored_ids(self) -> set[str]:
        """Whose files there are, complete or staged."""
        return {path.name for path in self._folder.iterdir() if path.is_file()} | self.staged_ids()

    def clear(self, *, with_data: set[str], staged: set[str]) -> None:
        """At start: remove what was arriving, and files that belong to no image."""
        for folder, wanted in ((self._incoming, set[str]()), (self._staging, staged), (self._folder, with_data)):
            for path in folder.iterdir():
                if path.name not in wanted and path.is_file():
                    log.info("stray image file removed", path=str(path))
                    path.unlink()


def file_chunks(path: Path) -> Iterator[bytes]:
    """A file's bytes in order."""
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(CHUNK):
            yield chunk


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
