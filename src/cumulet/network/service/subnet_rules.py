"""What makes a subnet sound: pure checks of ranges, gateways, modes and name servers."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cumulet.network import addresses, errors
from cumulet.network.config import NetworkConfig
from cumulet.network.records import Network, Subnet

__all__ = ["check", "check_gateway", "check_overlap", "check_pools"]

Pool = dict[str, str]

DHCP_PREFIX_MAX = {4: 30, 6: 126}
MTU_MIN = {4: 68, 6: 1280}


def check(wanted: Mapping[str, Any], network: Network, config: NetworkConfig, before: Subnet | None = None) -> None:
    """Raise unless the attributes of a new or changed subnet fit each other.

    wanted: `ip_version` and `cidr` and whatever else is given; before: the subnet as it was, in an update.
    """
    family, cidr, id = wanted["ip_version"], wanted["cidr"], before.id if before else "new subnet"
    whole = ipaddress.ip_network(cidr)
    if whole.version != family:
        raise errors.InvalidInput(reason=f"cidr '{cidr}' does not match the ip_version '{family}'")
    if whole.prefixlen == 0:
        raise errors.InvalidInput(reason="0 is not allowed as CIDR prefix length")
    if family == 6 and int(whole.network_address) == 0:
        raise errors.InvalidInput(reason="IPv6 subnet '::' is not supported")
    if network.mtu < MTU_MIN[family]:
        raise errors.NetworkMTUSubnetConflict(id=network.id, mtu=MTU_MIN[family])
    if wanted.get("enable_dhcp") and not (before and before.enable_dhcp):
        _check_dhcp(whole)
    if wanted.get("gateway_ip"):
        check_gateway(family, cidr, wanted["gateway_ip"])
    if len(wanted.get("dns_nameservers") or []) > config.dns_nameservers_max:
        raise errors.DNSNameServersExhausted(id=id, quota=config.dns_nameservers_max)
    for server in wanted.get("dns_nameservers") or []:
        _same_family(family, server, "dns_nameserver")
    if len(wanted.get("host_routes") or []) > config.host_routes_max:
        raise errors.HostRoutesExhausted(id=id, quota=config.host_routes_max)
    for route in wanted.get("host_routes") or []:
        _same_family(family, route["destination"], "host_route")
        _same_family(family, route["nexthop"], "host_route")
    _check_modes(wanted, whole.prefixlen, before)


def _check_dhcp(whole: ipaddress.IPv4Network | ipaddress.IPv6Network) -> None:
    if whole.prefixlen > DHCP_PREFIX_MAX[whole.version]:
        raise errors.InvalidInput(reason="Subnet has a prefix length that is incompatible with DHCP service enabled")
    if whole.is_multicast:
        raise errors.InvalidInput(reason="Multicast IP subnet is not supported if enable_dhcp is True")
    if whole.is_loopback:
        raise errors.InvalidInput(reason="Loopback IP subnet is not supported if enable_dhcp is True")
    if whole.version == 4 and int(whole.network_address) == 0:
        raise errors.InvalidInput(reason="First IP '0.0.0.0' of network is not supported if enable_dhcp is True.")


def _same_family(family: int, address: str, what: str) -> None:
    if addresses.version(address) != family:
        raise errors.InvalidInput(reason=f"{what} '{address}' does not match the ip_version '{family}'")


def check_gateway(family: int, cidr: str, gateway: str) -> None:
    _same_family(family, gateway, "gateway_ip")
    whole, ip = ipaddress.ip_network(cidr), ipaddress.ip_address(gateway)
    edges = {whole.network_address, whole.broadcast_address}
    if family == 4 and whole.num_addresses > 2 and ip in edges:
        raise errors.InvalidInput(reason="Gateway is not valid on subnet")


def _check_modes(wanted: Mapping[str, Any], prefixlen: int, before: Subnet | None) -> None:
    ra, mode = wanted.get("ipv6_ra_mode"), wanted.get("ipv6_address_mode")
    if wanted["ip_version"] == 4:
        for name, value in (("ipv6_ra_mode", ra), ("ipv6_address_mode", mode)):
            if value:
                raise errors.InvalidInput(reason=f"{name} is not valid when ip_version is 4")
        return
    if before is not None:
        if wanted.get("enable_dhcp") is False and (before.ipv6_ra_mode or before.ipv6_address_mode):
            raise errors.InvalidInput(reason="Cannot disable enable_dhcp with ipv6 attributes set")
        return
    if not ra and not mode:
        return
    if not wanted.get("enable_dhcp"):
        raise errors.InvalidInput(
            reason="ipv6_ra_mode or ipv6_address_mode cannot be set when enable_dhcp is set to False"
        )
    if ra and mode and ra != mode:
        raise errors.InvalidInput(
            reason=f"ipv6_ra_mode set to '{ra}' with ipv6_address_mode set to '{mode}' is not valid. "
            "If both attributes are set, they must be the same value"
        )
    if {ra, mode} & {"slaac", "dhcpv6-stateless"} and prefixlen != 64:
        raise errors.InvalidInput(
            reason=f"Invalid CIDR {wanted['cidr']} for IPv6 address mode. OpenStack uses the EUI-64 address format, "
            "which requires the prefix to be /64"
        )


def check_pools(cidr: str, pools: Sequence[Pool], gateway: str | None) -> list[Pool]:
    """The pools in order, neighbours joined; raise unless they lie in the subnet, apart from each other and from the gateway."""
    family = addresses.version(cidr)
    first, last = addresses.first_last(cidr)
    ranges: list[tuple[int, int, str]] = []
    for pool in pools:
        name = f"{pool['start']}-{pool['end']}"
        if {addresses.version(pool["start"]), addresses.version(pool["end"])} != {family}:
            raise errors.InvalidAllocationPool(pool=name)
        low, high = int(ipaddress.ip_address(pool["start"])), int(ipaddress.ip_address(pool["end"]))
        if low > high:
            raise errors.InvalidAllocationPool(pool=name)
        if low < first or high > last:
            raise errors.OutOfBoundsAllocationPool(pool=name, cidr=cidr)
        for other_low, other_high, other in ranges:
            if low <= other_high and other_low <= high:
                raise errors.OverlappingAllocationPools(first=other, second=name, cidr=cidr)
        ranges.append((low, high, name))
    check_gateway_outside(ranges, gateway)
    return addresses.merged(pools)


def check_gateway_outside(ranges: Iterable[tuple[int, int, str]], gateway: str | None) -> None:
    if gateway is None:
        return
    number = int(ipaddress.ip_address(gateway))
    for low, high, name in ranges:
        if low <= number <= high:
            raise errors.GatewayConflictWithAllocationPools(address=gateway, pool=name)


def check_overlap(network: Network, cidr: str, there: Iterable[Subnet]) -> None:
    for subnet in there:
        if addresses.overlaps(cidr, subnet.cidr):
            # no word of which subnet it is
            raise errors.InvalidInput(
                reason=f"Requested subnet with cidr: {cidr} for network: {network.id} overlaps with another subnet"
            )
