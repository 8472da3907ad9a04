"""The outbox on both engines: what triggers write beside each change."""

import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Boolean, Column, Integer, MetaData, String, Table, Text, select

from cumulet.core.db import Database, Json, Parent, Watched, add_outbox, open_database


def tables(
    *, watched: bool = True, shows: tuple[str, ...] = ("name", "state", "open", "words", "why.message")
) -> MetaData:
    """Boxes, and the things in them."""
    metadata = MetaData()
    boxes = Table(
        "boxes",
        metadata,
        Column("id", String(36), primary_key=True),
        Column("project_id", String(36), nullable=False),
        Column("name", String(36)),
        Column("state", String(36), nullable=False),
        Column("open", Boolean, nullable=False),
        Column("words", Json),
        Column("why", Json),
        Column("note", Text),
        Column("size", Integer),
        Column("gone", Boolean, nullable=False),
    )
    things = Table(
        "things",
        metadata,
        Column("box_id", String(36), primary_key=True),
        Column("name", String(36), primary_key=True),
        Column("state", String(16), nullable=False),
    )
    if watched:
        add_outbox(
            metadata,
            Watched(
                table=boxes,
                kind="box",
                shows=shows,
                also=("size",),
                gone="gone",
                viewers=lambda box: select(things.c.name).where(things.c.box_id == box("id")).scalar_subquery(),
            ),
            Watched(
                table=things,
                kind="box.thing",
                parent=Parent(boxes, "box_id"),
                id="parent.id",
                project="parent.project_id",
                about="name",
                word="state",
                shows=("parent.state",),
            ),
        )
    return metadata


METADATA = tables()
BOXES, THINGS, OUTBOX = (METADATA.tables[name] for name in ("boxes", "things", "outbox"))
BOX = {"id": "b", "project_id": "p", "name": "a 'box'", "state": "new", "open": True, "words": ["x"], "gone": False}


class Clock:
    """One second later each time."""

    seconds = 0

    def now(self) -> str:
        self.seconds += 1
        return f"2026-01-31T12:00:{self.seconds:02}.000000"

    def epoch(self) -> float:
        return 0.0

    def monotonic(self) -> float:
        return 0.0


@pytest.fixture
def db(database: Callable[[MetaData], Database]) -> Database:
    """Empty boxes."""
    made = database(METADATA)
    made._clock = Clock()
    made._moment = made._clock.now
    return made


def written(db: Database) -> list[dict[str, Any]]:
    """What is in the outbox, its documents decoded."""
    with db.read() as tx:
        rows = tx.find_all(OUTBOX, {}, ("n",))
    return [{**row, "data": json.loads(row["data"])} for row in rows]


def test_a_change_and_its_event_are_one(db: Database) -> None:
    """An event stands there with what its change says, at the time its transaction began; none of what was rolled back,
    and numbers have no gap.
    """
    with db.write() as tx:
        tx.insert(BOXES, BOX)
    with contextlib.suppress(ZeroDivisionError), db.write() as tx:
        tx.update(BOXES, {"id": "b"}, {"state": "lost"})
        raise ZeroDivisionError
    with db.write() as tx:
        tx.update(
            BOXES, {"id": "b"}, {"state": "full", "why": {"message": "it's so", "detail": "hidden"}, "open": False}
        )
        tx.delete(BOXES, {"id": "b"})
    created, changed, deleted = written(db)
    shown = {"name": "a 'box'", "state": "new", "open": True, "words": ["x"], "why": None}
    box = {"kind": "box", "object_id": "b", "project_id": "p", "about": None, "viewers": None}
    assert created == {"n": 1, "word": "created", "at": "2026-01-31T12:00:01.000000", "data": shown, **box}
    later = {**shown, "state": "full", "open": False, "why": "it's so"}
    assert changed == {"n": 2, "word": "changed", "at": "2026-01-31T12:00:03.000000", "data": later, **box}
    assert (deleted["n"], deleted["word"], deleted["at"]) == (3, "deleted", changed["at"])


def test_only_what_is_watched_makes_an_event(db: Database) -> None:
    """Columns that are not named, and values that do not change, make none; those named without being shown do."""
    with db.write() as tx:
        tx.insert(BOXES, BOX)
        tx.update(BOXES, {"id": "b"}, {"note": "x", "state": "new"})
        tx.update(BOXES, {"id": "b"}, {"size": 1})
        tx.update(BOXES, {"id": "b"}, {"size": 1})
        tx.upsert(BOXES, {**BOX, "state": "old"}, ("id",))
    assert [row["word"] for row in written(db)] == ["created", "changed", "changed"]


def test_a_row_that_stays_is_deleted_once(db: Database) -> None:
    """The flag that says so is the deletion; taking the row away later is nothing new."""
    with db.write() as tx:
        tx.insert(BOXES, BOX)
        tx.update(BOXES, {"id": "b"}, {"gone": True, "state": "done"})
        tx.delete(BOXES, {"id": "b"})
    assert [row["word"] for row in written(db)] == ["created", "deleted"]


def test_a_part_is_told_as_its_whole(db: Database) -> None:
    """Id and project are the parent's, the word is the row's own state; without a parent there is nothing to tell."""
    with db.write() as tx:
        tx.insert(BOXES, BOX)
        tx.insert(THINGS, {"box_id": "b", "name": "t", "state": "started"})
        tx.update(THINGS, {"box_id": "b"}, {"state": "done"})
        tx.insert(THINGS, {"box_id": "other", "name": "t", "state": "started"})
        tx.delete(THINGS, {"box_id": "b"})
    _, *parts = written(db)
    assert [row["word"] for row in parts] == ["started", "done", "deleted"]
    assert {(row["kind"], row["object_id"], row["project_id"], row["about"]) for row in parts} == {
        ("box.thing", "b", "p", "t")
    }
    assert parts[0]["data"] == {"state": "new"}


def test_viewers_are_those_of_the_moment(db: Database) -> None:
    """Who else sees it is asked when it happens; who owned it before hears that it went."""
    with db.write() as tx:
        tx.insert(BOXES, BOX)
        tx.insert(THINGS, {"box_id": "b", "name": "guest", "state": "in"})
        tx.update(BOXES, {"id": "b"}, {"state": "shared"})
        tx.update(BOXES, {"id": "b"}, {"project_id": "q"})
    boxes = [row for row in written(db) if row["kind"] == "box"]
    assert [(row["project_id"], row["viewers"]) for row in boxes] == [("p", None), ("p", "guest"), ("q", "p")]


def test_a_database_of_before_gets_its_outbox(database_url: str) -> None:
    """What an older program left is taken on: what is missing is made, and what follows is told; a second start changes nothing."""
    with contextlib.closing(open_database(database_url, "one", tables(watched=False))) as old:
        old.create()
        with old.write() as tx:
            tx.insert(old.metadata.tables["boxes"], BOX)
    for state, count in (("second", 1), ("third", 2)):
        with contextlib.closing(open_database(database_url, "one", METADATA)) as new:
            assert new.create() is False
            with new.write() as tx:
                tx.update(BOXES, {"id": "b"}, {"state": state})
            assert [row["data"]["state"] for row in written(new)] == ["second", "third"][:count]


def test_another_declaration_replaces_the_triggers(database_url: str) -> None:
    """A newer program's events are as it declares them, and come once."""
    with contextlib.closing(open_database(database_url, "one", METADATA)) as old:
        old.create()
    with contextlib.closing(open_database(database_url, "one", tables(shows=("state",)))) as new:
        assert new.create() is False
        with new.write() as tx:
            tx.insert(new.metadata.tables["boxes"], BOX)
        assert [row["data"] for row in written(new)] == [{"state": "new"}]
