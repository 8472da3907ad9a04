"""The log of sagas: one row per saga, one per step, and their SQL.

A saga's state: running → done, or running → unwinding → unwound; unwinding → stuck when an undo keeps failing (it is tried again).
A step's state: started → done | failed, then undoing → undone.
"""

from typing import Any

import msgspec
from sqlalchemy import (
    Column,
    ColumnElement,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    bindparam,
    exists,
    func,
    select,
    update,
)

from cumulet.core.context import Context
from cumulet.core.db import Duplicate, Json, Parent, RowCache, Tx, Watched
from cumulet.core.saga.messages import Failure

__all__ = ["Journal", "Saga", "SagaTables", "StepRow", "saga_tables", "watched_steps"]

LIVE = ("running", "unwinding", "stuck")
#: sagas whose rows are remembered
SEEN_MAX = 1024


class SagaTables(msgspec.Struct, frozen=True):
    sagas: Any
    steps: Any


def saga_tables(metadata: MetaData) -> SagaTables:
    """The two tables, made part of a service's own database, so that a step's effect on it and its event share a transaction."""
    sagas = Table(
        "sagas",
        metadata,
        Column("id", String(36), primary_key=True),
        Column("flow", String(64), nullable=False),
        Column("subject_id", String(64), nullable=False),
        Column("project_id", String(64)),
        Column("request_id", String(64), nullable=False),
        Column("context", Json, nullable=False),
        Column("input", Json, nullable=False),
        Column("state", String(16), nullable=False),
        Column("generation", Integer, nullable=False),
        Column("owner", String(64), nullable=False),
        Column("host", String(255)),
        Column("attempts", Integer, nullable=False),
        Column("deadline", String(26)),
        Column("failure", Json),
        Column("requested_at", String(26), nullable=False),
        Column("started_at", String(26), nullable=False),
        Column("finished_at", String(26)),
        Index("ix_sagas_subject", "subject_id"),
        Index("ix_sagas_state", "state"),
        Index("ix_sagas_request", "request_id"),
    )
    steps = Table(
        "saga_steps",
        metadata,
        Column("saga_id", String(36), primary_key=True),
        Column("name", String(64), primary_key=True),
        Column("row", Integer),
        Column("state", String(16), nullable=False),
        Column("host", String(255)),
        Column("started_at", String(26)),
        Column("finished_at", String(26)),
        Column("undo_started_at", String(26)),
        Column("undo_finished_at", String(26)),
        Column("attempts", Integer, nullable=False),
        Column("output", Json),
        Column("detail", Text),
        Column("failure", Json),
        # on SQLite kept by the key alone: the steps of a saga lie together, and nothing is written twice
        sqlite_with_rowid=False,
    )
    return SagaTables(sagas, steps)


def watched_steps(tables: SagaTables, kind: str) -> Watched:
    """Each step's every state as an event about the saga's subject; never the operator's words, and no host."""
    return Watched(
        table=tables.steps,
        kind=kind,
        parent=Parent(tables.sagas, "saga_id"),
        id="parent.subject_id",
        project="parent.project_id",
        word="state",
        also=("attempts",),
        shows=("parent.flow", "name", "row", "started_at", "finished_at", "failure.message"),
    )


class Saga(msgspec.Struct, frozen=True, kw_only=True):
    """A saga's row."""

    id: str
    flow: str
    subject_id: str
    project_id: str | None
    request_id: str
    context: Context
    input: Any
    state: str
    generation: int
    owner: str
    host: str | None
    attempts: int
    deadline: str | None
    failure: Failure | None
    requested_at: str
    started_at: str
    finished_at: str | None

    @property
    def live(self) -> bool:
        return self.state in LIVE


class StepRow(msgspec.Struct, frozen=True, kw_only=True):
    """A step's row.  state: started, done, failed, skipped, undoing, undone, or note (another service's part)."""

    saga_id: str
    name: str
    row: int | None
    state: str
    host: str | None
    started_at: str | None
    finished_at: str | None
    undo_started_at: str | None
    undo_finished_at: str | None
    attempts: int
    output: Any
    detail: str | None
    failure: Failure | None


def _saga(row: dict[str, Any]) -> Saga:
    return msgspec.convert(row, Saga)


def _step(row: dict[str, Any]) -> StepRow:
    return msgspec.convert(row, StepRow)


class Journal:
    """The SQL of the log.  Every method takes the caller's transaction."""

    def __init__(self, tables: SagaTables) -> None:
        self._sagas = tables.sagas
        self._steps = tables.steps
        self._by_id = select(self._sagas).where(self._sagas.c.id == bindparam("saga_id"))
        #: each is read several times before it changes
        self._seen: RowCache[Saga] = RowCache(_saga, size_max=SEEN_MAX)
        self._log = (
            select(self._steps)
            .where(self._steps.c.saga_id == bindparam("saga_id"))
            .order_by(self._steps.c.started_at, self._steps.c.row)
        )
        self._of_saga = self._log.where(self._steps.c.state != "note")
        self._of_subject = (
            select(self._sagas)
            .where(self._sagas.c.subject_id == bindparam("subject_id"))
            .order_by(self._sagas.c.started_at.desc(), self._sagas.c.id)
        )
        self._again = (
            update(self._steps)
            .where(self._steps.c.saga_id == bindparam("saga_id"), self._steps.c.name == bindparam("step"))
            .values(state="started", host=bindparam("on"), attempts=self._steps.c.attempts + 1)
        )

    def add(self, tx: Tx, saga: Saga) -> None:
        tx.insert(self._sagas, {**msgspec.structs.asdict(saga), "context": saga.context.without_token()})

    def get(self, tx: Tx, saga_id: str) -> Saga | None:
        found = tx.records(self._by_id, self._seen, saga_id=saga_id)
        return found[0] if found else None

    def steps(self, tx: Tx, saga_id: str) -> list[StepRow]:
        """The flow's own, in the order in which they began."""
        return [_step(row) for row in tx.all(self._of_saga, saga_id=saga_id)]

    def log(self, tx: Tx, saga_id: str) -> list[StepRow]:
        """Likewise, and the notes among them: hops of messages, and other services' parts."""
        return [_step(row) for row in tx.all(self._log, saga_id=saga_id)]

    def live(self, tx: Tx) -> list[Saga]:
        return [
            _saga(row)
            for row in tx.all(
                select(self._sagas).where(self._sagas.c.state.in_(LIVE)).order_by(self._sagas.c.started_at)
            )
        ]

    def idle(self, tx: Tx, before: str, limit: int) -> list[tuple[str, str, str]]:
        """Live sagas whose deadline (or, without one, begin) lies before this moment: id, state, that moment; oldest first."""
        since = func.coalesce(self._sagas.c.deadline, self._sagas.c.started_at).label("since")
        statement = select(self._sagas.c.id, self._sagas.c.state, since)
        statement = statement.where(self._sagas.c.state.in_(LIVE), since < before).order_by(since).limit(limit)
        return [(row["id"], row["state"], row["since"]) for row in tx.all(statement)]

    def counts(self, tx: Tx) -> dict[tuple[str, str], int]:
        """How many live sagas there are, by flow and state."""
        statement = select(self._sagas.c.flow, self._sagas.c.state, func.count().label("n"))
        statement = statement.where(self._sagas.c.state.in_(LIVE)).group_by(self._sagas.c.flow, self._sagas.c.state)
        return {(row["flow"], row["state"]): int(row["n"]) for row in tx.all(statement)}

    def live_of(self, tx: Tx, subject_id: str) -> list[Saga]:
        """Sagas of a subject that have not ended."""
        return [_saga(row) for row in tx.find_all(self._sagas, {"subject_id": subject_id, "state": LIVE})]

    def at_rest(self, subject_id: ColumnElement[str]) -> ColumnElement[bool]:
        """The condition that no saga of a subject is under way."""
        return ~exists().where(self._sagas.c.subject_id == subject_id, self._sagas.c.state.in_(LIVE))

    def of_subject(self, tx: Tx, subject_id: str) -> list[Saga]:
        """All sagas of a subject, newest first."""
        return [_saga(row) for row in tx.all(self._of_subject, subject_id=subject_id)]

    def change(self, tx: Tx, saga: Saga, **values: Any) -> bool:
        """Compare-and-set on (generation, state): False when somebody else was first."""
        where = {"id": saga.id, "generation": saga.generation, "state": saga.state}
        return tx.update(self._sagas, where, values) == 1

    def turn_back(self, tx: Tx, saga: Saga, failure: Failure) -> bool:
        """From here it unwinds: nobody who still works on it may record any more.  False when somebody else was first."""
        return self.change(
            tx, saga, state="unwinding", generation=saga.generation + 1, failure=failure, attempts=0, deadline=None
        )

    def begin_step(self, tx: Tx, saga_id: str, name: str, *, row: int | None, host: str | None, at: str) -> None:
        """Started; a second start keeps the first time and counts the attempt."""
        try:
            self._insert(tx, saga_id, name, row=row, state="started", host=host, started_at=at)
        except Duplicate:
            tx.run(self._again, saga_id=saga_id, step=name, on=host)

    def note(
        self,
        tx: Tx,
        saga_id: str,
        name: str,
        *,
        row: int,
        host: str | None,
        started_at: str,
        finished_at: str | None,
        detail: str,
    ) -> None:
        """A row that is not a step of its own: another service's part, or a hop of a message."""
        said = {"finished_at": finished_at, "detail": detail, "host": host}
        try:
            self._insert(tx, saga_id, name, row=row, state="note", started_at=started_at, **said)
        except Duplicate:
            self.set_step(tx, saga_id, name, **said)

    def _insert(self, tx: Tx, saga_id: str, name: str, **values: Any) -> None:
        tx.insert(self._steps, {"saga_id": saga_id, "name": name, **_EMPTY, **values})

    def set_step(self, tx: Tx, saga_id: str, name: str, **values: Any) -> None:
        tx.update(self._steps, {"saga_id": saga_id, "name": name}, values)


_EMPTY: dict[str, Any] = {
    "finished_at": None,
    "undo_started_at": None,
    "undo_finished_at": None,
    "attempts": 1,
    "output": None,
    "detail": None,
    "failure": None,
}
