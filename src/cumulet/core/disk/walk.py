"""How a format's parser sees an image: it asks for the few pieces it needs, and never holds the rest.

A parser is a generator.  It yields a `Region` (so many bytes at such an offset) or a `Tail` (the last bytes of the
file), is sent a `Piece`, and returns `Parsed`.  The same parser so runs over a file (pread) and over a stream that
arrives in chunks of any size.  A stream cannot be wound back, therefore regions beyond the head must be asked for in
rising order; an image laid out otherwise is refused on both ways, so that both always agree.
"""

import os
from collections.abc import Callable, Generator

import msgspec

from cumulet.core.disk.errors import ImageMalformed

__all__ = ["HEAD_BYTES", "TAIL_BYTES", "Parsed", "Parser", "Piece", "Region", "StreamWalk", "Tail", "walk_file"]

#: kept from the start of every image; enough to tell every format we know of
HEAD_BYTES = 64 * 1024
#: kept from the end of every image
TAIL_BYTES = 1536
#: no parser needs more at once (vmdk's descriptor is the largest thing, and its limit is QEMU's)
REGION_BYTES_MAX = 1024 * 1024
#: no parser asks more often
REQUESTS_MAX = 16


class Region(msgspec.Struct, frozen=True):
    """So many bytes from such an offset."""

    offset: int
    length: int


class Tail(msgspec.Struct, frozen=True):
    """The image's last bytes, when all have been seen."""

    length: int


class Piece(msgspec.Struct, frozen=True):
    """What was asked for; shorter if the image ends before.  `total` is the image's length, with a Tail only."""

    data: bytes
    total: int = 0


class Parsed(msgspec.Struct, frozen=True):
    """What a parser found."""

    #: bytes of the disk inside, as the format's own tools would present it
    virtual_size: int
    #: the largest size any tool could read out of the headers, where headers name several
    size_at_most: int
    encrypted: bool = False


Parser = Generator[Region | Tail, Piece, Parsed]


class _Requests:
    """Drives one parser, and holds it to the rules above."""

    def __init__(self, parser: Parser, head: bytes) -> None:
        self._parser = parser
        self._head = head
        self._cursor = len(head)
        self._asked = 0
        self.parsed: Parsed | None = None
        self.want: Region | Tail | None = None

    def start(self) -> None:
        self._step(lambda: next(self._parser))

    def answer(self, piece: Piece) -> None:
        if isinstance(self.want, Region):
            self._cursor = max(self._cursor, self.want.offset + self.want.length)
        self._step(lambda: self._parser.send(piece))

    def _step(self, advance: Callable[[], Region | Tail]) -> None:
        """To the next request that the head cannot answer."""
        while True:
            try:
                self.want = want = advance()
            except StopIteration as done:
                self.want = None
                self.parsed = done.value
                return
            self._asked += 1
            if self._asked > REQUESTS_MAX:
                raise ImageMalformed(reason="the headers refer to each other without end")
            if isinstance(want, Tail):
                return
            end = want.offset + want.length
            if not 0 < want.length <= REGION_BYTES_MAX:
                raise ImageMalformed(reason="a header's length is out of range")
            if end > len(self._head):
                if want.offset < self._cursor and self._cursor != len(self._head):
                    raise ImageMalformed(reason="the headers are not laid out in rising order")
                return
            piece = Piece(self._head[want.offset : end])
            advance = _sender(self._parser, piece)


def _sender(parser: Parser, piece: Piece) -> Callable[[], Region | Tail]:
    return lambda: parser.send(piece)


class StreamWalk:
    """A parser over bytes that arrive.  Holds the head, one region and the tail: never more than about 1.1 MiB."""

    def __init__(self, begin: Callable[[bytes], Parser]) -> None:
        """`begin` chooses the parser when the head is there; it may raise."""
        self._begin = begin
        self._head = bytearray()
        self._tail = b""
        self._got = bytearray()
        self._requests: _Requests | None = None
        self.total = 0

    @property
    def parsed(self) -> Parsed | None:
        return self._requests.parsed if self._requests else None

    def feed(self, chunk: bytes | bytearray | memoryview) -> None:
        view = memoryview(chunk).cast("B")
        start = self.total
        self.total += len(view)
        recent = bytes(view[-TAIL_BYTES:])
        self._tail = recent if len(recent) == TAIL_BYTES else (self._tail + recent)[-TAIL_BYTES:]
        if self._requests is None:
            self._head += view[: HEAD_BYTES - len(self._head)]
            if len(self._head) < HEAD_BYTES:
                return
            self._start()
        requests = self._requests
        while requests is not None and isinstance(requests.want, Region):
            want = requests.want
            at = want.offset + len(self._got)
            if at >= self.total:
                return
            self._got += view[at - start : want.offset + want.length - start]
            if len(self._got) < want.length:
                return
            self._answer(Piece(bytes(self._got)))

    def finish(self) -> tuple[Parsed, bytes]:
        """What the parser found, and the image's last bytes."""
        if self._requests is None:
            self._start()
        requests = self._requests
        while requests is not None and requests.want is not None:
            if isinstance(requests.want, Tail):
                self._answer(Piece(self._tail[-requests.want.length :], self.total))
            else:
                self._answer(Piece(bytes(self._got)))
        if requests is None or requests.parsed is None:
            raise ImageMalformed(reason="the image is cut short")
        return requests.parsed, self._tail

    def _start(self) -> None:
        head = bytes(self._head)
        self._requests = _Requests(self._begin(head), head)
        self._requests.start()
        self._prime()

    def _answer(self, piece: Piece) -> None:
        if self._requests is not None:
            self._requests.answer(piece)
            self._prime()

    def _prime(self) -> None:
        """Begin the next region with what the head holds of it."""
        want = self._requests.want if self._requests else None
        self._got = bytearray(self._head[want.offset :]) if isinstance(want, Region) else bytearray()


def walk_file(fd: int, total: int, begin: Callable[[bytes], Parser]) -> tuple[Parsed, bytes]:
    """A parser over an open file of `total` bytes: reads only what is asked for.  Answers as `StreamWalk.finish`."""
    head = os.pread(fd, HEAD_BYTES, 0)
    requests = _Requests(begin(head), head)
    requests.start()
    tail = os.pread(fd, TAIL_BYTES, max(0, total - TAIL_BYTES))
    while (want := requests.want) is not None:
        if isinstance(want, Tail):
            requests.answer(Piece(tail[-want.length :], total))
        else:
            # An offset past the largest file is past this one's end as well.
            requests.answer(Piece(os.pread(fd, want.length, want.offset) if want.offset < total else b""))
    if requests.parsed is None:
        raise ImageMalformed(reason="the image is cut short")
    return requests.parsed, tail
