"""`./dev bench start|launch|real`: the times and the memory that a user feels first, each against one limit.

Each figure is a median; beside it stand the best and the worst.  Run them on a quiet machine.
"""

from __future__ import annotations

import compileall
import http.client
import json
import os
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cumulet.core.clock import SystemClock, seconds_between
from cumulet.dev.bare import Bare, BareCost, command_line
from cumulet.dev.bench.client import length_of_body
from cumulet.dev.bench.machine import pss_mib
from cumulet.dev.checkout import ROOT
from cumulet.dev.cloud import CloudFailed, Refused, RunningCloud, Session

__all__ = ["Api", "Figure", "beside_bare", "first_answer", "first_login", "launch", "real", "server_body", "start"]

_STARTS = 5
_LAUNCHES = 20
_WARM_UPS = 3
_POLL_S = 0.002
#: beside QEMU: each look takes of the two cores what the launch needs, and costs it more than is known sooner
_REAL_POLL_S = 0.005
#: for so long nobody looks
_UNSEEN_S = 0.3
_ANSWER_TIMEOUT_S = 60.0
_ANSWER_BYTES_MAX = 1 << 16
_ACTIVE_TIMEOUT_S = 30.0
_START_LIMIT_S = {"--sim": 1.5, "--real": 4.0}
_MEMORY_LIMIT_MIB = {"--sim": 130.0}
_LAUNCH_LIMIT_MS = 50.0
_REAL_LAUNCHES = 15
_REAL_LIMIT = 1.5


@dataclass(frozen=True)
class Figure:
    """Measurements of one thing, and the most that their median may be."""

    what: str
    unit: str
    values: Sequence[float]
    limit: float | None = None

    @property
    def good(self) -> bool:
        return self.limit is None or statistics.median(self.values) <= self.limit

    def __str__(self) -> str:
        middle = statistics.median(self.values)
        span = f"{middle:>9.4g} {min(self.values):>9.4g} {max(self.values):>9.4g} {len(self.values):>3}"
        verdict = "" if self.limit is None else f"{self.limit:>6g}  {'ok' if self.good else 'TOO MUCH'}"
        return f"{self.what:<44} {span}  {self.unit:<5} {verdict}".rstrip()


def start(kind: str) -> bool:
    """From the start of `cumulet up` on an existing database to its first authenticated answer; whether within limits.

    The token was issued before the restart.  `kind` is `--sim` or `--real`.
    """
    # an installed cloud has its compiled files; a checkout that was just edited may not
    compileall.compile_dir(ROOT / "src", quiet=1)
    answered: list[float] = []
    memory: list[float] = []
    with tempfile.TemporaryDirectory(prefix="cumulet-bench-") as folder:
        state = Path(folder)
        with RunningCloud(state, [kind], quiet=True) as cloud:
            session = cloud.session("cumulet")
        port = cloud.port
        for _ in range(_STARTS):
            began = time.monotonic()
            with RunningCloud(state, [kind], port=port, quiet=True, wait=False) as cloud:
                first_answer(f"{session.catalogue['compute']}/servers", session.token)
                answered.append(time.monotonic() - began)
                cloud.wait_until_ready()
                memory.append(pss_mib([cloud.pid]))
    figures = [
        Figure(f"start {kind} to the first GET /servers", "s", answered, _START_LIMIT_S[kind]),
        Figure(f"memory after it {kind}, PSS", "MiB", memory, _MEMORY_LIMIT_MIB.get(kind)),
    ]
    return _report(figures)


def launch() -> bool:
    """From POST to ACTIVE with one port on simulated drivers, polled; whether within limits."""
    accepted: list[float] = []
    active: list[float] = []
    with (
        tempfile.TemporaryDirectory(prefix="cumulet-bench-") as folder,
        RunningCloud(Path(folder), ["--sim"], quiet=True) as cloud,
    ):
        session = cloud.session("cumulet")
        body = server_body(session)
        api = Api(session, "compute")
        for _ in range(_WARM_UPS + _LAUNCHES):
            began = time.monotonic()
            server_id = str(api.ask("POST", "/servers", body)["server"]["id"])
            accepted.append((time.monotonic() - began) * 1000)
            _until_active(api, server_id)
            active.append((time.monotonic() - began) * 1000)
            _remove(session, api, server_id)
    figures = [
        Figure("POST /servers, --sim", "ms", accepted[_WARM_UPS:]),
        Figure("POST /servers to ACTIVE, --sim", "ms", active[_WARM_UPS:], _LAUNCH_LIMIT_MS),
    ]
    return _report(figures)


def real() -> bool:
    """A launch on real drivers beside its bare cost in the same run, one after the other; whether within the limit."""
    with (
        tempfile.TemporaryDirectory(prefix="cumulet-bench-") as folder,
        RunningCloud(Path(folder), ["--real"], quiet=True) as cloud,
        cloud.session("cumulet") as session,
    ):
        bare, active, seen = beside_bare(cloud, session)
    ratio = statistics.median(active) / statistics.median([cost.both * 1000 for cost in bare])
    figures = [
        Figure("bare: port up by ovsdbapp", "ms", [cost.port * 1000 for cost in bare]),
        Figure("bare: QEMU by hand, to a running guest", "ms", [cost.qemu * 1000 for cost in bare]),
        Figure("bare: both", "ms", [cost.both * 1000 for cost in bare]),
        Figure("POST /servers to ACTIVE, --real", "ms", active),
        Figure("the same, looked at each 5 ms", "ms", seen),
        Figure("launch / bare", "x", [ratio], _REAL_LIMIT),
    ]
    return _report(figures)


def beside_bare(cloud: RunningCloud, session: Session) -> tuple[list[BareCost], list[float], list[float]]:
    """What launches cost bare, and milliseconds to ACTIVE: by the cloud's record while nobody looks, and seen by one who does.

    The first launch loads the image and is not counted.
    """
    active, seen = list[float](), list[float]()
    bare: list[BareCost] = []
    body = server_body(session)
    api = Api(session, "compute")
    _, server_id = _seen_launch(api, body)
    command = command_line(cloud.state, server_id)
    _remove(session, api, server_id)
    with (
        tempfile.TemporaryDirectory(prefix="cumulet-bare-") as own,
        closing(Bare(cloud.state, command, folder=Path(own))) as by_hand,
    ):
        for _ in range(_REAL_LAUNCHES):
            bare.append(by_hand.once())
            took_ms, server_id = _recorded_launch(session, api, body)
            active.append(took_ms)
            _remove(session, api, server_id)
            took_ms, server_id = _seen_launch(api, body)
            seen.append(took_ms)
            _remove(session, api, server_id)
    return bare, active, seen


def _recorded_launch(session: Session, api: Api, body: object) -> tuple[float, str]:
    """Milliseconds from POST to ACTIVE on real drivers, and the server: the clock of the event that tells it.

    The event is asked for afterwards: looks meanwhile would take a tenth of the launch's time from it.
    """
    since, _ = _event(session)
    began = SystemClock().now()
    server_id = str(api.ask("POST", "/servers", body)["server"]["id"])
    threading.Event().wait(_UNSEEN_S)
    _until_active(api, server_id)
    _, event = _event(session, since=since, server_id=server_id)
    return seconds_between(began, event["at"]) * 1000, server_id


def _event(session: Session, *, since: int | None = None, server_id: str = "") -> tuple[int, dict[str, Any]]:
    """Where the project's stream of events is now; or, since then, that this server became ACTIVE."""
    parts = urlsplit(session.auth_url)
    query = "" if since is None else f"?since={since}&object_id={server_id}"
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=_ANSWER_TIMEOUT_S)
    with closing(connection):
        connection.request("GET", f"/events{query}", headers={"X-Auth-Token": session.token})
        number, answer = 0, connection.getresponse()
        if answer.status != 200:
            raise Refused("GET", "/events", answer.status, answer.read().decode(errors="replace"))
        while line := answer.readline():
            word, _, said = line.decode().rstrip("\n").partition(": ")
            if word == "id":
                number = int(said)
                if since is None:
                    return number, {}
            elif word == "data":
                event: dict[str, Any] = json.loads(said)
                if event["kind"] == "server" and event["data"].get("vm_state") == "active":
                    return number, event
    raise CloudFailed("the stream of events ended")


def _seen_launch(api: Api, body: object) -> tuple[float, str]:
    """Milliseconds from POST to ACTIVE on real drivers, as a client sees it that looks again and again, and the server."""
    began = time.monotonic()
    server_id = str(api.ask("POST", "/servers", body)["server"]["id"])
    _until_active(api, server_id, poll_s=_REAL_POLL_S)
    return (time.monotonic() - began) * 1000, server_id


def _remove(session: Session, api: Api, server_id: str) -> None:
    """Delete it and wait: its end is no part of the next one's beginning."""
    session.delete("compute", f"/servers/{server_id}")
    _until_gone(api, server_id)


def _report(figures: Sequence[Figure]) -> bool:
    print(f"{'':<44} {'median':>9} {'best':>9} {'worst':>9} {'n':>3}  {'unit':<5} {'limit':>6}")
    for figure in figures:
        print(figure, flush=True)
    return all(figure.good for figure in figures)


def first_answer(url: str, token: str) -> None:
    """Ask again and again until the answer is 200.  Raises CloudFailed."""
    _until_answered("GET", url, 200, headers={"X-Auth-Token": token})


def first_login(auth_url: str, document: object) -> str:
    """Log in again and again until there is a token.  Raises CloudFailed."""
    body, headers = json.dumps(document), {"Content-Type": "application/json"}
    return str(_until_answered("POST", f"{auth_url}/auth/tokens", 201, body=body, headers=headers)["X-Subject-Token"])


def _until_answered(
    method: str, url: str, status: int, *, headers: Mapping[str, str], body: str | None = None
) -> http.client.HTTPMessage:
    """The headers of the first answer of this status."""
    parts = urlsplit(url)
    ends = time.monotonic() + _ANSWER_TIMEOUT_S
    last = "nobody listens"
    while time.monotonic() < ends:
        connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=_ANSWER_TIMEOUT_S)
        with closing(connection), suppress(OSError, http.client.HTTPException):  # not listening yet
            connection.request(method, parts.path, body, headers=dict(headers))
            answer = connection.getresponse()
            last = f"{answer.status} {answer.read()[:200]!r}"
            if answer.status == status:
                return answer.headers
        threading.Event().wait(_POLL_S)
    raise CloudFailed(f"{method} {url} is not answered {_ANSWER_TIMEOUT_S} s after the start: {last}")


def server_body(session: Session) -> dict[str, Any]:
    """A request for a server with one port on a network made for it."""
    network = session.post("network", "/v2.0/networks", {"network": {"name": f"bench-{os.getpid()}"}})["network"]["id"]
    subnet = {"network_id": network, "ip_version": 4, "cidr": "10.30.0.0/24"}
    session.post("network", "/v2.0/subnets", {"subnet": subnet})
    image = session.get("image", "/v2/images?visibility=public&status=active")["images"][0]["id"]
    flavors = {flavor["name"]: flavor["id"] for flavor in session.get("compute", "/flavors")["flavors"]}
    server = {"name": "bench", "imageRef": image, "flavorRef": flavors["m1.nano"], "networks": [{"uuid": network}]}
    return {"server": server}


class Api:
    """One service, on a connection of its own, with as little of our own time as can be: the cloud shares the cores."""

    def __init__(self, session: Session, service: str) -> None:
        self._parts = urlsplit(session.catalogue[service])
        self._headers = {"X-Auth-Token": session.token, "Content-Type": "application/json"}
        self._connection = http.client.HTTPConnection(
            str(self._parts.hostname), self._parts.port, timeout=_ANSWER_TIMEOUT_S
        )
        self._connection.connect()
        # a body goes out in a packet of its own, which must not wait for the answer to the headers'
        self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """The answer's document; an empty one when what was asked for is not there.  Raises Refused."""
        content = None if body is None else json.dumps(body)
        self._connection.request(method, self._parts.path + path, content, headers=self._headers)
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status == 404:
            return {}
        if answer.status >= 400:
            raise Refused(method, path, answer.status, text.decode(errors="replace"))
        found: dict[str, Any] = json.loads(text) if text else {}
        return found

    def look(self, path: str) -> bytes:
        """The answer to a GET as it came, head and all: for one that is asked again and again, as reading its head costs more than
        all the rest."""
        headers = "".join(f"{name}: {value}\r\n" for name, value in self._headers.items())
        request = f"GET {self._parts.path}{path} HTTP/1.1\r\nHost: {self._parts.netloc}\r\n{headers}\r\n"
        connection = self._connection.sock
        connection.sendall(request.encode("ascii"))
        answer = connection.recv(_ANSWER_BYTES_MAX)
        while (whole := _length(answer)) is None or len(answer) < whole:
            more = connection.recv(_ANSWER_BYTES_MAX)
            if not more:
                raise CloudFailed(f"GET {path}: the connection ended within the answer")
            answer += more
        return answer


def _length(answer: bytes) -> int | None:
    """Of an answer, head and body; None while its head is not whole."""
    head, end, _ = answer.partition(b"\r\n\r\n")
    if not end:
        return None
    length = length_of_body(head)
    if length is None:
        raise CloudFailed("an answer does not tell its length")
    return len(head) + len(end) + length


def _until_active(api: Api, server_id: str, *, poll_s: float = _POLL_S) -> None:
    path = f"/servers/{server_id}"
    ends = time.monotonic() + _ACTIVE_TIMEOUT_S
    while True:
        seen = api.look(path)
        if b'"status":"ACTIVE"' in seen:
            return
        if b'"status":"BUILD"' not in seen or time.monotonic() > ends:
            raise CloudFailed(f"the server does not become ACTIVE: {seen.decode(errors='replace')}")
        threading.Event().wait(poll_s)


def _until_gone(api: Api, server_id: str) -> None:
    ends = time.monotonic() + _ACTIVE_TIMEOUT_S
    while api.ask("GET", f"/servers/{server_id}"):
        if time.monotonic() > ends:
            raise CloudFailed(f"server {server_id} is not gone {_ACTIVE_TIMEOUT_S} s after its deletion")
        threading.Event().wait(_POLL_S)
