"""The volume conductor: coordinates the volumes' sagas and answers volume hosts from the database."""

import msgspec

from cumulet.core.clock import Clock
from cumulet.core.db import Database, Tx
from cumulet.core.ids import Ids
from cumulet.core.saga import Coordinator, Fetch, Record, Saga, WorkSheet
from cumulet.volume.flows import CREATE, DELETE
from cumulet.volume.messages import PoolReport
from cumulet.volume.records import Pool, Volume
from cumulet.volume.store import pools, volumes

__all__ = ["VolumeConductor", "describe"]

#: flows whose steps are told all they need by their input
_TOLD = frozenset({CREATE.name, DELETE.name})


def describe(tx: Tx, saga: Saga) -> Volume | None:
    """A volume's record for a host's work sheet, where a step looks at it."""
    return None if saga.flow in _TOLD else volumes.get(tx, saga.subject_id)


class VolumeConductor:
    """Implements VolumeJournal."""

    def __init__(self, db: Database, coordinator: Coordinator, *, clock: Clock, ids: Ids) -> None:
        self._db = db
        self._coordinator = coordinator
        self._clock = clock
        self._ids = ids

    def fetch(self, request: Fetch) -> WorkSheet | None:
        return self._coordinator.fetch(request)

    def record(self, record: Record) -> bool:
        return self._coordinator.record(record)

    def host_started(self, host: str) -> None:
        self._coordinator.host_started(host)

    def report_pool(self, report: PoolReport) -> None:
        now = self._clock.now()
        facts = msgspec.structs.asdict(report)
        with self._db.write() as tx:
            known = {key: value for key, value in facts.items() if key != "host"}
            if not pools.set_fields(tx, report.host, **known, seen_at=now):
                pools.put(
                    tx,
                    Pool(
                        **facts, id=self._ids.uuid(), disabled=False, disabled_reason=None, seen_at=now, created_at=now
                    ),
                )
