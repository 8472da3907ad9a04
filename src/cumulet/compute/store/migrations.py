"""Moves and resizes of servers, as the API tells of them: one row each, from its begin to its confirmation or its way back."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import and_, bindparam, func, or_, select

from cumulet.compute.tables import MIGRATIONS as M
from cumulet.core.db import Tx

__all__ = ["Migration", "add", "by_uuid", "get", "newest", "next_id", "page", "set_status"]

#: what a migration is while it may still move; confirmed, reverted and error it stays
OPEN = ("pre-migrating", "migrating", "finished", "confirming", "reverting")


class Migration(msgspec.Struct, frozen=True, kw_only=True):
    """One resize.  Flavors are by their ids; the sizes are the server's and its saga's."""

    id: int
    uuid: str
    server_id: str
    project_id: str
    user_id: str
    migration_type: str
    #: the reference's words: pre-migrating, migrating, finished, confirming, confirmed, reverting, reverted, error
    status: str
    source_host: str | None
    dest_host: str | None
    old_flavor_id: str
    new_flavor_id: str
    #: where the server was when it began, and is again after a way back
    old_vm_state: str
    created_at: str
    updated_at: str | None


_ONE = select(M).where(M.c.id == bindparam("id"))
_BY_UUID = select(M).where(M.c.uuid == bindparam("uuid"))
_NEWEST = select(M).where(M.c.server_id == bindparam("server_id")).order_by(M.c.id.desc()).limit(1)


def _migration(row: dict[str, Any] | None) -> Migration | None:
    return None if row is None else msgspec.convert(row, Migration)


def add(tx: Tx, migration: Migration) -> None:
    tx.insert(M, msgspec.structs.asdict(migration))


def next_id(tx: Tx) -> int:
    """A number that no migration has; stays free in the caller's writing transaction."""
    return int(tx.value(select(func.coalesce(func.max(M.c.id), 0)))) + 1


def get(tx: Tx, id: int) -> Migration | None:
    return _migration(tx.one(_ONE, id=id))


def by_uuid(tx: Tx, uuid: str) -> Migration | None:
    return _migration(tx.one(_BY_UUID, uuid=uuid))


def newest(tx: Tx, server_id: str) -> Migration | None:
    """A server's last migration."""
    return _migration(tx.one(_NEWEST, server_id=server_id))


def set_status(tx: Tx, server_id: str, status: str, *, at: str, among: Sequence[str] = ()) -> bool:
    """Move a server's open migration on; with `among`, only from these."""
    where = {"server_id": server_id, "status": tuple(among) or OPEN}
    return tx.update(M, where, {"status": status, "updated_at": at}) > 0


def page(
    tx: Tx,
    *,
    status: Sequence[str] = (),
    types: Sequence[str] = (),
    servers: Sequence[str] = (),
    hosts: Sequence[str] = (),
    sources: Sequence[str] = (),
    users: Sequence[str] = (),
    projects: Sequence[str] = (),
    changed_since: str | None = None,
    changed_before: str | None = None,
    marker: Migration | None = None,
    limit: int | None = None,
) -> list[Migration]:
    """The newest first, after `marker`.  hosts: where a migration began or leads to."""
    statement = select(M)
    for column, wanted in (
        (M.c.status, status),
        (M.c.migration_type, types),
        (M.c.server_id, servers),
        (M.c.source_host, sources),
        (M.c.user_id, users),
        (M.c.project_id, projects),
    ):
        if wanted:
            statement = statement.where(column.in_(list(wanted)))
    if hosts:
        statement = statement.where(or_(M.c.source_host.in_(list(hosts)), M.c.dest_host.in_(list(hosts))))
    changed = func.coalesce(M.c.updated_at, M.c.created_at)
    if changed_since is not None:
        statement = statement.where(changed >= changed_since)
    if changed_before is not None:
        statement = statement.where(changed <= changed_before)
    if marker is not None:
        same = and_(M.c.created_at == marker.created_at, M.c.id < marker.id)
        statement = statement.where(or_(M.c.created_at < marker.created_at, same))
    statement = statement.order_by(M.c.created_at.desc(), M.c.id.desc())
    if limit is not None:
        statement = statement.limit(limit)
    return [msgspec.convert(row, Migration) for row in tx.all(statement)]
