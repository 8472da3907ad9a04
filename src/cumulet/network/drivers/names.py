"""What things are called in OVN: as Neutron's OVN driver calls them, so that readers of `ovn-nbctl` feel at home."""

from __future__ import annotations

from typing import Final

__all__ = [
    "DROP_GROUP",
    "FLOATING_IP_KEY",
    "NETWORK_KEY",
    "PORT_KEY",
    "RULE_KEY",
    "SUBNET_KEY",
    "address_set",
    "port_group",
    "provider_port",
    "router",
    "router_port",
    "switch",
]

#: the port group of every port with port security; its rules drop what no security group allows
DROP_GROUP: Final = "neutron_pg_drop"

# keys in external_ids
NETWORK_KEY: Final = "neutron:network_name"
RULE_KEY: Final = "neutron:security_group_rule_id"
FLOATING_IP_KEY: Final = "neutron:fip_id"
SUBNET_KEY: Final = "subnet_id"
PORT_KEY: Final = "port_id"


def switch(network_id: str) -> str:
    return f"neutron-{network_id}"


def router(router_id: str) -> str:
    return f"neutron-{router_id}"


def router_port(port_id: str) -> str:
    return f"lrp-{port_id}"


def provider_port(network_id: str) -> str:
    return f"provnet-{network_id}"


def port_group(security_group_id: str) -> str:
    return "pg_" + security_group_id.replace("-", "_")


def address_set(security_group_id: str, ip_version: int) -> str:
    """The set of a group's addresses, which OVN keeps by itself under the port group's name."""
    return f"{port_group(security_group_id)}_ip{ip_version}"
