"""Migrations: every resize that was begun, with what became of it.  None is live, as servers here do not move between hosts."""

import uuid
import zlib
from collections.abc import Mapping
from typing import Any

from cumulet.compute.api.subject import known_query, limit_of, moment, next_link, owned, service_of
from cumulet.compute.store import migrations
from cumulet.compute.store.migrations import Migration
from cumulet.core.db import Tx
from cumulet.core.errors import BadRequest, NotFound
from cumulet.core.web import Call, Get, Route

__all__ = ["ROUTES"]

_P = "os_compute_api:"
#: since when a list has pages and times, and refuses keys that it does not know
PAGED = (2, 59)
_FILTERS = ("hidden", "host", "instance_uuid", "source_compute", "status", "migration_type")
_NO = frozenset({"", "false", "0", "f", "no", "n", "off"})


def _number(flavor_id: str) -> int:
    """A flavor as a number, which is what the reference shows: its id where that is one, else one that always stands for it."""
    return int(flavor_id) if flavor_id.isdigit() and len(flavor_id) < 10 else zlib.crc32(flavor_id.encode()) >> 1


def _shown(call: Call, one: Migration, addresses: Mapping[str, str]) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": one.id,
        "status": one.status,
        "instance_uuid": one.server_id,
        "source_compute": one.source_host,
        "source_node": one.source_host,
        "dest_compute": one.dest_host,
        "dest_node": one.dest_host,
        "dest_host": addresses.get(one.dest_host or ""),
        "old_instance_type_id": _number(one.old_flavor_id),
        "new_instance_type_id": _number(one.new_flavor_id),
        "created_at": one.created_at,
        "updated_at": one.updated_at,
    }
    if call.version >= (2, 23):
        shown["migration_type"] = one.migration_type
    if call.version >= PAGED:
        shown["uuid"] = one.uuid
    if call.version >= (2, 80):
        shown |= {"user_id": one.user_id, "project_id": one.project_id}
    return shown


def list_migrations(call: Call) -> Any:
    version = call.version
    known = list(_FILTERS)
    if version >= PAGED:
        known += ["limit", "marker", "changes-since"]
    if version >= (2, 66):
        known.append("changes-before")
    if version >= (2, 80):
        known += ["user_id", "project_id"]
    known_query(call, known, since=PAGED)
    since = _moment(call, "changes-since") if version >= PAGED else None
    before = _moment(call, "changes-before") if version >= (2, 66) else None
    if since is not None and before is not None and since > before:
        raise BadRequest("The value of changes-since must be less than or equal to changes-before.")
    if (call.one("hidden") or "").lower() not in _NO:
        return {"migrations": []}  # there is nothing that would be hidden
    limit = limit_of(call) if version >= PAGED else None
    with service_of(call).db.read() as tx:
        found = migrations.page(
            tx,
            status=call.query.get("status", ()),
            types=call.query.get("migration_type", ()),
            servers=call.query.get("instance_uuid", ()),
            hosts=call.query.get("host", ()),
            sources=call.query.get("source_compute", ()),
            users=call.query.get("user_id", ()) if version >= (2, 80) else (),
            projects=call.query.get("project_id", ()) if version >= (2, 80) else (),
            changed_since=since,
            changed_before=before,
            marker=_marker(call, tx) if version >= PAGED else None,
            limit=None if limit is None else limit + 1,
        )
    addresses = {host.host: host.host_ip for host in service_of(call).fleet.hosts()}
    shown: dict[str, Any] = {"migrations": [_shown(call, one, addresses) for one in found[:limit]]}
    if limit is not None and len(found) > limit:
        shown["migrations_links"] = next_link(call, found[limit - 1].uuid)
    return shown


def _moment(call: Call, key: str) -> str | None:
    text = call.one(key)
    return None if text is None else moment(text, key)


def _marker(call: Call, tx: Tx) -> Migration | None:
    marker = call.one("marker")
    if marker is None:
        return None
    try:
        found = migrations.by_uuid(tx, str(uuid.UUID(marker)))
    except ValueError:
        raise BadRequest(
            f"Invalid input for query parameters marker. Value: {marker}. '{marker}' is not a 'uuid'"
        ) from None
    if found is None:
        raise BadRequest(f"Marker {marker} could not be found.")
    return found


def list_live(call: Call, id: str) -> Any:
    """Live migrations under way: a resize is not one."""
    owned(call, id, f"{_P}servers:migrations:index")
    return {"migrations": []}


def show_live(call: Call, id: str, migration: str) -> Any:
    """Always refused, in the words for what it is instead."""
    server = owned(call, id, f"{_P}servers:migrations:show")
    with service_of(call).db.read() as tx:
        found = migrations.get(tx, int(migration)) if migration.isdigit() and len(migration) < 10 else None
    if found is None or found.server_id != server.id:
        raise NotFound(f"In-progress live migration {migration} is not found for server {server.id}.")
    raise NotFound(f"Migration {migration} for server {server.id} is not live-migration.")


ROUTES: list[Route] = [
    Get("/v2.1/os-migrations", list_migrations, may=f"{_P}os-migrations:index"),
    Get("/v2.1/servers/{id}/migrations", list_live, may=f"{_P}servers:migrations:index", since=(2, 23)),
    Get("/v2.1/servers/{id}/migrations/{migration}", show_live, may=f"{_P}servers:migrations:show", since=(2, 23)),
]
