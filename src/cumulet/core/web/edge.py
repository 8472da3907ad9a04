"""The edge: sockets on one side, plain functions on the other.

An ASGI application in asyncio's loop, where many idle connections cost nothing.  It reads a request, hands it to the one dispatcher
thread, and writes the answer.  Each service's application is mounted at a path; extra mounts (console, events, dashboard's files) are
ASGI applications of their own.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from typing import Any

import msgspec
import structlog

from cumulet.core.clock import Clock
from cumulet.core.errors import CloudError, PayloadTooLarge, RequestTimeout
from cumulet.core.web.app import App
from cumulet.core.web.http import FileBody, LiveBody, Receive, Request, Response, Send
from cumulet.core.work import Gate, Worker

__all__ = ["Edge", "Patience", "head_of"]

log = structlog.get_logger()

Scope = MutableMapping[str, Any]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

FILE_CHUNK = 1 << 20
#: a sender that sends nothing for so long has gone, whatever its connection says
STALL_S = 60.0
#: FILE_CHUNK bytes, or all of a body that is read whole, must have come in this time: a byte now and then is no upload either
CHUNK_S = 600.0


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How long to wait for a body: for its next bytes, and for FILE_CHUNK bytes of it (or the whole, where it is read whole)."""

    stall_s: float = STALL_S
    chunk_s: float = CHUNK_S


async def _next(receive: Receive, patience: Patience, began: float) -> MutableMapping[str, Any]:
    """The next message of a body.  Raises RequestTimeout when it does not come in time."""
    left = began + patience.chunk_s - asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout(min(patience.stall_s, left)):
            return await receive()
    except TimeoutError:
        raise RequestTimeout from None


def head_of(response: Response, length: int) -> list[tuple[bytes, bytes]]:
    """The headers of an answer with a body of so many bytes."""
    if response.body is not None and "Content-Type" not in response.headers:
        response.headers["Content-Type"] = "application/json"
    pairs = [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in response.headers.items()]
    if response.status not in {204, 304} or length:
        pairs.append((b"content-length", str(length).encode()))
    return pairs


def _is_stream(request: Request) -> bool:
    """Whether its body is read as it arrives."""
    media = request.headers.get("content-type", "")
    return media.startswith("application/octet-stream") and request.method in {"PUT", "POST"}


def _nothing() -> None:
    """Where the server lends no way to drop a connection, it ends when its other side does."""


class _Stream:
    """A request body on its way: the loop puts chunks in, a pool thread takes them out."""

    def __init__(self, loop: asyncio.AbstractEventLoop, receive: Receive, patience: Patience) -> None:
        self._loop = loop
        self._receive = receive
        self._patience = patience
        self.finished = False

    def chunks(self) -> Iterator[bytes]:
        more = True
        while more:
            chunk, more = asyncio.run_coroutine_threadsafe(self._some(), self._loop).result()
            if chunk:
                yield chunk
        self.finished = True

    async def _some(self) -> tuple[bytes, bool]:
        """At least FILE_CHUNK bytes when that much is coming: fewer hops between the threads."""
        parts: list[bytes] = []
        size, more, began = 0, True, self._loop.time()
        while more and size < FILE_CHUNK:
            message = await _next(self._receive, self._patience, began)
            if message["type"] == "http.disconnect":
                msg = "the sender went away"
                raise ConnectionError(msg)
            part = message.get("body", b"")
            parts.append(part)
            size += len(part)
            more = message.get("more_body", False)
        return b"".join(parts), more


class Edge:
    """The ASGI application of a process.

    apps: by mount path without slashes ("compute"); others: ASGI applications by mount path; public_url: what links begin with, or
    None to follow the request's Host; body_max: largest body read whole; looks: whether the loop may ask
    the databases itself, as they are files here and not over a network; patience: how long bodies are waited for.
    """

    def __init__(
        self,
        apps: dict[str, App],
        *,
        worker: Worker,
        clock: Clock,
        gate: Gate,
        others: dict[str, Asgi] | None = None,
        root: Asgi | None = None,
        public_url: str | None = None,
        body_max: int = 8 << 20,
        looks: bool = False,
        patience: Patience = Patience(),  # noqa: B008 - frozen
    ) -> None:
        self._apps = apps
        self._others = others or {}
        self._root = root
        self._worker = worker
        self._clock = clock
        self._gate = gate
        self._public_url = public_url
        self._body_max = body_max
        self._looks = looks
        self._patience = patience

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        mount = scope["path"].lstrip("/").partition("/")[0]
        if scope["type"] == "http" and mount in self._apps:
            await self._http(self._apps[mount], mount, scope, receive, send)
        elif mount in self._others:
            await self._others[mount](scope, receive, send)
        elif self._root is not None:
            await self._root(scope, receive, send)
        elif scope["type"] == "http":
            await self._write(
                Response(404, {"error": {"code": 404, "title": "Not Found", "message": "No such path."}}), "GET", send
            )
        else:
            await send({"type": "websocket.close", "code": 4404})

    @staticmethod
    async def _lifespan(receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return

    async def _http(self, app: App, mount: str, scope: Scope, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        request = self._of(scope, mount)
        stream: _Stream | None = None
        if _is_stream(request):
            stream = request.stream = _Stream(loop, receive, self._patience)
        else:
            try:
                request.body = await self._body(request.headers, receive)
            except CloudError as error:
                # before the application has seen the request: one envelope for all
                refusal = {error.code: {"code": error.status, "message": error.message}}
                await self._write(Response(error.status, refusal, {"Connection": "close"}), "POST", send)
                return
        future: asyncio.Future[Response] = loop.create_future()

        def answered(response: Response) -> None:
            if not future.cancelled():
                future.set_result(response)

        self._ask(app, request, loop, answered)
        response = await future
        if stream is not None and not stream.finished:
            response.headers["Connection"] = "close"  # the rest of the body is not read
        await self.finish(response, scope, receive, send)

    async def finish(self, response: Response, scope: Scope, receive: Receive, send: Send) -> None:
        """Write an answer, whatever it is."""
        if isinstance(response.body, LiveBody) and scope["method"] != "HEAD":
            await response.body.serve(response, receive, send, scope.get("state", {}).get("abort", _nothing))
        else:
            await self._write(response, scope["method"], send)

    def take(
        self, scope: Scope, body: bytes, loop: asyncio.AbstractEventLoop, answered: Callable[[Response], None]
    ) -> bool:
        """A request whose body is there: whether it is for an application here, which has it then.  `answered` is called in the loop."""
        mount = scope["path"].lstrip("/").partition("/")[0]
        app = self._apps.get(mount)
        if app is None or len(body) > self._body_max:
            return False
        request = self._of(scope, mount)
        if _is_stream(request):
            return False
        request.body = body
        self._ask(app, request, loop, answered)
        return True

    def _of(self, scope: Scope, mount: str) -> Request:
        # the raw path keeps an encoded slash apart from a real one
        raw = scope.get("raw_path") or scope["path"].encode()
        path = "/" + raw.decode("latin-1").split("?", 1)[0].lstrip("/").partition("/")[2]
        query = scope["query_string"].decode("latin-1")
        return self._request(
            scope["method"], mount, path, query, scope["headers"], scope["scheme"], scope.get("client")
        )

    def _request(
        self,
        method: str,
        mount: str,
        path: str,
        query: str,
        headers: Iterable[tuple[bytes, bytes]],
        scheme: str,
        client: tuple[str, int] | None,
    ) -> Request:
        """As the application sees it, but for its body."""
        arrived = self._clock.now()
        named = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
        base = self._public_url or f"{scheme}://{named.get('host', 'localhost')}"
        request = Request(
            method,
            path,
            query=query,
            headers=named,
            base_url=f"{base}/{mount}",
            client=client[0] if client else "",
            arrived=arrived,
        )
        request.outside = True
        return request

    def at_once(
        self, url: bytes, headers: Iterable[tuple[bytes, bytes]], scheme: str, client: tuple[str, int] | None
    ) -> Response | None:
        """The answer to a GET that is a look (`Route.look`), given in the loop; None: it goes the usual way.

        Handing it to the dispatcher and back costs as much as a look does, and each hand-over waits for the interpreter.
        """
        raw, _, query = url.partition(b"?")
        mount, _, rest = raw.decode("latin-1").lstrip("/").partition("/")
        app = self._apps.get(mount) if self._looks else None
        path = "/" + rest
        if app is None or not raw.startswith(b"/") or b"#" in url or not app.router.looks(path):
            return None
        self._gate.enter()
        try:
            return app.handle(self._request("GET", mount, path, query.decode("latin-1"), headers, scheme, client))
        finally:
            self._gate.leave()

    async def _body(self, headers: dict[str, str], receive: Receive) -> bytes:
        """A body that is read whole.  Raises PayloadTooLarge, RequestTimeout."""
        length = headers.get("content-length", "0")
        if length == "0" and "transfer-encoding" not in headers:
            return b""
        if length.isdigit() and int(length) > self._body_max:
            raise PayloadTooLarge
        parts: list[bytes] = []
        size, began = 0, asyncio.get_running_loop().time()
        while True:
            message = await _next(receive, self._patience, began)
            if message["type"] == "http.disconnect":
                return b""
            part = message.get("body", b"")
            size += len(part)
            if size > self._body_max:
                raise PayloadTooLarge
            parts.append(part)
            if not message.get("more_body", False):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    def _ask(
        self, app: App, request: Request, loop: asyncio.AbstractEventLoop, answered: Callable[[Response], None]
    ) -> None:
        """Have the dispatcher answer."""
        self._gate.enter()

        def settle(response: Response | None, error: BaseException | None) -> None:
            if response is None:
                log.error("request failed", method=request.method, path=request.path, exc_info=error)
                response = Response(500, "Internal Server Error")
            given = response

            def resolve() -> None:
                self._gate.leave()
                answered(given)

            try:
                loop.call_soon_threadsafe(resolve)
            except RuntimeError:  # the loop has ended, and with it the connection
                self._gate.leave()
            for act in given.then:
                act()

        def settle_later(response: Response | None, error: BaseException | None) -> None:
            self._gate.enter()
            settle(response, error)

        def dispatch() -> None:
            result = app.begin(request)
            if isinstance(result, Response):
                settle(result, None)
            else:
                self._gate.leave()
                self._worker.go_on(result, settle_later)

        self._worker.post(dispatch)

    async def _write(self, response: Response, method: str, send: Send) -> None:
        body = response.body
        content = b"" if isinstance(body, FileBody) else response.content()
        headers = head_of(response, body.length if isinstance(body, FileBody) else len(content))
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        if method == "HEAD":
            await send({"type": "http.response.body", "body": b""})
        elif isinstance(body, FileBody):
            await self._send_file(body, send)
        else:
            await send({"type": "http.response.body", "body": content})

    @staticmethod
    async def _send_file(body: FileBody, send: Send) -> None:
        loop = asyncio.get_running_loop()
        left = body.length
        with await loop.run_in_executor(None, body.path.open, "rb") as file:
            file.seek(body.offset)
            while left > 0:
                chunk = await loop.run_in_executor(None, file.read, min(FILE_CHUNK, left))
                if not chunk:
                    break
                left -= len(chunk)
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
