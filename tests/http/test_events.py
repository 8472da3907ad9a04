"""The event stream behind real sockets: who may read what, going on after a break, and readers that take nothing."""

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from sqlalchemy import Column, MetaData, String, Table, Text
from tests.http.harness import CALLERS, OTHER_PROJECT, PROJECT, authenticate

from cumulet.core.clock import SystemClock
from cumulet.core.context import Context
from cumulet.core.db import Database, Watched, add_outbox, open_database
from cumulet.core.errors import Unauthorized
from cumulet.core.ids import SystemIds
from cumulet.core.web.edge import Edge
from cumulet.core.web.protocol import DroppableHttp
from cumulet.core.work import Gate, Pools, Worker
from cumulet.events import api, readers, relay, tables
from cumulet.events.readers import Readers
from cumulet.events.relay import Relay

METADATA = MetaData()
THINGS = Table(
    "things",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("project_id", String(36)),
    Column("text", Text),
)
add_outbox(METADATA, Watched(table=THINGS, kind="thing", shows=("id", "text")))


class Live:
    """A service with one table, and its stream behind an edge at `url`."""

    def __init__(self, folder: Path) -> None:
        clock, gate, pools = SystemClock(), Gate(), Pools({})
        self.revoked: set[str] = set()
        self.workers = [Worker(name, clock=clock, pools=pools, gate=gate) for name in ("api", "events")]
        self.databases = [self._database(folder, "events", tables.METADATA), self._database(folder, "things", METADATA)]
        self.relay = Relay(self.databases[0], worker=self.workers[1], clock=clock)
        self.relay.add(self.databases[1])
        self.readers = Readers(self.relay, api=self.workers[0])
        app = api.application(self.readers, authenticate=self._authenticate, clock=clock, ids=SystemIds())
        self.edge = Edge({"events": app}, worker=self.workers[0], clock=clock, gate=gate)
        self.count = 0
        self.url = ""
        for worker in self.workers:
            worker.start()
        self.relay.start()

    @staticmethod
    def _database(folder: Path, name: str, metadata: MetaData) -> Database:
        db = open_database(f"sqlite://{folder}", name, metadata)
        db.create()
        return db

    def _authenticate(self, token: str, service_token: str | None) -> Context:
        if token in self.revoked:
            raise Unauthorized
        return authenticate(token, service_token)

    def close(self) -> None:
        for worker in self.workers:
            worker.stop()
        for db in self.databases:
            db.close()

    def happen(self, project_id: str = PROJECT, text: str = "", count: int = 1) -> None:
        """New things."""
        with self.databases[1].write() as tx:
            for _ in range(count):
                self.count += 1
                tx.insert(THINGS, {"id": f"thing-{self.count}", "project_id": project_id, "text": text})

    def ask(self, token: str | None = "member", query: str = "", **headers: str) -> httpx.Response:
        """The answer to a request that is refused."""
        named = {"X-Auth-Token": token} if token else {}
        return httpx.get(
            f"{self.url}/events?{query}", headers=named | {k.replace("_", "-"): v for k, v in headers.items()}
        )

    @contextmanager
    def stream(self, token: str = "member", query: str = "", **headers: str) -> Iterator["Lines"]:
        """A reader that has begun."""
        named = {"X-Auth-Token": token} | {k.replace("_", "-"): v for k, v in headers.items()}
        with httpx.stream("GET", f"{self.url}/events?{query}", headers=named, timeout=20) as answer:
            assert answer.status_code == 200, answer.read()
            assert answer.headers["content-type"] == "text/event-stream"
            yield Lines(answer)


class Lines:
    """The messages of a stream."""

    def __init__(self, answer: httpx.Response) -> None:
        self._lines = answer.iter_lines()

    def message(self) -> dict[str, str]:
        """The next message, or what there is of it when the stream ends."""
        fields: dict[str, str] = {}
        for line in self._lines:
            if not line:
                return fields
            name, _, value = line.partition(": ")
            fields[name] = value
        return fields

    def begun(self) -> int:
        """The number from which the stream goes on, which is its first message; events of the past come with it."""
        assert "retry" in self.message()
        return int(self.message()["id"])

    def events(self, count: int) -> list[dict[str, Any]]:
        """The next events."""
        found: list[dict[str, Any]] = []
        while len(found) < count:
            message = self.message()
            assert message, "the stream has ended"
            if "data" in message:
                found.append(json.loads(message["data"]))
                assert found[-1]["number"] == int(message["id"])
        return found


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    """A server of its own, on a free port."""
    made = Live(tmp_path)
    listener = socket.create_server(("127.0.0.1", 0))
    made.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    config = uvicorn.Config(
        made.edge,
        log_level="error",
        lifespan="off",
        http=DroppableHttp.answering(made.edge),  # type: ignore[arg-type]
        timeout_graceful_shutdown=5,
    )
    server = uvicorn.Server(config)
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(server.run, [listener])
        assert httpx.get(made.url, timeout=30).status_code == 404  # answered once it runs
        yield made
        server.should_exit = True
        running.result(timeout=30)
    listener.close()
    made.close()


def numbers(events: list[dict[str, Any]]) -> list[int]:
    """The events' numbers."""
    return [event["number"] for event in events]


def test_a_project_reads_its_own(live: Live) -> None:
    """Each project its events and no other's, as they happen; an admin who asks for all gets all."""
    with (
        live.stream() as member,
        live.stream("reader") as reader,
        live.stream("other") as other,
        live.stream("admin") as admin,
        live.stream("admin", "all_projects=1") as everything,
        live.stream("admin", f"all_projects=1&project_id={PROJECT}") as one_of_all,
    ):
        for lines in (member, reader, other, admin, everything, one_of_all):
            assert lines.begun() == 0
        for project in (PROJECT, OTHER_PROJECT, PROJECT, str(CALLERS["admin"].project_id)):
            live.happen(project)
        assert numbers(everything.events(4)) == [1, 2, 3, 4]
        for lines in (member, reader, one_of_all):
            assert numbers(lines.events(2)) == [1, 3]
        assert numbers(other.events(1)) == [2]
        assert numbers(admin.events(1)) == [4]


def test_an_event_says_what_happened(live: Live) -> None:
    """Its number, time, kind, object, owner, change and what the object shows."""
    with live.stream() as lines:
        lines.begun()
        live.happen(text='a "word"\nand more')
        (event,) = lines.events(1)
    at = event.pop("at")
    assert at[:4] == live.relay._clock.now()[:4]
    assert event == {
        "number": 1,
        "kind": "thing",
        "id": "thing-1",
        "project_id": PROJECT,
        "change": "created",
        "data": {"id": "thing-1", "text": 'a "word"\nand more'},
    }


def test_a_reader_that_comes_back_goes_on_where_it_was(live: Live) -> None:
    """By `since`, or by the header, which wins: a client that repeats its first request adds it."""
    with live.stream() as lines:
        lines.begun()
        live.happen(count=3)
        assert numbers(lines.events(2)) == [1, 2]
    live.happen(OTHER_PROJECT)
    live.happen(count=2)
    for query, headers in (("since=2", {}), ("since=0", {"Last_Event_ID": "2"}), ("", {"Last_Event_ID": "2"})):
        with live.stream(query=query, **headers) as lines:
            assert numbers(lines.events(3)) == [3, 5, 6]
    with live.stream(query="since=6") as lines:
        assert lines.begun() == 6
        live.happen()
        assert numbers(lines.events(1)) == [7]


def test_a_long_past_comes_whole(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """Page by page, with what happens meanwhile behind it."""
    monkeypatch.setattr(relay, "PAGE", 7)
    live.happen(count=100)
    with live.stream(query="since=0") as lines:
        first = numbers(lines.events(1))
        live.happen(count=20)
        assert first + numbers(lines.events(119)) == list(range(1, 121))


def test_only_one_object(live: Live) -> None:
    """`object_id` leaves the rest out."""
    with live.stream(query="object_id=thing-2") as lines:
        lines.begun()
        live.happen(count=3)
        with live.databases[1].write() as tx:
            tx.delete(THINGS, {"id": "thing-2"})
        assert [(event["number"], event["change"]) for event in lines.events(2)] == [(2, "created"), (4, "deleted")]


def test_who_may_not(live: Live) -> None:
    """No token, a wrong one, another's events, no role."""
    for token, query, status in (
        (None, "", 401),
        ("wrong", "", 401),
        ("member", "all_projects=1", 403),
        ("member", f"project_id={OTHER_PROJECT}", 403),
        ("other", f"all_projects=true&project_id={PROJECT}", 403),
    ):
        assert live.ask(token, query).status_code == status, (token, query)
    no_role = Context(user_id="u", project_id=PROJECT, roles=frozenset({"guest"}))
    CALLERS["guest"] = no_role
    CALLERS["nowhere"] = Context(user_id="u", domain_id="default", roles=frozenset({"reader"}))
    try:
        assert live.ask("guest").status_code == 403
        assert live.ask("nowhere").status_code == 403
    finally:
        del CALLERS["guest"], CALLERS["nowhere"]


def test_what_is_asked_wrongly(live: Live) -> None:
    """Numbers that are none, words that are unknown, other methods."""
    for query in ("since=x", "since=-1", "since=99999999999999999999", "all_projects=maybe", "sinse=1"):
        answer = live.ask(query=query)
        assert answer.status_code == 400, query
        assert answer.json()["badRequest"]["message"]
    assert live.ask(Last_Event_ID="x").status_code == 400
    assert httpx.post(f"{live.url}/events", headers={"X-Auth-Token": "member"}).status_code == 405
    head = httpx.head(f"{live.url}/events", headers={"X-Auth-Token": "member"})
    assert (head.status_code, head.headers["content-type"]) == (200, "text/event-stream")


def test_what_is_no_longer_kept_is_gone(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """410 with words that say from where to go on; also for a number that was never given here."""
    monkeypatch.setattr(relay, "KEPT_EVENTS", 10)
    live.happen(count=40)
    with live.stream(query="since=0") as lines:
        lines.events(40)
    live.workers[1].post(live.relay.tidy)
    with live.stream(query="since=40") as lines:
        lines.begun()  # the same worker has tidied before it
    gone = live.ask(query="since=29")
    assert gone.status_code == 410
    assert gone.json()["gone"]["message"].startswith("Events up to 30 are no longer kept")
    assert "go on from 40" in gone.json()["gone"]["message"]
    assert "no event 41 yet" in live.ask(query="since=41").json()["gone"]["message"]
    with live.stream(query="since=30") as lines:
        assert numbers(lines.events(10)) == list(range(31, 41))


def test_a_slow_reader_is_cut_and_not_skipped(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes nothing: its connection is dropped, nobody else waits for it, and when it comes back it gets all that it has not seen."""
    monkeypatch.setattr(readers, "BUFFER_MAX", 100_000)
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.connect(("127.0.0.1", int(live.url.rpartition(":")[2])))
    slow.settimeout(20)
    slow.sendall(b"GET /events?since=0 HTTP/1.1\r\nHost: x\r\nX-Auth-Token: member\r\n\r\n")
    content = slow.recv(100)
    with live.stream() as quick:
        quick.begun()
        events, ends = 0, time.monotonic() + 60
        while len(live.readers._streams) == 2:  # the kernel's buffers take some of it
            assert time.monotonic() < ends
            live.happen(text="x" * 10_000, count=5)
            events += len(quick.events(5))
    try:
        while piece := slow.recv(65536):
            content += piece
    except ConnectionResetError:
        pass
    slow.close()
    seen = [int(line.removeprefix(b"id: ")) for line in content.split(b"\n") if line.startswith(b"id: ")]
    assert len(seen) < events
    last = seen[-2]  # the last may not be whole
    with live.stream(query=f"since={last}") as again:
        assert numbers(again.events(events - last)) == list(range(last + 1, events + 1))


def test_a_quiet_stream_says_that_it_lives(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """And how far it has come: others' events are behind a reader who saw none of them."""
    monkeypatch.setattr(readers, "HEARTBEAT_S", 0.05)
    with live.stream() as lines, live.stream("other") as other:
        assert lines.begun() == other.begun() == 0
        live.happen(OTHER_PROJECT, count=3)
        other.events(3)
        ends = time.monotonic() + 20
        while (message := lines.message()).get("id") != "3":
            assert time.monotonic() < ends
        assert message[""] == "alive"


def test_a_stream_ends_with_its_token(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that no longer holds ends its stream at the next sign of life; others go on."""
    monkeypatch.setattr(readers, "HEARTBEAT_S", 0.05)
    with live.stream() as lines, live.stream("other") as other:
        lines.begun()
        other.begun()
        live.revoked.add("member")
        while lines.message():
            pass
        live.happen(OTHER_PROJECT)
        assert len(other.events(1)) == 1
    assert live.ask().status_code == 401


def test_there_are_only_so_many_readers(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a project and of all; one that leaves makes room."""
    monkeypatch.setattr(readers, "READERS_PER_PROJECT", 1)
    with live.stream() as lines, live.stream("other") as other:
        lines.begun()
        other.begun()
        refused = live.ask()
        assert refused.status_code == 503
        assert "Too many readers" in refused.json()["serviceUnavailable"]["message"]
    ends = time.monotonic() + 20
    while live.readers._streams:
        assert time.monotonic() < ends
        live.happen(count=1)
    with live.stream() as lines:
        lines.begun()


def test_the_clouds_end_is_the_streams_end(live: Live) -> None:
    """Readers are let go at once."""
    with live.stream() as lines:
        lines.begun()
        loop = live.readers._loop
        assert loop is not None
        loop.call_soon_threadsafe(live.readers.close)
        assert lines.message() == {}
