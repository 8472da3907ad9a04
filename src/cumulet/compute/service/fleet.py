"""The hosts as the operator sees them: services, hypervisors, zones, aggregates."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from cumulet.compute.scheduler.snapshot import DOWN_AFTER_S
from cumulet.compute.store import aggregates, hosts, servers
from cumulet.compute.store.aggregates import Aggregate
from cumulet.compute.store.hosts import Host, HostRow
from cumulet.core.clock import Clock, seconds_between
from cumulet.core.db import Database, Tx
from cumulet.core.errors import BadRequest, Conflict, NotFound
from cumulet.core.ids import Ids

__all__ = ["Fleet", "Service"]

#: the name space of the ids of services that have no row of their own
NAMESPACE = uuid.UUID("6a3c6f0e-5d1f-4f0b-9a3e-2f1d0c9b8a77")


#: of so many hosts at most a query is told the names
NAMES_MAX = 1000


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """A running part of compute.  number: its id before 2.53."""

    number: int
    id: str
    binary: str
    host: str
    zone: str
    disabled: bool
    disabled_reason: str | None
    forced_down: bool
    up: bool
    updated_at: str


class Fleet:
    """See the module's docstring.  controller: the name of the host that the API and its neighbours run on."""

    def __init__(self, db: Database, *, zone: str, controller: str, clock: Clock, ids: Ids) -> None:
        self._db = db
        self._zone = zone
        self._controller = controller
        self._clock = clock
        self._ids = ids

    def is_up(self, host: Host | HostRow) -> bool:
        return not host.forced_down and seconds_between(host.seen_at, self._clock.now()) < DOWN_AFTER_S

    def host_statuses(self, names: Iterable[str | None]) -> dict[str, str]:
        """How the compute services of these hosts are, in the words of a server's `host_status`."""
        with self._db.read() as tx:
            found = hosts.rows(tx, sorted({name for name in names if name is not None}))
        return {host.host: self._status(host) for host in found}

    def _status(self, host: HostRow) -> str:
        if host.forced_down:
            return "DOWN"
        if host.disabled:
            return "MAINTENANCE"
        return "UP" if self.is_up(host) else "UNKNOWN"

    def hosts(self) -> list[Host]:
        """In order of their coming: a host's place in it is its id before 2.53."""
        with self._db.read() as tx:
            return hosts.all_hosts(tx)

    def listed(self) -> list[HostRow]:
        """All of them, without what only a host's details show; in the same order."""
        with self._db.read() as tx:
            return hosts.rows(tx)

    def some(self, names: Sequence[str]) -> dict[str, Host]:
        with self._db.read() as tx:
            pieces = [names[first : first + NAMES_MAX] for first in range(0, len(names), NAMES_MAX)]
            return {host.host: host for piece in pieces for host in hosts.some(tx, piece)}

    def usage(self, names: Sequence[str] | None = None) -> dict[str, servers.HostUse]:
        """Of these hosts, or of all."""
        with self._db.read() as tx:
            return servers.by_host(tx, names if names is None or len(names) <= NAMES_MAX else None)

    def services(self) -> list[Service]:
        """Conductor and scheduler live where this answers, so they are up; a compute service is up while its host reports."""
        own = [
            Service(
                number=number,
                id=str(uuid.uuid5(NAMESPACE, f"{binary}@{self._controller}")),
                binary=binary,
                host=self._controller,
                zone="internal",
                disabled=False,
                disabled_reason=None,
                forced_down=False,
                up=True,
                updated_at=self._clock.now(),
            )
            for number, binary in enumerate(("nova-conductor", "nova-scheduler"), 1)
        ]
        return own + [
            Service(
                number=number,
                id=host.service_id,
                binary="nova-compute",
                host=host.host,
                zone=host.zone,
                disabled=host.disabled,
                disabled_reason=host.disabled_reason,
                forced_down=host.forced_down,
                up=self.is_up(host),
                updated_at=host.seen_at,
            )
            for number, host in enumerate(self.listed(), 3)
        ]

    def set_service(self, host: str, **values: Any) -> None:
        """Enable, disable, force down a compute service."""
        with self._db.write() as tx:
            if not hosts.set_fields(tx, host, updated_at=self._clock.now(), **values):
                raise NotFound(f"Could not find binary nova-compute on host {host}.")

    # --- aggregates ----------------------------------------------------------------------------------------------------------------

    def aggregates(self) -> list[Aggregate]:
        with self._db.read() as tx:
            return aggregates.all_live(tx)

    def aggregate(self, id: str) -> Aggregate:
        with self._db.read() as tx:
            return self._aggregate(tx, id)

    @staticmethod
    def _aggregate(tx: Tx, id: str) -> Aggregate:
        found = aggregates.get(tx, int(id)) if id.isdigit() and len(id) < 10 else None
        if found is None:
            raise NotFound(f"Aggregate {id} could not be found.")
        return found

    def create_aggregate(self, name: str, zone: str | None) -> Aggregate:
        now = self._clock.now()
        with self._db.write() as tx:
            self._name_is_free(tx, name)
            aggregate = Aggregate(
                id=aggregates.next_id(tx),
                uuid=self._ids.uuid(),
                name=name,
                hosts=[],
                metadata={"availability_zone": zone} if zone else {},
                created_at=now,
                updated_at=None,
                deleted=False,
            )
            aggregates.add(tx, aggregate)
        return aggregate

    @staticmethod
    def _name_is_free(tx: Tx, name: str) -> None:
        if any(one.name == name for one in aggregates.all_live(tx)):
            raise Conflict(f"Aggregate {name} already exists.")

    def update_aggregate(self, id: str, name: str | None, zone: str | None) -> Aggregate:
        with self._db.write() as tx:
            aggregate = self._aggregate(tx, id)
            if name is not None and name != aggregate.name:
                self._name_is_free(tx, name)
            metadata = {**aggregate.metadata, "availability_zone": zone} if zone else aggregate.metadata
            changed = msgspec.structs.replace(aggregate, name=name or aggregate.name, metadata=metadata)
            return self._write(tx, aggregate, changed)

    def set_metadata(self, id: str, metadata: Mapping[str, str | None]) -> Aggregate:
        """Add, overwrite, and drop what is null."""
        with self._db.write() as tx:
            aggregate = self._aggregate(tx, id)
            merged: dict[str, str | None] = {**aggregate.metadata, **metadata}
            kept = {key: value for key, value in merged.items() if value is not None}
            return self._write(tx, aggregate, msgspec.structs.replace(aggregate, metadata=kept))

    def add_host(self, id: str, host: str) -> Aggregate:
        with self._db.write() as tx:
            aggregate = self._aggregate(tx, id)
            if hosts.get(tx, host) is None:
                raise NotFound(f"Compute host {host} could not be found.")
            if host in aggregate.hosts:
                raise Conflict(f"Aggregate {id} already has host {host}.")
            return self._write(tx, aggregate, msgspec.structs.replace(aggregate, hosts=[*aggregate.hosts, host]))

    def remove_host(self, id: str, host: str) -> Aggregate:
        with self._db.write() as tx:
            aggregate = self._aggregate(tx, id)
            if host not in aggregate.hosts:
                raise NotFound(f"Aggregate {id} has no host {host}.")
            left = [one for one in aggregate.hosts if one != host]
            return self._write(tx, aggregate, msgspec.structs.replace(aggregate, hosts=left))

    def delete_aggregate(self, id: str) -> None:
        with self._db.write() as tx:
            aggregate = self._aggregate(tx, id)
            if aggregate.hosts:
                raise BadRequest("Cannot remove an aggregate that has hosts: Host aggregate is not empty.")
            aggregates.remove(tx, aggregate.id)

    def _write(self, tx: Tx, before: Aggregate, after: Aggregate) -> Aggregate:
        """Write an aggregate, and the zone of every host that it gains, keeps or loses."""
        after = msgspec.structs.replace(after, updated_at=self._clock.now())
        others = [one for one in aggregates.all_live(tx) if one.id != after.id]
        for host in {*before.hosts, *after.hosts}:
            zones = {one.zone for one in [*others, after] if host in one.hosts and one.zone}
            if len(zones) > 1:
                raise Conflict(
                    f"Cannot perform action on aggregate {after.id}: Host {host} would be in more than one availability zone."
                )
            zone = zones.pop() if zones else self._zone
            known = hosts.get(tx, host)
            if known is not None and known.zone != zone:
                if before.zone != after.zone and servers.live_on_host(tx, host):
                    raise BadRequest(
                        f"Cannot update aggregate {after.id}: Host {host} has servers in its availability zone."
                    )
                hosts.set_fields(tx, host, zone=zone)
        aggregates.put(tx, after)
        return after
