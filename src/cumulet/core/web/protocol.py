"""uvicorn's HTTP protocol, which lends each request a way to drop its connection.

It is the only way to be rid of a reader that takes nothing: an orderly close would wait for it.
"""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["DroppableHttp"]


class DroppableHttp(HttpToolsProtocol):
    """`scope["state"]["abort"]()` drops the connection."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"]["abort"] = self.transport.abort
