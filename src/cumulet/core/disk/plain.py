"""Parsers of the formats whose facts stand at the start of the file: raw, iso, qcow2, vdi."""

import struct

from cumulet.core.disk import qcow2
from cumulet.core.disk.errors import (
    ImageEncrypted,
    ImageHasBackingFile,
    ImageHasDataFile,
    ImageHasUnknownFeatures,
    ImageMalformed,
)
from cumulet.core.disk.walk import Parsed, Parser, Region, Tail

__all__ = ["VDI_MAGIC", "VDI_MAGIC_AT", "parse_qcow2", "parse_raw", "parse_vdi"]

VDI_MAGIC = b"\x7f\x10\xda\xbe"
VDI_MAGIC_AT = 0x40
_VDI_VERSION = 0x00010001
_VDI_DYNAMIC, _VDI_STATIC = 1, 2
_VDI_BLOCK = 1024 * 1024
_VDI_BLOCKS_MAX = 0x1FFFFFFF
_VDI_SECTOR = 512

#: what a qcow2 file of a stranger may use; extended L2 entries and zstd are understood by every QEMU since 5.2
_QCOW2_FEATURES = qcow2.INCOMPATIBLE_DIRTY | qcow2.INCOMPATIBLE_COMPRESSION | qcow2.INCOMPATIBLE_EXTENDED_L2
_QCOW2_EXTENSIONS = frozenset({qcow2.EXTENSION_FEATURE_NAMES, qcow2.EXTENSION_BITMAPS})
_QCOW2_LUKS = 2


def parse_raw() -> Parser:
    """Bytes without a format, and ISO images, which every tool takes as they are: the disk is as large as the file."""
    end = yield Tail(1)
    return Parsed(virtual_size=end.total, size_at_most=end.total)


def parse_qcow2(*, allow_encrypted: bool) -> Parser:
    """qcow2 by itself: no backing file, no external data file, nothing we do not know."""
    header = qcow2.parse_header((yield Region(0, qcow2.HEADER_BYTES_MAX)).data)
    if header.has_backing or qcow2.EXTENSION_BACKING_FORMAT in header.extensions:
        raise ImageHasBackingFile
    if header.incompatible & qcow2.INCOMPATIBLE_DATA_FILE or qcow2.EXTENSION_DATA_FILE in header.extensions:
        raise ImageHasDataFile
    if header.incompatible & qcow2.INCOMPATIBLE_CORRUPT:
        raise ImageMalformed(reason="the qcow2 file is marked as corrupt")
    encrypted = header.crypt_method != 0 or qcow2.EXTENSION_CRYPTO in header.extensions
    # The old AES method is broken and refused by QEMU itself, asked for or not.
    if encrypted and not (allow_encrypted and header.crypt_method == _QCOW2_LUKS):
        raise ImageEncrypted
    known = _QCOW2_EXTENSIONS | {qcow2.EXTENSION_CRYPTO} if encrypted else _QCOW2_EXTENSIONS
    if header.incompatible & ~_QCOW2_FEATURES or not known.issuperset(header.extensions):
        raise ImageHasUnknownFeatures
    return Parsed(virtual_size=header.size, size_at_most=header.size, encrypted=encrypted)


def parse_vdi() -> Parser:
    """VirtualBox's format: dynamic or static, without a parent.  All little-endian."""
    header = (yield Region(0, _VDI_SECTOR)).data
    if len(header) < _VDI_SECTOR:
        raise ImageMalformed(reason="the vdi header is cut short")
    version, _length, kind = struct.unpack_from("<III", header, 0x44)
    sector, size, block, _extra, blocks = struct.unpack_from("<I4xQIII", header, 0x168)
    link, parent = header[0x1A8:0x1B8], header[0x1B8:0x1C8]
    if any(link) or any(parent):
        raise ImageHasBackingFile
    if version != _VDI_VERSION or kind not in (_VDI_DYNAMIC, _VDI_STATIC):
        raise ImageHasUnknownFeatures
    if sector != _VDI_SECTOR or block != _VDI_BLOCK or blocks > _VDI_BLOCKS_MAX or size > blocks * block:
        raise ImageMalformed(reason="the vdi header contradicts itself")
    # QEMU rounds an odd size up to whole sectors.
    return Parsed(virtual_size=-(-size // _VDI_SECTOR) * _VDI_SECTOR, size_at_most=blocks * block)
