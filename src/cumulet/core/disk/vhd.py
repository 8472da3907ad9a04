"""Microsoft's two formats: vhd (which QEMU calls vpc, big-endian) and vhdx (little-endian).

A fixed vhd is a raw disk with a footer of 512 bytes, a dynamic one starts with a copy of that footer; a differencing
one names a parent and is refused, as is a vhdx with a parent locator.

Formats: "Virtual Hard Disk Image Format Specification" 1.0 and [MS-VHDX]; QEMU's block/vpc.c for the sizes it derives.
"""

import struct
import uuid

from cumulet.core.disk.errors import ImageFormatMismatch, ImageHasBackingFile, ImageHasUnknownFeatures, ImageMalformed
from cumulet.core.disk.walk import Parsed, Parser, Region, Tail

__all__ = ["VHDX_MAGIC", "VHD_MAGIC", "is_fixed_footer", "parse_dynamic_vhd", "parse_fixed_vhd", "parse_vhdx"]

VHD_MAGIC = b"conectix"
VHDX_MAGIC = b"vhdxfile"

_FOOTER = struct.Struct(">8sIIQI4sIIQQHBBII")
_FOOTER_BYTES = 512
_DYNAMIC_BYTES = 1024
_FIXED, _DYNAMIC, _DIFFERENCING = 2, 3, 4
_VERSION = 0x00010000
_NO_OFFSET = 0xFFFFFFFFFFFFFFFF

_REGION_TABLE_AT = 192 * 1024
_TABLE_BYTES = 64 * 1024
_ENTRIES_MAX = 2047
_METADATA_REGION = uuid.UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e")
_BLOCK_TABLE_REGION = uuid.UUID("2dc27766-f623-4200-9d64-115e9bfd4a08")
_FILE_PARAMETERS = uuid.UUID("caa16737-fa36-4d43-b3b6-33f0aa44e76b")
_DISK_SIZE = uuid.UUID("2fa54224-cd1b-4876-b211-5dbed83bf4b8")
_PARENT_LOCATOR = uuid.UUID("a8d35f2d-b30b-454d-abf7-d3d84834ab0c")
_ITEMS_KNOWN = frozenset(
    {
        _FILE_PARAMETERS,
        _DISK_SIZE,
        _PARENT_LOCATOR,
        uuid.UUID("beca12ab-b2e6-4523-93ef-c309e000c746"),  # the disk's own identifier
        uuid.UUID("8141bf1d-a96f-4709-ba47-f233a8faab5f"),  # logical sector size
        uuid.UUID("cda348c7-445d-4471-9cc9-e9885251c556"),  # physical sector size
    }
)
_ITEM_REQUIRED = 0x4
_HAS_PARENT = 0x2
#: [MS-VHDX] 2.6.2.2
_VHDX_SIZE_MAX = 64 << 40


def is_fixed_footer(end: bytes, total: int) -> bool:
    """Whether the last 512 bytes make the file a fixed vhd: checksum right, size fitting.  No accident makes these."""
    footer = end[-_FOOTER_BYTES:]
    if len(footer) < _FOOTER_BYTES or not footer.startswith(VHD_MAGIC):
        return False
    fields = _FOOTER.unpack_from(footer)
    without_sum = sum(footer[:64]) + sum(footer[68:])
    return bool(fields[13] == _FIXED and fields[9] == total - _FOOTER_BYTES and fields[14] == ~without_sum & 0xFFFFFFFF)


def parse_fixed_vhd() -> Parser:
    """A disk as it is, with the footer behind it."""
    end = yield Tail(_FOOTER_BYTES)
    if not is_fixed_footer(end.data, end.total):
        raise ImageFormatMismatch(declared="vhd", found="raw")
    return _sizes(_footer(end.data, _FIXED))


def parse_dynamic_vhd(head: bytes) -> Parser:
    footer = _footer((yield Region(0, _FOOTER_BYTES)).data, _DYNAMIC)
    if footer[3] > len(head):
        raise ImageMalformed(reason="the vhd header is not where it must be")
    dynamic = (yield Region(footer[3], _DYNAMIC_BYTES)).data
    if len(dynamic) < _DYNAMIC_BYTES or not dynamic.startswith(b"cxsparse"):
        raise ImageMalformed(reason="the vhd header is missing")
    if any(dynamic[40:60]) or any(dynamic[64:768]):
        raise ImageHasBackingFile
    end = yield Tail(_FOOTER_BYTES)
    if end.data.startswith(VHD_MAGIC) and _footer(end.data, _DYNAMIC)[8:14] != footer[8:14]:
        raise ImageMalformed(reason="the vhd footer contradicts its copy")
    return _sizes(footer)


def _footer(data: bytes, kind: int) -> tuple[int, ...]:
    if len(data) < _FOOTER_BYTES:
        raise ImageMalformed(reason="the vhd footer is cut short")
    fields: tuple[int, ...] = _FOOTER.unpack_from(data)
    if fields[13] == _DIFFERENCING:
        raise ImageHasBackingFile
    if fields[2] != _VERSION or fields[13] != kind:
        raise ImageHasUnknownFeatures
    return fields


def _sizes(footer: tuple[int, ...]) -> Parsed:
    """The size is the current size, or by older tools' habit what the geometry gives."""
    original, current, cylinders, heads, sectors = footer[8:13]
    return Parsed(virtual_size=current, size_at_most=max(original, current, cylinders * heads * sectors * 512))


def parse_vhdx() -> Parser:
    table = (yield Region(_REGION_TABLE_AT, _TABLE_BYTES)).data
    metadata_at = _metadata_region(table)
    items = _items((yield Region(metadata_at, _TABLE_BYTES)).data)
    if _PARENT_LOCATOR in items:
        raise ImageHasBackingFile
    values: dict[uuid.UUID, int] = {}
    for item in sorted((_FILE_PARAMETERS, _DISK_SIZE), key=lambda name: items.get(name, 0)):
        if items.get(item, 0) < _TABLE_BYTES:
            raise ImageMalformed(reason="a vhdx metadata item is missing")
        data = (yield Region(metadata_at + items[item], 8)).data
        if len(data) < 8:
            raise ImageMalformed(reason="a vhdx metadata item is cut short")
        values[item] = int.from_bytes(data, "little")
    if values[_FILE_PARAMETERS] >> 32 & _HAS_PARENT:
        raise ImageHasBackingFile
    size = values[_DISK_SIZE]
    if size > _VHDX_SIZE_MAX:
        raise ImageMalformed(reason="the vhdx size is out of range")
    return Parsed(virtual_size=size, size_at_most=size)


def _metadata_region(table: bytes) -> int:
    if len(table) < _TABLE_BYTES or not table.startswith(b"regi"):
        raise ImageMalformed(reason="the vhdx region table is missing")
    count = int.from_bytes(table[8:12], "little")
    if count > _ENTRIES_MAX:
        raise ImageMalformed(reason="the vhdx region table is too long")
    found = 0
    for at in range(16, 16 + count * 32, 32):
        name = uuid.UUID(bytes_le=table[at : at + 16])
        offset, _length, required = struct.unpack_from("<QII", table, at + 16)
        if name == _METADATA_REGION:
            if found:
                raise ImageMalformed(reason="the vhdx file has two metadata regions")
            found = offset
        elif name != _BLOCK_TABLE_REGION and required & 1:
            raise ImageHasUnknownFeatures
    if found < _REGION_TABLE_AT + 2 * _TABLE_BYTES:
        raise ImageMalformed(reason="the vhdx metadata region is missing")
    return found


def _items(table: bytes) -> dict[uuid.UUID, int]:
    """Where each metadata item lies, from the region's start."""
    if len(table) < _TABLE_BYTES or not table.startswith(b"metadata"):
        raise ImageMalformed(reason="the vhdx metadata is missing")
    count = int.from_bytes(table[10:12], "little")
    if count > _ENTRIES_MAX:
        raise ImageMalformed(reason="the vhdx metadata table is too long")
    items: dict[uuid.UUID, int] = {}
    for at in range(32, 32 + count * 32, 32):
        name = uuid.UUID(bytes_le=table[at : at + 16])
        offset, _length, bits = struct.unpack_from("<III", table, at + 16)
        if name in items:
            raise ImageMalformed(reason="a vhdx metadata item is given twice")
        if name not in _ITEMS_KNOWN and bits & _ITEM_REQUIRED:
            raise ImageHasUnknownFeatures
        items[name] = offset
    return items
