"""RBAC policies: what projects show to each other."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Table, delete, or_, select, update

from cumulet.core.db.database import Tx
from cumulet.network import tables
from cumulet.network.records import ACCESS_EXTERNAL, RbacPolicy, Viewer
from cumulet.network.store import listing
from cumulet.network.store.listing import Condition, Search
from cumulet.network.tables import rbac_policies

__all__ = ["add", "get", "lists", "object_of", "remove", "retarget", "users"]

OBJECTS: dict[str, Table] = {
    "network": tables.networks,
    "security_group": tables.security_groups,
    "subnetpool": tables.subnetpools,
    "address_scope": tables.address_scopes,
}


def _visible(viewer: Viewer) -> Condition:
    return or_(rbac_policies.c.project_id == (viewer.project_id or ""))


def add(tx: Tx, policy: RbacPolicy) -> None:
    tx.insert(rbac_policies, {name: getattr(policy, name) for name in policy.__struct_fields__})


def get(tx: Tx, id: str, viewer: Viewer | None = None) -> RbacPolicy | None:
    query = select(rbac_policies).where(rbac_policies.c.id == id)
    if viewer is not None and not viewer.sees_all:
        query = query.where(_visible(viewer))
    row = tx.one(query)
    return None if row is None else RbacPolicy(**row)


def lists(tx: Tx, search: Search) -> list[RbacPolicy]:
    return [RbacPolicy(**row) for row in listing.rows(tx, rbac_policies, search, _visible(search.viewer))]


def retarget(tx: Tx, id: str, target: str) -> int:
    return tx.run(update(rbac_policies).where(rbac_policies.c.id == id).values(target_project=target))


def remove(tx: Tx, id: str) -> int:
    return tx.run(delete(rbac_policies).where(rbac_policies.c.id == id))


def same(tx: Tx, policy: RbacPolicy) -> str | None:
    c = rbac_policies.c
    value = tx.value(
        select(c.id).where(
            c.object_type == policy.object_type,
            c.object_id == policy.object_id,
            c.action == policy.action,
            c.target_project == policy.target_project,
        )
    )
    return None if value is None else str(value)


def object_of(tx: Tx, object_type: str, object_id: str) -> dict[str, Any] | None:
    """The row that a policy is about: (id, project_id)."""
    table = OBJECTS[object_type]
    return tx.one(select(table.c.id, table.c.project_id).where(table.c.id == object_id))


def targets(tx: Tx, object_id: str, action: str) -> set[str]:
    c = rbac_policies.c
    return set(tx.values(select(c.target_project).where(c.object_id == object_id, c.action == action)))


def remove_of(tx: Tx, object_id: str, action: str, target: str | None = None) -> int:
    """Every policy of one kind on an object, or the one for a target."""
    c = rbac_policies.c
    conditions = [c.object_id == object_id, c.action == action]
    if target is not None:
        conditions.append(c.target_project == target)
    return tx.run(delete(rbac_policies).where(*conditions))


def users(tx: Tx, policy: RbacPolicy, owner: str) -> set[str]:
    """Other projects that have something in use that a policy shows to them."""
    if policy.action == ACCESS_EXTERNAL:
        return _gateways_and_floating_ips(tx, policy, owner)
    if policy.object_type == "network":
        ports = tables.ports.c
        column, condition = ports.project_id, ports.network_id == policy.object_id
    elif policy.object_type == "security_group":
        ports = tables.ports.c
        bound = tables.port_security_groups.c
        column = ports.project_id
        condition = ports.id.in_(select(bound.port_id).where(bound.security_group_id == policy.object_id))
    elif policy.object_type == "subnetpool":
        column, condition = tables.subnets.c.project_id, tables.subnets.c.subnetpool_id == policy.object_id
    else:
        column, condition = tables.subnetpools.c.project_id, tables.subnetpools.c.address_scope_id == policy.object_id
    return _projects(tx, policy, owner, column, condition)


def _gateways_and_floating_ips(tx: Tx, policy: RbacPolicy, owner: str) -> set[str]:
    routers, floating = tables.routers.c, tables.floating_ips.c
    return _projects(tx, policy, owner, routers.project_id, routers.gateway_network_id == policy.object_id) | _projects(
        tx, policy, owner, floating.project_id, floating.floating_network_id == policy.object_id
    )


def _projects(tx: Tx, policy: RbacPolicy, owner: str, column: Any, condition: Any) -> set[str]:
    query = select(column).where(condition, column.notin_([owner, ""])).distinct()
    if policy.target_project != "*":
        query = query.where(column == policy.target_project)
    return set(tx.values(query))
