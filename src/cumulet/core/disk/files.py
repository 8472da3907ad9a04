"""New disk files that appear whole or not at all, and copies that keep their holes.

A file is written under a name ending in `.part` beside its final one and takes the final name when it is complete, so
a crash leaves nothing but `.part` files, which a back end can list.  A disk takes its name by a hard link, not by a
rename: a rename would silently replace a disk that is already there.
"""

import contextlib
import errno
import fcntl
import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path

from cumulet.core.disk.errors import DiskExists

__all__ = ["PART", "appearing", "copy_sparse", "left_by_the_dead"]

#: how the name of an unfinished file ends
PART = ".part"

#: ioctl(2) FICLONE: share all blocks of another file, copy on write (xfs, btrfs)
_FICLONE = 0x40049409
_CLONE_REFUSED = frozenset({errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.EPERM, errno.ENOSYS})
_COPY_RANGE_REFUSED = frozenset({errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EPERM})
#: bytes handed to the kernel per call, so that a thread can be interrupted between calls
_COPY_STEP = 64 * 1024 * 1024
_READ_STEP = 1024 * 1024

_numbers = itertools.count()
#: what `appearing` adds to a name
_BEGUN = re.compile(r"\.(?P<process>[0-9a-f]{1,8})-[0-9a-f]+" + re.escape(PART) + "$")


@contextlib.contextmanager
def appearing(path: Path, *, durable: bool, replace: bool = False) -> Iterator[Path]:
    """A name to write to, which becomes `path` when the block ends and vanishes when it raises.

    `durable` flushes the file and its folder first.  Raises DiskExists if `path` is taken, unless `replace`.
    """
    final = os.fspath(path)
    part = f"{final}.{os.getpid():x}-{next(_numbers):x}{PART}"
    _remove(part)  # left by a crashed process that had our pid
    try:
        yield Path(part)
        if durable:
            _flush(part)
        if replace:
            Path(part).replace(path)
        else:
            try:
                os.link(part, final)
            except FileExistsError as taken:
                raise DiskExists(detail=final) from taken
        if durable:
            _flush(os.fspath(path.parent))
    finally:
        _remove(part)


def left_by_the_dead(folder: Path) -> list[Path]:
    """What processes of this machine that are gone had begun to write in this folder."""
    found = []
    for part in folder.glob(f"*{PART}"):
        begun = _BEGUN.search(part.name)
        if begun is not None and not Path(f"/proc/{int(begun['process'], 16)}").exists():
            found.append(part)
    return found


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108 - a Path costs as much as the whole overlay, on the way of every launch


def _flush(path: str) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def copy_sparse(source: Path, target: Path) -> None:
    """Copy a file's bytes into a new file: by sharing its blocks where the file system can, else data only, holes kept.

    Nobody may write to `source` meanwhile.  Raises FileExistsError, FileNotFoundError, OSError (ENOSPC when the disk
    is full).
    """
    source_fd = os.open(source, os.O_RDONLY)
    try:
        target_fd = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            if not _cloned(source_fd, target_fd):
                _copy_data(source_fd, target_fd)
        finally:
            os.close(target_fd)
    finally:
        os.close(source_fd)


def _cloned(source_fd: int, target_fd: int) -> bool:
    try:
        fcntl.ioctl(target_fd, _FICLONE, source_fd)
    except OSError as refused:
        if refused.errno in _CLONE_REFUSED:
            return False
        raise
    return True


def _copy_data(source_fd: int, target_fd: int) -> None:
    size = os.fstat(source_fd).st_size
    os.ftruncate(target_fd, size)
    position = 0
    while position < size:
        try:
            start = os.lseek(source_fd, position, os.SEEK_DATA)
        except OSError as none_left:
            if none_left.errno == errno.ENXIO:  # a hole up to the end
                return
            raise
        end = os.lseek(source_fd, start, os.SEEK_HOLE)
        _copy_range(source_fd, target_fd, start, end)
        position = end


def _copy_range(source_fd: int, target_fd: int, start: int, end: int) -> None:
    position = start
    while position < end:
        try:
            done = os.copy_file_range(source_fd, target_fd, min(end - position, _COPY_STEP), position, position)
        except OSError as refused:
            if refused.errno not in _COPY_RANGE_REFUSED:
                raise
            done = _copy_by_hand(source_fd, target_fd, position, end)
        if done == 0:
            raise OSError(errno.EIO, "the source became shorter while it was copied")
        position += done


def _copy_by_hand(source_fd: int, target_fd: int, position: int, end: int) -> int:
    """One step between file systems that cannot copy among themselves.  Returns bytes copied, 0 at the source's end."""
    data = os.pread(source_fd, min(end - position, _READ_STEP), position)
    written = 0
    while written < len(data):
        written += os.pwrite(target_fd, data[written:], position + written)
    return written
