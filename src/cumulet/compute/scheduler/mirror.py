"""The scheduler's own copy of the hosts, kept up to date by what changed and never read as a whole but once.

Three things change, each followed in its own way:
- what compute knows of a host (disabled, forced down, its zone): read before every decision, by the log of changes; one look at an index;
- what placement has of it: by the door, again by a log. This may be MAY_BE_OLD_S old: what was taken meanwhile is found out by the claim,
  which placement gates, and what was given back is seen a moment later. A claim of our own answers with its number, and is not read again;
- when it was heard of: a host counts as down when it has been silent for three reports. So it does no harm to look for reports
  every HEARD_EVERY_S only.
Before "no valid host" all of it is read to the moment.
"""

import math
import threading
from collections.abc import Mapping

from cumulet.compute.scheduler.columns import Columns, HostFacts
from cumulet.compute.scheduler.kept import Shapes
from cumulet.compute.store import hosts
from cumulet.core.clock import Clock, add_seconds, parse
from cumulet.core.db import Database, Tx
from cumulet.core.web.client import Credentials
from cumulet.placement.door import PlacementDoor

__all__ = ["Mirror"]

MAY_BE_OLD_S = 0.005
HEARD_EVERY_S = 10.0
#: reports are stamped before they are written: so much earlier ones may have been written after the last look
LATE_S = 5.0


class Mirror:
    """See the module's docstring.  Whoever uses the columns holds `lock`."""

    def __init__(self, db: Database, placement: PlacementDoor, clock: Clock) -> None:
        self.lock = threading.RLock()
        self._db = db
        self._placement = placement
        self._clock = clock
        self._columns = Columns()
        #: what decisions on these columns have calculated
        self.shapes = Shapes()
        #: the numbers of the changes that are in it
        self._hosts: int | None = None
        self._providers: int | None = None
        self._looked_at = -math.inf
        self._heard_at: str | None = None
        self._hear_at = -math.inf

    def columns(self, credentials: Credentials, *, to_the_moment: bool = False) -> Columns:
        """The hosts as they are."""
        now = self._clock.monotonic()
        self._columns.now_s = self._clock.epoch()
        with self._db.read() as tx:
            self._look_at_hosts(tx)
            if to_the_moment or now >= self._hear_at:
                self._look_for_reports(tx)
                self._hear_at = now + HEARD_EVERY_S
        if to_the_moment or now - self._looked_at >= MAY_BE_OLD_S:
            self._look_at_providers(credentials)
            self._looked_at = now
        return self._columns

    def took(self, host: str, resources: Mapping[str, int], *, number: int) -> None:
        """A claim was granted, and was that change; if it was the next one, there is nothing to be read of it."""
        seen = self._providers or 0
        if number > seen:
            self._columns.take(self._columns.places[host], resources)
        if number == seen + 1:
            self._providers = number

    def _look_at_hosts(self, tx: Tx) -> None:
        names = None
        if self._hosts is not None:
            changes = hosts.changes(tx, self._hosts)
            self._hosts, names = changes.number, changes.keys
            if names == ():
                return
        if names is None:
            self._hosts = hosts.newest_change(tx)
        for row in hosts.rows(tx, names):
            self._columns.put_host(
                HostFacts(
                    host=row.host,
                    provider_id=row.hypervisor_id,
                    zone=row.zone,
                    hypervisor_type=row.hypervisor_type,
                    disabled=row.disabled,
                    forced_down=row.forced_down,
                    seen_s=_seconds(row.seen_at),
                    largest={"VCPU": row.vcpus, "MEMORY_MB": row.memory_mb, "DISK_GB": row.local_gb},
                )
            )

    def _look_for_reports(self, tx: Tx) -> None:
        now = self._clock.now()
        if self._heard_at is not None:
            for host, seen_at in hosts.heard_since(tx, add_seconds(self._heard_at, -LATE_S)):
                self._columns.heard_of(host, _seconds(seen_at))
        self._heard_at = now

    def _look_at_providers(self, credentials: Credentials) -> None:
        states = None
        if self._providers is not None:
            states = self._placement.changed_providers(credentials, self._providers)
        if states is None or states.lost:
            states = self._placement.all_providers(credentials)
            for gone in set(self._columns.provider_ids) - {state.uuid for state in states.providers}:
                self._columns.put_room(gone, {}, ())
        self._providers = states.number
        for state in states.providers:
            self._columns.put_room(state.uuid, state.resources, state.traits)


def _seconds(stamp: str) -> float:
    """A stored time as seconds since 1970."""
    return parse(stamp + "+00:00").timestamp()
