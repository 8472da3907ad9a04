"""Routers and floating IPs in OVN.

A router is one logical router, a router port per interface with its peer on the switch, source NAT per tenant subnet,
and static routes.  Its gateway port is bound to the hosts that reach the external network; the first that lives does
the NAT.  Floating IPs are translated there too (centralised), unless the driver was told to distribute them: then the
guest's own host answers for the address, which needs an external network on every host.
"""

from __future__ import annotations

import ipaddress
from typing import Any, Final

from cumulet.network.drivers import names
from cumulet.network.drivers.driver import FloatingIp, NetworkMissing, Router, RouterGateway, RouterInterface
from cumulet.network.drivers.ovn_port import drop_port_row, network_row, router_side
from cumulet.network.drivers.ovn_rows import Row, Rows

__all__ = ["ensure_floating_ip", "ensure_router", "remove_floating_ip", "remove_router"]

_EXTERNAL_ROUTE: Final = "neutron:is_ext_gw"
_RA_MODES: Final = {
    "slaac": "slaac",
    "dhcpv6-stateful": "dhcpv6_stateful",
    "dhcpv6-stateless": "dhcpv6_stateless",
}


def ensure_router(rows: Rows, router: Router, gateway_chassis: tuple[str, ...]) -> None:
    for network_id in _networks(router):
        network_row(rows, network_id)
    row = rows.ensure_named(
        "Logical_Router",
        names.router(router.id),
        enabled=[router.admin_up],
        options={"always_learn_from_arp_request": "false", "dynamic_neigh_routers": "true"},
        external_ids={"neutron:router_name": router.name},
    )
    wanted = {names.router_port(interface.port_id) for interface in router.interfaces}
    if router.gateway is not None:
        wanted.add(names.router_port(router.gateway.port_id))
    for port in rows.members(row, "ports"):
        if port.name not in wanted:
            _drop_router_port(rows, row, port)
    for interface in router.interfaces:
        _ensure_interface(rows, row, router, interface)
    if router.gateway is not None:
        _ensure_gateway(rows, row, router, router.gateway, gateway_chassis)
    _ensure_source_nat(rows, row, router)
    _ensure_routes(rows, row, router)


def remove_router(rows: Rows, router_id: str) -> None:
    row = rows.named("Logical_Router", names.router(router_id))
    if row is None:
        return
    for port in rows.members(row, "ports"):
        _drop_peer(rows, port)
        port.delete()
    for nat in rows.members(row, "nat"):
        nat.delete()
    row.delete()


def ensure_floating_ip(rows: Rows, floating_ip: FloatingIp, *, distributed: bool) -> None:
    if floating_ip.router_id is None or floating_ip.fixed_ip is None:
        remove_floating_ip(rows, floating_ip.id)
        return
    name = names.router(floating_ip.router_id)
    router = rows.named("Logical_Router", name)
    if router is None:
        raise NetworkMissing(kind="router", id=floating_ip.router_id)
    local = distributed and floating_ip.port_id is not None and floating_ip.mac is not None
    columns: dict[str, Any] = {
        "type": "dnat_and_snat",
        "external_ip": floating_ip.external_ip,
        "logical_ip": floating_ip.fixed_ip,
        "logical_port": [floating_ip.port_id] if local else [],
        "external_mac": [floating_ip.mac] if local else [],
        "external_ids": {
            names.FLOATING_IP_KEY: floating_ip.id,
            "neutron:fip_port_id": floating_ip.port_id or "",
            "neutron:router_name": name,
        },
    }
    for nat in rows.with_external_id("NAT", names.FLOATING_IP_KEY, floating_ip.id):
        if rows.equal(nat, **columns):
            return
        _drop_floating_ip(rows, nat)
    rows.add(router, "nat", rows.insert("NAT", **columns))


def remove_floating_ip(rows: Rows, floating_ip_id: str) -> None:
    for nat in rows.with_external_id("NAT", names.FLOATING_IP_KEY, floating_ip_id):
        _drop_floating_ip(rows, nat)


def _drop_floating_ip(rows: Rows, nat: Row) -> None:
    rows.drop_child(rows.named("Logical_Router", nat.external_ids.get("neutron:router_name", "")), "nat", nat)


def _networks(router: Router) -> list[str]:
    gateway = [] if router.gateway is None else [router.gateway.network_id]
    return [interface.network_id for interface in router.interfaces] + gateway


def _ensure_interface(rows: Rows, row: Row, router: Router, interface: RouterInterface) -> None:
    advertise: dict[str, str] = {}
    if interface.ipv6_address_mode is not None:
        advertise = {
            "address_mode": _RA_MODES[interface.ipv6_address_mode],
            "send_periodic": "true",
            "mtu": str(interface.mtu),
        }
    _ensure_router_port(rows, row, router, interface, ipv6_ra_configs=advertise, options={})
    _ensure_peer(rows, interface, gateway=False)


def _ensure_gateway(rows: Rows, row: Row, router: Router, gateway: RouterGateway, hosts: tuple[str, ...]) -> None:
    port = _ensure_router_port(rows, row, router, gateway, ipv6_ra_configs={}, options={})
    # The first host is preferred; the next takes over when it is gone.
    wanted = {f"{port.name}_{host}": (host, len(hosts) - n) for n, host in enumerate(hosts)}
    present = {bound.name: bound for bound in rows.members(port, "gateway_chassis")}
    for name, bound in present.items():
        if name not in wanted:
            rows.drop_child(port, "gateway_chassis", bound)
    for name, (host, priority) in wanted.items():
        if name in present:
            rows.change(present[name], priority=priority)
        else:
            bound = rows.insert("Gateway_Chassis", name=name, chassis_name=host, priority=priority)
            rows.add(port, "gateway_chassis", bound)
    _ensure_peer(rows, gateway, gateway=True)


def _ensure_router_port(
    rows: Rows, row: Row, router: Router, foot: RouterInterface | RouterGateway, **columns: Any
) -> Row:
    name = names.router_port(foot.port_id)
    columns |= {
        "mac": foot.mac,
        "networks": [f"{address.address}/{address.prefix}" for address in foot.addresses],
        "external_ids": {
            names.NETWORK_KEY: names.switch(foot.network_id),
            "neutron:router_name": names.router(router.id),
        },
    }
    port = rows.named("Logical_Router_Port", name)
    if port is None:
        port = rows.insert("Logical_Router_Port", name=name, **columns)
        rows.add(row, "ports", port)
    else:
        rows.change(port, **columns)
    return port


def _ensure_peer(rows: Rows, foot: RouterInterface | RouterGateway, *, gateway: bool) -> None:
    columns = router_side(foot.port_id, gateway=gateway)
    peer = rows.named("Logical_Switch_Port", foot.port_id)
    if peer is None:
        ids = {names.NETWORK_KEY: names.switch(foot.network_id)}
        peer = rows.insert("Logical_Switch_Port", name=foot.port_id, external_ids=ids, **columns)
        rows.add(network_row(rows, foot.network_id), "ports", peer)
    else:
        rows.change(peer, **columns)


def _drop_router_port(rows: Rows, row: Row, port: Row) -> None:
    _drop_peer(rows, port)
    rows.drop_child(row, "ports", port)


def _drop_peer(rows: Rows, port: Row) -> None:
    peer = rows.named("Logical_Switch_Port", port.name.removeprefix(names.router_port("")))
    if peer is not None:
        drop_port_row(rows, peer)


def _ensure_source_nat(rows: Rows, row: Row, router: Router) -> None:
    wanted: set[tuple[str, str]] = set()
    gateway = router.gateway
    if gateway is not None and gateway.enable_snat:
        outside = next((a.address for a in gateway.addresses if ":" not in a.address), None)
        if outside is not None:
            wanted = {(outside, subnet) for subnet in _tenant_subnets(router)}
    for nat in rows.members(row, "nat"):
        if nat.type != "snat":
            continue
        key = (nat.external_ip, nat.logical_ip)
        if key in wanted:
            wanted.discard(key)
        else:
            rows.drop_child(row, "nat", nat)
    for external_ip, logical_ip in sorted(wanted):
        nat = rows.insert("NAT", type="snat", external_ip=external_ip, logical_ip=logical_ip)
        rows.add(row, "nat", nat)


def _tenant_subnets(router: Router) -> set[str]:
    """The IPv4 subnets behind the router: IPv6 is not translated."""
    return {
        str(ipaddress.ip_interface(f"{address.address}/{address.prefix}").network)
        for interface in router.interfaces
        for address in interface.addresses
        if ":" not in address.address
    }


def _ensure_routes(rows: Rows, row: Row, router: Router) -> None:
    wanted: dict[tuple[str, str], dict[str, str]] = {(route.destination, route.nexthop): {} for route in router.routes}
    if router.gateway is not None:
        for nexthop in router.gateway.nexthops:
            wanted[("::/0" if ":" in nexthop else "0.0.0.0/0", nexthop)] = {_EXTERNAL_ROUTE: "true"}
    for route in rows.members(row, "static_routes"):
        key = (route.ip_prefix, route.nexthop)
        if key in wanted:
            rows.change(route, external_ids=wanted.pop(key))
        else:
            rows.drop_child(row, "static_routes", route)
    for (prefix, nexthop), ids in wanted.items():
        route = rows.insert("Logical_Router_Static_Route", ip_prefix=prefix, nexthop=nexthop, external_ids=ids)
        rows.add(row, "static_routes", route)
