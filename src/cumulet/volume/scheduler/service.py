"""Choose a back end: read the pools, filter, take the one with the most room."""

from cumulet.core.clock import Clock, seconds_between
from cumulet.core.db import Database
from cumulet.volume.config import VolumeConfig
from cumulet.volume.errors import NoValidBackend
from cumulet.volume.messages import Refusal, Selected, SelectRequest
from cumulet.volume.scheduler.filters import FILTERS, Candidate
from cumulet.volume.store import pools, volumes

__all__ = ["DOWN_AFTER_S", "SchedulerService"]

#: a host that has not reported for so long is down
DOWN_AFTER_S = 60.0


class SchedulerService:
    """Implements VolumeScheduler."""

    def __init__(self, db: Database, *, clock: Clock, config: VolumeConfig) -> None:
        self._db = db
        self._clock = clock
        self._config = config

    def select(self, request: SelectRequest) -> Selected:
        candidates = self._candidates(request)
        refused: list[Refusal] = []
        fit: list[Candidate] = []
        for candidate in candidates:
            for judge in FILTERS:
                reason = judge(candidate, request)
                if reason is not None:
                    refused.append(Refusal(pool=candidate.pool.name, by=judge.__name__, reason=reason))
                    break
            else:
                fit.append(candidate)
        if not fit:
            by = sorted({refusal.by for refusal in refused})
            why = f"Refused by: {', '.join(by)}." if by else "There are no volume back ends in service."
            raise NoValidBackend(why=why, detail="; ".join(f"{r.pool}: {r.by}: {r.reason}" for r in refused))
        best = max(fit, key=lambda c: (c.pool.total_gib - c.promised_gib, c.pool.name))
        return Selected(host=best.pool.name, zone=best.pool.zone, considered=len(candidates), refused=tuple(refused))

    def _candidates(self, request: SelectRequest) -> list[Candidate]:
        now = self._clock.now()
        with self._db.read() as tx:
            known = pools.all_pools(tx)
            promised = volumes.promised(tx)
            place, size = volumes.place(tx, request.volume_id)
        if place in promised:
            promised[place] -= size  # chosen before: the volume does not stand in its own way
        return [
            Candidate(
                pool=pool,
                up=seconds_between(pool.seen_at, now) < DOWN_AFTER_S,
                promised_gib=promised.get(pool.name, 0),
                oversubscription=self._config.oversubscription,
                reserved_percentage=self._config.reserved_percentage,
            )
            for pool in known
        ]
