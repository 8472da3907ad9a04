"""The log of sagas on both engines."""

from collections.abc import Callable

import msgspec
import pytest
from sqlalchemy import MetaData

from cumulet.core.context import Context
from cumulet.core.db import Database
from cumulet.core.saga import Failure, Saga, saga_tables
from cumulet.core.saga.journal import Journal

METADATA = MetaData()
JOURNAL = Journal(saga_tables(METADATA))
CONTEXT = Context(user_id="u", project_id="p", roles=frozenset({"member"}), request_id="req-1", token="secret")


class Input(msgspec.Struct):
    name: str


@pytest.fixture
def db(database: Callable[[MetaData], Database]) -> Database:
    """An empty log."""
    return database(METADATA)


def at(second: int) -> str:
    """A time."""
    return f"2026-01-31T12:00:{second:02}.000000"


def saga(id: str, *, second: int = 0, state: str = "running") -> Saga:
    """A saga as it begins."""
    return Saga(
        id=id,
        flow="build",
        subject_id="s",
        project_id="p",
        request_id="req-1",
        context=CONTEXT,
        input=Input("x"),
        state=state,
        generation=1,
        owner="o",
        host=None,
        attempts=0,
        deadline=None,
        failure=None,
        requested_at=at(0),
        started_at=at(second),
        finished_at=None,
    )


def test_a_saga_is_kept_without_its_token(db: Database) -> None:
    """Everything else of the context comes back."""
    with db.write() as tx:
        JOURNAL.add(tx, saga("a"))
    with db.read() as tx:
        found = JOURNAL.get(tx, "a")
        assert JOURNAL.get(tx, "b") is None
    assert found == msgspec.structs.replace(saga("a"), context=CONTEXT.without_token(), input={"name": "x"})


def test_lists(db: Database) -> None:
    """Live ones by age; a subject's, newest first."""
    with db.write() as tx:
        for second, state in enumerate(["running", "done", "unwinding", "stuck", "unwound"]):
            JOURNAL.add(tx, saga(state, second=second, state=state))
    with db.read() as tx:
        assert [one.id for one in JOURNAL.live(tx)] == ["running", "unwinding", "stuck"]
        assert {one.id for one in JOURNAL.live_of(tx, "s")} == {"running", "unwinding", "stuck"}
        assert [one.id for one in JOURNAL.of_subject(tx, "s")] == ["unwound", "stuck", "unwinding", "done", "running"]
        assert JOURNAL.live_of(tx, "other") == []


def test_only_the_first_change_of_a_generation_counts(db: Database) -> None:
    """Compare-and-set on generation and state."""
    with db.write() as tx:
        JOURNAL.add(tx, saga("a"))
        seen = JOURNAL.get(tx, "a")
        assert seen is not None
        failure = Failure(message="No.", detail="why", code=409, kind="Conflict")
        assert JOURNAL.change(tx, seen, state="unwinding", generation=2, failure=failure, deadline=at(9))
        assert not JOURNAL.change(tx, seen, state="done")
        now = JOURNAL.get(tx, "a")
    assert now is not None
    assert (now.state, now.generation, now.failure, now.deadline, now.live) == ("unwinding", 2, failure, at(9), True)


def test_steps_in_the_order_in_which_they_began(db: Database) -> None:
    """A second start keeps the first time and counts; outputs may be structs; a note is one row however often it is said."""
    with db.write() as tx:
        JOURNAL.begin_step(tx, "a", "second", row=7, host="h", at=at(2))
        JOURNAL.begin_step(tx, "a", "first", row=3, host=None, at=at(1))
        JOURNAL.begin_step(tx, "a", "second", row=7, host="h2", at=at(5))
        JOURNAL.set_step(tx, "a", "second", state="done", finished_at=at(6), output=Input("made"), detail="100% done")
        for second in (8, 9):
            JOURNAL.note(tx, "a", "hop", row=5, host="h", started_at=at(2), finished_at=at(second), detail="sent")
        JOURNAL.begin_step(tx, "b", "other", row=None, host=None, at=at(0))
        steps, own = JOURNAL.log(tx, "a"), JOURNAL.steps(tx, "a")
    assert [step.name for step in steps] == ["first", "hop", "second"]
    assert own == [steps[0], steps[2]]
    second = steps[2]
    assert (second.started_at, second.attempts, second.host, second.state) == (at(2), 2, "h2", "done")
    assert (second.output, second.detail, second.failure) == ({"name": "made"}, "100% done", None)
    assert (steps[1].state, steps[1].finished_at) == ("note", at(9))
