"""Short ways: looks, which are answered in the loop of the sockets, and requests that have come whole; over real sockets."""

import json
import socket
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import httpx
import pytest
import uvicorn
from tests.http.harness import authenticate

from cumulet.core.clock import SystemClock
from cumulet.core.errors import NotFound
from cumulet.core.ids import SystemIds
from cumulet.core.policy import Policy
from cumulet.core.web import App, Call, Delete, Get, Post, Request, Response
from cumulet.core.web.edge import Edge
from cumulet.core.web.envelope import compute_error
from cumulet.core.web.protocol import DroppableHttp
from cumulet.core.web.route import ANYONE, Route
from cumulet.core.work import Gate, Pools, Slow, Worker


def _where(call: Call, **_: str) -> dict[str, Any]:
    request = call.request
    return {"thread": threading.current_thread().name, "base": request.base_url, "query": call.query}


def _missing(_call: Call, id: str) -> None:
    raise NotFound(f"{id} could not be found.")


def _slow(_call: Call, **_: str) -> Generator[Slow, Any, Any]:
    yield Slow("uploads", int)


def _echo(call: Call) -> Any:
    return {"size": len(call.body["text"])}


def _nothing(_call: Call) -> None:
    return None


ROUTES = [
    Post("/echo", _echo, may=ANYONE),
    Delete("/echo", _nothing, may=ANYONE),
    Get("/things/{id}", _where, may=ANYONE, look=True),
    Get("/things/all", _where, may=ANYONE),
    Get("/things", _where, may=ANYONE),
    Get("/gone/{id}", _missing, may=ANYONE, look=True),
    Post("/things", _where, may=ANYONE),
]


def _app(routes: list[Route]) -> App:
    return App(
        "things",
        routes,
        service=None,
        policy=Policy([]),
        authenticate=authenticate,
        clock=SystemClock(),
        ids=SystemIds(),
        error=compute_error,
    )


@pytest.fixture(params=[True, False])
def server(request: pytest.FixtureRequest) -> Iterator[tuple[str, bool]]:
    """Its URL, and whether its loop may look."""
    gate = Gate()
    worker = Worker("api", clock=SystemClock(), pools=Pools({}), gate=None)
    edge = Edge({"things": _app(ROUTES)}, worker=worker, clock=SystemClock(), gate=gate, looks=request.param)
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(edge, log_level="error", lifespan="off", http=DroppableHttp.answering(edge))  # type: ignore[arg-type]
    running = uvicorn.Server(config)
    worker.start()
    with ThreadPoolExecutor(1, thread_name_prefix="loop") as thread:
        ended = thread.submit(running.run, [listener])
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert httpx.get(url, timeout=30).status_code == 404  # answered once it runs
        yield url, request.param
        running.should_exit = True
        ended.result(timeout=30)
    listener.close()
    worker.stop()


def test_a_look_is_answered_in_the_loop_and_all_else_by_the_dispatcher(server: tuple[str, bool]) -> None:
    """Only a row that says so, only where the loop may; the handler sees the same request either way."""
    url, may = server
    with httpx.Client(base_url=url, headers={"X-Auth-Token": "member"}) as client:
        found = client.get("/things/things/a%2Fb?x=1&x=2").json()
        assert found["thread"].startswith("loop" if may else "api")
        assert found | {"thread": ""} == {"thread": "", "base": f"{url}/things", "query": {"x": ["1", "2"]}}
        for path in ("/things/things/all", "/things/things"):
            assert client.get(path).json()["thread"] == "api"
        assert client.post("/things/things", json={}).json()["thread"] == "api"


def test_a_look_is_refused_like_any_other_request(server: tuple[str, bool]) -> None:
    """Without a token 401 with its challenge, of what is not there 404; each with a request id and its length."""
    url, _ = server
    with httpx.Client(base_url=url) as client:
        refused = client.get("/things/things/1")
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"].startswith("Keystone uri=")
        missing = client.get("/things/gone/1", headers={"X-Auth-Token": "member"})
        assert missing.status_code == 404
        assert missing.json()["itemNotFound"]["message"] == "1 could not be found."
        assert missing.headers["x-openstack-request-id"].startswith("req-")
        assert int(missing.headers["content-length"]) == len(missing.content)
        assert client.get("/things/things/1", headers={"X-Auth-Token": "member"}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [{"X-Forwarded-Proto": "https"}, {"Expect": "100-continue"}, {"Connection": "close"}, {"Content-Length": "0"}],
)
def test_what_the_edge_itself_must_read_goes_the_usual_way(server: tuple[str, bool], headers: dict[str, str]) -> None:
    """A proxy's words, a body and the end of a connection are not for the short way."""
    url, _ = server
    found = httpx.get(f"{url}/things/things/1", headers={"X-Auth-Token": "member"} | headers).json()
    assert found["thread"] == "api"
    assert found["base"].startswith(headers.get("X-Forwarded-Proto", "http:"))


def test_requests_in_a_row_on_one_connection_are_answered_in_order(server: tuple[str, bool]) -> None:
    """A look that stands behind another request waits for that one's answer."""
    url, may = server
    host, _, port = url.removeprefix("http://").partition(":")
    head = "HTTP/1.1\r\nHost: x\r\nX-Auth-Token: member\r\n"
    asked = "".join(f"GET /things/{path}?n={n} {head}\r\n" for n, path in enumerate(["things/1", "things", "things/1"]))
    last = f"GET /things/things?n=3 {head}Connection: close\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall((asked + last).encode())
        answered = b"".join(iter(lambda: connection.recv(65536), b""))
    documents = [part.partition(b"\r\n\r\n")[2] for part in answered.split(b"HTTP/1.1 200 OK\r\n")[1:]]
    assert [b'"n":["%d"]' % n in document for n, document in enumerate(documents)] == [True] * 4
    assert (b'"thread":"loop' in documents[0]) is may


@pytest.mark.parametrize("route", [Get("/x", _slow, may=ANYONE, look=True), Post("/x", _where, may=ANYONE, look=True)])
def test_what_may_wait_or_write_cannot_be_a_look(route: Route) -> None:
    """Refused when the application is made, and not when it holds up every socket."""
    with pytest.raises(LookupError, match="is no look"):
        _app([route])


def test_an_answer_in_the_loop_is_the_applications_own(server: tuple[str, bool]) -> None:
    """The same document and headers as without sockets, but for what the server adds."""
    url, _ = server
    inside = _app(ROUTES).handle(Request("GET", "/gone/1", headers={"x-auth-token": "member"}))
    assert isinstance(inside, Response)
    outside = httpx.get(f"{url}/things/gone/1", headers={"X-Auth-Token": "member"})
    assert outside.content == inside.content()
    added = {"date", "server", "content-length", "x-openstack-request-id"}
    assert {k.lower() for k in outside.headers} - added == {k.lower() for k in inside.headers} - added


class Wire:
    """A connection to a server, and what is written on it."""

    def __init__(self, url: str) -> None:
        host, _, port = url.removeprefix("http://").partition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=20)
        self._read = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._read.close()
        self.socket.close()

    def send(self, method: str, path: str, body: bytes = b"", *, until: int | None = None, more: str = "") -> None:
        """A request; of its body only so much."""
        head = f"{method} /things{path} HTTP/1.1\r\nHost: x\r\nX-Auth-Token: member\r\n{more}"
        if body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        self.socket.sendall(f"{head}\r\n".encode() + body[:until])

    def answer(self, *, body: bool = True) -> tuple[int, dict[str, str], bytes]:
        """The next answer."""
        status = int(self._read.readline().split()[1])
        lines = iter(lambda: self._read.readline().decode().rstrip("\r\n"), "")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        return status, headers, self._read.read(int(headers.get("content-length", "0"))) if body else b""

    def ended(self) -> bool:
        return self._read.read(1) == b""


def test_a_request_is_answered_alike_whole_and_in_pieces(server: tuple[str, bool]) -> None:
    """Its body may come with its head, behind it, or be larger than what is read at once; the connection goes on."""
    url, _ = server
    with Wire(url) as wire:
        for size, until in ((10, None), (10, 0), (10, 12), (600_000, None), (600_000, 70_000)):
            body = json.dumps({"text": "x" * size}).encode()
            wire.send("POST", "/echo", body, until=until)
            if until is not None:
                wire.socket.sendall(body[until:])
            status, headers, content = wire.answer()
            assert (status, json.loads(content)) == (201, {"size": size})
            assert "connection" not in headers


def test_an_answer_without_a_body_has_none(server: tuple[str, bool]) -> None:
    """HEAD tells the length and sends nothing; 204 tells none."""
    url, _ = server
    with Wire(url) as wire:
        wire.send("GET", "/things")
        _, whole, _ = wire.answer()
        wire.send("HEAD", "/things")
        status, headers, _ = wire.answer(body=False)
        assert (status, headers["content-length"]) == (200, whole["content-length"])
        wire.send("DELETE", "/echo")
        status, headers, _ = wire.answer()
        assert status == 204
        assert not {"content-length", "transfer-encoding"} & headers.keys()
        wire.send("GET", "/things")
        assert wire.answer()[0] == 200


def test_a_connection_ends_when_it_is_asked_to(server: tuple[str, bool]) -> None:
    """After the answer, which says so."""
    url, _ = server
    with Wire(url) as wire:
        wire.send("POST", "/echo", b'{"text": ""}', more="Connection: close\r\n")
        status, headers, _ = wire.answer()
        assert (status, headers["connection"]) == (201, "close")
        assert wire.ended()


def test_requests_with_bodies_in_a_row_are_answered_in_order(server: tuple[str, bool]) -> None:
    """Those that came in one piece as well."""
    url, _ = server
    with Wire(url) as wire:
        bodies = [json.dumps({"text": "x" * size}).encode() for size in (1, 2, 3)]
        head = "POST /things/echo HTTP/1.1\r\nHost: x\r\nX-Auth-Token: member\r\nContent-Type: application/json\r\n"
        wire.socket.sendall(b"".join(f"{head}Content-Length: {len(one)}\r\n\r\n".encode() + one for one in bodies))
        assert [json.loads(wire.answer()[2]) for _ in bodies] == [{"size": size} for size in (1, 2, 3)]


def test_who_goes_away_is_not_answered_and_harms_nobody(server: tuple[str, bool]) -> None:
    """Its request is done all the same, and the next one is answered."""
    url, _ = server
    with Wire(url) as wire:
        wire.send("POST", "/echo", b'{"text": ""}')
    assert httpx.get(f"{url}/things/things", headers={"X-Auth-Token": "member"}).status_code == 200
