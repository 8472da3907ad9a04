"""Ports and the addresses they hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import bindparam, delete, func, or_, select

from cumulet.core.db.database import Tx
from cumulet.network.records import FixedIp, Port, Viewer
from cumulet.network.store import listing, networks, standard
from cumulet.network.store.listing import Condition, Search
from cumulet.network.store.standard import replace_tag_rows
from cumulet.network.tables import ip_allocations, port_security_groups, ports, tags

__all__ = [
    "add",
    "address_owner",
    "addresses_of",
    "by_device",
    "by_ids",
    "change",
    "changed_at",
    "get",
    "in_groups",
    "lists",
    "mac_in_use",
    "of_networks",
    "remove",
    "set_addresses",
    "set_groups",
    "set_status",
    "taken",
    "used_by_subnet",
]


def visible(viewer: Viewer) -> Condition:
    """Own, and those on one's own networks."""
    return or_(ports.c.project_id == (viewer.project_id or ""), ports.c.network_id.in_(networks.own_ids(viewer)))


def _record(row: dict[str, Any]) -> Port:
    return Port(**row)


def add(tx: Tx, port: Port) -> None:
    tx.insert(ports, {name: getattr(port, name) for name in port.__struct_fields__})
    _insert_addresses(tx, port.id, port.network_id, port.fixed_ips)
    _insert_groups(tx, port.id, port.security_groups)
    if port.tags:
        replace_tag_rows(tx, port.id, port.tags)


def get(tx: Tx, id: str, viewer: Viewer | None = None) -> Port | None:
    row = tx.find(ports, {"id": id})
    if row is None:
        return None
    if viewer is not None and not viewer.sees_all and row["project_id"] != (viewer.project_id or ""):
        row = tx.one(select(ports).where(ports.c.id == id, visible(viewer)))
    return None if row is None else _record(row)


def by_ids(tx: Tx, ids: Iterable[str]) -> dict[str, Port]:
    wanted = sorted(set(ids))
    if not wanted:
        return {}
    return {row["id"]: _record(row) for row in tx.all(select(ports).where(ports.c.id.in_(wanted)))}


def by_device(tx: Tx, device_ids: Iterable[str], owners: Iterable[str] = ()) -> list[Port]:
    """The ports of devices, in order of creation."""
    conditions = [ports.c.device_id.in_(sorted(set(device_ids)))]
    wanted = list(owners)
    if wanted:
        conditions.append(ports.c.device_owner.in_(wanted))
    return [_record(row) for row in tx.all(select(ports).where(*conditions).order_by(ports.c.created_at, ports.c.id))]


def of_networks(tx: Tx, network_ids: Iterable[str], owners: Iterable[str] = ()) -> list[Port]:
    conditions = [ports.c.network_id.in_(sorted(set(network_ids)))]
    wanted = list(owners)
    if wanted:
        conditions.append(ports.c.device_owner.in_(wanted))
    return [_record(row) for row in tx.all(select(ports).where(*conditions).order_by(ports.c.created_at, ports.c.id))]


def in_groups(tx: Tx, group_ids: Iterable[str]) -> set[str]:
    """Which of these security groups have ports."""
    column = port_security_groups.c.security_group_id
    return set(tx.values(select(column).where(column.in_(sorted(set(group_ids)))).distinct()))


def every(tx: Tx) -> list[Port]:
    return [_record(row) for row in tx.all(select(ports).order_by(ports.c.created_at))]


def lists(tx: Tx, search: Search) -> list[Port]:
    special: dict[str, listing.Special] = {"fixed_ips": _by_address, "security_groups": _by_group}
    return [_record(row) for row in listing.rows(tx, ports, search, visible(search.viewer), special)]


def _by_address(values: list[str]) -> Condition:
    """`ip_address=10.0.0.5`, `subnet_id=…`, `ip_address_substr=10.0`: any of one kind, all kinds together."""
    kinds: dict[str, list[str]] = {}
    for value in values:
        kind, _, wanted = value.partition("=")
        kinds.setdefault(kind.strip(), []).append(wanted.strip().strip("'\""))
    c = ip_allocations.c
    conditions: list[Condition] = []
    if "ip_address" in kinds:
        conditions.append(c.ip_address.in_(kinds["ip_address"]))
    if "subnet_id" in kinds:
        conditions.append(c.subnet_id.in_(kinds["subnet_id"]))
    if "ip_address_substr" in kinds:
        conditions.append(or_(*(c.ip_address.contains(part, autoescape=True) for part in kinds["ip_address_substr"])))
    return ports.c.id.in_(select(c.port_id).where(*conditions))


def _by_group(values: list[str]) -> Condition:
    c = port_security_groups.c
    return ports.c.id.in_(select(c.port_id).where(c.security_group_id.in_(values)))


def change(tx: Tx, id: str, values: dict[str, Any], now: str) -> int:
    return standard.change(tx, ports, id, values, now)


_CHANGED_AT = select(ports.c.updated_at).where(ports.c.id == bindparam("port_id"))


def changed_at(tx: Tx, id: str) -> str | None:
    """When somebody changed it last; its status, which is observed, does not count."""
    value: str | None = tx.value(_CHANGED_AT, port_id=id)
    return value


def set_status(tx: Tx, id: str, status: str, *, was: Sequence[str]) -> int:
    """Observed: by compare-and-set, without a new revision."""
    return tx.update(ports, {"id": id, "status": tuple(was)}, {"status": status})


def remove(tx: Tx, ids: Iterable[str]) -> None:
    wanted = sorted(set(ids))
    if not wanted:
        return
    tx.delete(ip_allocations, {"port_id": wanted})
    tx.delete(port_security_groups, {"port_id": wanted})
    tx.delete(tags, {"resource_id": wanted})
    tx.delete(ports, {"id": wanted})


# Addresses


def _insert_addresses(tx: Tx, port_id: str, network_id: str, fixed_ips: Sequence[FixedIp]) -> None:
    tx.insert_many(
        ip_allocations,
        [
            {"network_id": network_id, "ip_address": ip["ip_address"], "subnet_id": ip["subnet_id"], "port_id": port_id}
            for ip in fixed_ips
        ],
    )


def set_addresses(tx: Tx, port: Port, fixed_ips: list[FixedIp], now: str) -> None:
    """Make a port's addresses exactly these."""
    tx.run(delete(ip_allocations).where(ip_allocations.c.port_id == port.id))
    _insert_addresses(tx, port.id, port.network_id, fixed_ips)
    change(tx, port.id, {"fixed_ips": fixed_ips}, now)


def _insert_groups(tx: Tx, port_id: str, group_ids: Iterable[str]) -> None:
    tx.insert_many(port_security_groups, [{"port_id": port_id, "security_group_id": group} for group in group_ids])


def set_groups(tx: Tx, port_id: str, group_ids: list[str]) -> None:
    """The rows only; the list in the port's own row is changed with its other attributes."""
    tx.run(delete(port_security_groups).where(port_security_groups.c.port_id == port_id))
    _insert_groups(tx, port_id, group_ids)


def taken(tx: Tx, network_id: str, addresses: Iterable[str]) -> set[str]:
    """Which of these addresses are given out on a network."""
    where = {"network_id": network_id, "ip_address": tuple(addresses)}
    return {row["ip_address"] for row in tx.find_all(ip_allocations, where)}


def addresses_of(tx: Tx, subnet_id: str) -> set[str]:
    """Every address given out in a subnet."""
    return set(tx.values(select(ip_allocations.c.ip_address).where(ip_allocations.c.subnet_id == subnet_id)))


def used_by_subnet(tx: Tx, subnet_ids: Iterable[str]) -> dict[str, int]:
    """How many addresses of each subnet are given out."""
    c = ip_allocations.c
    wanted = sorted(set(subnet_ids))
    if not wanted:
        return {}
    query = select(c.subnet_id, func.count().label("used")).where(c.subnet_id.in_(wanted)).group_by(c.subnet_id)
    return {row["subnet_id"]: int(row["used"]) for row in tx.all(query)}


def address_owner(tx: Tx, network_id: str, address: str) -> str | None:
    """The port that holds an address."""
    c = ip_allocations.c
    value = tx.value(select(c.port_id).where(c.network_id == network_id, c.ip_address == address))
    return None if value is None else str(value)


def mac_in_use(tx: Tx, network_id: str, mac: str) -> bool:
    return tx.find(ports, {"network_id": network_id, "mac_address": mac}) is not None
