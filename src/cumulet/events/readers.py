"""The readers of the stream, in asyncio's loop: each has a bounded buffer and costs no thread.

A reader that takes nothing while its buffer fills is cut: its connection is dropped, and it may come back and go on where it was.  It is
never skipped, so whoever has seen number N has seen everything before it that was meant for it.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import structlog

from cumulet.core.errors import Unavailable
from cumulet.core.web.http import LiveBody, Receive, Response, Send, encode_json
from cumulet.core.work import Worker
from cumulet.events.records import Wanted
from cumulet.events.relay import Relay

__all__ = ["BUFFER_MAX", "HEARTBEAT_S", "READERS_MAX", "READERS_PER_PROJECT", "Readers", "Stream"]

log = structlog.get_logger()

#: bytes that wait for a reader before it is cut, and how long it may take none of what was sent
BUFFER_MAX, STALLED_S = 1 << 20, 60.0
#: a quiet stream says this often that it lives; as often its reader's token is looked at again
HEARTBEAT_S = 15.0
#: readers at once, of all projects and of one
READERS_MAX, READERS_PER_PROJECT = 1000, 100
#: what a client waits before it comes back
RETRY_MS = 500


class Readers:
    """All that read at present.  Everything here runs in the loop, but for `deliver`."""

    def __init__(self, relay: Relay, *, api: Worker) -> None:
        """api: the worker on which tokens are judged."""
        self.relay = relay
        self.api = api
        self._loop: asyncio.AbstractEventLoop | None = None
        self._streams: set[Stream] = set()
        #: everything up to here was handed to the live streams
        self.handed = 0
        relay.audience = self

    def deliver(self, parcels: list[tuple[Any, bytes]], upto: int) -> None:
        """Called by the relay's worker."""
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(
                RuntimeError
            ):  # the loop is closed: the cloud ends, and the readers come back to the next
                loop.call_soon_threadsafe(self._deliver, parcels, upto)

    def _deliver(self, parcels: list[tuple["Stream", bytes]], upto: int) -> None:
        for stream, content in parcels:
            stream.offer(content)
        self.handed = upto

    def enter(self, stream: "Stream") -> None:
        """Raises Unavailable."""
        self._loop = asyncio.get_running_loop()
        project_id = stream.wanted.project_id
        same = sum(1 for one in self._streams if one.wanted.project_id == project_id)
        if len(self._streams) >= READERS_MAX or (project_id is not None and same >= READERS_PER_PROJECT):
            msg = "Too many readers of the event stream; close one or try again later."
            raise Unavailable(msg)
        self._streams.add(stream)
        self.relay.join(stream)

    def leave(self, stream: "Stream") -> None:
        if stream in self._streams:
            self._streams.discard(stream)
            self.relay.leave(stream)

    def close(self) -> None:
        """The cloud ends: every stream does."""
        for stream in list(self._streams):
            stream.end()


class Stream(LiveBody):
    """One reader.  The relay calls `catch_up` and `lost` from its worker; all else runs in the loop."""

    def __init__(self, readers: Readers, wanted: Wanted, since: int | None, *, still: Callable[[], bool]) -> None:
        """since: the last number it has seen, None for what comes from now on; still: whether it may go on, asked on the api worker."""
        self.wanted = wanted
        self.position = since
        self.live = False
        self._readers = readers
        self._still = still
        self._chunks: list[bytes] = []
        self._size = 0
        #: everything meant for it up to here is in `_chunks` or sent
        self._upto: int | None = None
        self._asks_again = False
        self._ended = False
        self._abort: Callable[[], None] | None = None
        self._wake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    # --- from the relay ------------------------------------------------------------------------------------------------------------

    def catch_up(self, frames: list[bytes], upto: int, *, more: bool) -> None:
        def take() -> None:
            # the number alone, so that a quiet reader comes back where it was and not where its last event was
            self._put(b"".join(frames) + b"id: %d\n\n" % upto)
            self._upto = upto
            self._asks_again = more

        self._in_loop(take)

    def lost(self) -> None:
        self._in_loop(self.end)

    def _in_loop(self, act: Callable[[], None]) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the cloud ends
                self._loop.call_soon_threadsafe(act)

    # --- in the loop ---------------------------------------------------------------------------------------------------------------

    def offer(self, content: bytes) -> None:
        """New events.  A reader that has not taken the earlier ones by far is cut."""
        if self._size + len(content) > BUFFER_MAX:
            self._cut()
        else:
            self._put(content)

    def _put(self, content: bytes) -> None:
        self._chunks.append(content)
        self._size += len(content)
        self._wake.set()

    def _cut(self) -> None:
        log.warning("a slow reader of events is cut", project=self.wanted.project_id, waiting=self._size)
        self.end()
        if self._abort is not None:
            self._abort()

    def end(self) -> None:
        self._ended = True
        self._wake.set()

    async def serve(self, response: Response, receive: Receive, send: Send, abort: Callable[[], None]) -> None:
        self._loop, self._abort = asyncio.get_running_loop(), abort
        try:
            self._readers.enter(self)
        except Unavailable as refused:
            await _refuse(refused, send)
            return
        gone = asyncio.create_task(self._until_gone(receive))
        try:
            headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers.items()]
            await send({"type": "http.response.start", "status": response.status, "headers": headers})
            self._put(b"retry: %d\n\n" % RETRY_MS)
            try:
                await self._run(send)
            except TimeoutError:
                self._cut()
            async with asyncio.timeout(STALLED_S):  # at once, unless the server has no way to drop a connection
                await send({"type": "http.response.body", "body": b""})
        finally:
            gone.cancel()
            self._readers.leave(self)

    async def _run(self, send: Send) -> None:
        while not self._ended:
            if not self._chunks and not await self._woken():
                if not await self._may_go_on():
                    return
                if not self._chunks:
                    self._put(self._heartbeat())
            content, self._chunks, self._size = b"".join(self._chunks), [], 0
            self._wake.clear()
            async with asyncio.timeout(STALLED_S):
                await send({"type": "http.response.body", "body": content, "more_body": True})
            if self._asks_again:
                self._asks_again = False
                self._readers.relay.join(self)

    async def _woken(self) -> bool:
        """Wait for something to send; False when it is time for a sign of life."""
        try:
            async with asyncio.timeout(HEARTBEAT_S):
                await self._wake.wait()
        except TimeoutError:
            return False
        return True

    def _heartbeat(self) -> bytes:
        """A comment, and the number up to which there was nothing else for this reader."""
        if self.live and self._upto is not None:
            self._upto = max(self._upto, self._readers.handed)
            return b": alive\nid: %d\n\n" % self._upto
        return b": alive\n\n"

    async def _may_go_on(self) -> bool:
        """Whether its token still holds."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bool] = loop.create_future()

        def ask() -> None:
            may = self._still()
            loop.call_soon_threadsafe(lambda: None if answer.done() else answer.set_result(may))

        self._readers.api.post(ask)
        return await answer

    async def _until_gone(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.end()


async def _refuse(refused: Unavailable, send: Send) -> None:
    body = encode_json({refused.code: {"code": refused.status, "message": refused.message}})
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
