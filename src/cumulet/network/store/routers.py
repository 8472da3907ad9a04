"""Routers and floating IPs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import delete, func, select, update

from cumulet.core.db.database import Tx
from cumulet.network.records import FloatingIp, Router, Viewer
from cumulet.network.store import listing, standard
from cumulet.network.store.listing import Search
from cumulet.network.tables import floating_ips, ip_allocations, ports, routers, tags

__all__ = [
    "add",
    "add_floating",
    "change",
    "change_floating",
    "detach_ports",
    "floating_of_fixed",
    "floating_of_network",
    "floating_of_ports",
    "floating_of_router",
    "get",
    "get_floating",
    "lists",
    "lists_floating",
    "port_details",
    "remove",
    "remove_floating",
    "router_between",
    "set_floating_status",
]


def _record(row: dict[str, Any]) -> Router:
    return Router(**row)


def add(tx: Tx, router: Router) -> None:
    tx.insert(routers, {name: getattr(router, name) for name in router.__struct_fields__})


def get(tx: Tx, id: str, viewer: Viewer | None = None) -> Router | None:
    query = select(routers).where(routers.c.id == id)
    if viewer is not None and not viewer.sees_all:
        query = query.where(routers.c.project_id == (viewer.project_id or ""))
    row = tx.one(query)
    return None if row is None else _record(row)


def lists(tx: Tx, search: Search) -> list[Router]:
    own = routers.c.project_id == (search.viewer.project_id or "")
    return [_record(row) for row in listing.rows(tx, routers, search, own)]


def with_gateway_on(tx: Tx, network_id: str) -> list[Router]:
    return [_record(row) for row in tx.all(select(routers).where(routers.c.gateway_network_id == network_id))]


def change(tx: Tx, id: str, values: dict[str, Any], now: str) -> int:
    return standard.change(tx, routers, id, values, now)


def remove(tx: Tx, id: str) -> int:
    tx.run(delete(tags).where(tags.c.resource_id == id))
    return tx.run(delete(routers).where(routers.c.id == id))


def router_between(tx: Tx, subnet_id: str, external_network_id: str, gateway_ip: str | None) -> str | None:
    """The router that joins a subnet to an external network; the subnet's own gateway rather than another."""
    rows = tx.all(
        select(routers.c.id, ip_allocations.c.ip_address)
        .select_from(
            routers.join(ports, ports.c.device_id == routers.c.id).join(
                ip_allocations, ip_allocations.c.port_id == ports.c.id
            )
        )
        .where(
            ip_allocations.c.subnet_id == subnet_id,
            ports.c.device_owner == "network:router_interface",
            routers.c.gateway_network_id == external_network_id,
        )
        .order_by(routers.c.created_at, routers.c.id)
    )
    for row in rows:
        if row["ip_address"] == gateway_ip:
            return str(row["id"])
    return str(rows[0]["id"]) if rows else None


# Floating IPs


def _floating(row: dict[str, Any]) -> FloatingIp:
    return FloatingIp(**row)


def add_floating(tx: Tx, floating: FloatingIp) -> None:
    tx.insert(
        floating_ips, {name: getattr(floating, name) for name in floating.__struct_fields__ if name != "port_details"}
    )


def get_floating(tx: Tx, id: str, viewer: Viewer | None = None) -> FloatingIp | None:
    query = select(floating_ips).where(floating_ips.c.id == id)
    if viewer is not None and not viewer.sees_all:
        query = query.where(floating_ips.c.project_id == (viewer.project_id or ""))
    row = tx.one(query)
    return None if row is None else _floating(row)


def lists_floating(tx: Tx, search: Search) -> list[FloatingIp]:
    own = floating_ips.c.project_id == (search.viewer.project_id or "")
    return [_floating(row) for row in listing.rows(tx, floating_ips, search, own)]


def port_details(tx: Tx, port_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What a floating IP shows of the port it leads to."""
    wanted = sorted(set(port_ids))
    if not wanted:
        return {}
    c = ports.c
    columns = (c.id, c.name, c.network_id, c.mac_address, c.admin_state_up, c.status, c.device_id, c.device_owner)
    return {row.pop("id"): row for row in tx.all(select(*columns).where(c.id.in_(wanted)))}


def change_floating(tx: Tx, id: str, values: dict[str, Any], now: str) -> int:
    return standard.change(tx, floating_ips, id, values, now)


def set_floating_status(tx: Tx, id: str, status: str) -> int:
    """Observed: no new revision."""
    c = floating_ips.c
    return tx.run(update(floating_ips).where(c.id == id, c.status != status).values(status=status))


def remove_floating(tx: Tx, ids: Iterable[str]) -> None:
    wanted = sorted(set(ids))
    if not wanted:
        return
    tx.run(delete(tags).where(tags.c.resource_id.in_(wanted)))
    tx.run(delete(floating_ips).where(floating_ips.c.id.in_(wanted)))


def floating_of_ports(tx: Tx, port_ids: Iterable[str]) -> list[FloatingIp]:
    """Floating IPs that lead to these ports."""
    wanted = sorted(set(port_ids))
    return [_floating(row) for row in tx.find_all(floating_ips, {"port_id": wanted})]


def floating_of_router(tx: Tx, router_id: str) -> list[FloatingIp]:
    return [_floating(row) for row in tx.all(select(floating_ips).where(floating_ips.c.router_id == router_id))]


def floating_of_network(tx: Tx, network_id: str) -> list[FloatingIp]:
    """Floating IPs whose addresses are of an external network."""
    return [
        _floating(row) for row in tx.all(select(floating_ips).where(floating_ips.c.floating_network_id == network_id))
    ]


def floating_of_fixed(tx: Tx, port_id: str, fixed_ip: str, network_id: str) -> FloatingIp | None:
    c = floating_ips.c
    row = tx.one(
        select(floating_ips).where(
            c.port_id == port_id, c.fixed_ip_address == fixed_ip, c.floating_network_id == network_id
        )
    )
    return None if row is None else _floating(row)


def floating_on_subnet(tx: Tx, router_id: str, subnet_id: str) -> int:
    """How many floating IPs go through a router into a subnet."""
    return int(
        tx.value(
            select(func.count())
            .select_from(
                floating_ips.join(
                    ip_allocations,
                    (ip_allocations.c.port_id == floating_ips.c.port_id)
                    & (ip_allocations.c.ip_address == floating_ips.c.fixed_ip_address),
                )
            )
            .where(floating_ips.c.router_id == router_id, ip_allocations.c.subnet_id == subnet_id)
        )
        or 0
    )


def detach_ports(tx: Tx, port_ids: Iterable[str], now: str) -> list[str]:
    """Let go of ports that go away; the ids of the floating IPs that led to them."""
    found = [floating.id for floating in floating_of_ports(tx, port_ids)]
    for id in found:
        change_floating(tx, id, {"port_id": None, "fixed_ip_address": None, "router_id": None, "status": "DOWN"}, now)
    return found
