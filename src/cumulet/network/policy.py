"""Who may do what with networks: the reference's rule names and its current defaults (admin, manager, member, reader, service).

The reference compares attributes of the target by `field:` checks of its own.  Here the target of a decision carries them as flags
(`shared`, `external`, `network_device`, …), which the policy engine compares itself: `True:%(shared)s`.

Where the reference asks for the service role to bind a port, the role of a service token that came with the user's token counts as
well, for those attributes only: a service may say where a port is, but reaches no other port by it than its user does.
"""

from __future__ import annotations

from collections.abc import Iterable

from cumulet.core.policy import Rule

__all__ = ["RULES"]

_PROJECT = ("project",)

ADMIN = "rule:admin_only"
SERVICE = "rule:service_api"
WITH_SERVICE = "rule:with_service_token"
OWNER_READER = "(role:reader and project_id:%(project_id)s)"
OWNER_MEMBER = "(role:member and project_id:%(project_id)s)"
OWNER_MANAGER = "(role:manager and project_id:%(project_id)s)"
NET_READER = "(role:reader and rule:network_owner)"
NET_MEMBER = "(role:member and rule:network_owner)"
NET_MANAGER = "(role:manager and rule:network_owner)"
GROUP_READER = "(role:reader and rule:sg_owner)"
GROUP_MEMBER = "(role:member and rule:sg_owner)"


def _or(*checks: str) -> str:
    return " or ".join(checks)


READERS = _or(ADMIN, OWNER_READER)
MEMBERS = _or(ADMIN, OWNER_MEMBER)
PORT_NETWORK = _or(ADMIN, SERVICE, NET_MEMBER)
BINDING = _or(ADMIN, SERVICE, WITH_SERVICE)


def _rules(check: str, *names: str) -> Iterable[Rule]:
    return (Rule(name, check, _PROJECT) for name in names)


def _tags(resource: str, readers: str, members: str) -> Iterable[Rule]:
    yield Rule(f"get_{resource}:tags", readers, _PROJECT)
    for verb in ("create", "update", "delete"):
        yield Rule(f"{verb}_{resource}:tags", members, _PROJECT)


RULES: list[Rule] = [
    Rule("context_is_admin", "role:admin"),
    Rule("context_with_global_access", "!"),
    Rule("service_api", "role:service"),
    Rule("with_service_token", "service_roles:service"),
    Rule("context_is_advsvc", "role:advsvc"),
    Rule("owner", "project_id:%(project_id)s"),
    Rule("admin_only", "rule:context_is_admin"),
    Rule("admin_or_owner", "rule:context_is_admin or rule:owner"),
    Rule("network_owner", "project_id:%(network:project_id)s"),
    Rule("sg_owner", "project_id:%(security_group:project_id)s"),
    Rule("shared", "True:%(shared)s"),
    Rule("external", "True:%(external)s"),
    Rule("external_network", "True:%(external)s"),
    Rule("network_device", "True:%(network_device)s"),
    Rule("compute_device", "True:%(compute_device)s"),
    Rule("baremetal_device", "True:%(baremetal_device)s"),
    Rule("manila_device", "True:%(manila_device)s"),
    Rule("default", "rule:admin_or_owner"),
    # networks
    *_rules(MEMBERS, "create_network", "create_network:port_security_enabled"),
    *_rules(MEMBERS, "update_network", "update_network:port_security_enabled", "delete_network"),
    *_rules(
        ADMIN,
        *(
            f"{verb}_network:{attribute}"
            for verb in ("create", "update")
            for attribute in (
                "shared",
                "router:external",
                "is_default",
                "provider:network_type",
                "provider:physical_network",
                "provider:segmentation_id",
            )
        ),
        "get_network:provider:network_type",
        "get_network:provider:physical_network",
        "get_network:provider:segmentation_id",
    ),
    *_rules(_or(READERS, SERVICE, "rule:shared", "rule:external", "rule:context_is_advsvc"), "get_network"),
    *_tags("network", _or(READERS, "rule:shared", "rule:external", "rule:context_is_advsvc"), MEMBERS),
    # subnets
    *_rules(_or(ADMIN, NET_MEMBER), "create_subnet"),
    *_rules(_or(OWNER_MEMBER, ADMIN, NET_MEMBER), "update_subnet", "delete_subnet"),
    *_rules(_or(OWNER_READER, "rule:shared", "rule:external_network", ADMIN, NET_READER, SERVICE), "get_subnet"),
    *_rules(ADMIN, "create_subnet:service_types", "update_subnet:service_types"),
    *_tags(
        "subnet",
        _or(OWNER_READER, "rule:shared", "rule:external_network", ADMIN, NET_READER),
        _or(OWNER_MEMBER, ADMIN, NET_MEMBER),
    ),
    # ports
    *_rules(_or(ADMIN, SERVICE, NET_MEMBER, "(role:member and rule:shared)"), "create_port"),
    *_rules(_or(ADMIN, SERVICE, NET_READER, OWNER_READER), "get_port"),
    *_rules(_or(ADMIN, SERVICE, OWNER_MEMBER), "update_port"),
    *_rules(
        _or(
            ADMIN,
            SERVICE,
            f"(rule:with_service_token and ({NET_MEMBER} or {OWNER_MEMBER}))",
            "(not rule:compute_device and not rule:baremetal_device and not rule:manila_device "
            f"and ({NET_MEMBER} or {OWNER_MEMBER}))",
        ),
        "delete_port",
    ),
    *_rules(
        _or(ADMIN, OWNER_MEMBER, SERVICE),
        "create_port:device_id",
        "update_port:device_id",
        "create_port:binding:vnic_type",
        "update_port:binding:vnic_type",
    ),
    *_rules(
        _or("not rule:network_device", ADMIN, SERVICE, NET_MEMBER),
        "create_port:device_owner",
        "update_port:device_owner",
    ),
    *_rules(
        PORT_NETWORK, "create_port:mac_address", "create_port:fixed_ips:ip_address", "create_port:port_security_enabled"
    ),
    *_rules(
        PORT_NETWORK, "update_port:fixed_ips", "update_port:fixed_ips:ip_address", "update_port:port_security_enabled"
    ),
    *_rules(_or(ADMIN, SERVICE, NET_MANAGER), "update_port:mac_address"),
    *_rules(
        _or(PORT_NETWORK, "rule:shared"),
        "create_port:fixed_ips",
        "create_port:fixed_ips:subnet_id",
        "update_port:fixed_ips:subnet_id",
    ),
    *_rules(
        _or(ADMIN, NET_MEMBER, SERVICE),
        *(
            f"{verb}_port:allowed_address_pairs{part}"
            for verb in ("create", "update")
            for part in ("", ":mac_address", ":ip_address")
        ),
    ),
    *_rules(
        BINDING,
        "create_port:binding:host_id",
        "update_port:binding:host_id",
        "get_port:binding:host_id",
        "get_port:binding:profile",
        "get_port:binding:vif_type",
        "get_port:binding:vif_details",
    ),
    *_rules(_or(SERVICE, WITH_SERVICE), "create_port:id"),
    *_rules(_or(SERVICE, WITH_SERVICE), "create_port:binding:profile", "update_port:binding:profile"),
    *_tags(
        "port",
        _or("rule:context_is_advsvc", ADMIN, NET_READER, OWNER_READER),
        _or("rule:context_is_advsvc", ADMIN, NET_MEMBER, OWNER_MEMBER),
    ),
    # routers
    *_rules(
        MEMBERS,
        "create_router",
        "update_router",
        "delete_router",
        "add_router_interface",
        "remove_router_interface",
        "add_extraroutes",
        "remove_extraroutes",
        "create_router:external_gateway_info",
        "create_router:external_gateway_info:network_id",
        "update_router:external_gateway_info",
        "update_router:external_gateway_info:network_id",
    ),
    *_rules(
        ADMIN,
        *(
            f"{verb}_router:{attribute}"
            for verb in ("create", "update")
            for attribute in (
                "distributed",
                "ha",
                "external_gateway_info:enable_snat",
                "external_gateway_info:external_fixed_ips",
            )
        ),
        "get_router:distributed",
        "get_router:ha",
    ),
    *_rules(READERS, "get_router"),
    *_tags("router", READERS, MEMBERS),
    # floating IPs
    *_rules(MEMBERS, "create_floatingip", "update_floatingip", "delete_floatingip"),
    *_rules(_or(ADMIN, OWNER_MANAGER), "create_floatingip:floating_ip_address"),
    *_rules(READERS, "get_floatingip", "get_floatingip_pool"),
    *_tags("floatingip", READERS, MEMBERS),
    # security groups
    Rule("shared_security_group", "True:%(shared)s"),
    *_rules(_or(ADMIN, SERVICE, OWNER_READER), "create_default_security_group"),
    *_rules(MEMBERS, "create_security_group", "update_security_group", "delete_security_group"),
    *_rules(_or(READERS, "rule:shared_security_group"), "get_security_group"),
    *_tags("security_group", _or(READERS, "rule:shared_security_group"), MEMBERS),
    *_rules(_or(ADMIN, GROUP_MEMBER), "create_security_group_rule", "delete_security_group_rule"),
    *_rules(_or(ADMIN, GROUP_READER), "get_security_group_rule"),
    # subnet pools and address scopes
    Rule("shared_subnetpools", "True:%(shared)s"),
    Rule("shared_address_scopes", "True:%(shared)s"),
    *_rules(MEMBERS, "create_subnetpool", "update_subnetpool", "delete_subnetpool", "add_prefixes", "remove_prefixes"),
    *_rules(ADMIN, "create_subnetpool:shared", "create_subnetpool:is_default", "update_subnetpool:is_default"),
    *_rules(_or(READERS, "rule:shared_subnetpools"), "get_subnetpool"),
    *_tags("subnetpool", _or(READERS, "rule:shared_subnetpools"), MEMBERS),
    *_rules(MEMBERS, "create_address_scope", "update_address_scope", "delete_address_scope"),
    *_rules(ADMIN, "create_address_scope:shared", "update_address_scope:shared"),
    *_rules(_or(READERS, "rule:shared_address_scopes"), "get_address_scope"),
    # RBAC policies
    *_rules(MEMBERS, "create_rbac_policy", "update_rbac_policy", "delete_rbac_policy"),
    *_rules(READERS, "get_rbac_policy"),
    *_rules(
        _or(ADMIN, "not True:%(everybody)s"), "create_rbac_policy:target_tenant", "update_rbac_policy:target_tenant"
    ),
    # the rest
    *_rules(_or(ADMIN, OWNER_MANAGER), "get_quota"),
    *_rules(ADMIN, "update_quota", "delete_quota", "get_agent", "update_agent", "delete_agent"),
    *_rules("role:reader", "get_availability_zone", "get_service_provider"),
    *_rules(_or(ADMIN, SERVICE), "get_network_ip_availability"),
]
