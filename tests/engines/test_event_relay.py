"""The relay on both engines: from outboxes to one stream, whatever happens in between."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Column, MetaData, String, Table

from cumulet.core.clock import SystemClock
from cumulet.core.db import Database, Watched, add_outbox, open_database
from cumulet.events import relay as relays
from cumulet.events import store, tables
from cumulet.events.records import Event, Wanted
from cumulet.events.relay import Relay


def a_service() -> MetaData:
    """One table, all of it watched."""
    metadata = MetaData()
    things = Table(
        "things",
        metadata,
        Column("id", String(36), primary_key=True),
        Column("project_id", String(36)),
        Column("server_id", String(36)),
        Column("seen_by", String(80)),
    )
    add_outbox(
        metadata,
        Watched(table=things, kind="thing", shows=("id",), about="server_id", viewers=lambda row: row("seen_by")),
    )
    return metadata


class Hand:
    """A worker that works when told to."""

    def __init__(self) -> None:
        self.acts: list[Callable[[], None]] = []

    def post(self, act: Callable[[], None]) -> None:
        self.acts.append(act)

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        if seconds < relays.TIDY_S:
            self.acts.append(act)

    def work(self) -> None:
        while self.acts:
            self.acts.pop(0)()


class Reader:
    """Keeps what it is handed."""

    def __init__(self, project_id: str | None, since: int | None, object_id: str | None = None) -> None:
        self.wanted = Wanted(project_id=project_id, object_id=object_id)
        self.position = since
        self.live = False
        self.frames: list[bytes] = []
        self.more = False
        self.is_lost = False

    def catch_up(self, frames: list[bytes], upto: int, *, more: bool) -> None:
        self.frames += frames
        self.more = more

    def lost(self) -> None:
        self.is_lost = True

    @property
    def numbers(self) -> list[int]:
        return [
            int(frame.split(b"\n")[0].removeprefix(b"id: ")) for frame in b"".join(self.frames).split(b"\n\n") if frame
        ]


class World:
    """Two services and a stream, which can be left and entered again as by a crash."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._open: list[Database] = []
        self.begin()

    def begin(self) -> None:
        """A process starts."""
        self.worker = Hand()
        self.events = self._database("events", tables.METADATA)
        self.relay = Relay(self.events, worker=self.worker, clock=SystemClock())  # type: ignore[arg-type]  # as far as it is used
        self.one, self.two = self._database("one", a_service()), self._database("two", a_service())
        self.relay.add(self.one)
        self.relay.add(self.two)
        self.relay.audience = self
        self.relay.start()

    def _database(self, name: str, metadata: MetaData) -> Database:
        db = open_database(self._url, name, metadata)
        db.create()
        self._open.append(db)
        return db

    def end(self) -> None:
        """The process is gone, with whatever its worker had still to do."""
        for db in self._open:
            db.close()
        self._open.clear()

    def deliver(self, parcels: list[tuple[Any, bytes]], upto: int) -> None:
        for reader, content in parcels:
            reader.frames.append(content)

    def change(self, db: Database, id: str, project_id: str = "p", **more: Any) -> None:
        with db.write() as tx:
            tx.insert(
                db.metadata.tables["things"],
                {"id": id, "project_id": project_id, "server_id": None, "seen_by": None} | more,
            )

    def stream(self, wanted: Wanted | None = None, after: int = 0) -> list[Event]:
        with self.events.read() as tx:
            return store.page(tx, wanted or Wanted(project_id=None), after, 10_000)

    def read(self, reader: Reader) -> Reader:
        self.relay.join(reader)
        self.worker.work()
        return reader


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    """It has begun."""
    made = World(database_url)
    yield made
    made.end()


def test_events_are_numbered_in_the_order_of_their_changes(world: World) -> None:
    """Between services too: one that follows from another's comes after it."""
    for number in range(20):
        world.change(world.one if number % 3 else world.two, f"{number:02}")
    world.worker.work()
    assert [(event.number, event.object_id) for event in world.stream()] == [(n + 1, f"{n:02}") for n in range(20)]


def test_a_crash_before_the_numbering_loses_nothing(world: World) -> None:
    """What was committed and not yet read is read by the next process, in front of what comes later."""
    world.change(world.one, "a")
    world.worker.work()
    world.change(world.two, "b")
    world.change(world.one, "c")
    world.end()
    world.begin()
    world.change(world.two, "d")
    world.worker.work()
    assert [(event.number, event.object_id) for event in world.stream()] == [(1, "a"), (2, "b"), (3, "c"), (4, "d")]


def test_a_crash_after_the_numbering_doubles_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbered and not yet handed to anybody: the next process neither numbers it again nor keeps it from readers."""

    def die(_: object) -> None:
        raise KeyboardInterrupt

    world.change(world.one, "a")
    with monkeypatch.context() as patch:
        patch.setattr(world.relay, "_hand_on", die)
        with pytest.raises(KeyboardInterrupt):
            world.worker.work()
    world.end()
    world.begin()
    world.change(world.one, "b")
    world.worker.work()
    assert [(event.number, event.object_id) for event in world.stream()] == [(1, "a"), (2, "b")]
    assert world.read(Reader("p", 0)).numbers == [1, 2]


def test_a_failed_numbering_is_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that refuses delays the stream; nothing of the attempt is left."""
    original, calls = store.add, []

    def refuse(*given: Any) -> None:
        original(*given)
        calls.append(1)
        if len(calls) == 1:
            raise OSError("the disk is full")

    monkeypatch.setattr(store, "add", refuse)
    world.change(world.one, "a")
    world.worker.work()
    assert len(calls) == 2
    assert [(event.number, event.object_id) for event in world.stream()] == [(1, "a")]


def test_what_a_loss_of_power_took_back_is_not_numbered_as_something_else(world: World) -> None:
    """The stream is ahead of an outbox: the outbox goes on behind it, so that nothing new is taken for known."""
    for name in "abc":
        world.change(world.one, name)
    world.worker.work()
    with world.one.write() as tx:
        tx.run(world.one.metadata.tables["outbox"].delete().where(world.one.metadata.tables["outbox"].c.n > 1))
    world.end()
    world.begin()
    world.change(world.one, "d")
    world.worker.work()
    assert [(event.number, event.object_id) for event in world.stream()] == [(1, "a"), (2, "b"), (3, "c"), (4, "d")]


def test_a_project_sees_its_own_and_what_it_is_shown(world: World) -> None:
    """Live and from the past alike; an admin who asks for all sees all, and nobody's is for admins only."""
    readers = {key: world.read(Reader(key, None)) for key in ("p", "q", None)}
    world.change(world.one, "1", "p")
    world.change(world.two, "2", "q")
    world.change(world.one, "3", "q", seen_by="x p y")
    world.change(world.one, "4", "q", seen_by="*")
    world.change(world.two, "5", "q", seen_by="pp")
    world.change(world.two, "6", None)
    world.worker.work()
    expected = {"p": [1, 3, 4], "q": [2, 3, 4, 5], None: [1, 2, 3, 4, 5, 6]}
    assert {key: reader.numbers for key, reader in readers.items()} == expected
    assert {key: world.read(Reader(key, 0)).numbers for key in readers} == expected


def test_a_reader_of_one_object_hears_what_belongs_to_it(world: World) -> None:
    """The object's own events and those of what points at it, of the reader's project only."""
    live = world.read(Reader("p", None, "s"))
    world.change(world.one, "s")
    world.change(world.two, "port", server_id="s")
    world.change(world.two, "another")
    world.change(world.two, "foreign", "q", server_id="s")
    world.worker.work()
    assert live.numbers == [1, 2]
    assert world.read(Reader("p", 0, "s")).numbers == [1, 2]
    assert world.read(Reader(None, 0, "s")).numbers == [1, 2, 4]


def test_a_reader_catches_up_page_by_page_without_a_seam(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It asks for each page; what happens meanwhile comes after the past, once."""
    monkeypatch.setattr(relays, "PAGE", 4)
    for number in range(10):
        world.change(world.one, f"{number:02}")
    world.worker.work()
    reader = world.read(Reader("p", 1))
    asked = 0
    while reader.more:
        asked += 1
        world.change(world.two, f"meanwhile {asked}")
        world.worker.work()
        world.read(reader)
    world.change(world.one, "later")
    world.worker.work()
    assert reader.numbers == list(range(2, 12 + asked))


def test_what_is_kept_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """By count; the outboxes keep their last row and go on numbering; who comes too late is told, not skipped."""
    monkeypatch.setattr(relays, "KEPT_EVENTS", 10)
    monkeypatch.setattr(relays, "TIDY_SLICE", 3)
    for number in range(30):
        world.change(world.one, f"{number:02}")
    world.worker.work()
    world.relay.tidy()
    world.worker.work()
    assert [event.number for event in world.stream()] == list(range(21, 31))
    assert world.relay.oldest == 21
    with world.one.read() as tx:
        assert [row["n"] for row in tx.find_all(world.one.metadata.tables["outbox"], {})] == [30]
    assert world.read(Reader("p", 19)).is_lost
    assert world.read(Reader("p", 20)).numbers == list(range(21, 31))
    world.end()
    world.begin()
    world.change(world.one, "next")
    world.worker.work()
    assert (world.relay.oldest, world.stream()[-1].number, world.stream()[-1].source_number) == (21, 31, 31)


def test_old_events_go(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """By age, too; numbers go on from where they were."""
    world.change(world.one, "a")
    world.worker.work()
    monkeypatch.setattr(relays, "KEPT_S", -60.0)
    world.relay.tidy()
    world.worker.work()
    assert world.stream() == []
    world.end()
    world.begin()
    world.change(world.one, "b")
    world.worker.work()
    assert [event.number for event in world.stream()] == [2]
