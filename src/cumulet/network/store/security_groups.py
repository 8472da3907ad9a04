"""Security groups and their rules."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import delete, or_, select

from cumulet.core.db.database import Tx
from cumulet.network.records import SecurityGroup, SecurityGroupRule, Viewer
from cumulet.network.store import listing, standard
from cumulet.network.store.listing import Condition, Search
from cumulet.network.tables import (
    default_security_groups,
    port_security_groups,
    rbac_policies,
    security_group_rules,
    security_groups,
    tags,
)

__all__ = [
    "add",
    "add_rules",
    "by_ids",
    "change",
    "default_of",
    "get",
    "get_rule",
    "in_use",
    "lists",
    "lists_rules",
    "remote_users",
    "remove",
    "remove_rule",
    "set_default",
]

#: columns of the struct that are no columns of the table
_DERIVED = frozenset({"rules", "shared"})


def visible(viewer: Viewer) -> Condition:
    return or_(
        security_groups.c.project_id == (viewer.project_id or ""),
        listing.shared_with(security_groups, "security_group", viewer),
    )


def _rule(row: dict[str, Any], *, default: bool = False) -> SecurityGroupRule:
    return SecurityGroupRule(**row, belongs_to_default_sg=default)


def _records(tx: Tx, rows: list[dict[str, Any]], viewer: Viewer | None = None) -> list[SecurityGroup]:
    """Groups with their rules, by one query more."""
    if not rows:
        return []
    ids = [row["id"] for row in rows]
    rules: dict[str, list[SecurityGroupRule]] = {}
    defaults = {row["id"] for row in rows if row["is_default"]}
    c = security_group_rules.c
    for row in tx.all(select(security_group_rules).where(c.security_group_id.in_(ids)).order_by(c.created_at, c.id)):
        group_id = row["security_group_id"]
        rules.setdefault(group_id, []).append(_rule(row, default=group_id in defaults))
    shared = _shared(tx, ids, viewer) if viewer is not None else set()
    return [SecurityGroup(**row, rules=tuple(rules.get(row["id"], ())), shared=row["id"] in shared) for row in rows]


def _shared(tx: Tx, ids: list[str], viewer: Viewer) -> set[str]:
    policy = rbac_policies.c
    return set(
        tx.values(
            select(policy.object_id).where(
                policy.object_type == "security_group",
                policy.target_project.in_([viewer.project_id or "", "*"]),
                policy.object_id.in_(ids),
            )
        )
    )


def add(tx: Tx, group: SecurityGroup) -> None:
    """A group with its rules."""
    tx.insert(security_groups, {name: getattr(group, name) for name in group.__struct_fields__ if name not in _DERIVED})
    add_rules(tx, group.rules)


def get(tx: Tx, id: str, viewer: Viewer | None = None) -> SecurityGroup | None:
    query = select(security_groups).where(security_groups.c.id == id)
    if viewer is not None and not viewer.sees_all:
        query = query.where(visible(viewer))
    found = _records(tx, tx.all(query), viewer)
    return found[0] if found else None


def by_ids(tx: Tx, ids: Iterable[str], viewer: Viewer | None = None) -> dict[str, SecurityGroup]:
    """Without rules: for checks."""
    wanted = sorted(set(ids))
    if not wanted:
        return {}
    query = select(security_groups).where(security_groups.c.id.in_(wanted))
    if viewer is not None and not viewer.sees_all:
        query = query.where(visible(viewer))
    return {row["id"]: SecurityGroup(**row) for row in tx.all(query)}


def lists(tx: Tx, search: Search) -> list[SecurityGroup]:
    viewer = search.viewer

    def shared(values: list[Any]) -> Condition:
        condition = listing.shared_with(security_groups, "security_group", viewer)
        return condition if values[-1] else ~condition

    return _records(tx, listing.rows(tx, security_groups, search, visible(viewer), {"shared": shared}), viewer)


def change(tx: Tx, id: str, values: dict[str, Any], now: str) -> int:
    return standard.change(tx, security_groups, id, values, now)


def remove(tx: Tx, id: str) -> int:
    tx.run(delete(security_group_rules).where(security_group_rules.c.security_group_id == id))
    tx.run(delete(tags).where(tags.c.resource_id == id))
    tx.run(delete(rbac_policies).where(rbac_policies.c.object_id == id))
    tx.run(delete(default_security_groups).where(default_security_groups.c.security_group_id == id))
    return tx.run(delete(security_groups).where(security_groups.c.id == id))


def in_use(tx: Tx, id: str) -> bool:
    """Whether a port is in the group."""
    c = port_security_groups.c
    return tx.value(select(c.port_id).where(c.security_group_id == id).limit(1)) is not None


def remote_users(tx: Tx, id: str) -> list[str]:
    """Rules of other groups that name this one as the remote side."""
    c = security_group_rules.c
    return list(tx.values(select(c.id).where(c.remote_group_id == id, c.security_group_id != id)))


def default_of(tx: Tx, project_id: str) -> str | None:
    row = tx.find(default_security_groups, {"project_id": project_id})
    return None if row is None else str(row["security_group_id"])


def set_default(tx: Tx, project_id: str, group_id: str) -> None:
    tx.insert(default_security_groups, {"project_id": project_id, "security_group_id": group_id})


# Rules


def add_rules(tx: Tx, rules: Iterable[SecurityGroupRule]) -> None:
    for rule in rules:
        tx.insert(
            security_group_rules,
            {name: getattr(rule, name) for name in rule.__struct_fields__ if name != "belongs_to_default_sg"},
        )


def get_rule(tx: Tx, id: str) -> SecurityGroupRule | None:
    row = tx.one(
        select(security_group_rules, security_groups.c.is_default.label("of_default"))
        .select_from(
            security_group_rules.join(security_groups, security_groups.c.id == security_group_rules.c.security_group_id)
        )
        .where(security_group_rules.c.id == id)
    )
    return None if row is None else _rule(row, default=bool(row.pop("of_default")))


def lists_rules(tx: Tx, search: Search) -> list[SecurityGroupRule]:
    """Rules of one's own groups, and those of one's own in others'."""
    viewer = search.viewer
    own_groups = select(security_groups.c.id).where(security_groups.c.project_id == (viewer.project_id or ""))
    defaults = select(security_groups.c.id).where(security_groups.c.is_default.is_(True))

    def of_default(values: list[Any]) -> Condition:
        condition = security_group_rules.c.security_group_id.in_(defaults)
        return condition if values[-1] else ~condition

    found = listing.rows(
        tx,
        security_group_rules,
        search,
        security_group_rules.c.security_group_id.in_(own_groups),
        {"belongs_to_default_sg": of_default},
    )
    groups = {row["security_group_id"] for row in found}
    default_ids = set(
        tx.values(
            select(security_groups.c.id).where(
                security_groups.c.id.in_(sorted(groups)), security_groups.c.is_default.is_(True)
            )
        )
    )
    return [_rule(row, default=row["security_group_id"] in default_ids) for row in found]


def remove_rule(tx: Tx, id: str) -> int:
    return tx.run(delete(security_group_rules).where(security_group_rules.c.id == id))
