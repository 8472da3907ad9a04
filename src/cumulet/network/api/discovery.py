"""What there is: versions, extensions, agents, zones, providers, pools of floating IPs."""

from __future__ import annotations

import datetime
from typing import Any

from cumulet.core.web import ANYONE, PUBLIC, Call, Delete, Get, Put, Route
from cumulet.network import errors
from cumulet.network.api import access
from cumulet.network.drivers.driver import Agent
from cumulet.network.resources import RESOURCES

__all__ = ["EXTENSIONS", "ROUTES"]

#: alias → (name, description) of what is built; nothing else is claimed
EXTENSIONS: dict[str, tuple[str, str]] = {
    "address-scope": ("Address scope", "Address scopes extension."),
    "agent": ("agent", "The agent management extension."),
    "allowed-address-pairs": ("Allowed Address Pairs", "Provides allowed address pairs"),
    "availability_zone": ("Availability Zone", "The availability zone extension."),
    "binding": ("Port Binding", "Expose port bindings of a virtual port to external application"),
    "default-subnetpools": ("Default Subnetpools", "Provides ability to mark and use a subnetpool as the default."),
    "dns-domain-ports": ("dns_domain for ports", "Allows the DNS domain to be specified for a network port."),
    "dns-integration": ("DNS Integration", "Provides integration with DNS."),
    "empty-string-filtering": ("Empty String Filtering", "Allow filtering by attributes with empty string value"),
    "external-net": ("Neutron external network", "Adds external network attribute to network resource."),
    "ext-gw-mode": ("Neutron L3 Configurable external gateway mode", "Extension of the router abstraction for SNAT"),
    "extra_dhcp_opt": ("Neutron Extra DHCP options", "Extra options configuration for DHCP."),
    "extraroute": ("Neutron Extra Route", "Extra routes configuration for L3 router"),
    "extraroute-atomic": (
        "Atomically add/remove extra routes",
        "Edit extra routes of a router by atomically adding/removing",
    ),
    "filter-validation": ("Filter parameters validation", "Provides validation on filter parameters."),
    "fip-port-details": ("Floating IP Port Details Extension", "Add port_details attribute to Floating IP resource"),
    "floatingip-pools": ("Floating IP Pools Extension", "Provides a floating IP pools API."),
    "ip-substring-filtering": (
        "IP address substring filtering",
        "Provides IP address substring filtering when listing ports",
    ),
    "net-mtu": ("Network MTU", "Provides MTU attribute for a network resource."),
    "net-mtu-writable": ("Network MTU (writable)", "Provides a writable MTU attribute for a network resource."),
    "network-ip-availability": (
        "Network IP Availability",
        "Provides IP availability data for each network and subnet.",
    ),
    "network_availability_zone": ("Network Availability Zone", "Availability zone support for network."),
    "pagination": ("Pagination support", "Extension that indicates that pagination is enabled."),
    "port-mac-address-regenerate": ("Port MAC address regenerate", "Network port MAC address regenerate"),
    "port-security": ("Port Security", "Provides port security"),
    "port-security-groups-filtering": (
        "Port filtering on security groups",
        "Provides security groups filtering when listing ports",
    ),
    "project-id": ("project_id field enabled", "Extension that indicates that project_id field is enabled."),
    "provider": ("Provider Network", "Expose mapping of virtual networks to physical networks"),
    "quota-check-limit": (
        "Quota engine limit check",
        "Support for checking the resource usage before applying a new quota limit",
    ),
    "quota_details": ("Quota details management support", "Expose functions for quotas usage statistics per project"),
    "quotas": ("Quota management support", "Expose functions for quotas management per project"),
    "rbac-address-scope": ("Add address_scope type to RBAC", "Add address_scope type to network RBAC"),
    "rbac-policies": (
        "RBAC Policies",
        "Allows creation and modification of policies that control project access to resources.",
    ),
    "rbac-security-groups": ("Add security_group type to network RBAC", "Add security_group type to network RBAC"),
    "rbac-subnetpool": ("Add subnetpool type to RBAC", "Add subnetpool type to RBAC"),
    "revision-if-match": (
        "If-Match constraints based on revision_number",
        "Extension indicating that If-Match is supported.",
    ),
    "router": (
        "Neutron L3 Router",
        "Router abstraction for basic L3 forwarding between L2 Neutron networks and access to external networks.",
    ),
    "router_availability_zone": ("Router Availability Zone", "Availability zone support for router."),
    "security-group": ("security-group", "The security groups extension."),
    "security-groups-normalized-cidr": (
        "Normalized CIDR field for security group rules",
        "Add new field with normalized remote_ip_prefix cidr",
    ),
    "security-groups-rules-belongs-to-default-sg": (
        "Security group rules belongs to the project's default security group",
        "Flag to determine if the security group rule belongs to the project's default security group",
    ),
    "security-groups-shared-filtering": (
        "Security group filtering on the shared field",
        "Support filtering security groups on the shared field",
    ),
    "service-type": (
        "Neutron Service Type Management",
        "API for retrieving service providers for Neutron advanced services",
    ),
    "sorting": ("Sorting support", "Extension that indicates that sorting is enabled."),
    "standard-attr-description": ("standard-attr-description", "Extension to add descriptions to standard attributes"),
    "standard-attr-revisions": (
        "Resource revision numbers",
        "This extension will display the revision number of neutron resources.",
    ),
    "standard-attr-tag": (
        "Tag support for resources with standard attribute",
        "Enables to set tag on resources with standard attribute.",
    ),
    "standard-attr-timestamp": (
        "Resource timestamps",
        "Adds created_at and updated_at fields to all Neutron resources that have Neutron standard attributes.",
    ),
    "stateful-security-group": ("Stateful security group", "Indicates if the security group is stateful or not"),
    "subnet-dns-publish-fixed-ip": ("Subnet DNS publish fixed IP", "Publishing of fixed IPs of a subnet"),
    "subnet-external-network": (
        "Subnet belongs to an external network",
        "Subnets of external networks are visible to all",
    ),
    "subnet-service-types": ("Subnet service types", "Provides ability to set the subnet service_types field"),
    "subnet_allocation": ("Subnet Allocation", "Enables allocation of subnets from a subnet pool"),
    "subnetpool-prefix-ops": (
        "Subnet Pool Prefix Operations",
        "Provides support for adjusting the prefix list of subnet pools",
    ),
    "tag-ports-during-bulk-creation": ("Tag Ports During Bulk Creation", "Allow to tag ports during bulk creation"),
}


def show_versions(call: Call) -> object:
    link = {"rel": "self", "href": call.url("/v2.0/")}
    return {"versions": [{"id": "v2.0", "status": "CURRENT", "links": [link]}]}


def show_version(call: Call) -> object:
    return {
        "resources": [
            {
                "name": resource.name,
                "collection": resource.path,
                "links": [{"rel": "self", "href": call.url(f"/v2.0/{resource.path}")}],
            }
            for resource in RESOURCES
        ]
    }


def _extension(alias: str) -> dict[str, Any]:
    name, description = EXTENSIONS[alias]
    return {
        "alias": alias,
        "name": name,
        "description": description,
        "updated": "2024-01-01T00:00:00-00:00",
        "links": [],
    }


def list_extensions(call: Call) -> object:
    wanted = call.query.get("fields", [])
    shown = [_extension(alias) for alias in EXTENSIONS]
    return {"extensions": [{k: v for k, v in one.items() if k in wanted} if wanted else one for one in shown]}


def show_extension(call: Call, alias: str) -> object:  # noqa: ARG001 - every handler is given the call
    if alias not in EXTENSIONS:
        raise errors.ExtensionsNotFound(alias=alias)
    return {"extension": _extension(alias)}


# Agents

_BINARIES = {"OVN Metadata agent": "neutron-ovn-metadata-agent"}


def _moment(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")


def _agent(call: Call, agent: Agent) -> dict[str, Any]:
    seen = _moment(agent.seen_at)
    mappings = ",".join(f"{network}:{bridge}" for network, bridge in sorted(agent.bridge_mappings.items()))
    return {
        "id": agent.id,
        "agent_type": agent.agent_type,
        "binary": _BINARIES.get(agent.agent_type, "ovn-controller"),
        "host": agent.host,
        "topic": "n/a",
        "availability_zone": call.service.config.availability_zone if "Gateway" in agent.agent_type else "",
        "admin_state_up": True,
        "alive": agent.alive,
        "description": "",
        "created_at": seen,
        "started_at": seen,
        "heartbeat_timestamp": seen,
        "resources_synced": None,
        "configurations": {} if agent.agent_type in _BINARIES else {"bridge-mappings": mappings},
    }


def list_agents(call: Call) -> object:
    # a list shows what one may see: who may see no agent sees an empty one
    if not call.allowed("get_agent"):
        return {"agents": []}
    shown = [_agent(call, agent) for agent in call.service.agents()]
    for key, values in call.query.items():
        if key not in {"fields", "limit", "marker", "sort_key", "sort_dir", "page_reverse"}:
            wanted = {value.lower() for value in values}
            shown = [one for one in shown if str(one.get(key)).lower() in wanted]
    fields = set(call.query.get("fields", []))
    return {"agents": [{k: v for k, v in one.items() if k in fields} if fields else one for one in shown]}


def show_agent(call: Call, id: str) -> object:
    return {"agent": _agent(call, call.service.agent(id))}


def update_agent(call: Call, id: str) -> object:
    """Agents are as the data plane has them: they take no other state than the one they have."""
    given = call.body.get("agent") if isinstance(call.body, dict) else None
    if not isinstance(given, dict) or not set(given) <= {"admin_state_up", "description"}:
        msg = "Unable to find 'agent' in request body"
        raise errors.HTTPBadRequest(msg)
    agent = call.service.agent(id)
    if given.get("admin_state_up", True) is not True or given.get("description"):
        raise errors.bad("agent", "OVN agents cannot be changed")
    return {"agent": _agent(call, agent)}


def delete_agent(call: Call, id: str) -> object:
    agent = call.service.agent(id)
    raise errors.AgentInUse(id=agent.id)


def list_zones(call: Call) -> object:
    zone = call.service.config.availability_zone
    return {
        "availability_zones": [
            {"name": zone, "resource": resource, "state": "available"} for resource in ("network", "router")
        ]
    }


def list_service_providers(call: Call) -> object:  # noqa: ARG001 - every handler is given the call
    return {"service_providers": [{"service_type": "L3_ROUTER_NAT", "name": "ovn", "default": True}]}


def list_floatingip_pools(call: Call) -> object:
    return {"floatingip_pools": call.service.floating_ips.pools(access.viewer(call))}


ROUTES: list[Route] = [
    Get("/", show_versions, may=PUBLIC),
    Get("/v2.0", show_version, may=PUBLIC),
    Get("/v2.0/extensions", list_extensions, may=ANYONE),
    Get("/v2.0/extensions/{alias}", show_extension, may=ANYONE),
    Get("/v2.0/agents", list_agents, may=ANYONE),
    Get("/v2.0/agents/{id}", show_agent, may="get_agent"),
    Put("/v2.0/agents/{id}", update_agent, may="update_agent"),
    Delete("/v2.0/agents/{id}", delete_agent, may="delete_agent"),
    Get("/v2.0/availability_zones", list_zones, may="get_availability_zone"),
    Get("/v2.0/service-providers", list_service_providers, may="get_service_provider"),
    Get("/v2.0/floatingip_pools", list_floatingip_pools, may="get_floatingip_pool"),
    Get("/v2.0/floatingip-pools", list_floatingip_pools, may="get_floatingip_pool"),
]
