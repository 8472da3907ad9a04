"""The one gate for every image byte.

Whatever a user uploads, imports, or has made of a server's disk goes through an `Inspector` while it arrives, or
through `inspect_file` when it lies there.  Both read the headers with parsers of our own, so that no tool ever has to
guess what a stranger's bytes are: what passes has one known format, the one declared, reaches for nothing outside its
own bytes, and has a virtual size within the limit.  From then on the format is a stored fact, given explicitly to
whatever opens the file.

What is declared, and what must be found:
  raw, ami, aki, ari    none of the formats we know by their marks; a partition table is noted, not judged
  iso                   ISO 9660 or UDF; a boot sector with partitions in front is normal there
  qcow2                 version 2 or 3, no backing file, no data file, known features only, encrypted only if allowed
  vmdk                  monolithicSparse or streamOptimized, describing itself
  vdi, vhd, vhdx        without a parent
Two marks in one file are refused (a header hidden behind another), and so is everything QEMU could open that is not
named here.

The alternative, `qemu-img info` in a sandbox, opens the file first and asks afterwards: eighteen advisories are about
that.
"""

import os
from pathlib import Path

import msgspec

from cumulet.core.disk import plain, qcow2, vhd, vmdk
from cumulet.core.disk.errors import (
    ImageEncrypted,
    ImageFormatAmbiguous,
    ImageFormatBanned,
    ImageFormatMismatch,
    ImageFormatUnknown,
    ImageRefused,
    ImageTooLarge,
)
from cumulet.core.disk.walk import Parsed, Parser, StreamWalk, walk_file

__all__ = ["DISK_FORMATS", "ImageFacts", "Inspector", "inspect_file", "qemu_format"]

_RAW_LIKE = frozenset({"raw", "ami", "aki", "ari"})
_RICH = frozenset({"iso", "qcow2", "vdi", "vhd", "vhdx", "vmdk"})
#: what `disk_format` may be, in the reference's names
DISK_FORMATS = _RAW_LIKE | _RICH

#: (offset, mark, format).  Those not in DISK_FORMATS are known only to be refused.
_MARKS = (
    (0, qcow2.MAGIC, "qcow2"),
    (0, vhd.VHD_MAGIC, "vhd"),
    (0, vhd.VHDX_MAGIC, "vhdx"),
    (0, vmdk.MAGIC, "vmdk"),
    (0, vmdk.COWD_MAGIC, "vmdk"),
    (plain.VDI_MAGIC_AT, plain.VDI_MAGIC, "vdi"),
    (0x8001, b"CD001", "iso"),
    (0x8001, b"NSR02", "iso"),
    (0x8001, b"NSR03", "iso"),
    (0, b"LUKS\xba\xbe", "luks"),
    (0, b"QED\0", "qed"),
    (0, b"WithoutFreeSpace", "ploop"),
    (0, b"WithouFreSpacExt", "ploop"),
    (0, b"Bochs Virtual HD Image", "bochs"),
    (0, b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop", "cloop"),
)
#: known by their marks, and refused under whatever name
_BANNED = frozenset({"bochs", "cloop", "luks", "ploop", "qcow", "qed"})

_QCOW1 = qcow2.MAGIC + b"\0\0\0\1"

_BOOT_MARK_AT = 510
_BOOT_MARK = b"\x55\xaa"
_PARTITIONS_AT = 446
_PROTECTIVE = 0xEE


class ImageFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the gate found, to be stored with the image."""

    #: as declared, and true
    disk_format: str
    #: bytes of the disk inside; of raw and iso the bytes of the file
    virtual_size: int
    file_size: int
    #: "gpt", "mbr" or None, of images whose bytes are the disk's
    partition_table: str | None
    encrypted: bool

    @property
    def qemu_format(self) -> str:
        return qemu_format(self.disk_format)


def qemu_format(disk_format: str) -> str:
    """The name by which QEMU is told this format."""
    if disk_format in _RAW_LIKE or disk_format == "iso":
        return "raw"
    return "vpc" if disk_format == "vhd" else disk_format


class _Gate:
    """The verdict, apart from how the bytes are come by."""

    def __init__(self, declared: str, *, virtual_bytes_max: int, allow_encrypted: bool) -> None:
        if declared not in DISK_FORMATS:
            raise ImageFormatUnknown(declared=declared)
        self._declared = declared
        self._limit = virtual_bytes_max
        self._allow_encrypted = allow_encrypted
        self._table: str | None = None
        self._luks = False

    @property
    def counts_bytes(self) -> bool:
        """Whether the disk is as large as the file, so that its size can be judged while it arrives."""
        return self._declared in _RAW_LIKE or self._declared == "iso"

    def begin(self, head: bytes) -> Parser:
        """Choose the parser for what begins so.  Raises when it cannot be what was declared."""
        found = _marks(head)
        if len(found) > 1:
            raise ImageFormatAmbiguous(found=",".join(sorted(found)))
        kind = next(iter(found), "raw")
        if self.counts_bytes:
            self._table = _partition_table(head)
        if kind == "luks" and self._declared in _RAW_LIKE:
            if not self._allow_encrypted:
                raise ImageEncrypted
            self._luks = True
            return plain.parse_raw()
        if kind in _BANNED:
            raise ImageFormatBanned(found=kind)
        if kind == "raw" and self._declared == "vhd":
            return vhd.parse_fixed_vhd()
        if kind != ("raw" if self._declared in _RAW_LIKE else self._declared):
            raise ImageFormatMismatch(declared=self._declared, found=kind)
        return self._parser(kind, head)

    def _parser(self, kind: str, head: bytes) -> Parser:
        if kind == "qcow2":
            return plain.parse_qcow2(allow_encrypted=self._allow_encrypted)
        if kind == "vmdk":
            return vmdk.parse_vmdk(head)
        if kind == "vhd":
            return vhd.parse_dynamic_vhd(head)
        if kind == "vhdx":
            return vhd.parse_vhdx()
        if kind == "vdi":
            return plain.parse_vdi()
        return plain.parse_raw()

    def check_size(self, size: int) -> None:
        if size > self._limit:
            raise ImageTooLarge(limit=self._limit, detail=f"{size} bytes")

    def conclude(self, parsed: Parsed, tail: bytes, total: int) -> ImageFacts:
        """All bytes were seen: look for formats that are marked at their end, and give the verdict."""
        self.check_size(parsed.size_at_most)
        at_end = _end_mark(tail, total)
        if at_end is not None and at_end != self._declared:
            if self._declared in _RAW_LIKE:
                raise ImageFormatMismatch(declared=self._declared, found=at_end)
            raise ImageFormatAmbiguous(found=",".join(sorted({self._declared, at_end})))
        return ImageFacts(
            disk_format=self._declared,
            virtual_size=parsed.virtual_size,
            file_size=total,
            partition_table=self._table,
            encrypted=parsed.encrypted or self._luks,
        )


class Inspector:
    """The gate for bytes that arrive: `feed` each chunk, then `finish`.

    Both raise ImageRefused (and nothing else) as soon as the verdict is certain, which for a wrong format is after 64
    KiB, and raise it again if called again.  Holds about 1.1 MiB at most, 64 KiB for most formats.
    """

    def __init__(self, declared: str, *, virtual_bytes_max: int, allow_encrypted: bool = False) -> None:
        """`declared` is the image's disk_format.  Raises ImageFormatUnknown."""
        self._gate = _Gate(declared, virtual_bytes_max=virtual_bytes_max, allow_encrypted=allow_encrypted)
        self._walk = StreamWalk(self._gate.begin)
        self._refused: ImageRefused | None = None

    def feed(self, chunk: bytes | bytearray | memoryview) -> None:
        if self._refused is not None:
            raise self._refused
        try:
            self._walk.feed(chunk)
            if self._gate.counts_bytes:
                self._gate.check_size(self._walk.total)
            elif self._walk.parsed is not None:
                self._gate.check_size(self._walk.parsed.size_at_most)
        except ImageRefused as refused:
            self._refused = refused
            raise

    def finish(self) -> ImageFacts:
        if self._refused is not None:
            raise self._refused
        try:
            parsed, tail = self._walk.finish()
            return self._gate.conclude(parsed, tail, self._walk.total)
        except ImageRefused as refused:
            self._refused = refused
            raise


def inspect_file(path: Path, declared: str, *, virtual_bytes_max: int, allow_encrypted: bool = False) -> ImageFacts:
    """The gate for a file that nobody writes to.  Reads its headers only.  Raises ImageRefused, OSError."""
    gate = _Gate(declared, virtual_bytes_max=virtual_bytes_max, allow_encrypted=allow_encrypted)
    with path.open("rb", buffering=0) as file:
        total = os.fstat(file.fileno()).st_size
        parsed, tail = walk_file(file.fileno(), total, gate.begin)
    return gate.conclude(parsed, tail, total)


def _marks(head: bytes) -> set[str]:
    found = {name for offset, mark, name in _MARKS if head.startswith(mark, offset)}
    if head.startswith(_QCOW1):
        found = found - {"qcow2"} | {"qcow"}
    if vmdk.is_descriptor(head):
        found.add("vmdk")
    return found


def _end_mark(tail: bytes, total: int) -> str | None:
    if vhd.is_fixed_footer(tail, total):
        return "vhd"
    if tail[-512:-500] == b"koly" + (4).to_bytes(4, "big") + (512).to_bytes(4, "big"):
        return "dmg"
    return None


def _partition_table(head: bytes) -> str | None:
    """What the first sector says, for the image's record: nothing on a host ever acts on it."""
    sector = head[:512]
    if sector[_BOOT_MARK_AT:] != _BOOT_MARK:
        return None
    entries = [sector[at : at + 16] for at in range(_PARTITIONS_AT, _BOOT_MARK_AT, 16)]
    kinds = [entry[4] for entry in entries]
    # A file system's boot sector carries the same mark, but code or text where the entries would be.
    if not any(kinds) or any(entry[0] not in (0x00, 0x80) for entry in entries):
        return None
    if _PROTECTIVE in kinds and b"EFI PART" in (head[512:520], head[4096:4104]):
        return "gpt"
    return "mbr"
