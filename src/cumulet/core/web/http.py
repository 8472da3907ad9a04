"""A request and a response, free of any server: what the edge makes of a socket and a door makes of a call."""

from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qsl

import msgspec

__all__ = ["AGAIN", "BodyStream", "FileBody", "LiveBody", "Receive", "Request", "Response", "Send", "encode_json"]

#: the header of a request that may be sent twice (core.keys)
AGAIN = "idempotency-key"

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

encode_json = msgspec.json.Encoder().encode


class BodyStream(Protocol):
    """A request body that is read as it arrives, by a thread that may wait."""

    def chunks(self) -> Iterator[bytes]:
        """The body in order; raises ConnectionError when the sender goes away."""


class Request:
    """One HTTP request, its path relative to the application's mount point.

    headers: names in lower case.  json: set instead of `body` by an in-process door, so nothing is encoded only to be decoded.
    """

    __slots__ = (
        "arrived",
        "base_url",
        "body",
        "client",
        "headers",
        "json",
        "method",
        "outside",
        "path",
        "query",
        "stream",
    )

    def __init__(
        self,
        method: str,
        path: str,
        *,
        query: str | list[tuple[str, str]] = "",
        headers: dict[str, str] | None = None,
        body: bytes = b"",
        json: Any = None,
        stream: BodyStream | None = None,
        base_url: str = "",
        client: str = "",
        arrived: str = "",
    ) -> None:
        self.method = method
        self.path = path
        self.query = parse_qsl(query, keep_blank_values=True) if isinstance(query, str) else query
        self.headers = headers or {}
        self.body = body
        self.json = json
        self.stream = stream
        #: scheme, host, port and mount point as the client sees them, without a trailing slash: for links
        self.base_url = base_url
        self.client = client
        #: came over a socket, and not from a neighbour in this process
        self.outside = False
        self.arrived = arrived


class FileBody(msgspec.Struct, frozen=True):
    """A response body sent from a file: `length` bytes from `offset`."""

    path: Path
    offset: int
    length: int


class LiveBody:
    """A response that goes on and on: it writes to its connection itself, in asyncio's loop, until one of the two ends."""

    async def serve(self, response: "Response", receive: Receive, send: Send, abort: Callable[[], None]) -> None:
        """Send the head of `response` and then whatever comes; abort() drops a connection whose other side takes nothing."""
        raise NotImplementedError


class Response:
    """One HTTP response.  `body` is an object for JSON, bytes or text, a FileBody, a LiveBody, or None.

    then: called by whoever has handed the response over, on the thread of the handler: what begins with the answer need not delay it.
    """

    __slots__ = ("body", "headers", "status", "then")

    def __init__(self, status: int = 200, body: Any = None, headers: dict[str, str] | None = None) -> None:
        self.status = status
        self.body = body
        self.headers = headers or {}
        self.then: list[Callable[[], None]] = []

    def content(self) -> bytes:
        """The body as bytes (not for a FileBody; of a LiveBody nothing is known yet)."""
        if self.body is None or isinstance(self.body, LiveBody):
            return b""
        if isinstance(self.body, bytes):
            return self.body
        if isinstance(self.body, str):
            return self.body.encode()
        return encode_json(self.body)
