"""The leak check: everything that carries this cloud's mark has an owner in the database, or a saga that still works on it.

Looked at from both ends: what the drivers have (domains, taps, files, OVN's rows, volumes on the back end) and what the services'
books have for servers (ports, allocations, attachments).  A thing counts only when it was without an owner twice, as it may be seen
between two steps.
"""

import threading
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import select

from cumulet.compute.tables import SAGAS, SERVERS
from cumulet.core.web.client import Client, Credentials, LocalTransport
from cumulet.volume.tables import ATTACHMENTS, SNAPSHOTS, VOLUMES
from cumulet.volume.tables import SAGAS as VOLUME_SAGAS

if TYPE_CHECKING:
    from cumulet.run.services import Services

__all__ = ["Leak", "find_leaks", "look"]

AGAIN_AFTER_S = 0.5
#: attachments have an API of their own from 3.27 on
VOLUME_VERSION = {"openstack-api-version": "volume 3.27"}


class Leak(msgspec.Struct, frozen=True):
    """A thing without an owner: its kind, its id, and what it says of its owner."""

    kind: str
    id: str
    detail: str = ""


def find_leaks(services: "Services") -> list[Leak]:
    """What has no owner, seen so twice."""
    first = set(look(services))
    if not first:
        return []
    threading.Event().wait(AGAIN_AFTER_S)
    return sorted(first & set(look(services)), key=lambda leak: (leak.kind, leak.id))


def look(services: "Services") -> list[Leak]:
    """What has no owner at this moment."""
    with services.compute_db.read() as tx:
        live = set(tx.values(select(SERVERS.c.id).where(SERVERS.c.deleted.is_(False))))
        unwound = set(tx.values(select(SERVERS.c.id).where(SERVERS.c.deleted.is_(False), SERVERS.c.host.is_(None))))
        busy = set(
            tx.values(
                select(SAGAS.sagas.c.subject_id).where(SAGAS.sagas.c.state.in_(["running", "unwinding", "stuck"]))
            )
        )
    #: servers that may hold things of a host
    placed = (live - unwound) | busy
    return [
        *_host(services, placed),
        *_books(services, live | busy, placed),
        *_loose_ports(services, busy),
        *_loose_attachments(services, busy),
        *_loose_copies(services),
        *_data_plane(services),
        *_volumes(services),
    ]


def _host(services: "Services", placed: set[str]) -> list[Leak]:
    found: list[Leak] = []
    for host in services.hosts:
        found += [
            Leak("domain", state.server_id, state.instance_name)
            for state in host.machine.hypervisor.list()
            if state.server_id not in placed
        ]
        found += [
            Leak("tap", tap.tap, f"port {tap.port_id}")
            for tap in host.machine.vif.plugged()
            if tap.server_id not in placed
        ]
        found += [Leak("files", server_id) for server_id in host.instances.owned() if server_id not in placed]
    return found


def _books(services: "Services", known: set[str], placed: set[str]) -> list[Leak]:
    token = services.nova.token()
    credentials = Credentials(token=token, service_token=token)

    def ask(name: str, app: Any, path: str, **query: str) -> Any:
        client = Client(name, LocalTransport(app), services.clock, headers=VOLUME_VERSION if name == "volume" else None)
        return client.call("GET", path, credentials, query=query)

    found = [
        Leak("port", port["id"], f"server {port['device_id']}")
        for port in ask("network", services.network_app, "/v2.0/ports")["ports"]
        if port["device_owner"].startswith("compute:") and port["device_id"] not in known
    ]
    for provider in ask("placement", services.placement_app, "/resource_providers")["resource_providers"]:
        found += [
            Leak("allocation", consumer, f"on {provider['name']}")
            for consumer in services.placement_door.consumers_of(provider["uuid"], credentials)
            if consumer not in placed
        ]
    found += [
        Leak("attachment", attachment["id"], f"server {attachment['instance']}")
        for attachment in ask("volume", services.volume_app, "/v3/attachments", all_tenants="1")["attachments"]
        if attachment["instance"] and attachment["instance"] not in known
    ]
    return found


def _loose_ports(services: "Services", busy: set[str]) -> list[Leak]:
    """Ports that the cloud made for a server, and that its record does not have: a creation that came after its undo."""
    from cumulet.network.tables import ports

    with services.network_db.read() as tx:
        mine = tx.all(select(ports.c.id, ports.c.device_id).where(ports.c.device_owner.like("compute:%")))
    with services.compute_db.read() as tx:
        rows = tx.all(
            select(SERVERS.c.id, SERVERS.c.interfaces, SERVERS.c.requested_networks).where(
                SERVERS.c.id.in_({port["device_id"] for port in mine}), SERVERS.c.deleted.is_(False)
            )
        )
    has: dict[str, set[str]] = {
        row["id"]: {nic["port_id"] for nic in row["interfaces"]}
        | {asked["port_id"] for asked in row["requested_networks"] or [] if asked.get("port_id")}
        for row in rows
        if row["id"] not in busy
    }
    return [
        Leak("port", port["id"], f"server {port['device_id']}")
        for port in mine
        if port["device_id"] in has and port["id"] not in has[port["device_id"]]
    ]


def _loose_attachments(services: "Services", busy: set[str]) -> list[Leak]:
    """Volumes reserved for a server at rest that has no such disk."""
    with services.volume.db.read() as tx:
        ties = tx.all(select(ATTACHMENTS.c.id, ATTACHMENTS.c.server_id, ATTACHMENTS.c.volume_id))
    with services.compute_db.read() as tx:
        rows = tx.all(
            select(SERVERS.c.id, SERVERS.c.block_devices).where(
                SERVERS.c.id.in_({tie["server_id"] for tie in ties}), SERVERS.c.deleted.is_(False)
            )
        )
    has = {
        row["id"]: {device.get("volume_id") for device in row["block_devices"]} for row in rows if row["id"] not in busy
    }
    return [
        Leak("attachment", tie["id"], f"server {tie['server_id']}")
        for tie in ties
        if tie["server_id"] in has and tie["volume_id"] not in has[tie["server_id"]]
    ]


def _loose_copies(services: "Services") -> list[Leak]:
    """Disks on their way to an image that nothing sends any more."""
    copies = {image_id for host in services.hosts for image_id in host.instances.copies()}
    uploads = set(services.volume_parts.uploads())
    if not copies and not uploads:
        return []
    wanted: set[str] = set()
    for db, sagas in ((services.compute_db, SAGAS.sagas), (services.volume.db, VOLUME_SAGAS.sagas)):
        with db.read() as tx:
            inputs = tx.values(select(sagas.c.input).where(sagas.c.state.in_(["running", "unwinding", "stuck"])))
        wanted |= {given["image_id"] for given in inputs if given.get("image_id")}
    return [Leak("copy", image_id) for image_id in sorted((copies | uploads) - wanted)]


def _data_plane(services: "Services") -> list[Leak]:
    """OVN's rows against the network service's books."""
    return [Leak(f"ovn {owned.kind}", owned.id, owned.owner) for owned in services.network.unowned()]


def _volumes(services: "Services") -> list[Leak]:
    """What the back end holds against the volume service's books."""
    with services.volume.db.read() as tx:
        known = set(tx.values(select(VOLUMES.c.id))) | set(tx.values(select(SNAPSHOTS.c.id)))
        sagas = VOLUME_SAGAS.sagas
        known |= set(tx.values(select(sagas.c.subject_id).where(sagas.c.state.in_(["running", "unwinding", "stuck"]))))
    return [
        Leak(f"volume {item.kind}", item.owner_id or item.name, item.name)
        for item in services.machine.volumes.list()
        if item.owner_id not in known
    ]
