"""An HTTP/1.1 client that costs next to nothing: generator and cloud share the cores, and it is the cloud that is measured.

Connections are kept and handed out again; as many are open as requests are under way.  A request is timed from just
before it is written until its whole body has been read; what is decoded afterwards is not in it.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

from cumulet.dev.cloud import CloudFailed, Session

__all__ = ["Answer", "Client", "Plain", "length_of_body", "login_document"]

_TIMEOUT_S = 120.0
_END_OF_HEAD = b"\r\n\r\n"
_LENGTH = b"content-length:"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, and how long it took."""

    status: int
    body: bytes
    seconds: float

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    def json(self) -> Any:
        return json.loads(self.body)


class _Connection(asyncio.Protocol):
    """One request at a time; its answer must tell its length, as this cloud's do."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._parts: list[bytes] = []
        self._size = 0
        self._end: int | None = None
        self._head = 0
        self._began = 0.0
        self._answer: asyncio.Future[Answer] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # a stream's

    def send(self, request: bytes) -> asyncio.Future[Answer]:
        self._parts, self._size, self._end = [], 0, None
        self._answer = self._loop.create_future()
        if self._transport is None or self._transport.is_closing():
            self._answer.set_exception(ConnectionError("closed while it was kept"))
            return self._answer
        self._began = time.monotonic()
        self._transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)
        if self._end is None:
            read = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
            self._parts = [read]
            self._head = read.find(_END_OF_HEAD)
            if self._head < 0:
                return
            length = length_of_body(read[: self._head])
            if length is None:
                self.connection_lost(CloudFailed("an answer does not tell its length"))
                return
            self._end = self._head + len(_END_OF_HEAD) + length
        if self._size >= self._end and self._answer is not None and not self._answer.done():
            seconds = time.monotonic() - self._began
            whole = b"".join(self._parts)
            self._answer.set_result(Answer(int(whole[9:12]), whole[self._head + len(_END_OF_HEAD) :], seconds))

    def connection_lost(self, error: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error or ConnectionError("closed before its answer was whole"))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


def length_of_body(head: bytes) -> int | None:
    """None when it comes in chunks."""
    small = head.lower()
    at = small.find(_LENGTH)
    if at >= 0:
        line, _, _ = small[at + len(_LENGTH) :].partition(b"\r\n")
        return int(line)
    return None if b"transfer-encoding:" in small else 0


class Plain:
    """Requests, whole as they are written, to one address."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._idle: list[_Connection] = []

    async def open(self, connections: int) -> None:
        """Have so many ready, so that no sample pays for one."""
        while len(self._idle) < connections:
            self._idle.append(await self._connect())

    async def send(self, request: bytes) -> Answer:
        """Raises OSError when the cloud does not answer."""
        connection = self._idle.pop() if self._idle else await self._connect()
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                answer = await connection.send(request)
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        return answer

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: _Connection(loop), self._host, self._port)
        return connection

    def close(self) -> None:
        for connection in self._idle:
            connection.close()
        self._idle.clear()


class Client:
    """The services of one cloud, as one of its users."""

    def __init__(self, session: Session) -> None:
        self._token = session.token
        self._auth = session.auth
        urls = {name: session.catalogue[name] for name in ("compute", "block-storage")}
        urls |= {"image": f"{session.catalogue['image']}/v2", "network": f"{session.catalogue['network']}/v2.0"}
        urls["identity"] = session.auth_url
        parts = urlsplit(session.auth_url)
        if parts.hostname is None or parts.port is None or parts.scheme != "http":
            raise CloudFailed(f"no plain HTTP at {session.auth_url}")
        self._paths = {name: urlsplit(url).path for name, url in urls.items()}
        self._host = f"{parts.hostname}:{parts.port}"
        self.plain = Plain(parts.hostname, parts.port)

    async def call(self, method: str, service: str, path: str, document: object = None) -> Answer:
        return await self.plain.send(self.request(method, service, path, document))

    def request(self, method: str, service: str, path: str, document: object = None, **headers: str) -> bytes:
        """The bytes of a request; those that are sent again and again are made once."""
        lines = [f"{method} {self._paths[service]}{path} HTTP/1.1", f"Host: {self._host}", "Accept: application/json"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        if service != "identity" or method != "POST":
            lines.append(f"X-Auth-Token: {self._token}")
        body = b"" if document is None else json.dumps(document).encode()
        if body:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        return "\r\n".join([*lines, "", ""]).encode() + body

    def validation(self) -> bytes:
        """Ask whether our own token is good."""
        return self.request("GET", "identity", "/auth/tokens", X_Subject_Token=self._token)

    def login(self) -> bytes:
        """Ask for a token by password."""
        return self.request("POST", "identity", "/auth/tokens", login_document(self._auth))


def login_document(auth: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a login by password, of what a clouds.yaml says."""
    user = {"name": auth["username"], "password": auth["password"]}
    user["domain"] = {"name": auth.get("user_domain_name", "Default")}
    project = {"name": auth["project_name"], "domain": {"name": auth.get("project_domain_name", "Default")}}
    identity = {"methods": ["password"], "password": {"user": user}}
    return {"auth": {"identity": identity, "scope": {"project": project}}}
