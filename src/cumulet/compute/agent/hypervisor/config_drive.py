"""The config drive: what the metadata service tells, as a CD image of label config-2.

An ISO 9660 image written in memory, without a process: plain names for the standard, Rock Ridge for guests of the
Unix family, Joliet for Windows.  The same files always make the same bytes, so a drive can be written again without
harm.

Formats: ECMA-119; SUSP 1.12 and RRIP 1.12 (SP, ER, PX, NM); Joliet 1.0.
"""

import re
import struct
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Final

from cumulet.core.disk.files import appearing
from cumulet.core.errors import BadRequest

__all__ = ["CONFIG_DRIVE_BYTES_MAX", "LABEL", "ConfigDriveTooLarge", "build", "write"]

LABEL: Final = "config-2"
CONFIG_DRIVE_BYTES_MAX: Final = 64 << 20

_SECTOR: Final = 2048
_FIRST_FREE: Final = 19  # 16 lead-in sectors are the system's; then the two descriptors and their end
_NAME_MAX: Final = 64  # Joliet's limit
_EPOCH: Final = bytes((70, 1, 1, 0, 0, 0, 0))
_NO_DATE: Final = b"0" * 16 + b"\0"
_NOT_PLAIN: Final = re.compile(r"[^A-Z0-9_]")

Encode = Callable[["_Node"], bytes]


class ConfigDriveTooLarge(BadRequest):
    """More than a drive may hold."""

    default = "The data for the config drive is too large."


class _Node:
    """A file or a folder, and where it lies in the image."""

    def __init__(self, name: str, parent: "_Node | None", data: bytes | None) -> None:
        self.name = name
        self.parent = parent or self
        self.data = data
        self.children: dict[str, _Node] = {}
        self.plain = name
        self.sector = 0

    @property
    def is_folder(self) -> bool:
        return self.data is None


def write(path: Path, files: Mapping[str, bytes]) -> None:
    """Write the drive, over an older one if there is one.  `files` as `build`."""
    image = build(files)
    with appearing(path, durable=False, replace=True) as part:
        part.write_bytes(image)
        part.chmod(0o600)


def build(files: Mapping[str, bytes], *, label: str = LABEL) -> bytes:
    """The image with these files: relative paths with slashes → contents.  Raises ConfigDriveTooLarge, ValueError."""
    if sum(len(data) for data in files.values()) > CONFIG_DRIVE_BYTES_MAX:
        raise ConfigDriveTooLarge
    root = _tree(files)
    folders, leaves = _walk(root)
    blocks: list[bytes] = []
    free = _FIRST_FREE

    def place(block: bytes) -> int:
        nonlocal free
        padded = block + bytes(-len(block) % _SECTOR)
        blocks.append(padded)
        sector, free = free, free + len(padded) // _SECTOR
        return sector

    for leaf in leaves:
        leaf.sector = place(leaf.data or b"")
    plain = _hierarchy(root, folders, _plain_name, place, rock_ridge=True)
    joliet = _hierarchy(root, folders, _joliet_name, place, rock_ridge=False)
    head = (
        bytes(16 * _SECTOR)
        + _descriptor(1, label.encode("ascii").ljust(32), plain, total=free, escape=b"")
        + _descriptor(2, label.encode("utf-16-be").ljust(32, b"\0"), joliet, total=free, escape=b"%/E")
        + (b"\xffCD001\x01").ljust(_SECTOR, b"\0")
    )
    return head + b"".join(blocks)


# ── the tree ──────────────────────────────────────────────────────────────────────────────────────


def _tree(files: Mapping[str, bytes]) -> _Node:
    root = _Node("", None, None)
    for name, data in sorted(files.items()):
        parts = PurePosixPath(name).parts
        if not parts or parts[0] == "/" or ".." in parts or any(len(part) > _NAME_MAX for part in parts):
            raise ValueError(f"not a path inside the drive: {name!r}")
        folder = root
        for part in parts[:-1]:
            folder = folder.children.setdefault(part, _Node(part, folder, None))
            if not folder.is_folder:
                raise ValueError(f"{part!r} is a file and a folder")
        if parts[-1] in folder.children:
            raise ValueError(f"{name!r} is there already")
        folder.children[parts[-1]] = _Node(parts[-1], folder, data)
    return root


def _walk(root: _Node) -> tuple[list[_Node], list[_Node]]:
    """Folders breadth first (the order of path tables), and files; both get their plain names here."""
    folders: list[_Node] = [root]
    leaves: list[_Node] = []
    for folder in folders:  # grows while it is walked
        taken: set[str] = set()
        for child in folder.children.values():
            child.plain = _unique_plain(child, taken)
        for child in sorted(folder.children.values(), key=lambda node: node.plain):
            (folders if child.is_folder else leaves).append(child)
    return folders, leaves


def _unique_plain(node: _Node, taken: set[str]) -> str:
    stem, dot, suffix = node.name.upper().rpartition(".")
    if not dot or node.is_folder:
        stem, suffix = node.name.upper(), ""
    stem, suffix = _NOT_PLAIN.sub("_", stem)[:8] or "_", _NOT_PLAIN.sub("_", suffix)[:3]
    number, candidate = 0, stem
    while (plain := candidate if node.is_folder else f"{candidate}.{suffix};1") in taken:
        number += 1
        candidate = f"{stem[: 8 - len(str(number))]}{number}"
    taken.add(plain)
    return plain


def _plain_name(node: _Node) -> bytes:
    return node.plain.encode("ascii")


def _joliet_name(node: _Node) -> bytes:
    return (node.name if node.is_folder else f"{node.name};1").encode("utf-16-be")


# ── directories and path tables ───────────────────────────────────────────────────────────────────


class _Extents:
    """Where one hierarchy lies: its root, its path tables."""

    def __init__(self, root: bytes, table_bytes: int, little: int, big: int) -> None:
        self.root = root
        self.table_bytes = table_bytes
        self.little = little
        self.big = big


def _hierarchy(
    root: _Node, folders: list[_Node], encode: Encode, place: Callable[[bytes], int], *, rock_ridge: bool
) -> _Extents:
    """Lay out every folder, then the path tables.

    Records name sectors of folders that are laid out later, so the folders are measured first.
    """
    sizes = {id(folder): len(_folder(folder, {}, {}, encode, rock_ridge=rock_ridge)) for folder in folders}
    sectors: dict[int, int] = {}
    first = place(b"")  # where the next block will lie
    for folder in folders:
        sectors[id(folder)] = first
        first += sizes[id(folder)] // _SECTOR
    for folder in folders:
        place(_folder(folder, sectors, sizes, encode, rock_ridge=rock_ridge))
    ordered = _path_order(root, encode)
    little = _path_table(ordered, sectors, encode, "<")
    big = _path_table(ordered, sectors, encode, ">")
    root_record = _record(b"\0", sectors[id(root)], sizes[id(root)], is_folder=True)
    return _Extents(root_record, len(little), place(little), place(big))


def _folder(
    folder: _Node, sectors: dict[int, int], sizes: dict[int, int], encode: Encode, *, rock_ridge: bool
) -> bytes:
    def of(node: _Node, name: bytes, extra: bytes) -> bytes:
        if node.is_folder:
            return _record(name, sectors.get(id(node), 0), sizes.get(id(node), 0), is_folder=True, extra=extra)
        return _record(name, node.sector, len(node.data or b""), is_folder=False, extra=extra)

    start = (_SUSP_START if folder.parent is folder else b"") + _posix(folder) if rock_ridge else b""
    records = [of(folder, b"\0", start), of(folder.parent, b"\1", _posix(folder.parent) if rock_ridge else b"")]
    records += [
        of(child, encode(child), _alternate_name(child) + _posix(child) if rock_ridge else b"")
        for child in sorted(folder.children.values(), key=encode)
    ]
    block = b""
    for record in records:
        if len(block) % _SECTOR + len(record) > _SECTOR:  # a record never crosses a sector
            block += bytes(-len(block) % _SECTOR)
        block += record
    return block + bytes(-len(block) % _SECTOR)


def _record(name: bytes, sector: int, size: int, *, is_folder: bool, extra: bytes = b"") -> bytes:
    body = (
        b"\0"
        + _both32(sector)
        + _both32(size)
        + _EPOCH
        + bytes((2 if is_folder else 0, 0, 0))
        + _both16(1)
        + bytes((len(name),))
        + name
    )
    if len(name) % 2 == 0:
        body += b"\0"
    body += extra
    if len(body) % 2 == 0:
        body += b"\0"
    return bytes((len(body) + 1,)) + body


def _path_order(root: _Node, encode: Encode) -> list[_Node]:
    ordered = [root]
    for folder in ordered:  # grows while it is walked
        ordered += sorted((child for child in folder.children.values() if child.is_folder), key=encode)
    return ordered


def _path_table(ordered: list[_Node], sectors: dict[int, int], encode: Encode, order: str) -> bytes:
    numbers = {id(folder): number for number, folder in enumerate(ordered, start=1)}
    table = b""
    for folder in ordered:
        name = b"\0" if folder.parent is folder else encode(folder)
        table += struct.pack(f"{order}BBIH", len(name), 0, sectors[id(folder)], numbers[id(folder.parent)]) + name
        table += bytes(len(name) % 2)
    return table


# ── Rock Ridge ────────────────────────────────────────────────────────────────────────────────────

#: at the root: "system use fields follow", and which ones
_SUSP_START: Final = b"SP\x07\x01\xbe\xef\x00" + b"ER\x12\x01\x0a\x00\x00\x01RRIP_1991A"


def _posix(node: _Node) -> bytes:
    mode, links = (0o040555, 2) if node.is_folder else (0o100444, 1)
    return b"PX\x24\x01" + _both32(mode) + _both32(links) + _both32(0) + _both32(0)


def _alternate_name(node: _Node) -> bytes:
    name = node.name.encode()
    return b"NM" + bytes((5 + len(name), 1, 0)) + name


# ── descriptors ───────────────────────────────────────────────────────────────────────────────────


def _descriptor(kind: int, label: bytes, extents: _Extents, *, total: int, escape: bytes) -> bytes:
    wide = kind == 2
    blank = " ".encode("utf-16-be") if wide else b" "

    def spaces(count: int) -> bytes:
        return (blank * count)[:count] if not wide else (blank * (count // 2)).ljust(count, b"\0")

    padded = label if not wide else label.rstrip(b"\0") + blank * ((32 - len(label.rstrip(b"\0"))) // 2)
    block = bytes((kind,)) + b"CD001\x01\0" + spaces(32) + padded + bytes(8) + _both32(total) + escape.ljust(32, b"\0")
    block += _both16(1) + _both16(1) + _both16(_SECTOR) + _both32(extents.table_bytes)
    block += struct.pack("<II", extents.little, 0) + struct.pack(">II", extents.big, 0) + extents.root
    block += spaces(128) * 4 + spaces(37) * 3 + _NO_DATE * 4 + b"\x01\0"
    return block.ljust(_SECTOR, b"\0")


def _both16(number: int) -> bytes:
    return struct.pack("<H", number) + struct.pack(">H", number)


def _both32(number: int) -> bytes:
    return struct.pack("<I", number) + struct.pack(">I", number)
