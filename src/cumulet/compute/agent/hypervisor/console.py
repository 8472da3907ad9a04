"""The end of a guest's console log.

The file is written by libvirt's log daemon, which keeps it at a few MiB by moving it to FILE.0, FILE.1 …; a tail may
therefore reach into the older one.  What is in it is the guest's own text and hostile: whoever shows it must not let
it be markup.
"""

import os
import re
from pathlib import Path
from typing import Final

__all__ = ["CONSOLE_BYTES_MAX", "tail"]

#: as much as the reference hands out
CONSOLE_BYTES_MAX: Final = 100 * 1024

_LINE: Final = re.compile(rb"[^\n]*\n|[^\n]+")


def tail(path: Path, lines: int | None, *, bytes_max: int = CONSOLE_BYTES_MAX) -> str:
    """The last `lines` lines (all for None), of at most `bytes_max` bytes; "" when nothing was written yet."""
    if lines is not None and lines <= 0:
        return ""
    data = _last_bytes(path, bytes_max)
    if len(data) < bytes_max:
        data = _last_bytes(path.with_name(f"{path.name}.0"), bytes_max - len(data)) + data
    if lines is not None:
        data = b"".join(_LINE.findall(data)[-lines:])
    return data.decode("utf-8", errors="replace")


def _last_bytes(path: Path, count: int) -> bytes:
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - count))
            return file.read(count)
    except FileNotFoundError:
        return b""
