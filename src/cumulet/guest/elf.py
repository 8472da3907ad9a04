"""Which shared libraries a program needs: the DT_NEEDED entries of a 64-bit little-endian ELF file.

`ldd` would answer for the host's libraries, and by running the program's loader; this reads the file and nothing else.
"""

import struct
from pathlib import Path

__all__ = ["interpreter", "needed"]

_LOAD, _DYNAMIC, _INTERPRETER = 1, 2, 3
_DT_NEEDED, _DT_STRTAB = 1, 5


def _segments(data: bytes) -> list[tuple[int, int, int, int]]:
    """(type, offset, address, size in the file) of each segment; none for what is no 64-bit ELF file."""
    if data[:6] != b"\x7fELF\x02\x01":
        return []
    (start,) = struct.unpack_from("<Q", data, 32)
    entry_size, count = struct.unpack_from("<HH", data, 54)
    found = []
    for index in range(count):
        kind, _, offset, address, _, size = struct.unpack_from("<IIQQQQ", data, start + index * entry_size)
        found.append((kind, offset, address, size))
    return found


def _text(data: bytes, offset: int) -> str:
    return data[offset : data.index(b"\0", offset)].decode()


def needed(file: Path) -> list[str]:
    """The library names that `file` asks for; none for what is no dynamic ELF file."""
    data = file.read_bytes()
    segments = _segments(data)
    entries: list[tuple[int, int]] = []
    for kind, offset, _, size in segments:
        if kind == _DYNAMIC:
            entries = [struct.unpack_from("<QQ", data, at) for at in range(offset, offset + size, 16)]
    tables = [value for tag, value in entries if tag == _DT_STRTAB]
    if not tables:
        return []
    base = next(
        offset + tables[0] - address
        for kind, offset, address, size in segments
        if kind == _LOAD and address <= tables[0] < address + size
    )
    return [_text(data, base + value) for tag, value in entries if tag == _DT_NEEDED]


def interpreter(file: Path) -> str | None:
    """The loader that a dynamic program names."""
    data = file.read_bytes()
    return next((_text(data, offset) for kind, offset, _, _ in _segments(data) if kind == _INTERPRETER), None)
