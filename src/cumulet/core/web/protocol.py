"""uvicorn's HTTP protocol, with two things of ours.

It lends each request a way to drop its connection: the only way to be rid of a reader that takes nothing, as an orderly close would
wait for it.  And what needs no other thread (`Edge.at_once`) it answers as soon as the head of the request is there: without a task, a
second turn of the loop and a second write, which cost more than such an answer.
"""

from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from cumulet.core.web.edge import Edge, head_of
from cumulet.core.web.http import Response

__all__ = ["DroppableHttp"]

#: what makes a request more than a line and its headers, or what a proxy says of it, which the edge itself does not read
_NOT_AT_ONCE = (b"content-length", b"transfer-encoding", b"expect", b"upgrade", b"x-forwarded-")


class DroppableHttp(HttpToolsProtocol):
    """`scope["state"]["abort"]()` drops the connection."""

    #: what may be answered here; None: nothing
    edge: Edge | None = None
    _answered = False

    @classmethod
    def answering(cls, edge: Edge) -> Callable[..., "DroppableHttp"]:
        """Makes protocols that answer at once what `edge` can."""

        def make(*arguments: Any, **named: Any) -> "DroppableHttp":
            made = cls(*arguments, **named)
            made.edge = edge
            return made

        return make

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"]["abort"] = self.transport.abort
        self._answered = False

    def on_headers_complete(self) -> None:
        response = self._at_once()
        if response is None:
            super().on_headers_complete()
            return
        self._answered = True
        self.transport.write(self._written(response))
        self.on_response_complete()

    def on_message_complete(self) -> None:
        if not self._answered:
            super().on_message_complete()

    def _at_once(self) -> Response | None:
        """The answer, if nothing stands before it on the connection and it can be given here."""
        parser = self.parser
        if (
            self.edge is None
            or parser.get_method() != b"GET"
            or not getattr(self.cycle, "response_complete", True)  # there is none before the first
            or self.flow.write_paused
            or parser.get_http_version() != "1.1"
            or not parser.should_keep_alive()
            or any(name.startswith(_NOT_AT_ONCE) for name, _ in self.headers)
        ):
            return None
        return self.edge.at_once(self.url, self.headers, self.scheme or "http", self.client)

    def _written(self, response: Response) -> bytes:
        content = response.content()
        parts = [STATUS_LINE[response.status]]
        for name, value in (*self.server_state.default_headers, *head_of(response, len(content))):
            parts += (name, b": ", value, b"\r\n")
        parts += (b"\r\n", content)
        return b"".join(parts)
