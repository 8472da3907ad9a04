"""What the store hands out: one frozen struct per kind of thing, its fields named as the table's columns."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = [
    "ACCESS_EXTERNAL",
    "ACCESS_SHARED",
    "EVERYBODY",
    "AddressScope",
    "FixedIp",
    "FloatingIp",
    "Network",
    "Port",
    "RbacPolicy",
    "Router",
    "SecurityGroup",
    "SecurityGroupRule",
    "Subnet",
    "SubnetPool",
    "Viewer",
]

FixedIp = dict[str, str]
"""{"subnet_id": …, "ip_address": …}"""


class Viewer(msgspec.Struct, frozen=True, kw_only=True):
    """Whose eyes the store looks with: a project's, or everybody's (admin, service)."""

    project_id: str | None
    sees_all: bool = False


class Standard(msgspec.Struct, frozen=True, kw_only=True):
    """What every resource has."""

    id: str
    project_id: str
    name: str
    description: str
    tags: list[str]
    created_at: str
    updated_at: str
    revision_number: int


class Network(Standard, frozen=True, kw_only=True):
    admin_state_up: bool
    status: str
    mtu: int
    shared: bool
    external: bool
    is_default: bool
    port_security_enabled: bool
    dns_domain: str
    network_type: str
    physical_network: str | None
    segmentation_id: int | None
    availability_zone_hints: list[str]
    subnets: list[str]


class Subnet(Standard, frozen=True, kw_only=True):
    network_id: str
    ip_version: int
    cidr: str
    gateway_ip: str | None
    enable_dhcp: bool
    allocation_pools: list[dict[str, str]]
    dns_nameservers: list[str]
    host_routes: list[dict[str, str]]
    ipv6_ra_mode: str | None
    ipv6_address_mode: str | None
    subnetpool_id: str | None
    service_types: list[str]
    dns_publish_fixed_ip: bool
    metadata_address: str | None

    @property
    def is_auto(self) -> bool:
        """Whether guests make their own address here, from the prefix and their MAC."""
        return bool({self.ipv6_address_mode, self.ipv6_ra_mode} & {"slaac", "dhcpv6-stateless"})


class Port(Standard, frozen=True, kw_only=True):
    network_id: str
    mac_address: str
    admin_state_up: bool
    status: str
    device_id: str
    device_owner: str
    fixed_ips: list[FixedIp]
    security_groups: list[str]
    allowed_address_pairs: list[dict[str, str]]
    extra_dhcp_opts: list[dict[str, Any]]
    port_security_enabled: bool
    binding_host_id: str
    binding_vnic_type: str
    binding_profile: dict[str, Any]
    dns_name: str
    dns_domain: str


class Router(Standard, frozen=True, kw_only=True):
    admin_state_up: bool
    status: str
    gateway_network_id: str | None
    gateway_port_id: str | None
    gateway_fixed_ips: list[FixedIp]
    enable_snat: bool
    routes: list[dict[str, str]]
    availability_zone_hints: list[str]


class FloatingIp(Standard, frozen=True, kw_only=True):
    floating_network_id: str
    floating_ip_address: str
    floating_port_id: str
    floating_mac: str
    port_id: str | None
    fixed_ip_address: str | None
    router_id: str | None
    status: str
    dns_name: str
    dns_domain: str
    #: facts of the internal port, joined for the answer
    port_details: dict[str, Any] | None = None


class SecurityGroupRule(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    project_id: str
    description: str
    created_at: str
    updated_at: str
    revision_number: int
    security_group_id: str
    direction: str
    ethertype: str
    protocol: str | None
    port_range_min: int | None
    port_range_max: int | None
    remote_ip_prefix: str | None
    remote_group_id: str | None
    #: whether its group is its project's default; known after a read
    belongs_to_default_sg: bool = False


class SecurityGroup(Standard, frozen=True, kw_only=True):
    stateful: bool
    is_default: bool
    rules: tuple[SecurityGroupRule, ...] = ()
    #: shown to its viewer through an RBAC policy
    shared: bool = False


class SubnetPool(Standard, frozen=True, kw_only=True):
    ip_version: int
    prefixes: list[str]
    default_prefixlen: int
    min_prefixlen: int
    max_prefixlen: int
    default_quota: int | None
    address_scope_id: str | None
    shared: bool
    is_default: bool


class AddressScope(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    project_id: str
    name: str
    ip_version: int
    shared: bool


#: what an RBAC policy may let somebody do with a thing, and its target when that is everybody
ACCESS_SHARED, ACCESS_EXTERNAL, EVERYBODY = "access_as_shared", "access_as_external", "*"


class RbacPolicy(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    project_id: str
    object_type: str
    object_id: str
    action: str
    target_project: str
