"""Networks and who may see them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import delete, func, or_, select

from cumulet.core.db.database import Tx
from cumulet.network.records import ACCESS_EXTERNAL, ACCESS_SHARED, EVERYBODY, Network, Viewer
from cumulet.network.store import listing, standard
from cumulet.network.store.listing import Condition, Search
from cumulet.network.tables import networks, ports, rbac_policies, tags

__all__ = [
    "add",
    "by_ids",
    "change",
    "external_default",
    "foreign_projects",
    "get",
    "is_shared_with",
    "lists",
    "remove",
    "segment_in_use",
    "segments_in_use",
    "set_subnets",
    "visible",
    "visible_ids",
]


def visible(viewer: Viewer) -> Condition:
    """Own, and what an RBAC policy shows: shared and external networks have one for all."""
    return or_(
        networks.c.project_id == (viewer.project_id or ""),
        listing.shared_with(networks, "network", viewer, ACCESS_SHARED, ACCESS_EXTERNAL),
    )


def visible_ids(viewer: Viewer) -> Any:
    """A subquery of the ids of the networks that a viewer sees."""
    return select(networks.c.id).where(visible(viewer))


def shared_ids(viewer: Viewer) -> Any:
    return select(networks.c.id).where(listing.shared_with(networks, "network", viewer))


def external_ids() -> Any:
    return select(networks.c.id).where(networks.c.external.is_(True))


def own_ids(viewer: Viewer) -> Any:
    return select(networks.c.id).where(networks.c.project_id == (viewer.project_id or ""))


def _record(row: dict[str, Any]) -> Network:
    return Network(**row)


def add(tx: Tx, network: Network) -> None:
    tx.insert(networks, {name: getattr(network, name) for name in network.__struct_fields__})


def get(tx: Tx, id: str, viewer: Viewer | None = None) -> Network | None:
    """A network; only if the viewer may see it, where one is given."""
    row = tx.find(networks, {"id": id})
    if row is None:
        return None
    if viewer is not None and not viewer.sees_all and row["project_id"] != (viewer.project_id or ""):
        row = tx.one(select(networks).where(networks.c.id == id, visible(viewer)))
    return None if row is None else _record(row)


def by_ids(tx: Tx, ids: Iterable[str]) -> dict[str, Network]:
    return {row["id"]: _record(row) for row in tx.all(select(networks).where(networks.c.id.in_(sorted(set(ids)))))}


def lists(tx: Tx, search: Search) -> list[Network]:
    viewer = search.viewer

    def shared(values: list[Any]) -> Condition:
        condition = listing.shared_with(networks, "network", viewer)
        return condition if values[-1] else ~condition

    return [_record(row) for row in listing.rows(tx, networks, search, visible(viewer), {"shared": shared})]


def is_shared_with(tx: Tx, ids: Iterable[str], project_id: str | None) -> set[str]:
    """Which networks an RBAC policy shares with a project."""
    where = {
        "object_type": "network",
        "action": ACCESS_SHARED,
        "target_project": (project_id or "", EVERYBODY),
        "object_id": tuple(sorted(set(ids))),
    }
    return {row["object_id"] for row in tx.find_all(rbac_policies, where)}


def change(tx: Tx, id: str, values: dict[str, Any], now: str) -> int:
    return standard.change(tx, networks, id, values, now)


def set_subnets(tx: Tx, id: str, subnet_ids: list[str], now: str) -> None:
    change(tx, id, {"subnets": subnet_ids}, now)


def remove(tx: Tx, id: str) -> int:
    tx.run(delete(tags).where(tags.c.resource_id == id))
    tx.run(delete(rbac_policies).where(rbac_policies.c.object_id == id))
    return tx.run(delete(networks).where(networks.c.id == id))


def segment_in_use(tx: Tx, network_type: str, physical_network: str | None, segmentation_id: int | None) -> bool:
    query = select(func.count()).select_from(networks).where(networks.c.network_type == network_type)
    if physical_network is not None:
        query = query.where(networks.c.physical_network == physical_network)
    if segmentation_id is not None:
        query = query.where(networks.c.segmentation_id == segmentation_id)
    return bool(tx.value(query))


def segments_in_use(tx: Tx, network_type: str, physical_network: str | None) -> set[int]:
    query = select(networks.c.segmentation_id).where(networks.c.network_type == network_type)
    if physical_network is not None:
        query = query.where(networks.c.physical_network == physical_network)
    return {number for number in tx.values(query) if number is not None}


def external_default(tx: Tx) -> str | None:
    value = tx.value(select(networks.c.id).where(networks.c.external.is_(True), networks.c.is_default.is_(True)))
    return None if value is None else str(value)


def foreign_projects(tx: Tx, id: str, owner: str) -> set[str]:
    """Other projects that have ports on a network."""
    return set(
        tx.values(
            select(ports.c.project_id)
            .where(ports.c.network_id == id, ports.c.project_id.notin_([owner, ""]))
            .distinct()
        )
    )
