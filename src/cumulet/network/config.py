"""What an operator may set of the network service: one frozen struct, read once and passed by argument."""

from __future__ import annotations

import msgspec

__all__ = ["GENEVE_OVERHEAD_BYTES", "MAC_PREFIX", "NetworkConfig"]

#: those of the reference
MAC_PREFIX = "fa:16:3e"

#: outer IPv4, UDP and geneve headers with OVN's option
GENEVE_OVERHEAD_BYTES = 58

QUOTAS: dict[str, int] = {
    "network": 1_000,
    "subnet": 1_000,
    "subnetpool": 1_000,
    "port": 20_000,
    "router": 100,
    "floatingip": 500,
    "security_group": 400,
    "security_group_rule": 2_000,
    "rbac_policy": 100,
}


class NetworkConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the network service."""

    #: the external network that `bootstrap` makes, and where it is on the host
    external_name: str = "public"
    external_physical_network: str = "physnet1"
    external_cidr: str = "172.24.4.0/24"
    #: None: the first address of the CIDR
    external_gateway: str | None = None
    #: first and last address given out; None: everything but the gateway
    external_pool: tuple[str, str] | None = None
    #: largest frame of the network below the tunnels, and of flat and VLAN networks
    underlay_mtu: int = 1500
    #: the first three bytes of every MAC address made here
    mac_prefix: str = MAC_PREFIX
    #: told by DHCP where a subnet names none
    dns_servers: tuple[str, ...] = ()
    #: tell guests the metadata port's own address as their resolver, where nothing else is named
    dns_at_metadata_address: bool = False
    dns_domain: str = "openstacklocal."
    bridge: str = "br-int"
    datapath_type: str = "system"
    availability_zone: str = "nova"
    vlan_range: tuple[int, int] = (1, 4094)
    geneve_range: tuple[int, int] = (1, 65_535)
    #: the default quota of a project by resource; -1 is without limit
    quotas: dict[str, int] = msgspec.field(default_factory=lambda: dict(QUOTAS))
    page_max: int = 1_000
    dns_nameservers_max: int = 5
    host_routes_max: int = 20
    address_pairs_max: int = 10
    fixed_ips_max: int = 16
    routes_max: int = 30
    bulk_max: int = 500
    tags_max: int = 50

    @property
    def tunnel_mtu(self) -> int:
        return self.underlay_mtu - GENEVE_OVERHEAD_BYTES

    def mtu_max(self, network_type: str) -> int:
        return self.tunnel_mtu if network_type == "geneve" else self.underlay_mtu
