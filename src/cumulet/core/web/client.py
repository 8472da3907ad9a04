"""How one service calls another: by REST, over HTTP or, in the same process, into the same request handler without a socket.

`Client` is what a door is written with; it raises the caller's own errors from the answer's status, and reports how long the other
side took (`Served`), which the launch flow records as that service's own step.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Protocol
from urllib.parse import quote

import msgspec

from cumulet.core import errors
from cumulet.core.clock import Clock
from cumulet.core.db import assert_no_transaction
from cumulet.core.web.app import App
from cumulet.core.web.http import BodyStream, FileBody, Request, Response, encode_json

__all__ = ["Client", "Credentials", "HttpTransport", "LocalTransport", "RemoteError", "Served", "Transport", "path"]

_decode = msgspec.json.Decoder().decode
#: nothing of it would be quoted; to look costs a tenth of `quote`
_plain = re.compile(r"[A-Za-z0-9_.~-]*").fullmatch

_BY_STATUS: dict[int, type[errors.CloudError]] = {
    400: errors.BadRequest,
    401: errors.Unauthorized,
    403: errors.Forbidden,
    404: errors.NotFound,
    405: errors.MethodNotAllowed,
    406: errors.NotAcceptable,
    408: errors.RequestTimeout,
    409: errors.Conflict,
    410: errors.Gone,
    412: errors.PreconditionFailed,
    413: errors.PayloadTooLarge,
    415: errors.UnsupportedMediaType,
    416: errors.RangeNotSatisfiable,
    503: errors.Unavailable,
}


class RemoteError(errors.CloudError):
    """Another service failed in a way that the caller cannot mend."""


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """What goes with a call: a token, a service token where the callee's policy asks for one, the request's id."""

    token: str
    service_token: str | None = None
    request_id: str = ""

    def __repr__(self) -> str:
        return f"Credentials(request={self.request_id})"


class Served(msgspec.Struct, frozen=True):
    """The other side's part of a call: when it had the request and when it had the answer (core.clock text)."""

    started: str
    finished: str


class Transport(Protocol):
    """Carries a request to a service."""

    def send(self, request: Request) -> Response: ...


class LocalTransport:
    """The same process: the application's handler on the caller's stack."""

    def __init__(self, app: App, *, base_url: str = "") -> None:
        self._app = app
        self._base_url = base_url

    def send(self, request: Request) -> Response:
        request.base_url = self._base_url
        return self._app.handle(request)


class HttpTransport:
    """Another process, by HTTP/1.1 with kept connections."""

    def __init__(self, base_url: str, *, timeout_s: float = 60.0) -> None:
        import httpx  # only a split deployment pays for it

        self._client = httpx.Client(base_url=base_url, timeout=timeout_s)
        self._unreachable = httpx.TransportError

    def close(self) -> None:
        """End the kept connections."""
        self._client.close()

    def send(self, request: Request) -> Response:
        headers = dict(request.headers)
        content: bytes | Iterator[bytes] = request.body
        if request.stream is not None:
            content = request.stream.chunks()
        if request.json is not None:
            content = encode_json(request.json)
            headers.setdefault("content-type", "application/json")
        try:
            answer = self._client.request(
                request.method,
                request.path,
                params=list[tuple[str, Any]](request.query),
                headers=headers,
                content=content,
            )
        except self._unreachable as error:
            raise errors.Unavailable(detail=repr(error)) from error
        return Response(answer.status_code, answer.content, {k.lower(): v for k, v in answer.headers.items()})


class Client:
    """REST calls to one service."""

    def __init__(
        self, name: str, transport: Transport, clock: Clock, *, headers: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self._transport = transport
        self._clock = clock
        self._headers = dict(headers or {})

    def send(
        self,
        method: str,
        path: str,
        credentials: Credentials | None,
        *,
        json: Any = None,
        body: bytes = b"",
        query: Mapping[str, str | list[str]] | None = None,
        headers: Mapping[str, str] | None = None,
        stream: BodyStream | None = None,
    ) -> Response:
        """One call; raises the CloudError that the answer's status names."""
        assert_no_transaction(f"a call of {self.name}")
        sent = {**self._headers, **(headers or {})}
        if credentials is not None:
            sent["x-auth-token"] = credentials.token
            if credentials.service_token:
                sent["x-service-token"] = credentials.service_token
            if credentials.request_id:
                sent["x-openstack-request-id"] = credentials.request_id
        pairs = [(k, v) for k, vs in (query or {}).items() for v in ([vs] if isinstance(vs, str) else vs)]
        response = self._transport.send(
            Request(method, path, query=pairs, headers=sent, json=json, body=body, stream=stream)
        )
        if response.status >= 400:
            raise self._error(method, path, response)
        return response

    def call(self, method: str, path: str, credentials: Credentials | None, **more: Any) -> Any:
        """One call; the decoded document of its answer, or None when it has none."""
        body = self.send(method, path, credentials, **more).body
        if isinstance(body, FileBody):
            msg = f"{method} {path} answers with a file"
            raise TypeError(msg)
        if isinstance(body, bytes):
            return _decode(body) if body else None
        if isinstance(body, str) or body is None:
            return body
        # an in-process answer may hold structs: give the caller what a socket would have given
        return msgspec.to_builtins(body)

    def timed(self, method: str, path: str, credentials: Credentials | None, **more: Any) -> tuple[Any, Served]:
        """Like `call`, with when the other side began and ended."""
        started = self._clock.now()
        document = self.call(method, path, credentials, **more)
        return document, Served(started, self._clock.now())

    def _error(self, method: str, path: str, response: Response) -> errors.CloudError:
        message = _message(response)
        kind = _BY_STATUS.get(response.status)
        where = f"{self.name}: {method} {path} → {response.status}: {message}"
        if kind is None:
            return RemoteError(f"The {self.name} service failed.", detail=where)
        return kind(message, detail=where)


def _message(response: Response) -> str:
    """The words of an error answer, whatever its envelope."""
    body = response.body
    if isinstance(body, bytes):
        try:
            body = _decode(body)
        except msgspec.DecodeError:
            return response.content().decode(errors="replace")[:500]
    if isinstance(body, dict):
        if body.get("errors"):
            return str(body["errors"][0].get("detail", ""))
        for value in body.values():
            if isinstance(value, dict) and "message" in value:
                return str(value["message"])
        return str(body.get("message", ""))
    return str(body or "")


def path(*parts: str) -> str:
    """A path of quoted parts."""
    return "/" + "/".join([part if _plain(part) else quote(part, safe="") for part in parts])
