"""qcow2 headers, read and written without a process.

Written: an empty disk and a copy-on-write overlay, both version 3 with 64 KiB clusters, in tens of microseconds where
`qemu-img create` takes 15 ms.  The L1 table always fills whole clusters, so a disk of ours grows by rewriting two
header fields until it reaches the next multiple of 4 TiB.  Read: everything the gate must know before any tool may
open a stranger's file.

Format: https://gitlab.com/qemu-project/qemu/-/blob/master/docs/interop/qcow2.txt (all integers big-endian).
"""

import os
import struct
from pathlib import Path

import msgspec

from cumulet.core.disk.errors import DiskCannotGrow, ImageMalformed
from cumulet.core.disk.files import appearing

__all__ = ["HEADER_BYTES_MAX", "MAGIC", "Header", "grow", "parse_header", "read_header", "write_empty", "write_overlay"]

MAGIC = b"QFI\xfb"

#: the header and its extensions must end within this, whatever the cluster size
HEADER_BYTES_MAX = 64 * 1024

_CLUSTER_BITS = 16
_CLUSTER = 1 << _CLUSTER_BITS
#: bytes of guest data one L1 entry stands for, with our cluster size
_L1_REACH = _CLUSTER * (_CLUSTER // 8)
_L1_ENTRIES_PER_CLUSTER = _CLUSTER // 8
_L1_BYTES_MAX = 32 * 1024 * 1024
_REFCOUNT_TABLE_BYTES_MAX = 8 * 1024 * 1024
_SECTOR = 512
#: far above any file system's limit, far below where the tables above would overflow
_SIZE_MAX = 1 << 50
_BACKING_NAME_MAX = 1023

_FIXED = struct.Struct(">4sIQIIQIIQQIIQ")
_V3 = struct.Struct(">QQQII")
_V2_LENGTH = 72
_V3_LENGTH = 104

EXTENSION_END = 0
EXTENSION_BACKING_FORMAT = 0xE2792ACA
EXTENSION_FEATURE_NAMES = 0x6803F857
EXTENSION_BITMAPS = 0x23852875
EXTENSION_CRYPTO = 0x0537BE77
EXTENSION_DATA_FILE = 0x44415441

INCOMPATIBLE_DIRTY = 1 << 0
INCOMPATIBLE_CORRUPT = 1 << 1
INCOMPATIBLE_DATA_FILE = 1 << 2
INCOMPATIBLE_COMPRESSION = 1 << 3
INCOMPATIBLE_EXTENDED_L2 = 1 << 4


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What a qcow2 file says of itself.  Offsets and sizes in bytes."""

    version: int
    size: int
    cluster_bits: int
    #: 0 none, 1 the old AES, 2 LUKS
    crypt_method: int
    l1_entries: int
    l1_offset: int
    incompatible: int
    compression_type: int
    extensions: tuple[int, ...]
    has_backing: bool
    #: None also when the name lies outside the bytes that were read
    backing_file: str | None
    backing_format: str | None


def parse_header(data: bytes) -> Header:
    """Read a header from the first bytes of a file: a cluster, or HEADER_BYTES_MAX, or the whole file, whichever is
    least.

    Raises ImageMalformed.  Says what is there; whether that is allowed is the gate's business.
    """
    if len(data) < _V2_LENGTH:
        raise ImageMalformed(reason="the qcow2 header is cut short")
    (
        magic, version, backing_offset, backing_length, cluster_bits, size, crypt_method,
        l1_entries, l1_offset, _refcount_offset, refcount_clusters, _snapshots, _snapshots_offset,
    ) = _FIXED.unpack_from(data)  # fmt: skip
    if magic != MAGIC or version not in (2, 3):
        raise ImageMalformed(reason="not a qcow2 file of version 2 or 3")
    if not 9 <= cluster_bits <= 21:
        raise ImageMalformed(reason="the qcow2 cluster size is out of range")
    cluster = 1 << cluster_bits
    incompatible, refcount_order, length, compression = 0, 4, _V2_LENGTH, 0
    if version == 3:
        if len(data) < _V3_LENGTH:
            raise ImageMalformed(reason="the qcow2 header is cut short")
        incompatible, _compatible, _autoclear, refcount_order, length = _V3.unpack_from(data, _V2_LENGTH)
        if not _V3_LENGTH <= length <= min(cluster, HEADER_BYTES_MAX) or length % 8 or length > len(data):
            raise ImageMalformed(reason="the qcow2 header length is out of range")
        compression = data[_V3_LENGTH] if length > _V3_LENGTH else 0
    if refcount_order > 6 or crypt_method > 2 or compression > 1:
        raise ImageMalformed(reason="a qcow2 header field is out of range")
    entry_reach = cluster * (cluster // (16 if incompatible & INCOMPATIBLE_EXTENDED_L2 else 8))
    if (
        l1_entries * 8 > _L1_BYTES_MAX
        or refcount_clusters * cluster > _REFCOUNT_TABLE_BYTES_MAX
        or size > l1_entries * entry_reach
        or l1_offset % cluster
    ):
        raise ImageMalformed(reason="the qcow2 tables do not fit the disk's size")

    end = min(cluster, HEADER_BYTES_MAX, len(data))
    if length <= backing_offset < end:
        end = backing_offset
    kinds, backing_format = _extensions(data, length, end)
    backing_file = None
    if backing_offset and backing_length <= _BACKING_NAME_MAX and backing_offset + backing_length <= len(data):
        backing_file = data[backing_offset : backing_offset + backing_length].decode("utf-8", "replace")
    return Header(
        version=version,
        size=size,
        cluster_bits=cluster_bits,
        crypt_method=crypt_method,
        l1_entries=l1_entries,
        l1_offset=l1_offset,
        incompatible=incompatible,
        compression_type=compression,
        extensions=kinds,
        has_backing=bool(backing_offset or backing_length),
        backing_file=backing_file,
        backing_format=backing_format,
    )


def _extensions(data: bytes, start: int, end: int) -> tuple[tuple[int, ...], str | None]:
    """The kinds of the header extensions, in order, and the backing format if one of them names it."""
    kinds: list[int] = []
    backing_format = None
    position = start
    while position + 8 <= end:
        kind, length = struct.unpack_from(">II", data, position)
        if kind == EXTENSION_END:
            return tuple(kinds), backing_format
        position += 8
        if length > end - position:
            raise ImageMalformed(reason="a qcow2 header extension is cut short")
        kinds.append(kind)
        if kind == EXTENSION_BACKING_FORMAT:
            backing_format = data[position : position + length].decode("ascii", "replace")
        position += (length + 7) & ~7
    return tuple(kinds), backing_format


def read_header(path: Path) -> Header:
    """The header of a qcow2 file that the caller knows to be one.  Raises ImageMalformed, FileNotFoundError."""
    with path.open("rb") as file:
        return parse_header(file.read(HEADER_BYTES_MAX))


def write_empty(path: Path, *, size: int, durable: bool = False) -> None:
    """Make an empty disk of `size` bytes (rounded up to a sector).  Raises DiskExists, OSError."""
    _write(path, size=size, backing=None, backing_format=None, durable=durable)


def write_overlay(path: Path, *, size: int, backing: Path, backing_format: str, durable: bool = False) -> None:
    """Make a copy-on-write disk of `size` bytes over `backing`, whose format is stated and so never probed.

    `backing` must be an absolute path and is not opened.  Raises DiskExists, OSError.
    """
    _write(path, size=size, backing=backing, backing_format=backing_format, durable=durable)


def _write(path: Path, *, size: int, backing: Path | None, backing_format: str | None, durable: bool) -> None:
    size = _whole_sectors(size)
    l1_clusters = -(-_l1_needed(size) // _L1_ENTRIES_PER_CLUSTER)
    clusters = 3 + l1_clusters  # header, refcount table, refcount block, L1
    first = _first_cluster(size, l1_clusters * _L1_ENTRIES_PER_CLUSTER, backing, backing_format)
    with appearing(path, durable=durable) as part:
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.ftruncate(fd, clusters * _CLUSTER)
            os.pwrite(fd, first, 0)
            os.pwrite(fd, struct.pack(">Q", 2 * _CLUSTER), _CLUSTER)
            os.pwrite(fd, struct.pack(">H", 1) * clusters, 2 * _CLUSTER)
        finally:
            os.close(fd)


def _first_cluster(size: int, l1_entries: int, backing: Path | None, backing_format: str | None) -> bytes:
    extensions = b""
    name = b""
    if backing is not None:
        name = os.fsencode(backing)
        if not backing.is_absolute() or len(name) > _BACKING_NAME_MAX:
            raise ValueError("a backing file is named by an absolute path of at most 1023 bytes")
        kind = (backing_format or "").encode("ascii")
        extensions = struct.pack(">II", EXTENSION_BACKING_FORMAT, len(kind)) + kind.ljust((len(kind) + 7) & ~7, b"\0")
    extensions += struct.pack(">II", EXTENSION_END, 0)
    fixed = _FIXED.pack(
        MAGIC, 3, _V3_LENGTH + len(extensions) if name else 0, len(name), _CLUSTER_BITS, size, 0,
        l1_entries, 3 * _CLUSTER, _CLUSTER, 1, 0, 0,
    )  # fmt: skip
    return fixed + _V3.pack(0, 0, 0, 4, _V3_LENGTH) + extensions + name


def grow(path: Path, *, size: int, backing_size: int = 0) -> None:
    """Make a disk that no process has open `size` bytes large.  Growing to its present size changes nothing.

    `backing_size` is the size of what lies under an overlay: where that is larger than the overlay was, growing would
    uncover old data.  Raises DiskCannotGrow when the header alone cannot say it (or the disk would shrink),
    ImageMalformed, FileNotFoundError.
    """
    size = _whole_sectors(size)
    with path.open("r+b", buffering=0) as file:
        header = parse_header(os.pread(file.fileno(), HEADER_BYTES_MAX, 0))
        if size == header.size:
            return
        reach = 1 << (2 * header.cluster_bits - 3)
        if (
            size < header.size
            or size > header.l1_entries * reach
            or header.incompatible
            or EXTENSION_BITMAPS in header.extensions
            or (header.has_backing and backing_size > header.size)
        ):
            raise DiskCannotGrow(detail=f"{path}: {header.size} to {size} bytes")
        os.pwrite(file.fileno(), struct.pack(">Q", size), 24)
        os.fsync(file.fileno())


def _whole_sectors(size: int) -> int:
    if not 0 < size <= _SIZE_MAX:
        raise ValueError(f"a disk has between 1 and {_SIZE_MAX} bytes, not {size}")
    return -(-size // _SECTOR) * _SECTOR


def _l1_needed(size: int) -> int:
    return -(-size // _L1_REACH)
