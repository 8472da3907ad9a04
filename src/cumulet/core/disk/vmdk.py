"""VMware's vmdk: one file with a sparse header and its own descriptor inside, and nothing else.

The other variants are text files that name the files they are made of, which is how an image came to name /etc/passwd
(CVE-2022-47951); they are told apart here and refused.  Inside an accepted file the descriptor must describe that
very file: one SPARSE extent without a path, no parent, and a capacity in the header, as a header without one makes
readers follow the descriptor.

Format: the "Virtual Disk Format 5.0" note and QEMU's block/vmdk.c.  All little-endian.
"""

import re
import struct

import msgspec

from cumulet.core.disk.errors import (
    ImageHasBackingFile,
    ImageHasForeignExtents,
    ImageHasUnknownFeatures,
    ImageMalformed,
)
from cumulet.core.disk.walk import TAIL_BYTES, Parsed, Parser, Region, Tail

__all__ = ["COWD_MAGIC", "MAGIC", "is_descriptor", "parse_vmdk"]

MAGIC = b"KDMV"
#: the sparse format of old ESX servers, which comes with a descriptor in another file
COWD_MAGIC = b"COWD"

_SECTOR = 512
_HEADER = struct.Struct("<4sIIQQQQIQQQB4sH")
_DESCRIPTOR_SECTOR = 1
_DESCRIPTOR_BYTES_MAX = 1024 * 1024 - 1
_DIRECTORY_AT_END = 0xFFFFFFFFFFFFFFFF
#: newline test, redundant directory, zeroed grains, compressed, markers
_FLAGS_KNOWN = 0x1 | 0x2 | 0x4 | 0x10000 | 0x20000
_ZLIB = 1
_NEWLINES = b"\n \r\n"
_MARKER_FOOTER = 3

_TYPES = ("monolithicsparse", "streamoptimized")
_NO_PARENT = "ffffffff"
_COMMENT_OR_BLANK = re.compile(rb"(?:#[^\n]*\n|[ \t]*\r?\n)*")
_VERSION_LINE = re.compile(rb"version=[123]\r?\n", re.IGNORECASE)
_ASSIGNMENT = re.compile(r"(?P<key>[a-z0-9_.]+)[ \t]*=[ \t]*(?P<value>.*)")
_EXTENT = re.compile(r'(?:rw|rdonly|noaccess) \d+ (?P<kind>[a-z0-9]+) "(?P<name>[^"]*)"(?: \d+)?')


def is_descriptor(head: bytes) -> bool:
    """Whether a file is, to QEMU or to VMware, a vmdk made of text."""
    if head[:21].lower() == b"# disk descriptorfile":
        return True
    rest = _COMMENT_OR_BLANK.match(head)
    return rest is not None and _VERSION_LINE.match(head, rest.end()) is not None


class _Header(msgspec.Struct, frozen=True):
    magic: bytes
    version: int
    flags: int
    capacity: int
    grain: int
    descriptor_at: int
    descriptor_sectors: int
    entries: int
    spare_directory: int
    directory: int
    overhead: int
    dirty: int
    newlines: bytes
    compression: int


def parse_vmdk(head: bytes) -> Parser:
    """One sparse file.  `head` tells it from the variants that are made of several."""
    if not head.startswith(MAGIC):
        raise ImageHasForeignExtents
    header = _unpack((yield Region(0, _SECTOR)).data)
    if header.version not in (1, 2, 3) or header.flags & ~_FLAGS_KNOWN or header.compression not in (0, _ZLIB):
        raise ImageHasUnknownFeatures
    if header.flags & 0x1 and header.newlines != _NEWLINES:
        raise ImageMalformed(reason="the vmdk file was damaged by a text transfer")
    length = header.descriptor_sectors * _SECTOR
    if header.descriptor_at != _DESCRIPTOR_SECTOR or not 0 < length <= _DESCRIPTOR_BYTES_MAX or header.capacity == 0:
        raise ImageHasForeignExtents
    text = (yield Region(_DESCRIPTOR_SECTOR * _SECTOR, length)).data
    if len(text) < length:
        raise ImageMalformed(reason="the vmdk descriptor is cut short")
    _check_descriptor(text)
    if header.directory == _DIRECTORY_AT_END:
        _check_footer(header, (yield Tail(TAIL_BYTES)).data)
    size = header.capacity * _SECTOR
    return Parsed(virtual_size=size, size_at_most=size)


def _unpack(sector: bytes) -> _Header:
    if len(sector) < _HEADER.size:
        raise ImageMalformed(reason="the vmdk header is cut short")
    return _Header(*_HEADER.unpack_from(sector))


def _check_descriptor(raw: bytes) -> None:
    """Every line must be one we understand."""
    try:
        text = raw.split(b"\0", 1)[0].decode("ascii").lower()
    except UnicodeDecodeError as odd:
        raise ImageMalformed(reason="the vmdk descriptor is not ASCII") from odd
    values: dict[str, str] = {}
    extents = 0
    for line in (piece.strip() for piece in text.split("\n")):
        if not line or line.startswith("#"):
            continue
        if extent := _EXTENT.fullmatch(line):
            extents += 1
            if extent["kind"] != "sparse" or "/" in extent["name"] or "\\" in extent["name"]:
                raise ImageHasForeignExtents
        elif (assignment := _ASSIGNMENT.fullmatch(line)) and assignment["key"] not in values:
            values[assignment["key"]] = assignment["value"].strip('" \t')
        else:
            # also a key given twice: two readers may take different ones
            raise ImageMalformed(reason="the vmdk descriptor has an unknown line")
    if values.get("parentcid", _NO_PARENT) != _NO_PARENT or "parentfilenamehint" in values:
        raise ImageHasBackingFile
    if values.get("createtype") not in _TYPES or extents != 1:
        raise ImageHasForeignExtents


def _check_footer(header: _Header, end: bytes) -> None:
    """A stream's footer replaces the header for many readers: it must say the same, but where the directory is."""
    if len(end) < TAIL_BYTES:
        raise ImageMalformed(reason="the vmdk footer is missing")
    marker, footer, last = end[:512], _unpack(end[512:1024]), end[1024:]
    _value, size, kind = struct.unpack_from("<QII", marker)
    if size != 0 or kind != _MARKER_FOOTER or any(last) or any(marker[16:]):
        raise ImageMalformed(reason="the vmdk footer is not where it must be")
    if footer.directory == _DIRECTORY_AT_END or msgspec.structs.replace(footer, directory=_DIRECTORY_AT_END) != header:
        raise ImageMalformed(reason="the vmdk footer contradicts the header")
