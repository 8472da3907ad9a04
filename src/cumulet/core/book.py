"""A book: a mapping that outlives its process, for what a simulated driver stands in for.

One file, and a line at its end for each change: 2 microseconds, where a new file for each thing costs 200 to 600 on ext4, which was more
than all else that a simulated guest took.  What is no longer true is left behind when the book is opened, and when it is most of the file.
A line that its writer died in was never written.
"""

import errno
import os
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

__all__ = ["Book"]

T = TypeVar("T")

#: written anew when there are more lines than this, and four times as many as things
LINES_MAX = 10_000

_encode = msgspec.json.Encoder().encode


class Book(Generic[T]):
    """Things of one kind by name, kept at `path`, or nowhere.  For one thread at a time, and one process."""

    def __init__(self, kind: type[T], path: Path | None) -> None:
        self._path = path
        self._things: dict[str, T] = {}
        self._file: int | None = None
        self._lines = 0
        #: closes the file
        self._closing: Callable[[], object] = lambda: None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._read(path, kind)
            self._write_anew(path)

    def get(self, name: str) -> T | None:
        return self._things.get(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._things)

    def __len__(self) -> int:
        return len(self._things)

    def things(self) -> list[T]:
        """In the order in which they came."""
        return list(self._things.values())

    def put(self, name: str, thing: T) -> None:
        """New, or in place of what has its name.  Raises OSError: then all is as it was."""
        self._add(name, thing)
        self._things[name] = thing

    def drop(self, name: str) -> T | None:
        """What there was."""
        if name in self._things:
            self._add(name, None)
        return self._things.pop(name, None)

    def _add(self, name: str, thing: T | None) -> None:
        if self._path is None or self._file is None:
            return
        if self._lines > max(LINES_MAX, 4 * len(self._things)):
            self._write_anew(self._path)
        line = _line(name, thing)
        written = os.write(self._file, line)
        if written < len(line):  # what follows must not stand behind half a line
            os.ftruncate(self._file, os.fstat(self._file).st_size - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
        self._lines += 1

    def _read(self, path: Path, kind: type[T]) -> None:
        decode: Any = msgspec.json.Decoder(tuple[str, kind | None]).decode  # type: ignore[valid-type]  # the caller's
        whole = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        for line in whole:
            if line.endswith(b"\n"):
                name, thing = decode(line)
                if thing is None:
                    self._things.pop(name, None)
                else:
                    self._things[name] = thing

    def _write_anew(self, path: Path) -> None:
        part = path.with_name(f"{path.name}.part")
        part.write_bytes(b"".join(_line(name, thing) for name, thing in self._things.items()))
        file = os.open(part, os.O_WRONLY | os.O_APPEND)
        part.replace(path)
        self._closing()
        self._file, self._lines = file, len(self._things)
        self._closing = weakref.finalize(self, os.close, file)


def _line(name: str, thing: Any) -> bytes:
    return _encode((name, thing)) + b"\n"
