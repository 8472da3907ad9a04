"""The resources of the network API: every attribute, what it takes, who may set and see it, how it is shown."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any

from cumulet.core.web import CREATE, UPDATE
from cumulet.network.attributes import (
    CREATED,
    IDENTITY,
    READ,
    STANDARD,
    WRITTEN,
    Attribute,
    Needed,
    NetworkResource,
    flag,
)
from cumulet.network.records import (
    ACCESS_EXTERNAL,
    ACCESS_SHARED,
    Network,
    Port,
    Router,
    SecurityGroup,
    SecurityGroupRule,
)
from cumulet.network.values import (
    address,
    address_or_none,
    address_pairs,
    boolean,
    cidr,
    dhcp_options,
    dictionary,
    dns_domain,
    dns_name,
    ethertype,
    external_gateway,
    family,
    fixed_ips,
    host_routes,
    integer,
    list_of,
    mac,
    network,
    one_of,
    optional,
    pools,
    port_number,
    prefix,
    protocol,
    text,
    uuid,
)

__all__ = [
    "ADDRESS_SCOPE",
    "FLOATING_IP",
    "NETWORK",
    "PORT",
    "RBAC_POLICY",
    "RESOURCES",
    "ROUTER",
    "SECURITY_GROUP",
    "SECURITY_GROUP_RULE",
    "SUBNET",
    "SUBNETPOOL",
    "port_resource",
]

VNIC_TYPES = (
    "normal",
    "direct",
    "macvtap",
    "baremetal",
    "direct-physical",
    "virtio-forwarder",
    "vdpa",
    "smart-nic",
    "accelerator-direct",
    "accelerator-direct-physical",
    "remote-managed",
)
IPV6_MODES = ("slaac", "dhcpv6-stateful", "dhcpv6-stateless")
NETWORK_TYPES = ("local", "flat", "vlan", "geneve")

_NO_FILTER: dict[str, Any] = {"filter": None, "sorts": False}


def _zones(record: Network | Router) -> list[str]:
    return record.availability_zone_hints or []


NETWORK = NetworkResource(
    "network",
    {
        **IDENTITY,
        "admin_state_up": flag(default=True),
        "status": Attribute(on=READ),
        "shared": flag(default=False, guarded=True),
        "router:external": flag(default=False, guarded=True, source="external"),
        "is_default": flag(default=False, guarded=True),
        "mtu": Attribute(take=integer(), default=0, filter=integer()),
        "port_security_enabled": flag(default=True, guarded=True),
        "dns_domain": Attribute(take=dns_domain, default=""),
        "provider:network_type": Attribute(
            take=one_of(*NETWORK_TYPES),
            guarded=True,
            seen_by="get_network:provider:network_type",
            source="network_type",
        ),
        "provider:physical_network": Attribute(
            take=optional(text(64)),
            guarded=True,
            seen_by="get_network:provider:physical_network",
            source="physical_network",
        ),
        "provider:segmentation_id": Attribute(
            take=optional(integer()),
            guarded=True,
            seen_by="get_network:provider:segmentation_id",
            source="segmentation_id",
            filter=integer(),
        ),
        "availability_zone_hints": Attribute(on=CREATED, take=list_of(text()), default=[], **_NO_FILTER),
        "availability_zones": Attribute(on=READ, read=_zones, **_NO_FILTER),
        "subnets": Attribute(on=READ, **_NO_FILTER),
        "ipv4_address_scope": Attribute(on=READ, read=lambda _: None, **_NO_FILTER),
        "ipv6_address_scope": Attribute(on=READ, read=lambda _: None, **_NO_FILTER),
        **STANDARD,
    },
)

SUBNET = NetworkResource(
    "subnet",
    {
        **IDENTITY,
        "network_id": Needed(uuid, on=CREATED),
        "ip_version": Attribute(on=CREATED, take=family, filter=integer()),
        "cidr": Attribute(on=CREATED, take=optional(cidr)),
        "prefixlen": Attribute(on=CREATE, take=optional(integer(0, 128)), **_NO_FILTER),
        "use_default_subnetpool": Attribute(on=CREATE, take=boolean, default=False, **_NO_FILTER),
        "subnetpool_id": Attribute(on=CREATED, take=optional(text(36))),
        "gateway_ip": Attribute(take=address_or_none),
        "allocation_pools": Attribute(take=pools, **_NO_FILTER),
        "enable_dhcp": flag(default=True),
        "dns_nameservers": Attribute(take=list_of(address), default=[], **_NO_FILTER),
        "host_routes": Attribute(take=host_routes, default=[], **_NO_FILTER),
        "ipv6_ra_mode": Attribute(on=CREATED, take=optional(one_of(*IPV6_MODES))),
        "ipv6_address_mode": Attribute(on=CREATED, take=optional(one_of(*IPV6_MODES))),
        "service_types": Attribute(take=list_of(text()), default=[], **_NO_FILTER),
        "dns_publish_fixed_ip": flag(default=False),
        **STANDARD,
    },
    # of the network it is on
    extra_filters={"shared", "router:external"},
)


def port_resource(assignment: Callable[[Port], list[dict[str, str]]], vif_details: dict[str, Any]) -> NetworkResource:
    """Ports.  Names of addresses and details of the virtual interface depend on the configuration, so it is made when wired."""

    def vif_type(port: Port) -> str:
        if not port.binding_host_id:
            return "unbound"
        return "ovs" if port.binding_vnic_type == "normal" else "binding_failed"

    def details(port: Port) -> dict[str, Any]:
        return vif_details if vif_type(port) == "ovs" else {}

    return NetworkResource(
        "port",
        {
            **IDENTITY,
            "id": Attribute(on=CREATED, take=uuid, guarded=True),
            "network_id": Needed(uuid, on=CREATED),
            "mac_address": Attribute(take=optional(mac), guarded=True),
            "admin_state_up": flag(default=True),
            "status": Attribute(on=READ),
            "fixed_ips": Attribute(take=fixed_ips, guarded=True, filter=text(255), sorts=False),
            "device_id": Attribute(take=text(), default="", guarded=True),
            "device_owner": Attribute(take=text(), default="", guarded=True),
            "security_groups": Attribute(take=list_of(uuid), filter=text(255), sorts=False),
            "allowed_address_pairs": Attribute(take=address_pairs, default=[], guarded=True, **_NO_FILTER),
            "extra_dhcp_opts": Attribute(take=dhcp_options, default=[], **_NO_FILTER),
            "port_security_enabled": flag(guarded=True),
            "binding:host_id": Attribute(
                take=lambda value: text()(value or ""), default="", guarded=True, seen_by="get_port:binding:host_id"
            ),
            "binding:vnic_type": Attribute(take=one_of(*VNIC_TYPES), default="normal", guarded=True),
            "binding:profile": Attribute(
                take=dictionary, default={}, guarded=True, seen_by="get_port:binding:profile", **_NO_FILTER
            ),
            "binding:vif_type": Attribute(on=READ, read=vif_type, seen_by="get_port:binding:vif_type", **_NO_FILTER),
            "binding:vif_details": Attribute(
                on=READ, read=details, seen_by="get_port:binding:vif_details", **_NO_FILTER
            ),
            "dns_name": Attribute(take=dns_name, default=""),
            "dns_domain": Attribute(take=dns_domain, default=""),
            "dns_assignment": Attribute(on=READ, read=assignment, **_NO_FILTER),
            "tags": Attribute(on=CREATED, take=list_of(text(), limit=50), default=[], guarded=True, **_NO_FILTER),
            **STANDARD,
        },
    )


#: with names and details left empty: for the list of what there is; the application makes its own
PORT = port_resource(lambda _: [], {})


def _gateway(router: Router) -> dict[str, Any] | None:
    if router.gateway_network_id is None:
        return None
    return {
        "network_id": router.gateway_network_id,
        "external_fixed_ips": router.gateway_fixed_ips,
        "enable_snat": router.enable_snat,
    }


ROUTER = NetworkResource(
    "router",
    {
        **IDENTITY,
        "admin_state_up": flag(default=True),
        "status": Attribute(on=READ),
        "external_gateway_info": Attribute(
            take=external_gateway, default=None, guarded=True, read=_gateway, **_NO_FILTER
        ),
        "distributed": flag(
            on=CREATED | UPDATE,
            guarded=True,
            seen_by="get_router:distributed",
            default=False,
            read=lambda _: False,
            sorts=False,
        ),
        "ha": flag(
            on=CREATED | UPDATE, guarded=True, seen_by="get_router:ha", default=False, read=lambda _: False, sorts=False
        ),
        "availability_zone_hints": Attribute(on=CREATED, take=list_of(text()), default=[], **_NO_FILTER),
        "availability_zones": Attribute(on=READ, read=_zones, **_NO_FILTER),
        "routes": Attribute(on=READ | UPDATE, take=host_routes, **_NO_FILTER),
        **STANDARD,
    },
)

FLOATING_IP = NetworkResource(
    "floatingip",
    {
        "id": IDENTITY["id"],
        "description": IDENTITY["description"],
        "project_id": IDENTITY["project_id"],
        "tenant_id": IDENTITY["tenant_id"],
        "floating_network_id": Needed(uuid, on=CREATED),
        "floating_ip_address": Attribute(on=CREATED, take=address_or_none, guarded=True),
        "subnet_id": Attribute(on=CREATE, take=optional(uuid), default=None, **_NO_FILTER),
        "port_id": Attribute(take=optional(uuid), default=None),
        "fixed_ip_address": Attribute(take=address_or_none, default=None),
        "router_id": Attribute(on=READ),
        "status": Attribute(on=READ),
        "dns_name": Attribute(on=CREATED, take=dns_name, default=""),
        "dns_domain": Attribute(on=CREATED, take=dns_domain, default=""),
        "port_details": Attribute(on=READ, **_NO_FILTER),
        **STANDARD,
    },
)


def _normalized(rule: SecurityGroupRule) -> str | None:
    return None if rule.remote_ip_prefix is None else str(ipaddress.ip_network(rule.remote_ip_prefix, strict=False))


SECURITY_GROUP_RULE = NetworkResource(
    "security_group_rule",
    {
        "id": IDENTITY["id"],
        "project_id": IDENTITY["project_id"],
        "tenant_id": IDENTITY["tenant_id"],
        "description": Attribute(on=CREATED, take=text(), default=""),
        "security_group_id": Needed(text(36), on=CREATED),
        "direction": Needed(one_of("ingress", "egress"), on=CREATED),
        "ethertype": Attribute(on=CREATED, take=ethertype, default="IPv4"),
        "protocol": Attribute(on=CREATED, take=protocol, default=None),
        "port_range_min": Attribute(on=CREATED, take=port_number, default=None, filter=integer()),
        "port_range_max": Attribute(on=CREATED, take=port_number, default=None, filter=integer()),
        "remote_ip_prefix": Attribute(on=CREATED, take=prefix, default=None),
        "remote_group_id": Attribute(on=CREATED, take=optional(text(36)), default=None),
        "normalized_cidr": Attribute(on=READ, read=_normalized, **_NO_FILTER),
        "belongs_to_default_sg": Attribute(on=READ, filter=boolean, sorts=False),
        **STANDARD,
    },
    tagged=False,
)


def _rules(group: SecurityGroup) -> list[dict[str, Any]]:
    return SECURITY_GROUP_RULE.view(group.rules, frozenset(), frozenset())


SECURITY_GROUP = NetworkResource(
    "security_group",
    {
        **IDENTITY,
        "stateful": flag(default=True),
        "shared": flag(on=READ, sorts=False),
        "security_group_rules": Attribute(on=READ, read=_rules, **_NO_FILTER),
        **STANDARD,
    },
)

SUBNETPOOL = NetworkResource(
    "subnetpool",
    {
        **IDENTITY,
        "prefixes": Needed(list_of(network), **_NO_FILTER),
        # text in answers, as the reference has them
        "default_prefixlen": Attribute(take=integer(0, 128), filter=integer(), read=lambda r: str(r.default_prefixlen)),
        "min_prefixlen": Attribute(take=integer(0, 128), filter=integer(), read=lambda r: str(r.min_prefixlen)),
        "max_prefixlen": Attribute(take=integer(0, 128), filter=integer(), read=lambda r: str(r.max_prefixlen)),
        "default_quota": Attribute(take=optional(integer()), default=None, filter=integer()),
        "ip_version": Attribute(on=READ, filter=integer()),
        "shared": flag(on=CREATED, default=False, guarded=True),
        "is_default": flag(default=False, guarded=True),
        "address_scope_id": Attribute(take=optional(uuid), default=None),
        **STANDARD,
    },
)

ADDRESS_SCOPE = NetworkResource(
    "address_scope",
    {
        "id": IDENTITY["id"],
        "name": Attribute(take=text(), default=""),
        "project_id": IDENTITY["project_id"],
        "tenant_id": IDENTITY["tenant_id"],
        "shared": flag(default=False, guarded=True),
        "ip_version": Needed(family, on=CREATED, filter=integer()),
    },
    collection="address_scopes",
    tagged=False,
)


RBAC_POLICY = NetworkResource(
    "rbac_policy",
    {
        "id": IDENTITY["id"],
        "project_id": IDENTITY["project_id"],
        "tenant_id": IDENTITY["tenant_id"],
        "object_type": Needed(one_of("network", "security_group", "subnetpool", "address_scope"), on=CREATED),
        "object_id": Needed(uuid, on=CREATED),
        "action": Needed(one_of(ACCESS_SHARED, ACCESS_EXTERNAL), on=CREATED),
        "target_tenant": Needed(text(), on=WRITTEN, guarded=True, source="target_project"),
    },
    collection="rbac_policies",
    tagged=False,
)

RESOURCES = (
    NETWORK,
    SUBNET,
    PORT,
    ROUTER,
    FLOATING_IP,
    SECURITY_GROUP,
    SECURITY_GROUP_RULE,
    SUBNETPOOL,
    ADDRESS_SCOPE,
    RBAC_POLICY,
)
