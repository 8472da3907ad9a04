"""What a simulated machine remembers, so that it outlives the process: records by key in one file, each change a line at its end.

A file for each record, written beside and moved over the old one, costs a hundred times as much: the file system makes sure of the new
one's blocks at every move.  A loss of power may take the last lines; where there is no machine, nothing else was kept either.
"""

import errno
import os
import threading
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

__all__ = ["Book"]

T = TypeVar("T", bound=msgspec.Struct)

#: a book is written anew when so many of its lines, and most of all, are old
OLD_LINES_MAX = 10_000


class Book(Generic[T]):
    """Records of one type.  Without a path it is in memory only.  Threads may share it."""

    def __init__(self, path: Path | None, kind: type[T]) -> None:
        self.records: dict[str, T] = {}
        self._path = path
        self._lock = threading.Lock()
        self._lines = 0
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        read = msgspec.json.Decoder(tuple[str, kind | None]).decode  # type: ignore[valid-type]  # known where it is made
        # what stands behind the last end of a line was being written when the process was killed
        for line in path.read_bytes().split(b"\n")[:-1] if path.exists() else ():
            key, record = read(line)
            self._set(key, record)
        self._write_anew(path)

    def put(self, key: str, record: T) -> None:
        self._change(key, record)

    def drop(self, key: str) -> None:
        """A key that is not there is no error."""
        if key in self.records:
            self._change(key, None)

    def _set(self, key: str, record: Any) -> None:
        if record is None:
            self.records.pop(key, None)
        else:
            self.records[key] = record

    def _change(self, key: str, record: T | None) -> None:
        with self._lock:
            if self._path is not None:
                self._append(self._path, _line(key, record))
            self._set(key, record)
            if self._path is not None and self._lines > max(OLD_LINES_MAX, 4 * len(self.records)):
                self._write_anew(self._path)

    def _append(self, path: Path, line: bytes) -> None:
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            written = os.write(file, line)
            if written < len(line):
                os.ftruncate(file, os.fstat(file).st_size - written)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(path))
        finally:
            os.close(file)
        self._lines += 1

    def _write_anew(self, path: Path) -> None:
        part = path.with_name(f"{path.name}.part")
        part.write_bytes(b"".join(_line(key, record) for key, record in self.records.items()))
        part.replace(path)
        self._lines = len(self.records)


def _line(key: str, record: msgspec.Struct | None) -> bytes:
    return msgspec.json.encode((key, record)) + b"\n"
