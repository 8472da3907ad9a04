"""Which security group rules make sense: every combination of protocol, ports, family and remote side.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cumulet.network import errors
from cumulet.network.addresses import version
from cumulet.network.records import SecurityGroupRule
from cumulet.network.values import PROTOCOLS

__all__ = ["check_rule", "number", "same_rule"]

PORT_PROTOCOLS = {name: PROTOCOLS[name] for name in ("dccp", "sctp", "tcp", "udp", "udplite")}
ICMP = frozenset({1, 58})
IPV6_ONLY = frozenset(
    PROTOCOLS[name] for name in ("ipv6-encap", "ipv6-frag", "ipv6-icmp", "ipv6-nonxt", "ipv6-opts", "ipv6-route")
)

PORT_FIRST, PORT_LAST = 1, 65_535


def number(protocol: str | None) -> int | None:
    """A protocol's number."""
    if protocol is None:
        return None
    return PROTOCOLS[protocol] if protocol in PROTOCOLS else int(protocol)


def check_rule(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The rule in its canonical form; raises what the reference raises."""
    rule = dict(wanted)
    if rule["ethertype"] == "IPv6":
        # old names and the number of IPv4's ICMP are taken for ICMPv6
        rule["protocol"] = {"icmp": "ipv6-icmp", "icmpv6": "ipv6-icmp", "1": "58"}.get(
            rule["protocol"], rule["protocol"]
        )
    if (rule["port_range_min"], rule["port_range_max"]) == (PORT_FIRST, PORT_LAST):
        # all ports are no condition
        rule["port_range_min"] = rule["port_range_max"] = None
    _check_ports(rule)
    prefix = rule["remote_ip_prefix"]
    if prefix is not None and rule["ethertype"] != f"IPv{version(prefix)}":
        raise errors.SecurityGroupRuleParameterConflict(ethertype=rule["ethertype"], cidr=prefix)
    if rule["ethertype"] == "IPv4" and number(rule["protocol"]) in IPV6_ONLY:
        raise errors.SecurityGroupEthertypeConflictWithProtocol(ethertype="IPv4", protocol=rule["protocol"])
    if prefix is not None and rule["remote_group_id"]:
        raise errors.SecurityGroupMultipleRemoteEntites
    return rule


def _check_ports(rule: Mapping[str, Any]) -> None:
    low, high, protocol = rule["port_range_min"], rule["port_range_max"], number(rule["protocol"])
    if low is None and high is None:
        return
    if protocol is None:
        raise errors.SecurityGroupProtocolRequiredWithPorts
    if protocol in PORT_PROTOCOLS.values():
        if 0 in {low, high}:
            raise errors.SecurityGroupInvalidPortValue(port=0)
        if low is None or high is None or low > high:
            raise errors.SecurityGroupInvalidPortRange
    elif protocol in ICMP:
        for attr, field, value in (("port_range_min", "type", low), ("port_range_max", "code", high)):
            if value is not None and value > 255:
                raise errors.SecurityGroupInvalidIcmpValue(field=field, attr=attr, value=value)
        if low is None:
            raise errors.SecurityGroupMissingIcmpType(value=high)
    else:
        supported = ", ".join(name.upper() for name in PORT_PROTOCOLS)
        raise errors.SecurityGroupInvalidProtocolForPort(protocol=protocol, supported=supported)


def same_rule(one: SecurityGroupRule, other: SecurityGroupRule) -> bool:
    """Whether two rules of a group let the same in."""
    return _key(one) == _key(other)


def _key(rule: SecurityGroupRule) -> tuple[Any, ...]:
    anywhere = rule.remote_ip_prefix in {None, "0.0.0.0/0", "::/0"}
    return (
        rule.direction,
        rule.ethertype,
        number(rule.protocol),
        rule.port_range_min,
        rule.port_range_max,
        None if anywhere else rule.remote_ip_prefix,
        rule.remote_group_id,
    )
