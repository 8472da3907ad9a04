"""The reconciler: what stays too long in a state that should pass is resumed or unwound, never by hand.

Every such state is a row of one table (`run/deadlines.py`): what it is, how long it may last, who owns it, and what is done past that.
A keeper knows the things of one service: it finds what is overdue by an indexed query, and cures it by the service's own code.
The reconciler looks on the timers of the worker that owns the service's queue and posts each cure as a piece of work of its own,
so that requests come first.
"""

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, Protocol

import msgspec
import structlog

from cumulet.core.clock import Clock, add_seconds
from cumulet.core.work import Worker

__all__ = ["Keeper", "Overdue", "Reconciler", "Row", "cutoff", "row_of"]

log = structlog.get_logger()

LOOK_S = 15.0
#: cures begun by one look; the rest waits for the next
CURES_MAX = 50


class Row(msgspec.Struct, frozen=True):
    """One state that should pass.  owner: who makes it pass; past: what is done when it has not, by the keeper's method `cure`."""

    kind: str
    state: str
    deadline_s: float
    owner: str
    past: str
    cure: str


class Overdue(msgspec.Struct, frozen=True):
    """A thing that has been in a row's state for too long."""

    row: Row
    id: str


class Keeper(Protocol):
    """Knows the things of some kinds.

    Each row's `cure` is a method here: (id) → whether it did something, or a generator that ends in that.  It checks by compare-and-set
    that the thing is still as it was found.
    """

    @property
    def kinds(self) -> frozenset[str]: ...

    def overdue(self, rows: Sequence[Row], now: str, limit: int) -> list[Overdue]:
        """What has been in the state of one of these rows for longer than its deadline, without an owner at work on it."""


class Reconciler:
    """Looks, and lets cure.  keepers: each with the worker that owns its service's queue."""

    def __init__(
        self, rows: Iterable[Row], keepers: Iterable[tuple[Keeper, Worker]], *, clock: Clock, every_s: float = LOOK_S
    ) -> None:
        table = tuple(rows)
        self._parts = [
            (keeper, worker, tuple(row for row in table if row.kind in keeper.kinds)) for keeper, worker in keepers
        ]
        self._clock = clock
        self._every_s = every_s
        #: (kind, state) → how many were cured since the start
        self.cured: dict[tuple[str, str], int] = {}

    def start(self) -> None:
        for keeper, worker, rows in self._parts:
            self._later(keeper, worker, rows)

    def _later(self, keeper: Keeper, worker: Worker, rows: Sequence[Row]) -> None:
        worker.after(self._every_s, lambda: self._look_and_go_on(keeper, worker, rows))

    def _look_and_go_on(self, keeper: Keeper, worker: Worker, rows: Sequence[Row]) -> None:
        try:
            self.look(keeper, worker, rows)
        finally:
            self._later(keeper, worker, rows)

    def look(self, keeper: Keeper, worker: Worker, rows: Sequence[Row]) -> None:
        """Find what is overdue, and post a cure for each.  On the worker."""
        for found in keeper.overdue(rows, self._clock.now(), CURES_MAX):
            worker.post(lambda found=found: self._cure(keeper, worker, found))  # type: ignore[misc]  # the default binds it

    def look_everywhere(self) -> None:
        """A look at everything, soon, on each keeper's own worker."""
        for keeper, worker, rows in self._parts:
            worker.post(lambda keeper=keeper, worker=worker, rows=rows: self.look(keeper, worker, rows))  # type: ignore[misc]

    def _cure(self, keeper: Keeper, worker: Worker, found: Overdue) -> None:
        row = found.row
        cure: Callable[[str], Any] = getattr(keeper, row.cure)

        def ended(did: Any, error: BaseException | None) -> None:
            if error is not None:  # the next look finds it again
                log.error("overdue and not cured", kind=row.kind, state=row.state, id=found.id, exc_info=error)
            elif did:
                self.cured[row.kind, row.state] = self.cured.get((row.kind, row.state), 0) + 1
                log.warning("overdue", kind=row.kind, state=row.state, id=found.id, owner=row.owner, done=row.past)

        try:
            result = cure(found.id)
        except Exception as error:  # noqa: BLE001 - one thing that cannot be cured must not keep the others from it
            ended(None, error)
            return
        if isinstance(result, Generator):
            worker.go_on(result, ended)
        else:
            ended(result, None)


def cutoff(rows: Sequence[Row], now: str) -> str:
    """The moment before which a thing must have come into its state to be overdue by any of these rows."""
    return add_seconds(now, -min(row.deadline_s for row in rows))


def row_of(rows: Sequence[Row], kind: str, state: str, since: str, now: str) -> Row | None:
    """The row by which a thing that has been in a state since then is overdue, or None."""
    for row in rows:
        if row.kind == kind and row.state == state:
            return row if since < add_seconds(now, -row.deadline_s) else None
    return None
