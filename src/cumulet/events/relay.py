"""From the outboxes to the stream: reads what is committed, numbers it, keeps it, hands it on.

One worker of its own, woken by commits and never by the clock alone.  It waits until the services are quiet for a moment, so that the
steps of a launch come along together and the work is done after the launch and not beside it, but not longer than a named while.
An event and the position in its outbox are written in one transaction, so that a crash at any moment neither loses nor doubles one; and
durably, so that a number that a reader has seen is not given again even after a loss of power.

Order: within a service that of its commits.  Between services that of the times at which the transactions began: what one service did
because of another's change began after it.
"""

import heapq
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Protocol

import structlog
from sqlalchemy import bindparam, func, select

from cumulet.core.clock import Clock, add_seconds
from cumulet.core.db import Database
from cumulet.core.db.outbox import OUTBOX
from cumulet.core.work import Worker
from cumulet.events import store
from cumulet.events.records import Event, Wanted
from cumulet.events.tables import POSITIONS

__all__ = ["KEPT_EVENTS", "KEPT_S", "Audience", "Reader", "Relay"]

log = structlog.get_logger()

#: outboxes are read when nothing was committed for so long, but no later than so long after the first commit: while somebody reads the
#: stream, and while nobody does
QUIET_S, LATEST_S = 0.005, 0.05
IDLE_QUIET_S, IDLE_LATEST_S = 0.1, 2.0
#: after a failure of a database
RETRY_S = 1.0
#: events read at once from an outbox, or for a reader that catches up
PAGE = 500
#: what is kept for readers that come back: so many events, and none older
KEPT_EVENTS, KEPT_S = 200_000, 24 * 3600.0
#: tidying begins after so many events or seconds, and is done in slices, between which others write
TIDY_EVENTS, TIDY_S, TIDY_SLICE = 1000, 60.0, 250


class Reader(Protocol):
    """Somebody who reads the stream, as far as the relay goes.  Only the relay's worker touches `position` and `live`."""

    wanted: Wanted
    #: the number up to which everything was handed to it; None: it wants what comes from now on
    position: int | None
    live: bool

    def catch_up(self, frames: list[bytes], upto: int, *, more: bool) -> None:
        """Events of the past; more: it asks again when these are sent."""

    def lost(self) -> None:
        """What it has not seen yet is no longer kept."""


class Audience(Protocol):
    """Whoever hands new events to live readers."""

    def deliver(self, parcels: list[tuple[Any, bytes]], upto: int) -> None:
        """Per reader its messages; `upto` is the last number given.  Any thread."""


class _Source:
    """A service's outbox."""

    def __init__(self, name: str, rank: int, db: Database, position: int) -> None:
        self.name = name
        self.rank = rank
        self.db = db
        self.position = position
        #: set after a commit, cleared before reading: nothing is missed in between
        self.dirty = True
        self._table = db.metadata.tables[OUTBOX]
        self._next = (
            select(self._table)
            .where(self._table.c.n > bindparam("after"))
            .order_by(self._table.c.n)
            .limit(bindparam("page"))
        )
        self._slice_end = select(func.min(self._table.c.n))
        with db.write() as tx:
            newest = tx.value(select(func.max(self._table.c.n))) or 0
            if newest < position:
                # a loss of power took the service's last commits back, but not the stream's: their numbers are not used again
                empty = {"kind": "", "object_id": "", "word": "", "data": "{}", "at": ""}
                tx.insert(self._table, {"n": position, **empty})

    def unread(self) -> list[dict[str, Any]]:
        with self.db.read() as tx:
            return tx.all(self._next, after=self.position, page=PAGE)

    def trim(self) -> bool:
        """Forget a slice of what has been read, but for the last row, by which the next is numbered.  True when there is more."""
        with self.db.read() as tx:
            first = tx.value(self._slice_end)
        if first is None or first >= self.position:
            return False
        upto = min(first + TIDY_SLICE, self.position)
        with self.db.write() as tx:
            tx.run(self._table.delete().where(self._table.c.n < upto))
        more: bool = upto < self.position
        return more


class Relay:
    """Numbers what the services' outboxes hold."""

    def __init__(self, db: Database, *, worker: Worker, clock: Clock) -> None:
        """db: the stream's own."""
        self._db = db
        self._worker = worker
        self._clock = clock
        self._sources: dict[str, _Source] = {}
        #: a round is on its way; when it must be at the latest; whether there were commits since it was last looked
        self._due = False
        self._latest = 0.0
        self._stirred = False
        self._started = False
        self._since_tidied = 0
        self._tidy_due = False
        self._live: dict[str | None, set[Reader]] = {}
        self.audience: Audience | None = None
        with db.read() as tx:
            self._positions = store.positions(tx)
            oldest = store.oldest(tx)
        #: the last number given, and the lowest that is kept (one more than the last when there is none)
        self.last = self._positions.get(store.LAST, 0)
        self.oldest = self.last + 1 if oldest is None else oldest

    def add(self, db: Database) -> None:
        """Read a service's outbox from now on.  Before the service's first write."""
        with self._db.write() as tx:
            for name in {db.name, store.LAST} - self._positions.keys():
                tx.insert(POSITIONS, {"source": name, "number": 0})
                self._positions[name] = 0
        source = _Source(db.name, len(self._sources), db, self._positions[db.name])
        self._sources[db.name] = source
        db.committed = partial(self._committed, source)

    def start(self) -> None:
        """Read what an earlier process left, and what was written since."""
        self._started = True
        self._worker.post(self._round)

    # --- from commit to number -----------------------------------------------------------------------------------------------------

    def _committed(self, source: _Source) -> None:
        """In the thread that has committed: nothing but a hint."""
        source.dirty = self._stirred = True
        if not self._due and self._started:
            self._due = True
            self._latest = self._clock.monotonic() + (LATEST_S if self._live else IDLE_LATEST_S)
            self._look_later()

    def _look_later(self) -> None:
        self._stirred = False
        self._worker.after(QUIET_S if self._live else IDLE_QUIET_S, self._look)

    def _look(self) -> None:
        """Read now, or when it is quiet."""
        if self._stirred and self._clock.monotonic() < self._latest:
            self._look_later()
        else:
            self._round()

    def _round(self) -> None:
        self._due = False
        dirty = [source for source in self._sources.values() if source.dirty]
        for source in dirty:
            source.dirty = False
        try:
            full = self._relay(dirty)
        except Exception:  # whatever a database does, the stream goes on when it is back
            log.exception("events are delayed", sources=[source.name for source in dirty])
            for source in dirty:
                source.dirty = True
            self._due = True
            self._worker.after(RETRY_S, self._round)
            return
        if full:
            self._due = True
            self._worker.post(self._round)

    def _relay(self, dirty: list[_Source]) -> bool:
        """Number what is there.  True when there is more."""
        found = {source: source.unread() for source in dirty}
        found = {source: rows for source, rows in found.items() if rows}
        if not found:
            return False
        now = self._clock.now()
        events = [
            Event(number, source.name, row.pop("n"), row.pop("at") or now, **row)
            for number, (source, row) in enumerate(_merged(found), start=self.last + 1)
        ]
        ends = {source: max(event.source_number for event in events if event.source == source.name) for source in found}
        with self._db.write() as tx:
            tx.durable = True
            moved = [store.move(tx, store.LAST, self.last, events[-1].number)]
            moved += [store.move(tx, source.name, source.position, end) for source, end in ends.items()]
            if not all(moved):
                msg = "another process numbers the events of the same databases"
                raise RuntimeError(msg)
            store.add(tx, events)
        for source, end in ends.items():
            source.position = end
        self.last = events[-1].number
        self._hand_on(events)
        self._tidy_later(len(events))
        more = [source for source, rows in found.items() if len(rows) == PAGE]
        for source in more:
            source.dirty = True
        return bool(more)

    def _hand_on(self, events: list[Event]) -> None:
        parcels: dict[Reader, list[bytes]] = {}
        if self._live:
            for event in events:
                frame: bytes | None = None
                for reader in self._readers_of(event):
                    if reader.wanted.takes(event):
                        frame = frame or event.frame()
                        parcels.setdefault(reader, []).append(frame)
        if self.audience is not None:
            self.audience.deliver([(reader, b"".join(frames)) for reader, frames in parcels.items()], self.last)

    def _readers_of(self, event: Event) -> set[Reader]:
        if event.viewers == "*":
            return set[Reader]().union(*self._live.values())
        keys = {None, event.project_id or None, *(event.viewers or "").split()}
        return set[Reader]().union(*(self._live.get(key, ()) for key in keys))

    # --- readers -------------------------------------------------------------------------------------------------------------------

    def join(self, reader: Reader) -> None:
        """Hand a reader what it has not seen, and from then on what comes.  Any thread."""
        self._worker.post(lambda: self._join(reader))

    def leave(self, reader: Reader) -> None:
        """Any thread."""
        self._worker.post(lambda: self._leave(reader))

    def _join(self, reader: Reader) -> None:
        if reader.position is None:
            self._round()
            reader.position = self.last
        if reader.position < self.oldest - 1:
            reader.lost()
            return
        with self._db.read() as tx:
            events = store.page(tx, reader.wanted, reader.position, PAGE)
        more = len(events) == PAGE
        # nothing is numbered meanwhile: that is this worker's work too
        reader.position = events[-1].number if more else self.last
        if not more:
            reader.live = True
            self._live.setdefault(reader.wanted.project_id, set()).add(reader)
        reader.catch_up([event.frame() for event in events], reader.position, more=more)
        self._latest = min(self._latest, self._clock.monotonic() + LATEST_S)
        if self._due:
            self._worker.after(QUIET_S, self._look)  # what was put off while nobody read

    def _leave(self, reader: Reader) -> None:
        readers = self._live.get(reader.wanted.project_id, set())
        readers.discard(reader)
        if not readers:
            self._live.pop(reader.wanted.project_id, None)

    # --- what is no longer needed --------------------------------------------------------------------------------------------------

    def _tidy_later(self, count: int) -> None:
        self._since_tidied += count
        if self._since_tidied >= TIDY_EVENTS:
            self._since_tidied = 0
            self._worker.post(self.tidy)
        elif not self._tidy_due:
            self._tidy_due = True
            self._worker.after(TIDY_S, self.tidy)

    def tidy(self) -> None:
        """Forget a slice of what has been read from the outboxes, and of what the stream has kept long enough."""
        self._tidy_due = False
        more = [source.trim() for source in self._sources.values()]
        with self._db.read() as tx:
            old = store.number_at(tx, add_seconds(self._clock.now(), -KEPT_S))
        keep_from = max(old + 1, self.last - KEPT_EVENTS + 1)
        if self.oldest < keep_from:
            before = min(keep_from, self.oldest + TIDY_SLICE)
            with self._db.write() as tx:
                store.trim(tx, before)
            self.oldest = before
            more.append(before < keep_from)
        if any(more):
            self._worker.post(self.tidy)


def _merged(found: Mapping[_Source, list[dict[str, Any]]]) -> Iterator[tuple[_Source, dict[str, Any]]]:
    """The rows of several outboxes in one order: each one's own, and between them that of time."""

    def timed(source: _Source, rows: list[dict[str, Any]]) -> Iterator[tuple[str, int, int, _Source, dict[str, Any]]]:
        latest = ""
        for row in rows:
            latest = max(latest, row["at"])  # a clock that was set back reorders nothing within a service
            yield latest, source.rank, row["n"], source, row

    for _, _, _, source, row in heapq.merge(*(timed(source, rows) for source, rows in found.items()), key=_order):
        yield source, row


def _order(entry: tuple[str, int, int, _Source, dict[str, Any]]) -> tuple[str, int, int]:
    return entry[:3]
