"""Networks and ports in OVN: logical switches and their ports, anti-spoofing, and who is in which port group."""

from __future__ import annotations

from typing import Any, Final

from cumulet.network.drivers import names, ovn_acl, ovn_dhcp
from cumulet.network.drivers.driver import Network, NetworkMissing, Port
from cumulet.network.drivers.ovn_rows import Row, Rows

__all__ = [
    "LOCALPORT_OWNER",
    "drop_port_row",
    "ensure_network",
    "ensure_port",
    "network_row",
    "ports_of",
    "remove_network",
    "remove_port",
    "router_side",
]

LOCALPORT_OWNER: Final = "network:distributed"
_FLOATING_IP_OWNER: Final = "network:floatingip"
_GATEWAY_OWNER: Final = "network:router_gateway"
_ROUTER_OWNERS: Final = {
    _GATEWAY_OWNER, "network:router_interface", "network:router_interface_distributed",
    "network:ha_router_replicated_interface",
}  # fmt: skip

# keys in a port's external_ids
_GROUPS: Final = "cumulet:port_groups"
_SUBNETS: Final = "cumulet:subnets"


def network_row(rows: Rows, network_id: str) -> Row:
    row = rows.named("Logical_Switch", names.switch(network_id))
    if row is None:
        raise NetworkMissing(kind="network", id=network_id)
    return row


def ensure_network(rows: Rows, network: Network) -> None:
    switch = rows.ensure_named(
        "Logical_Switch",
        names.switch(network.id),
        other_config={"mcast_snoop": "false", "vlan-passthru": "false"},
        external_ids={"neutron:network_name": network.name, "neutron:mtu": str(network.mtu)},
    )
    name = names.provider_port(network.id)
    port = rows.named("Logical_Switch_Port", name)
    if network.physical_network is None:
        if port is not None:
            rows.drop_child(switch, "ports", port)
        return
    columns: dict[str, Any] = {
        "type": "localnet",
        "addresses": ["unknown"],
        "options": {"network_name": network.physical_network, "mcast_flood": "false", "mcast_flood_reports": "true"},
        "tag": [] if network.vlan is None else [network.vlan],
        "external_ids": {names.NETWORK_KEY: names.switch(network.id)},
    }
    if port is None:
        rows.add(switch, "ports", rows.insert("Logical_Switch_Port", name=name, **columns))
    else:
        rows.change(port, **columns)


def remove_network(rows: Rows, network_id: str) -> None:
    name = names.switch(network_id)
    switch = rows.named("Logical_Switch", name)
    for row in list(rows.all("DHCP_Options")):
        if row.external_ids.get(names.NETWORK_KEY) == name:
            row.delete()
    if switch is None:
        return
    for port in rows.members(switch, "ports"):
        port.delete()
    switch.delete()


def ports_of(rows: Rows, network_id: str) -> list[Row]:
    return rows.members(network_row(rows, network_id), "ports")


def ensure_port(rows: Rows, port: Port) -> None:
    if port.device_owner == _FLOATING_IP_OWNER:
        return
    switch = network_row(rows, port.network_id)
    row = rows.named("Logical_Switch_Port", port.id)
    before = set(row.external_ids.get(_GROUPS, "").split()) if row is not None else set()
    wanted = _groups(port)
    columns = {
        **_kind(port),
        "enabled": [port.admin_up],
        "dhcpv4_options": [],
        "dhcpv6_options": [],
        "external_ids": _external_ids(port, wanted),
    }
    if columns["type"] == "":
        columns["dhcpv4_options"] = ovn_dhcp.options_for_port(rows, port, 4)
        columns["dhcpv6_options"] = ovn_dhcp.options_for_port(rows, port, 6)
    if row is None:
        row = rows.insert("Logical_Switch_Port", name=port.id, **columns)
        rows.add(switch, "ports", row)
    else:
        rows.change(row, **columns)
    for name in wanted - before:
        rows.add(_group_row(rows, port, name), "ports", row)
    for name in before - wanted:
        group = rows.named("Port_Group", name)
        if group is not None:
            rows.take(group, "ports", row)


def remove_port(rows: Rows, port_id: str) -> None:
    ovn_dhcp.remove_port_options(rows, port_id)
    row = rows.named("Logical_Switch_Port", port_id)
    if row is not None:
        drop_port_row(rows, row)


def drop_port_row(rows: Rows, row: Row) -> None:
    """Port groups name ports weakly: they forget it by themselves."""
    switch = rows.named("Logical_Switch", row.external_ids.get(names.NETWORK_KEY, ""))
    rows.drop_child(switch, "ports", row)


def router_side(port_id: str, *, gateway: bool) -> dict[str, Any]:
    """The columns of a switch port that is the other end of a router's."""
    options = {"router-port": names.router_port(port_id)}
    if gateway:
        # The gateway's host announces the router's and the floating IPs' addresses.
        options["nat-addresses"] = "router"
    return {"type": "router", "addresses": ["router"], "port_security": [], "options": options}


def _kind(port: Port) -> dict[str, Any]:
    if port.device_owner in _ROUTER_OWNERS:
        return router_side(port.id, gateway=port.device_owner == _GATEWAY_OWNER)
    own = " ".join([port.mac, *(fixed_ip.address for fixed_ip in port.fixed_ips)])
    if port.device_owner == LOCALPORT_OWNER:
        return {"type": "localport", "addresses": [own], "port_security": [], "options": {}}
    options = {"requested-chassis": port.binding_host} if port.binding_host else {}
    if not _secured(port):
        return {"type": "", "addresses": [own, "unknown"], "port_security": [], "options": options}
    allowed, macs = _allowed(port, own)
    return {"type": "", "addresses": [own, *macs], "port_security": allowed, "options": options}


def _allowed(port: Port, own: str) -> tuple[list[str], list[str]]:
    """What the port may send as: `MAC ADDRESS…` per MAC; and the MACs that are not its own."""
    by_mac: dict[str, list[str]] = {}
    for pair in port.allowed_address_pairs:
        mac = (pair.mac or port.mac).lower()
        if mac == port.mac.lower():
            own = f"{own} {pair.address}"
        else:
            by_mac.setdefault(mac, []).append(pair.address)
    return [own, *(" ".join([mac, *addresses]) for mac, addresses in sorted(by_mac.items()))], sorted(by_mac)


def _secured(port: Port) -> bool:
    """Ports of the network itself are trusted, as in Neutron."""
    return port.port_security_enabled and not port.device_owner.startswith("network:")


def _groups(port: Port) -> set[str]:
    if not _secured(port):
        return set()
    return {names.DROP_GROUP, *(names.port_group(group_id) for group_id in port.security_group_ids)}


def _group_row(rows: Rows, port: Port, name: str) -> Row:
    if name == names.DROP_GROUP:
        return ovn_acl.ensure_drop_group(rows)
    group_id = next(group_id for group_id in port.security_group_ids if names.port_group(group_id) == name)
    return ovn_acl.port_group_for(rows, group_id)


def _external_ids(port: Port, groups: set[str]) -> dict[str, str]:
    return {
        "neutron:port_name": port.name,
        "neutron:device_id": port.device_id,
        "neutron:device_owner": port.device_owner,
        "neutron:project_id": port.project_id,
        "neutron:security_group_ids": " ".join(port.security_group_ids),
        names.NETWORK_KEY: names.switch(port.network_id),
        _GROUPS: " ".join(sorted(groups)),
        _SUBNETS: " ".join(fixed_ip.subnet_id for fixed_ip in port.fixed_ips),
    }
