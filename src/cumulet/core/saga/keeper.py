"""The keeper of sagas: one that nothing moves any more is gone on with.

A saga moves by messages and timers, which are hints held in memory.  Should every hint of one be lost, its row still says what is due:
here it is found and looked at again.  A step at the coordinator has no deadline of its own in the log, so it is held to its table's.
"""

from collections.abc import Sequence

from cumulet.core.db import Database
from cumulet.core.reconcile import Overdue, Row, cutoff, row_of
from cumulet.core.saga.coordinator import Coordinator

__all__ = ["SagaKeeper"]


class SagaKeeper:
    """A `Keeper` of one coordinator's sagas; `kind` is what they are called in the table."""

    def __init__(self, db: Database, coordinator: Coordinator, *, kind: str) -> None:
        self._db = db
        self._coordinator = coordinator
        self.kinds = frozenset({kind})
        self._kind = kind
        #: when a saga was last looked at: one that stays overdue is looked at again after its row's deadline
        self._looked: dict[str, str] = {}

    def overdue(self, rows: Sequence[Row], now: str, limit: int) -> list[Overdue]:
        with self._db.read() as tx:
            due = self._coordinator.journal.idle(tx, cutoff(rows, now), limit)
        self._looked = {saga_id: self._looked.get(saga_id, "") for saga_id, _, _ in due}
        found: list[Overdue] = []
        for saga_id, state, since in due:
            row = row_of(rows, self._kind, state, max(since, self._looked[saga_id]), now)
            if row is not None:
                self._looked[saga_id] = now
                found.append(Overdue(row, saga_id))
        return found

    def go_on(self, saga_id: str) -> bool:
        """Do what is due."""
        return self._coordinator.look_again(saga_id)
