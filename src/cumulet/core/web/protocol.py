"""uvicorn's HTTP protocol, with three things of ours.

It lends each request a way to drop its connection: the only way to be rid of a reader that takes nothing, as an orderly close would
wait for it.  What needs no other thread (`Edge.at_once`) it answers as soon as the head of the request is there.  And a request that
has come whole it hands over itself (`Edge.take`), and writes the answer at once: a task, waits for what is there and a second write cost
more than many an answer.  All else is ASGI's.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from cumulet.core.web.edge import Edge, Scope, head_of
from cumulet.core.web.http import FileBody, LiveBody, Response

__all__ = ["DroppableHttp"]

#: what makes a request more than a line and its headers, or what a proxy says of it, which the edge itself does not read
_BY_A_PROXY = b"x-forwarded-"
_NOT_AT_ONCE = (b"content-length", b"transfer-encoding", b"expect", b"upgrade", _BY_A_PROXY)


class DroppableHttp(HttpToolsProtocol):
    """`scope["state"]["abort"]()` drops the connection."""

    #: what may be answered and handed over here; None: nothing
    edge: Edge | None = None
    _answered = False
    #: a request that has begun to come in what is being read
    _coming: tuple[RequestResponseCycle, Any] | None = None
    _reading = False

    @classmethod
    def answering(cls, edge: Edge) -> Callable[..., "DroppableHttp"]:
        """Makes protocols for one edge, which is also what the server runs."""

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

    def data_received(self, data: bytes) -> None:
        self._reading = True
        try:
            super().data_received(data)
        finally:
            self._reading = False
        if self._coming is not None:
            (cycle, app), self._coming = self._coming, None
            if cycle.more_body or not self._handed_over(cycle):
                super()._start_asgi_task(cycle, app)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if (
            self._reading
            and self.edge is not None
            and app is self.app
            and not cycle.waiting_for_100_continue
            and not any(name.startswith(_BY_A_PROXY) for name, _ in self.headers)
        ):
            self._coming = cycle, app
        else:
            super()._start_asgi_task(cycle, app)

    def _handed_over(self, cycle: RequestResponseCycle) -> bool:
        assert self.edge is not None  # noqa: S101 - else nothing is coming
        return self.edge.take(cast("Scope", cycle.scope), bytes(cycle.body), self.loop, partial(self._answer, cycle))

    def _answer(self, cycle: RequestResponseCycle, response: Response) -> None:
        """In the loop, once the dispatcher is done."""
        edge = self.edge
        if cycle.disconnected or edge is None:
            return
        if isinstance(response.body, FileBody | LiveBody) or self.flow.write_paused:
            super()._start_asgi_task(cycle, partial(edge.finish, response))
            return
        if response.headers.get("Connection") == "close":
            cycle.keep_alive = False
        elif not cycle.keep_alive:
            response.headers["Connection"] = "close"
        self.transport.write(self._written(response, whole=cycle.scope["method"] != "HEAD"))
        cycle.response_started = cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()

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

    def _written(self, response: Response, *, whole: bool = True) -> bytes:
        content = response.content()
        parts = [STATUS_LINE[response.status]]
        for name, value in (*self.server_state.default_headers, *head_of(response, len(content))):
            parts += (name, b": ", value, b"\r\n")
        parts += (b"\r\n", content if whole else b"")
        return b"".join(parts)
