"""Addresses for guests: OVN's native DHCP, one row per subnet, and one more for a port that has options of its own.

ovn-controller on the guest's host answers by itself; there is no DHCP agent.  A subnet whose DHCP is off, and an IPv6
subnet whose guests make their own address, has no row.  (When DHCP comes back, ports with options of their own must
be ensured again.)

What stands in a row becomes part of a logical flow's text, so nothing goes in that is not a number, an address, a
known word or a quoted string: OVN would read a bracket as its own.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Callable, Iterable
from typing import Final

from cumulet.network.drivers import names
from cumulet.network.drivers.driver import DhcpOption, NetworkRefused, Port, Subnet
from cumulet.network.drivers.ovn_rows import Row, Rows

__all__ = ["PORT_OPTIONS_KEY", "options_for_port", "remove_port_options", "remove_subnet", "server_mac", "write_subnet"]

_METADATA: Final = "169.254.169.254/32"
_LEASE_S: Final = 43200
#: a port's own options, kept with its row so that a later change of the subnet can merge them again
PORT_OPTIONS_KEY: Final = "cumulet:dhcp_options"

# dnsmasq names and numbers, as the API takes them → OVN's names (man ovn-nb, DHCP_Options).
_V4_NAMES: Final = {
    "arp-timeout": "arp_cache_timeout", "bootfile-name": "bootfile_name", "default-ttl": "default_ttl",
    "dns-server": "dns_server", "domain-name": "domain_name", "domain-search": "domain_search_list",
    "ethernet-encap": "ethernet_encap", "hostname": "hostname", "ip-forward-enable": "ip_forward_enable",
    "lease-time": "lease_time", "log-server": "log_server", "lpr-server": "lpr_server", "mtu": "mtu",
    "netmask": "netmask", "nis-server": "nis_server", "ntp-server": "ntp_server", "path-prefix": "path_prefix",
    "router": "router", "router-discovery": "router_discovery", "router-solicitation": "router_solicitation",
    "server-ip-address": "tftp_server_address", "swap-server": "swap_server", "T1": "T1", "T2": "T2",
    "tcp-keepalive": "tcp_keepalive_interval", "tcp-ttl": "tcp_ttl", "tftp-server": "tftp_server",
    "tftp-server-address": "tftp_server_address", "wpad": "wpad",
    "1": "netmask", "3": "router", "6": "dns_server", "7": "log_server", "9": "lpr_server", "12": "hostname",
    "15": "domain_name", "16": "swap_server", "19": "ip_forward_enable", "23": "default_ttl", "26": "mtu",
    "31": "router_discovery", "32": "router_solicitation", "35": "arp_cache_timeout", "36": "ethernet_encap",
    "37": "tcp_ttl", "38": "tcp_keepalive_interval", "41": "nis_server", "42": "ntp_server", "51": "lease_time",
    "58": "T1", "59": "T2", "66": "tftp_server", "67": "bootfile_name", "119": "domain_search_list",
    "150": "tftp_server_address", "210": "path_prefix", "252": "wpad",
}  # fmt: skip
_V6_NAMES: Final = {
    "dns-server": "dns_server", "domain-search": "domain_search", "23": "dns_server", "24": "domain_search",
}  # fmt: skip
_TEXT: Final = {
    "bootfile_name", "domain_name", "domain_search", "domain_search_list", "hostname", "path_prefix", "tftp_server",
    "wpad",
}  # fmt: skip
_ADDRESS: Final = {"netmask", "router", "router_solicitation", "swap_server", "tftp_server_address"}
_ADDRESSES: Final = {"dns_server", "log_server", "lpr_server", "nis_server", "ntp_server"}


def server_mac(subnet_id: str) -> str:
    """The address the DHCP server of a subnet speaks from: the same for each try, and nobody else's."""
    digest = hashlib.sha256(f"dhcp:{subnet_id}".encode()).hexdigest()
    return f"fa:16:3e:{digest[:2]}:{digest[2:4]}:{digest[4:6]}"


def write_subnet(rows: Rows, subnet: Subnet, ports: Callable[[], list[Row]]) -> None:
    """Make the subnet's row, and its ports' own ones, say what the subnet says; `ports` gives those of its network."""
    options = _options(subnet)
    found = rows.with_external_id("DHCP_Options", names.SUBNET_KEY, subnet.id)
    if options is None:
        for row in found:
            row.delete()
        return
    common: Row | None = None
    for row in found:
        extra = row.external_ids.get(PORT_OPTIONS_KEY)
        if extra is None:
            common = row
            rows.change(row, cidr=subnet.cidr, options=options)
        else:
            rows.change(row, cidr=subnet.cidr, options={**options, **_unpack(extra)})
    if common is not None:
        return
    ids = {names.SUBNET_KEY: subnet.id, names.NETWORK_KEY: names.switch(subnet.network_id)}
    common = rows.insert("DHCP_Options", cidr=subnet.cidr, options=options, external_ids=ids)
    column = f"dhcpv{subnet.ip_version}_options"
    for port in ports():
        if (
            subnet.id in port.external_ids.get("cumulet:subnets", "").split()
            and port.type == ""
            and not getattr(port, column)
        ):
            setattr(port, column, [common])


def remove_subnet(rows: Rows, subnet_id: str) -> None:
    for row in rows.with_external_id("DHCP_Options", names.SUBNET_KEY, subnet_id):
        row.delete()


def options_for_port(rows: Rows, port: Port, ip_version: int) -> list[Row]:
    """The row that answers this port: that of the first of its subnets that has one, with the port's own merged in."""
    extra = _extra(port.extra_dhcp_opts, ip_version)
    own = [row for row in rows.with_external_id("DHCP_Options", names.PORT_KEY, port.id) if _version(row) == ip_version]
    common = None if extra is None else _common(rows, port, ip_version)
    if common is None or not extra:
        for row in own:
            row.delete()
        return [] if common is None else [common]
    columns = {
        "cidr": common.cidr,
        "options": {**common.options, **extra},
        "external_ids": {**common.external_ids, names.PORT_KEY: port.id, PORT_OPTIONS_KEY: _pack(extra)},
    }
    if len(own) == 1 and rows.equal(own[0], **columns):
        return own
    for row in own:
        row.delete()
    return [rows.insert("DHCP_Options", **columns)]


def remove_port_options(rows: Rows, port_id: str) -> None:
    for row in rows.with_external_id("DHCP_Options", names.PORT_KEY, port_id):
        row.delete()


def _common(rows: Rows, port: Port, ip_version: int) -> Row | None:
    for fixed_ip in port.fixed_ips:
        for row in rows.with_external_id("DHCP_Options", names.SUBNET_KEY, fixed_ip.subnet_id):
            if names.PORT_KEY not in row.external_ids and _version(row) == ip_version:
                return row
    return None


def _version(row: Row) -> int:
    return ipaddress.ip_network(row.cidr, strict=False).version


def _options(subnet: Subnet) -> dict[str, str] | None:
    if not subnet.enable_dhcp:
        return None
    return _options_v4(subnet) if subnet.ip_version == 4 else _options_v6(subnet)


def _options_v4(subnet: Subnet) -> dict[str, str] | None:
    server = subnet.gateway_ip or subnet.metadata_address
    if server is None:
        return None
    options = {
        "server_id": _address(server),
        "server_mac": server_mac(subnet.id),
        "lease_time": str(_LEASE_S),
        "mtu": str(subnet.mtu),
    }
    routes = [(route.destination, route.nexthop) for route in subnet.host_routes]
    if subnet.metadata_address:
        routes.insert(0, (_METADATA, subnet.metadata_address))
    if subnet.gateway_ip:
        options["router"] = _address(subnet.gateway_ip)
        # A client that is given option 121 ignores option 3 (RFC 3442): the default route stands in both.
        if routes and not any(destination == "0.0.0.0/0" for destination, _ in routes):
            routes.append(("0.0.0.0/0", subnet.gateway_ip))
    if routes:
        pairs = (f"{_prefix(destination)},{_address(nexthop)}" for destination, nexthop in routes)
        options["classless_static_route"] = "{" + ", ".join(pairs) + "}"
    if subnet.dns_nameservers:
        options["dns_server"] = _list(subnet.dns_nameservers)
    if subnet.dns_domain:
        options["domain_name"] = _quoted(subnet.dns_domain.rstrip("."))
    return options


def _options_v6(subnet: Subnet) -> dict[str, str] | None:
    if subnet.ipv6_address_mode in {None, "slaac"}:
        return None
    options = {"server_id": server_mac(subnet.id)}
    servers = [server for server in subnet.dns_nameservers if ":" in server]
    if servers:
        options["dns_server"] = _list(servers)
    if subnet.dns_domain:
        options["domain_search"] = _quoted(subnet.dns_domain.rstrip("."))
    if subnet.ipv6_address_mode == "dhcpv6-stateless":
        options["dhcpv6_stateless"] = "true"
    return options


def _extra(options: tuple[DhcpOption, ...], ip_version: int) -> dict[str, str] | None:
    """A port's own options in OVN's words; what OVN has no word for is left out.  None: DHCP is off for this port."""
    known = _V4_NAMES if ip_version == 4 else _V6_NAMES
    found: dict[str, str] = {}
    for option in options:
        if option.ip_version != ip_version:
            continue
        if option.name == "dhcp_disabled":
            if option.value.lower() == "true":
                return None
            continue
        name = known.get(option.name.replace("_", "-").removeprefix("option:").removeprefix("option6:"))
        if name is not None:
            found[name] = _value(name, option.value)
    return found


def _value(name: str, value: str) -> str:
    if name in _TEXT:
        return _quoted(value)
    if name in _ADDRESS:
        return _address(value)
    if name in _ADDRESSES:
        return _list(part.strip() for part in value.strip("{}").split(","))
    if not value.isascii() or not value.isdigit():
        raise NetworkRefused(detail=f"DHCP option {name}: {value!r} is no number")
    return value


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise NetworkRefused(detail=f"DHCP: {text!r} is no address") from None


def _prefix(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        raise NetworkRefused(detail=f"DHCP: {text!r} is no network") from None


def _list(values: Iterable[str]) -> str:
    return "{" + ", ".join(_address(value) for value in values) + "}"


def _quoted(text: str) -> str:
    """A string as OVN's parser reads it."""
    if not text.isprintable():
        raise NetworkRefused(detail="DHCP: control characters in a text option")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _pack(options: dict[str, str]) -> str:
    return "\n".join(f"{name}={value}" for name, value in sorted(options.items()))


def _unpack(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines())
