"""What the rows of every resource have in common: revisions, tags, quotas, debts to the data plane."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Table, bindparam, delete, func, select

from cumulet.core.db.database import Tx
from cumulet.network import tables

__all__ = [
    "change",
    "debts",
    "delete_quota",
    "owe",
    "paid",
    "quota_projects",
    "quotas_of",
    "revision",
    "set_quota",
    "set_tags",
    "touch",
    "used",
]

#: what is counted against a quota
COUNTED: dict[str, Table] = {
    "network": tables.networks,
    "subnet": tables.subnets,
    "subnetpool": tables.subnetpools,
    "port": tables.ports,
    "router": tables.routers,
    "floatingip": tables.floating_ips,
    "security_group": tables.security_groups,
    "security_group_rule": tables.security_group_rules,
    "rbac_policy": tables.rbac_policies,
}
_USED = {
    name: select(func.count()).select_from(table).where(table.c.project_id == bindparam("project_id"))
    for name, table in COUNTED.items()
}


def change(tx: Tx, table: Table, id: str, values: Mapping[str, Any], now: str) -> int:
    """Set columns of a row and raise its revision; how many rows that met."""
    return tx.update(table, {"id": id}, {**values, "updated_at": now}, one_more=("revision_number",))


def touch(tx: Tx, table: Table, ids: Iterable[str], now: str) -> None:
    """Raise the revision of rows whose parts changed."""
    tx.update(table, {"id": sorted(set(ids))}, {"updated_at": now}, one_more=("revision_number",))


def revision(tx: Tx, table: Table, id: str) -> int | None:
    number = tx.value(select(table.c.revision_number).where(table.c.id == id))
    return None if number is None else int(number)


def set_tags(tx: Tx, table: Table, id: str, words: list[str], now: str) -> None:
    """Make a row's tags exactly these."""
    change(tx, table, id, {"tags": words}, now)
    replace_tag_rows(tx, id, words)


def replace_tag_rows(tx: Tx, id: str, words: list[str]) -> None:
    tx.run(delete(tables.tags).where(tables.tags.c.resource_id == id))
    tx.insert_many(tables.tags, [{"resource_id": id, "tag": word} for word in words])


# Quotas


def quotas_of(tx: Tx, project_id: str) -> dict[str, int]:
    """What was set for a project; everything else is the default."""
    return {row["resource"]: row["limit"] for row in tx.find_all(tables.quotas, {"project_id": project_id})}


def quota_projects(tx: Tx) -> dict[str, dict[str, int]]:
    """Project → what was set for it."""
    found: dict[str, dict[str, int]] = {}
    for row in tx.all(select(tables.quotas).order_by(tables.quotas.c.project_id)):
        found.setdefault(row["project_id"], {})[row["resource"]] = row["limit"]
    return found


def set_quota(tx: Tx, project_id: str, resource: str, limit: int) -> None:
    tx.upsert(
        tables.quotas, {"project_id": project_id, "resource": resource, "limit": limit}, ["project_id", "resource"]
    )


def delete_quota(tx: Tx, project_id: str) -> int:
    return tx.run(delete(tables.quotas).where(tables.quotas.c.project_id == project_id))


def used(tx: Tx, resource: str, project_id: str) -> int:
    return int(tx.value(_USED[resource], project_id=project_id) or 0)


# Ids


def ids(tx: Tx, table: Table, *where: Any) -> list[str]:
    """Of all rows, oldest first."""
    return tx.values(select(table.c.id).where(*where).order_by(table.c.created_at))


# Debts


def owe(tx: Tx, things: Iterable[tuple[str, str]], stamp: str, now: str) -> None:
    """Record that the data plane must still be told of (kind, id)."""
    for kind, id in things:
        tx.upsert(tables.owed, {"kind": kind, "id": id, "stamp": stamp, "since": now}, ["kind", "id"])


def paid(tx: Tx, kind: str, id: str, stamp: str) -> None:
    """The data plane has it; unless a later change owes again."""
    tx.delete(tables.owed, {"kind": kind, "id": id, "stamp": stamp})


def debts(tx: Tx) -> list[tuple[str, str, str]]:
    """(kind, id, stamp), oldest first."""
    rows = tx.all(select(tables.owed).order_by(tables.owed.c.since, tables.owed.c.kind, tables.owed.c.id))
    return [(row["kind"], row["id"], row["stamp"]) for row in rows]
