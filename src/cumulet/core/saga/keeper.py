"""The keeper of sagas: one that nothing moves any more is gone on with.

A saga moves by messages and timers, which are hints held in memory.  Should every hint of one be lost, its row still says what is due:
here it is found and looked at again.  A step at the coordinator has no deadline of its own in the log, so it is held to its table's.

An order to a host is such a message too.  The step's own deadline is made for the work, which may be long; that the order has come is
to be heard at once.  So one whose host is not heard of is sent again long before.
"""

from collections.abc import Sequence

from cumulet.core.db import Database
from cumulet.core.reconcile import Overdue, Row, cutoff, row_of
from cumulet.core.saga.coordinator import Coordinator

__all__ = ["SagaKeeper"]


class SagaKeeper:
    """A `Keeper` of one coordinator's sagas and orders; `kind` and `orders` are what they are called in the table."""

    def __init__(self, db: Database, coordinator: Coordinator, *, kind: str, orders: str) -> None:
        self._db = db
        self._coordinator = coordinator
        self.kinds = frozenset({kind, orders})
        self._kind = kind
        self._orders = orders
        #: when a saga was last looked at: one that stays overdue is looked at again after its row's deadline
        self._looked: dict[str, str] = {}

    def overdue(self, rows: Sequence[Row], now: str, limit: int) -> list[Overdue]:
        unheard = next(row for row in rows if row.kind == self._orders)
        late = [Overdue(unheard, saga_id) for saga_id in self._coordinator.orders.unheard(unheard.deadline_s)[:limit]]
        return late + self._idle([row for row in rows if row.kind == self._kind], now, limit)

    def _idle(self, rows: Sequence[Row], now: str, limit: int) -> list[Overdue]:
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

    def send_again(self, saga_id: str) -> bool:
        """An order that its host was not heard of; when it was sent for long enough its step is given up, where there is a way back.

        A host that comes to it later is refused: what was given up is of another generation.
        """
        coordinator, orders = self._coordinator, self._coordinator.orders
        with self._db.read() as tx:
            saga = coordinator.journal.get(tx, saga_id)
            steps = coordinator.journal.steps(tx, saga_id) if saga else []
        if saga is None or saga.host is None or not saga.live or not orders.stands(saga_id, saga.generation):
            orders.drop(saga_id)
            return False
        flow, done = coordinator.flows[saga.flow], {step.name for step in steps if step.state in {"done", "skipped"}}
        due = next((step for step in flow.steps if step.name not in done), None)
        if saga.state == "running" and due is not None and not flow.keeps_on(due.name) and orders.old(saga_id):
            orders.drop(saga_id)
            words = f"The host did not take up the step '{due.what}' in time."
            coordinator.give_up(saga, due, words, f"{saga.host} was not heard of")
        else:
            coordinator.send_order(saga, saga.host)
        return True

    def go_on(self, saga_id: str) -> bool:
        """Do what is due."""
        return self._coordinator.look_again(saga_id)
