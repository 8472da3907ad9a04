"""Disk files of one server on this host: its root over a cached base, blank disks, its own copies of shared boot files.

A root disk is a qcow2 overlay written in-process over a raw base (`image_cache`): microseconds, no copy, and the base
serves every server of that image.  Nothing here opens a disk that a guest has written to with anything that guesses
formats.
"""

from pathlib import Path

from cumulet.compute.agent.hypervisor.driver import Backing, FileSource
from cumulet.core.disk import qcow2
from cumulet.core.disk.errors import DiskExists
from cumulet.core.disk.files import appearing, copy_sparse
from cumulet.core.errors import BadRequest

__all__ = [
    "FlavorDiskTooSmall",
    "copy_for_guest",
    "grow_root",
    "make_blank",
    "make_root",
    "remove",
    "root_source",
]


class FlavorDiskTooSmall(BadRequest):
    """The image does not fit the flavor's disk."""

    default = (
        "Flavor's disk is too small for requested image. "
        "Flavor disk is {flavor_size} bytes, image is {image_size} bytes."
    )


def make_root(path: Path, *, base: Path, size: int) -> FileSource:
    """Make a root disk of `size` bytes (0: as large as the image) over `base`.  There already, over this base: it is
    left alone.

    Raises FlavorDiskTooSmall, DiskExists (over another base), OSError.
    """
    image_size = base.stat().st_size
    if size and size < image_size:
        raise FlavorDiskTooSmall(flavor_size=size, image_size=image_size)
    try:
        qcow2.write_overlay(path, size=size or image_size, backing=base, backing_format="raw")
    except DiskExists:
        if qcow2.read_header(path).backing_file != str(base):
            raise
    return root_source(path, base=base)


def root_source(path: Path, *, base: Path) -> FileSource:
    """A root disk as the hypervisor is told of it."""
    return FileSource(path=str(path), format="qcow2", backing=(Backing(path=str(base)),))


def grow_root(path: Path, *, size: int) -> None:
    """Grow the root disk of a guest that is off.  Large enough already: nothing.

    Raises DiskCannotGrow, FileNotFoundError.
    """
    header = qcow2.read_header(path)
    if size > header.size:
        backing_size = Path(header.backing_file).stat().st_size if header.backing_file else 0
        qcow2.grow(path, size=size, backing_size=backing_size)


def make_blank(path: Path, *, size: int) -> FileSource:
    """Make an empty disk.  There already: it is left alone."""
    try:
        qcow2.write_empty(path, size=size)
    except DiskExists:
        if qcow2.read_header(path).has_backing:
            raise
    return FileSource(path=str(path), format="qcow2")


def copy_for_guest(source: Path, target: Path) -> None:
    """A server's own copy of a kernel or initrd.

    libvirt gives such files to QEMU's user, and what one guest's QEMU may write must not be what others boot.
    """
    with appearing(target, durable=False, replace=True) as part:
        copy_sparse(source, part)


def remove(path: Path) -> None:
    """Remove a disk.  Not there: nothing."""
    path.unlink(missing_ok=True)
