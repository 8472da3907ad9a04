"""The leak check: everything that carries this cloud's mark has an owner in the database, or a saga that still works on it.

Looked at from both ends: what the drivers have (domains, taps, files, OVN's rows, volumes on the back end, images' files) and what the
services' books have for servers (ports, allocations, attachments); and the sums that are kept must be what is there.  A thing counts only
when two complete looks, one after the other, found it without an owner, as it may be seen between two steps.  A look reads ids only, in
pages, from a pool's thread.
"""

import threading
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec
import structlog
from sqlalchemy import select

from cumulet.compute.store import usages
from cumulet.compute.tables import SAGAS, SERVERS
from cumulet.core.db import Database
from cumulet.core.errors import CloudError
from cumulet.core.saga.journal import LIVE
from cumulet.network import tables as network
from cumulet.placement import store as placement
from cumulet.placement.tables import ALLOCATIONS, PROVIDERS
from cumulet.volume.tables import ATTACHMENTS, SNAPSHOTS, VOLUMES
from cumulet.volume.tables import SAGAS as VOLUME_SAGAS

if TYPE_CHECKING:
    from cumulet.run.services import Services

__all__ = ["ROOT_DISK", "UPLOAD", "VOLUME", "Leak", "Look", "find_leaks", "live_inputs", "look"]

log = structlog.get_logger()

AGAIN_AFTER_S = 0.5
PAGE = 1000
#: what a copy is of: a server's root disk, a volume's whole disk for an image, or a volume that a guest has (with its id)
ROOT_DISK, UPLOAD, VOLUME = "of a root disk", "for an image", "of volume "


class Leak(msgspec.Struct, frozen=True):
    """A thing without an owner: its kind, its id, what it says of its owner, and the host that has it if only one can."""

    kind: str
    id: str
    detail: str = ""
    host: str = ""


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What one look saw.  missing: what did not answer, so that nothing may be concluded from this look."""

    leaks: frozenset[Leak]
    missing: tuple[str, ...]
    #: guests on the host, by power state
    guests: dict[str, int]

    @property
    def complete(self) -> bool:
        return not self.missing


def find_leaks(services: "Services") -> list[Leak]:
    """What has no owner, seen so twice.  Raises what the first thing that does not answer raises."""
    first = look(services, strict=True).leaks
    if not first:
        return []
    threading.Event().wait(AGAIN_AFTER_S)
    return in_order(first & look(services, strict=True).leaks)


def in_order(leaks: frozenset[Leak]) -> list[Leak]:
    return sorted(leaks, key=lambda leak: (leak.kind, leak.id))


def look(services: "Services", *, strict: bool = False) -> Look:
    """One look.  strict: raise when something does not answer, instead of an incomplete look."""
    live: set[str] = set()
    placed: set[str] = set()
    for row in _rows(services.compute_db, SERVERS, SERVERS.c.id, SERVERS.c.host, where=SERVERS.c.deleted.is_(False)):
        live.add(row["id"])
        if row["host"] is not None:
            placed.add(row["id"])
    sagas = SAGAS.sagas
    with services.compute_db.read() as tx:
        busy = set(tx.values(select(sagas.c.subject_id).where(sagas.c.state.in_(LIVE))))
    placed |= busy  # those that may hold things of a host
    found: list[Leak] = []
    missing: list[str] = []
    guests: dict[str, int] = {}
    parts: dict[str, Callable[[], Iterator[Leak]]] = {
        "hypervisor": lambda: _domains(services, placed, guests),
        "taps": lambda: _taps(services, placed),
        "files": lambda: _files(services, placed),
        "books": lambda: _books(services, live | busy, placed),
        "sums": lambda: _sums(services),
        "ports": lambda: _loose_ports(services, live - busy),
        "attachments": lambda: _loose_attachments(services, live - busy),
        "copies": lambda: _loose_copies(services),
        "network": lambda: _data_plane(services),
        "volumes": lambda: _volumes(services),
        "images": lambda: _images(services),
    }
    for name, part in parts.items():
        try:
            found += part()
        except (CloudError, OSError) as error:
            if strict:
                raise
            log.info("leak check incomplete", part=name, reason=repr(error))
            missing.append(name)
    return Look(leaks=frozenset(found), missing=tuple(missing), guests=guests)


def _rows(db: Database, table: Any, key: Any, *columns: Any, where: Any) -> Iterator[dict[str, Any]]:
    """Rows in pages by their key, each page a short read of its own."""
    last = ""
    while True:
        with db.read() as tx:
            page = tx.all(select(key, *columns).select_from(table).where(where, key > last).order_by(key).limit(PAGE))
        yield from page
        if len(page) < PAGE:
            return
        last = page[-1][key.name]


def _domains(services: "Services", placed: set[str], guests: dict[str, int]) -> Iterator[Leak]:
    for host in services.hosts:
        for state in host.machine.hypervisor.list():
            name = state.power_state.name.lower()
            guests[name] = guests.get(name, 0) + 1
            if state.server_id not in placed:
                yield Leak("domain", state.server_id, state.instance_name, host.machine.host)


def _taps(services: "Services", placed: set[str]) -> Iterator[Leak]:
    for host in services.hosts:
        for tap in host.machine.vif.plugged():
            if tap.server_id not in placed:
                yield Leak("tap", tap.tap, f"port {tap.port_id}", host.machine.host)


def _files(services: "Services", placed: set[str]) -> Iterator[Leak]:
    for host in services.hosts:
        for server_id in host.instances.owned():
            if server_id not in placed:
                yield Leak("files", server_id, host=host.machine.host)


def _books(services: "Services", known: set[str], placed: set[str]) -> Iterator[Leak]:
    port_columns = network.ports.c
    mine = port_columns.device_owner.like("compute:%")
    for port in _rows(services.network.db, network.ports, port_columns.id, port_columns.device_id, where=mine):
        if port["device_id"] not in known:
            yield Leak("port", port["id"], f"server {port['device_id']}")
    with services.placement.db.read() as tx:
        names = {row["id"]: row["name"] for row in tx.all(select(PROVIDERS.c.id, PROVIDERS.c.name))}
        pairs = tx.all(select(ALLOCATIONS.c.consumer_id, ALLOCATIONS.c.provider_id).distinct())
    for pair in pairs:
        if pair["consumer_id"] not in placed:
            yield Leak("allocation", pair["consumer_id"], f"on {names.get(pair['provider_id'], pair['provider_id'])}")
    tied = ATTACHMENTS.c.server_id.is_not(None)
    ties = _rows(services.volume.db, ATTACHMENTS, ATTACHMENTS.c.id, ATTACHMENTS.c.server_id, where=tied)
    for tie in ties:
        if tie["server_id"] not in known:
            yield Leak("attachment", tie["id"], f"server {tie['server_id']}")


def _sums(services: "Services") -> Iterator[Leak]:
    """Numbers that are kept beside what they count, in the same transactions: quotas' and inventories'."""
    with services.compute_db.read() as tx:
        projects = usages.astray(tx)
    with services.placement.db.read() as tx:
        providers = placement.astray(tx)
    yield from (Leak("usage", project_id) for project_id in projects)
    yield from (Leak("inventory", provider_id) for provider_id in providers)


def _loose_ports(services: "Services", resting: set[str]) -> Iterator[Leak]:
    """Ports of a server at rest whose record does not have them: a creation that came after its undo."""
    columns = network.ports.c
    mine = _rows(
        services.network.db, network.ports, columns.id, columns.device_id, where=columns.device_owner.like("compute:%")
    )
    for page in _pages(port for port in mine if port["device_id"] in resting):
        records = _records(services, {port["device_id"] for port in page}, "interfaces", "requested_networks")
        for port in page:
            record = records.get(port["device_id"])
            if record is None:  # deleted meanwhile
                continue
            asked = [*record["interfaces"], *(record["requested_networks"] or [])]
            if all(nic.get("port_id") != port["id"] for nic in asked):
                yield Leak("port", port["id"], f"server {port['device_id']}")


def _loose_attachments(services: "Services", resting: set[str]) -> Iterator[Leak]:
    """Volumes reserved for a server at rest that has no such disk."""
    columns = ATTACHMENTS.c
    ties = _rows(
        services.volume.db,
        ATTACHMENTS,
        columns.id,
        columns.server_id,
        columns.volume_id,
        where=columns.server_id.is_not(None),
    )
    for page in _pages(tie for tie in ties if tie["server_id"] in resting):
        records = _records(services, {tie["server_id"] for tie in page}, "block_devices")
        for tie in page:
            record = records.get(tie["server_id"])
            if record is not None and all(one.get("volume_id") != tie["volume_id"] for one in record["block_devices"]):
                yield Leak("attachment", tie["id"], f"server {tie['server_id']}")


def _pages(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while page := list(islice(rows, PAGE)):
        yield page


def _records(services: "Services", ids: set[str], *names: str) -> dict[str, dict[str, Any]]:
    """These columns of servers that are not deleted, by their ids."""
    columns = [SERVERS.c[name] for name in names]
    with services.compute_db.read() as tx:
        rows = tx.all(select(SERVERS.c.id, *columns).where(SERVERS.c.id.in_(ids), SERVERS.c.deleted.is_(False)))
    return {row["id"]: row for row in rows}


def _loose_copies(services: "Services") -> Iterator[Leak]:
    """Disks on their way to an image, or copied beside a guest, for a saga that is over."""
    there = [
        Leak("copy", image_id, ROOT_DISK, host.machine.host)
        for host in services.hosts
        for image_id in host.instances.copies()
    ]
    there += [Leak("copy", image_id, UPLOAD) for image_id in services.volume_parts.tools.uploads()]
    there += [
        Leak("copy", item.owner_id or item.name, f"{VOLUME}{item.copy_of}")
        for item in services.machine.volumes.list()
        if item.kind == "copy"
    ]
    if not there:
        return
    wanted: set[str] = set()
    for given in live_inputs(services):
        named = (given.get("image_id"), given.get("copy_id"), (given.get("guest") or {}).get("copy_id"))
        wanted.update(one for one in named if one)
    yield from (leak for leak in there if leak.id not in wanted)


def live_inputs(services: "Services") -> Iterator[dict[str, Any]]:
    """What the sagas began with that still work."""
    for db, sagas in ((services.compute_db, SAGAS.sagas), (services.volume.db, VOLUME_SAGAS.sagas)):
        with db.read() as tx:
            yield from tx.values(select(sagas.c.input).where(sagas.c.state.in_(LIVE)))


def _data_plane(services: "Services") -> Iterator[Leak]:
    """OVN's rows against the network service's books."""
    for owned in services.network.unowned():
        yield Leak(f"ovn {owned.kind}", owned.id, owned.owner)


def _volumes(services: "Services") -> Iterator[Leak]:
    """What the back end holds against the volume service's books."""
    there = services.machine.volumes.list()
    with services.volume.db.read() as tx:
        known = set(tx.values(select(VOLUMES.c.id))) | set(tx.values(select(SNAPSHOTS.c.id)))
        sagas = VOLUME_SAGAS.sagas
        live = tx.all(select(sagas.c.subject_id, sagas.c.input).where(sagas.c.state.in_(LIVE)))
    working = {row["subject_id"] for row in live} | {row["input"].get("snapshot_id") for row in live}
    for item in there:
        if item.kind == "copy" or (item.owner_id is not None and item.owner_id in working):
            continue  # copies have owners of their own
        if item.kind == "unfinished" or item.owner_id not in known:
            yield Leak(f"volume {item.kind}", item.owner_id or item.name, item.name)


def _images(services: "Services") -> Iterator[Leak]:
    """Files of images that have no data by the image service's books."""
    for image_id in services.image.unowned_files():
        yield Leak("image file", image_id)
