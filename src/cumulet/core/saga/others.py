"""The other sagas of a saga's subject: what ends it waits until they have ended."""

from collections.abc import Generator

from cumulet.core.db import Database
from cumulet.core.saga.flow import Run
from cumulet.core.saga.journal import Journal
from cumulet.core.work import Until

__all__ = ["OtherSagas"]


class OtherSagas:
    """A look at them, for steps that run at the coordinator."""

    def __init__(self, db: Database, journal: Journal) -> None:
        self._db = db
        self._journal = journal

    def settle(self, run: Run, *, timeout_s: float) -> Generator[Until, None, None]:
        """Wait until each has ended.  Raises TimedOutError when one takes longer than this."""
        with self._db.read() as tx:
            others = [saga.id for saga in self._journal.live_of(tx, run.subject_id) if saga.id != run.saga_id]
        for saga_id in others:
            while self._is_live(saga_id):
                yield Until(("saga", saga_id), timeout_s)

    def _is_live(self, saga_id: str) -> bool:
        with self._db.read() as tx:
            saga = self._journal.get(tx, saga_id)
        return saga is not None and saga.live
