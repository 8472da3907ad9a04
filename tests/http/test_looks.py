"""Looks: reads of a row that are answered in the loop of the sockets, over real sockets."""

import socket
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
import uvicorn
from tests.http.harness import authenticate

from cumulet.core.clock import SystemClock
from cumulet.core.errors import NotFound
from cumulet.core.ids import SystemIds
from cumulet.core.policy import Policy
from cumulet.core.web import App, Call, Get, Post, Request, Response
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


ROUTES = [
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
