"""The network service's tables.

Lists that belong to one row (a port's addresses, its groups, a subnet's pools) stand in that row as JSON, so that a list of ports is
one query; the same facts stand in rows of their own (`ip_allocations`, `port_security_groups`, `tags`) where they must be unique or
searched.  Both are written in the same transaction.

`owed` is the record of intent: a row is written with every change that the data plane must still be told of, in the same transaction,
and deleted once the data plane has it.  What a crash or a dead data plane leaves there is paid later.

`ports.status` is observed: only the driver's events write it.  Everything else in `ports` is desired: only the API writes it.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    UniqueConstraint,
    case,
    func,
    or_,
    select,
)

from cumulet.core.db import Watched, add_outbox
from cumulet.core.db.outbox import Value
from cumulet.core.db.types import Json
from cumulet.core.keys import key_table

__all__ = [
    "METADATA",
    "address_scopes",
    "default_security_groups",
    "floating_ips",
    "ip_allocations",
    "keys",
    "networks",
    "owed",
    "port_security_groups",
    "ports",
    "quotas",
    "rbac_policies",
    "routers",
    "security_group_rules",
    "security_groups",
    "subnetpools",
    "subnets",
    "tags",
]

METADATA = MetaData()

keys = key_table(METADATA)


def _standard() -> list[Column[object]]:
    """What every resource has."""
    return [
        Column("id", String, primary_key=True),
        Column("project_id", String, nullable=False),
        Column("name", String, nullable=False),
        Column("description", String, nullable=False),
        Column("tags", Json, nullable=False),
        Column("created_at", String, nullable=False),
        Column("updated_at", String, nullable=False),
        Column("revision_number", Integer, nullable=False),
    ]


networks = Table(
    "networks",
    METADATA,
    *_standard(),
    Column("admin_state_up", Boolean, nullable=False),
    Column("status", String, nullable=False),
    Column("mtu", Integer, nullable=False),
    #: for everybody; for single projects see rbac_policies
    Column("shared", Boolean, nullable=False),
    Column("external", Boolean, nullable=False),
    Column("is_default", Boolean, nullable=False),
    Column("port_security_enabled", Boolean, nullable=False),
    Column("dns_domain", String, nullable=False),
    Column("network_type", String, nullable=False),
    Column("physical_network", String),
    Column("segmentation_id", Integer),
    Column("availability_zone_hints", Json, nullable=False),
    #: ids, in order of creation
    Column("subnets", Json, nullable=False),
    Index("ix_networks_project", "project_id"),
    Index("ix_networks_shared", "shared"),
    Index("ix_networks_external", "external"),
    Index("ix_networks_name", "name"),
    Index("ix_networks_segment", "network_type", "physical_network", "segmentation_id"),
)

subnets = Table(
    "subnets",
    METADATA,
    *_standard(),
    Column("network_id", String, nullable=False),
    Column("ip_version", Integer, nullable=False),
    Column("cidr", String, nullable=False),
    Column("gateway_ip", String),
    Column("enable_dhcp", Boolean, nullable=False),
    Column("allocation_pools", Json, nullable=False),
    Column("dns_nameservers", Json, nullable=False),
    Column("host_routes", Json, nullable=False),
    Column("ipv6_ra_mode", String),
    Column("ipv6_address_mode", String),
    Column("subnetpool_id", String),
    Column("service_types", Json, nullable=False),
    Column("dns_publish_fixed_ip", Boolean, nullable=False),
    #: the network's metadata port in this subnet
    Column("metadata_address", String),
    Index("ix_subnets_project", "project_id"),
    Index("ix_subnets_network", "network_id"),
    Index("ix_subnets_pool", "subnetpool_id"),
    Index("ix_subnets_name", "name"),
)

ports = Table(
    "ports",
    METADATA,
    *_standard(),
    Column("network_id", String, nullable=False),
    Column("mac_address", String, nullable=False),
    Column("admin_state_up", Boolean, nullable=False),
    Column("status", String, nullable=False),
    Column("device_id", String, nullable=False),
    Column("device_owner", String, nullable=False),
    Column("fixed_ips", Json, nullable=False),
    Column("security_groups", Json, nullable=False),
    Column("allowed_address_pairs", Json, nullable=False),
    Column("extra_dhcp_opts", Json, nullable=False),
    Column("port_security_enabled", Boolean, nullable=False),
    Column("binding_host_id", String, nullable=False),
    Column("binding_vnic_type", String, nullable=False),
    Column("binding_profile", Json, nullable=False),
    Column("dns_name", String, nullable=False),
    Column("dns_domain", String, nullable=False),
    UniqueConstraint("network_id", "mac_address", name="uq_ports_mac"),
    Index("ix_ports_project", "project_id"),
    Index("ix_ports_device", "device_id"),
    Index("ix_ports_owner", "network_id", "device_owner"),
    Index("ix_ports_host", "binding_host_id"),
    Index("ix_ports_name", "name"),
)

ip_allocations = Table(
    "ip_allocations",
    METADATA,
    Column("network_id", String, nullable=False),
    Column("ip_address", String, nullable=False),
    Column("subnet_id", String, nullable=False),
    Column("port_id", String, nullable=False),
    PrimaryKeyConstraint("network_id", "ip_address", name="pk_ip_allocations"),
    Index("ix_allocations_subnet", "subnet_id"),
    Index("ix_allocations_port", "port_id"),
    sqlite_with_rowid=False,
)

port_security_groups = Table(
    "port_security_groups",
    METADATA,
    Column("port_id", String, nullable=False),
    Column("security_group_id", String, nullable=False),
    PrimaryKeyConstraint("port_id", "security_group_id", name="pk_port_security_groups"),
    Index("ix_port_security_groups_group", "security_group_id"),
    sqlite_with_rowid=False,
)

routers = Table(
    "routers",
    METADATA,
    *_standard(),
    Column("admin_state_up", Boolean, nullable=False),
    Column("status", String, nullable=False),
    Column("gateway_network_id", String),
    Column("gateway_port_id", String),
    Column("gateway_fixed_ips", Json, nullable=False),
    Column("enable_snat", Boolean, nullable=False),
    Column("routes", Json, nullable=False),
    Column("availability_zone_hints", Json, nullable=False),
    Index("ix_routers_project", "project_id"),
    Index("ix_routers_gateway", "gateway_network_id"),
)

floating_ips = Table(
    "floating_ips",
    METADATA,
    *_standard(),
    Column("floating_network_id", String, nullable=False),
    Column("floating_ip_address", String, nullable=False),
    #: the port that holds the address on the external network
    Column("floating_port_id", String, nullable=False),
    Column("floating_mac", String, nullable=False),
    Column("port_id", String),
    Column("fixed_ip_address", String),
    Column("router_id", String),
    #: observed: written once the data plane has taken the change
    Column("status", String, nullable=False),
    Column("dns_name", String, nullable=False),
    Column("dns_domain", String, nullable=False),
    UniqueConstraint("floating_network_id", "floating_ip_address", name="uq_floating_ips_address"),
    UniqueConstraint("port_id", "fixed_ip_address", "floating_network_id", name="uq_floating_ips_association"),
    Index("ix_floating_ips_project", "project_id"),
    Index("ix_floating_ips_router", "router_id"),
)

security_groups = Table(
    "security_groups",
    METADATA,
    *_standard(),
    Column("stateful", Boolean, nullable=False),
    Column("is_default", Boolean, nullable=False),
    Index("ix_security_groups_project", "project_id"),
    Index("ix_security_groups_name", "name"),
)

default_security_groups = Table(
    "default_security_groups",
    METADATA,
    Column("project_id", String, primary_key=True),
    Column("security_group_id", String, nullable=False),
)

security_group_rules = Table(
    "security_group_rules",
    METADATA,
    Column("id", String, primary_key=True),
    Column("project_id", String, nullable=False),
    Column("description", String, nullable=False),
    Column("created_at", String, nullable=False),
    Column("updated_at", String, nullable=False),
    Column("revision_number", Integer, nullable=False),
    Column("security_group_id", String, nullable=False),
    Column("direction", String, nullable=False),
    Column("ethertype", String, nullable=False),
    Column("protocol", String),
    Column("port_range_min", Integer),
    Column("port_range_max", Integer),
    Column("remote_ip_prefix", String),
    Column("remote_group_id", String),
    Index("ix_rules_project", "project_id"),
    Index("ix_rules_group", "security_group_id"),
    Index("ix_rules_remote", "remote_group_id"),
)

subnetpools = Table(
    "subnetpools",
    METADATA,
    *_standard(),
    Column("ip_version", Integer, nullable=False),
    Column("prefixes", Json, nullable=False),
    Column("default_prefixlen", Integer, nullable=False),
    Column("min_prefixlen", Integer, nullable=False),
    Column("max_prefixlen", Integer, nullable=False),
    Column("default_quota", Integer),
    Column("address_scope_id", String),
    Column("shared", Boolean, nullable=False),
    Column("is_default", Boolean, nullable=False),
    Index("ix_subnetpools_project", "project_id"),
    Index("ix_subnetpools_scope", "address_scope_id"),
)

address_scopes = Table(
    "address_scopes",
    METADATA,
    Column("id", String, primary_key=True),
    Column("project_id", String, nullable=False),
    Column("name", String, nullable=False),
    Column("ip_version", Integer, nullable=False),
    Column("shared", Boolean, nullable=False),
    Index("ix_address_scopes_project", "project_id"),
)

rbac_policies = Table(
    "rbac_policies",
    METADATA,
    Column("id", String, primary_key=True),
    Column("project_id", String, nullable=False),
    Column("object_type", String, nullable=False),
    Column("object_id", String, nullable=False),
    Column("action", String, nullable=False),
    #: a project, or * for all
    Column("target_project", String, nullable=False),
    UniqueConstraint("object_type", "object_id", "action", "target_project", name="uq_rbac_policies"),
    Index("ix_rbac_policies_target", "object_type", "target_project"),
    Index("ix_rbac_policies_project", "project_id"),
)

tags = Table(
    "tags",
    METADATA,
    Column("resource_id", String, nullable=False),
    Column("tag", String, nullable=False),
    PrimaryKeyConstraint("resource_id", "tag", name="pk_tags"),
    Index("ix_tags_tag", "tag"),
)

quotas = Table(
    "quotas",
    METADATA,
    Column("project_id", String, nullable=False),
    Column("resource", String, nullable=False),
    Column("limit", Integer, nullable=False),
    PrimaryKeyConstraint("project_id", "resource", name="pk_quotas"),
)

owed = Table(
    "owed",
    METADATA,
    Column("kind", String, nullable=False),
    Column("id", String, nullable=False),
    #: the id of the change that owes; a later change overwrites it, so that paying an earlier one does not clear it
    Column("stamp", String, nullable=False),
    Column("since", String, nullable=False),
    PrimaryKeyConstraint("kind", "id", name="pk_owed"),
    sqlite_with_rowid=False,
)


def _shown_to(object_type: str, object_id: ColumnElement[Any]) -> ColumnElement[Any]:
    """Whom RBAC policies show an object to."""
    policy = rbac_policies.c
    return (
        select(func.aggregate_strings(policy.target_project, " "))
        .where(policy.object_type == object_type, policy.object_id == object_id)
        .scalar_subquery()
    )


def _viewers_of_network(network: Value) -> ColumnElement[Any]:
    """A shared or external network has a policy for all, but not yet, or no more, in the change that makes or ends it."""
    return case((or_(network("shared"), network("external")), "*"), else_=_shown_to("network", network("id")))


def _viewers_of_subnet(subnet: Value) -> ColumnElement[Any]:
    """Whoever sees its network."""
    of = networks.c
    return (
        select(
            case(
                (or_(of.shared, of.external), "*"),
                (of.project_id != subnet("project_id"), of.project_id),
                else_=_shown_to("network", of.id),
            )
        )
        .where(of.id == subnet("network_id"))
        .scalar_subquery()
    )


def _viewers_of_port(port: Value) -> ColumnElement[Any]:
    """The owner of the network sees the ports on it."""
    of = networks.c
    return (
        select(of.project_id).where(of.id == port("network_id"), of.project_id != port("project_id")).scalar_subquery()
    )


add_outbox(
    METADATA,
    Watched(
        table=networks,
        kind="network",
        shows=("name", "status", "admin_state_up", "shared", "external"),
        also=("updated_at", "subnets"),
        viewers=_viewers_of_network,
    ),
    Watched(
        table=subnets,
        kind="subnet",
        about="network_id",
        shows=("name", "network_id", "cidr", "enable_dhcp"),
        also=("updated_at",),
        viewers=_viewers_of_subnet,
    ),
    Watched(
        table=ports,
        kind="port",
        about="device_id",
        shows=("name", "status", "network_id", "admin_state_up", "device_id", "device_owner", "fixed_ips"),
        also=("updated_at",),
        viewers=_viewers_of_port,
    ),
    Watched(table=routers, kind="router", shows=("name", "status", "admin_state_up"), also=("updated_at",)),
    Watched(
        table=floating_ips,
        kind="floating_ip",
        about="port_id",
        shows=("status", "floating_ip_address", "fixed_ip_address", "port_id", "router_id"),
        also=("updated_at",),
    ),
    Watched(
        table=security_groups,
        kind="security_group",
        shows=("name",),
        also=("updated_at",),
        viewers=lambda group: _shown_to("security_group", group("id")),
    ),
    Watched(
        table=security_group_rules,
        kind="security_group_rule",
        about="security_group_id",
        shows=("security_group_id", "direction", "ethertype", "protocol"),
        viewers=lambda rule: _shown_to("security_group", rule("security_group_id")),
    ),
    Watched(
        table=subnetpools,
        kind="subnetpool",
        shows=("name", "shared", "is_default"),
        also=("updated_at",),
        viewers=lambda pool: case((pool("shared"), "*"), else_=_shown_to("subnetpool", pool("id"))),
    ),
    Watched(
        table=address_scopes,
        kind="address_scope",
        shows=("name", "shared"),
        viewers=lambda scope: case((scope("shared"), "*"), else_=_shown_to("address_scope", scope("id"))),
    ),
    # what it shows appears, or vanishes, for whom it is meant
    Watched(
        table=rbac_policies,
        kind="rbac_policy",
        about="object_id",
        shows=("object_type", "object_id", "action", "target_project"),
        viewers=lambda policy: policy("target_project"),
    ),
)
