"""Subnets, subnet pools and address scopes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import delete, or_, select, update

from cumulet.core.db.database import Tx
from cumulet.network.records import AddressScope, Subnet, SubnetPool, Viewer
from cumulet.network.store import listing, networks, standard
from cumulet.network.store.listing import Condition, Search
from cumulet.network.tables import address_scopes, ip_allocations, ports, rbac_policies, subnetpools, subnets, tags

__all__ = [
    "add",
    "add_pool",
    "add_scope",
    "by_ids",
    "change",
    "change_pool",
    "change_scope",
    "default_pool",
    "get",
    "get_pool",
    "get_scope",
    "lists",
    "of_networks",
    "of_pool",
    "pools_lists",
    "pools_of_scope",
    "remove",
    "remove_pool",
    "remove_scope",
    "scopes_lists",
    "set_metadata_address",
    "used_by_others",
]


def visible(viewer: Viewer) -> Condition:
    """Own, and those of networks that one sees."""
    return or_(
        subnets.c.project_id == (viewer.project_id or ""), subnets.c.network_id.in_(networks.visible_ids(viewer))
    )


def _record(row: dict[str, Any]) -> Subnet:
    return Subnet(**row)


def add(tx: Tx, subnet: Subnet) -> None:
    tx.insert(subnets, {name: getattr(subnet, name) for name in subnet.__struct_fields__})


def get(tx: Tx, id: str, viewer: Viewer | None = None) -> Subnet | None:
    query = select(subnets).where(subnets.c.id == id)
    if viewer is not None and not viewer.sees_all:
        query = query.where(visible(viewer))
    row = tx.one(query)
    return None if row is None else _record(row)


def by_ids(tx: Tx, ids: Iterable[str]) -> dict[str, Subnet]:
    wanted = sorted(set(ids))
    if not wanted:
        return {}
    return {row["id"]: _record(row) for row in tx.all(select(subnets).where(subnets.c.id.in_(wanted)))}


def of_networks(tx: Tx, network_ids: Iterable[str]) -> list[Subnet]:
    """In order of creation."""
    where = {"network_id": sorted(set(network_ids))}
    return [_record(row) for row in tx.find_all(subnets, where, ("created_at", "id"))]


def lists(tx: Tx, search: Search) -> list[Subnet]:
    viewer = search.viewer

    def shared(values: list[str]) -> Condition:
        condition = subnets.c.network_id.in_(networks.shared_ids(viewer))
        return condition if values[-1].lower() in {"true", "1"} else ~condition

    def external(values: list[str]) -> Condition:
        condition = subnets.c.network_id.in_(networks.external_ids())
        return condition if values[-1].lower() in {"true", "1"} else ~condition

    special: dict[str, listing.Special] = {"shared": shared, "router:external": external}
    return [_record(row) for row in listing.rows(tx, subnets, search, visible(viewer), special)]


def change(tx: Tx, id: str, values: dict[str, Any], now: str) -> int:
    return standard.change(tx, subnets, id, values, now)


def set_metadata_address(tx: Tx, id: str, address: str | None) -> None:
    """Ours, not the tenant's: no new revision."""
    tx.run(update(subnets).where(subnets.c.id == id).values(metadata_address=address))


def remove(tx: Tx, ids: Iterable[str]) -> None:
    wanted = sorted(set(ids))
    tx.run(delete(tags).where(tags.c.resource_id.in_(wanted)))
    tx.run(delete(subnets).where(subnets.c.id.in_(wanted)))


def used_by_others(tx: Tx, id: str, *, owners: Iterable[str]) -> list[dict[str, Any]]:
    """(port_id, device_owner, ip_address) of the addresses given out in a subnet, except to ports of some owners."""
    return tx.all(
        select(ip_allocations.c.port_id, ports.c.device_owner, ip_allocations.c.ip_address)
        .select_from(ip_allocations.join(ports, ports.c.id == ip_allocations.c.port_id))
        .where(ip_allocations.c.subnet_id == id, ports.c.device_owner.notin_(list(owners)))
    )


# Pools


def _pool(row: dict[str, Any]) -> SubnetPool:
    return SubnetPool(**row)


def _pool_visible(viewer: Viewer) -> Condition:
    c = subnetpools.c
    return or_(
        c.project_id == (viewer.project_id or ""),
        c.shared.is_(True),
        listing.shared_with(subnetpools, "subnetpool", viewer),
    )


def add_pool(tx: Tx, pool: SubnetPool) -> None:
    tx.insert(subnetpools, {name: getattr(pool, name) for name in pool.__struct_fields__})


def get_pool(tx: Tx, id: str, viewer: Viewer | None = None) -> SubnetPool | None:
    query = select(subnetpools).where(subnetpools.c.id == id)
    if viewer is not None and not viewer.sees_all:
        query = query.where(_pool_visible(viewer))
    row = tx.one(query)
    return None if row is None else _pool(row)


def pools_lists(tx: Tx, search: Search) -> list[SubnetPool]:
    return [_pool(row) for row in listing.rows(tx, subnetpools, search, _pool_visible(search.viewer))]


def change_pool(tx: Tx, id: str, values: dict[str, Any], now: str) -> int:
    return standard.change(tx, subnetpools, id, values, now)


def remove_pool(tx: Tx, id: str) -> int:
    tx.run(delete(tags).where(tags.c.resource_id == id))
    tx.run(delete(rbac_policies).where(rbac_policies.c.object_id == id))
    return tx.run(delete(subnetpools).where(subnetpools.c.id == id))


def default_pool(tx: Tx, ip_version: int) -> SubnetPool | None:
    c = subnetpools.c
    row = tx.one(select(subnetpools).where(c.is_default.is_(True), c.ip_version == ip_version))
    return None if row is None else _pool(row)


def of_pool(tx: Tx, pool_id: str) -> list[Subnet]:
    return [_record(row) for row in tx.all(select(subnets).where(subnets.c.subnetpool_id == pool_id))]


def pools_of_scope(tx: Tx, scope_id: str) -> list[SubnetPool]:
    return [_pool(row) for row in tx.all(select(subnetpools).where(subnetpools.c.address_scope_id == scope_id))]


# Scopes


def _scope(row: dict[str, Any]) -> AddressScope:
    return AddressScope(**row)


def _scope_visible(viewer: Viewer) -> Condition:
    c = address_scopes.c
    return or_(
        c.project_id == (viewer.project_id or ""),
        c.shared.is_(True),
        listing.shared_with(address_scopes, "address_scope", viewer),
    )


def add_scope(tx: Tx, scope: AddressScope) -> None:
    tx.insert(address_scopes, {name: getattr(scope, name) for name in scope.__struct_fields__})


def get_scope(tx: Tx, id: str, viewer: Viewer | None = None) -> AddressScope | None:
    query = select(address_scopes).where(address_scopes.c.id == id)
    if viewer is not None and not viewer.sees_all:
        query = query.where(_scope_visible(viewer))
    row = tx.one(query)
    return None if row is None else _scope(row)


def scopes_lists(tx: Tx, search: Search) -> list[AddressScope]:
    return [_scope(row) for row in listing.rows(tx, address_scopes, search, _scope_visible(search.viewer))]


def change_scope(tx: Tx, id: str, values: dict[str, Any]) -> int:
    return tx.run(update(address_scopes).where(address_scopes.c.id == id).values(**values))


def remove_scope(tx: Tx, id: str) -> int:
    tx.run(delete(rbac_policies).where(rbac_policies.c.object_id == id))
    return tx.run(delete(address_scopes).where(address_scopes.c.id == id))
