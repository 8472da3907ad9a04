"""From rows to what the driver is told: pure functions, one per kind of thing."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any, Literal, cast

from cumulet.network import records
from cumulet.network.config import NetworkConfig
from cumulet.network.drivers import driver

__all__ = ["IN_ROUTERS", "WITHOUT_PORT", "floating_ip", "network", "port", "router", "security_group", "subnet"]

#: ports that the driver makes with their router
IN_ROUTERS = frozenset({"network:router_interface", "network:router_gateway"})
#: ports that hold an address and are nothing in the data plane
WITHOUT_PORT = frozenset({"network:floatingip"})

_Mode = Literal["slaac", "dhcpv6-stateful", "dhcpv6-stateless"]


def _mode(value: str | None) -> _Mode | None:
    return cast("_Mode | None", value)


def _version(value: int) -> Literal[4, 6]:
    return 6 if value == 6 else 4


def network(row: records.Network) -> driver.Network:
    return driver.Network(
        id=row.id,
        name=row.name,
        mtu=row.mtu,
        physical_network=row.physical_network,
        vlan=row.segmentation_id if row.network_type == "vlan" else None,
    )


def subnet(row: records.Subnet, of: records.Network, config: NetworkConfig) -> driver.Subnet:
    dns = tuple(row.dns_nameservers)
    if not dns and row.ip_version == 4:
        dns = config.dns_servers
        if not dns and config.dns_at_metadata_address and row.metadata_address:
            dns = (row.metadata_address,)
    return driver.Subnet(
        id=row.id,
        network_id=row.network_id,
        cidr=row.cidr,
        ip_version=_version(row.ip_version),
        gateway_ip=row.gateway_ip,
        enable_dhcp=row.enable_dhcp,
        dns_nameservers=dns,
        dns_domain=of.dns_domain or config.dns_domain,
        host_routes=tuple(
            driver.HostRoute(destination=r["destination"], nexthop=r["nexthop"]) for r in row.host_routes
        ),
        metadata_address=row.metadata_address,
        mtu=of.mtu,
        ipv6_ra_mode=_mode(row.ipv6_ra_mode),
        ipv6_address_mode=_mode(row.ipv6_address_mode),
    )


def port(row: records.Port) -> driver.Port:
    return driver.Port(
        id=row.id,
        network_id=row.network_id,
        mac=row.mac_address,
        name=row.name,
        fixed_ips=tuple(driver.FixedIp(subnet_id=ip["subnet_id"], address=ip["ip_address"]) for ip in row.fixed_ips),
        device_id=row.device_id,
        device_owner=row.device_owner,
        project_id=row.project_id,
        admin_up=row.admin_state_up,
        port_security_enabled=row.port_security_enabled,
        security_group_ids=tuple(row.security_groups),
        allowed_address_pairs=tuple(
            driver.AddressPair(
                address=p["ip_address"], mac=None if p["mac_address"] == row.mac_address else p["mac_address"]
            )
            for p in row.allowed_address_pairs
        ),
        extra_dhcp_opts=tuple(
            driver.DhcpOption(name=o["opt_name"], value=o["opt_value"], ip_version=_version(o["ip_version"]))
            for o in row.extra_dhcp_opts
        ),
        binding_host=row.binding_host_id if row.binding_vnic_type == "normal" else "",
    )


def security_group(row: records.SecurityGroup) -> driver.SecurityGroup:
    return driver.SecurityGroup(
        id=row.id, name=row.name, stateful=row.stateful, rules=tuple(_rule(rule) for rule in row.rules)
    )


def _rule(row: records.SecurityGroupRule) -> driver.SecurityGroupRule:
    prefix = row.remote_ip_prefix
    return driver.SecurityGroupRule(
        id=row.id,
        direction="ingress" if row.direction == "ingress" else "egress",
        ethertype="IPv6" if row.ethertype == "IPv6" else "IPv4",
        protocol=row.protocol,
        port_range_min=row.port_range_min,
        port_range_max=row.port_range_max,
        remote_ip_prefix=None if prefix is None else str(ipaddress.ip_network(prefix, strict=False)),
        remote_group_id=row.remote_group_id,
    )


def _addresses(
    fixed_ips: Iterable[Mapping[str, str]], subnets: Mapping[str, records.Subnet]
) -> tuple[driver.InterfaceAddress, ...]:
    return tuple(
        driver.InterfaceAddress(address=ip["ip_address"], prefix=int(subnets[ip["subnet_id"]].cidr.rpartition("/")[2]))
        for ip in fixed_ips
        if ip["subnet_id"] in subnets
    )


def router(
    row: records.Router,
    ports: Iterable[records.Port],
    subnets: Mapping[str, records.Subnet],
    networks: Mapping[str, records.Network],
) -> driver.Router:
    """A router with its ports: the interfaces, and the gateway where there is one."""
    interfaces: list[driver.RouterInterface] = []
    gateway: driver.RouterGateway | None = None
    for foot in ports:
        of = networks.get(foot.network_id)
        if of is None:
            continue
        if foot.id == row.gateway_port_id:
            hops = [subnets[ip["subnet_id"]].gateway_ip for ip in foot.fixed_ips if ip["subnet_id"] in subnets]
            gateway = driver.RouterGateway(
                port_id=foot.id,
                network_id=foot.network_id,
                mac=foot.mac_address,
                addresses=_addresses(foot.fixed_ips, subnets),
                nexthops=tuple(dict.fromkeys(hop for hop in hops if hop)),
                enable_snat=row.enable_snat,
            )
        else:
            modes = [subnets[ip["subnet_id"]].ipv6_address_mode for ip in foot.fixed_ips if ip["subnet_id"] in subnets]
            interfaces.append(
                driver.RouterInterface(
                    port_id=foot.id,
                    network_id=foot.network_id,
                    mac=foot.mac_address,
                    addresses=_addresses(foot.fixed_ips, subnets),
                    mtu=of.mtu,
                    ipv6_address_mode=_mode(next((mode for mode in modes if mode), None)),
                )
            )
    return driver.Router(
        id=row.id,
        name=row.name,
        admin_up=row.admin_state_up,
        interfaces=tuple(interfaces),
        gateway=gateway,
        routes=tuple(driver.HostRoute(destination=r["destination"], nexthop=r["nexthop"]) for r in row.routes),
    )


def floating_ip(row: records.FloatingIp) -> driver.FloatingIp:
    return driver.FloatingIp(
        id=row.id,
        external_ip=row.floating_ip_address,
        router_id=row.router_id,
        port_id=row.port_id,
        fixed_ip=row.fixed_ip_address,
        mac=row.floating_mac,
    )


def dns_assignment(row: Any, domain: str) -> list[dict[str, str]]:
    """The names of a port's addresses: its own name, or one made of the address."""
    assigned = []
    for ip in row.fixed_ips:
        address = ip["ip_address"]
        host = row.dns_name.partition(".")[0] if row.dns_name else "host-" + address.replace(".", "-").replace(":", "-")
        assigned.append({"ip_address": address, "hostname": host, "fqdn": f"{host}.{domain}" if domain else host})
    return assigned
