"""Security groups in OVN: a port group per group, an ACL per rule, and one group of all ports that drops the rest.

As Neutron's OVN driver has it: rules allow at priority 1002 what the drop group refuses at 1001; a remote group is
the address set that OVN keeps of that port group's members.  A rule that OVN cannot express is refused here, alone,
before it is written.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any, Final

from cumulet.network.drivers import names
from cumulet.network.drivers.driver import NetworkRefused, SecurityGroup, SecurityGroupRule
from cumulet.network.drivers.ovn_rows import Row, Rows

__all__ = ["ensure_drop_group", "ensure_group", "ensure_rule", "port_group_for", "remove_group", "remove_rule"]

_ALLOW: Final = 1002
_DROP: Final = 1001
#: the API's protocol names and the numbers OVN has its own words for
_WORDS: Final = {"6": "tcp", "17": "udp", "132": "sctp", "1": "icmp", "58": "icmpv6", "ipv6-icmp": "icmpv6"}
_NUMBERS: Final = {
    "ah": 51, "dccp": 33, "egp": 8, "esp": 50, "gre": 47, "hopopt": 0, "igmp": 2, "ip": 0, "ipip": 4, "ipv6-encap": 41,
    "ipv6-frag": 44, "ipv6-nonxt": 59, "ipv6-opts": 60, "ipv6-route": 43, "ospf": 89, "pgm": 113, "rsvp": 46,
    "udplite": 136, "vrrp": 112,
}  # fmt: skip
#: names that mean any protocol
_ANY: Final = {None, "", "any", "0", "ip"}

# What a guest needs before any rule can be of use to it: to ask for its address.  OVN itself answers.
_DHCP: Final = (
    "inport == @{group} && ip4 && ip4.dst == {{255.255.255.255, 224.0.0.0/4}} && udp.src == 68 && udp.dst == 67",
    "inport == @{group} && ip6 && ip6.dst == ff02::1:2 && udp.src == 546 && udp.dst == 547",
)


def ensure_drop_group(rows: Rows) -> Row:
    """The group of every port with port security."""
    group = rows.named("Port_Group", names.DROP_GROUP)
    if group is not None:
        return group
    group = rows.insert("Port_Group", name=names.DROP_GROUP)
    for direction, way in (("from-lport", "inport"), ("to-lport", "outport")):
        _add_acl(
            rows, group, direction=direction, priority=_DROP, match=f"{way} == @{names.DROP_GROUP} && ip", action="drop"
        )
    for match in _DHCP:
        words = match.format(group=names.DROP_GROUP)
        _add_acl(rows, group, direction="from-lport", priority=_ALLOW, match=words, action="allow")
    return group


def port_group_for(rows: Rows, group_id: str) -> Row:
    """The port group of a security group; one that was never ensured comes to be empty."""
    name = names.port_group(group_id)
    found = rows.named("Port_Group", name)
    if found is not None:
        return found
    return rows.insert("Port_Group", name=name, external_ids={"neutron:security_group_id": group_id})


def ensure_group(rows: Rows, group: SecurityGroup) -> None:
    row = port_group_for(rows, group.id)
    rows.change(
        row,
        external_ids={
            "neutron:security_group_id": group.id,
            "neutron:security_group_name": group.name,
            _STATEFUL: str(group.stateful).lower(),
        },
    )
    wanted = {rule.id: rule for rule in group.rules}
    present = _by_rule(rows, row)
    for rule_id, acl in present.items():
        if rule_id not in wanted:
            rows.drop_child(row, "acls", acl)
    for rule in group.rules:
        _write_rule(rows, row, present.get(rule.id), rule)


def remove_group(rows: Rows, group_id: str) -> None:
    row = rows.named("Port_Group", names.port_group(group_id))
    if row is not None:
        row.delete()


def ensure_rule(rows: Rows, group_id: str, rule: SecurityGroupRule) -> None:
    row = port_group_for(rows, group_id)
    _write_rule(rows, row, _by_rule(rows, row).get(rule.id), rule)


def remove_rule(rows: Rows, group_id: str, rule_id: str) -> None:
    row = rows.named("Port_Group", names.port_group(group_id))
    acl = _by_rule(rows, row).get(rule_id) if row is not None else None
    if acl is not None:
        rows.drop_child(row, "acls", acl)


#: kept with the port group, for rules that come one by one
_STATEFUL: Final = "cumulet:stateful"


def _by_rule(rows: Rows, group: Row) -> dict[str, Row]:
    return {
        acl.external_ids[names.RULE_KEY]: acl
        for acl in rows.members(group, "acls")
        if names.RULE_KEY in acl.external_ids
    }


def _write_rule(rows: Rows, group: Row, acl: Row | None, rule: SecurityGroupRule) -> None:
    stateless = group.external_ids.get(_STATEFUL) == "false"
    columns: dict[str, Any] = {
        "direction": "to-lport" if rule.direction == "ingress" else "from-lport",
        "priority": _ALLOW,
        "match": _match(group.name, rule),
        "action": "allow-stateless" if stateless else "allow-related",
        "external_ids": {names.RULE_KEY: rule.id},
    }
    if acl is None:
        _add_acl(rows, group, **columns)
    else:
        rows.change(acl, **columns)


def _add_acl(rows: Rows, group: Row, *, external_ids: Mapping[str, str] | None = None, **columns: Any) -> None:
    acl = rows.insert("ACL", external_ids=dict(external_ids or {}), **columns)
    rows.add(group, "acls", acl)


def _match(group: str, rule: SecurityGroupRule) -> str:
    """The rule in OVN's words: https://www.ovn.org/support/dist-docs/ovn-sb.5.html, Logical_Flow, match."""
    version = 4 if rule.ethertype == "IPv4" else 6
    ip = f"ip{version}"
    inward = rule.direction == "ingress"
    parts = [f"{'outport' if inward else 'inport'} == @{group}", ip]
    peer = f"{ip}.{'src' if inward else 'dst'}"
    if rule.remote_ip_prefix:
        parts.append(f"{peer} == {_prefix(rule, version)}")
    if rule.remote_group_id:
        parts.append(f"{peer} == ${names.address_set(rule.remote_group_id, version)}")
    parts += _protocol(rule, version)
    return " && ".join(parts)


def _prefix(rule: SecurityGroupRule, version: int) -> str:
    """The rule's prefix, read and written again: it becomes part of a match, where a stray word would be OVN's own."""
    try:
        prefix = ipaddress.ip_network(str(rule.remote_ip_prefix), strict=False)
    except ValueError:
        raise NetworkRefused(detail=f"security group rule {rule.id}: {rule.remote_ip_prefix!r} is no prefix") from None
    if prefix.version != version:
        raise NetworkRefused(detail=f"security group rule {rule.id}: {prefix} is not {rule.ethertype}")
    return str(prefix)


def _protocol(rule: SecurityGroupRule, version: int) -> list[str]:
    if rule.protocol in _ANY:
        return []
    name = str(rule.protocol).lower()
    word = _WORDS.get(name, name)
    if word in {"icmp", "icmpv6"}:
        icmp = f"icmp{version}"
        parts = [icmp]
        if rule.port_range_min is not None:
            parts.append(f"{icmp}.type == {rule.port_range_min}")
            if rule.port_range_max is not None:
                parts.append(f"{icmp}.code == {rule.port_range_max}")
        return parts
    if word in {"tcp", "udp", "sctp"}:
        low, high = rule.port_range_min, rule.port_range_max
        if low is None or high is None or (low, high) in {(0, 65535), (1, 65535)}:
            return [word]
        if low == high:
            return [word, f"{word}.dst == {low}"]
        return [word, f"{word}.dst >= {low}", f"{word}.dst <= {high}"]
    number = int(word) if word.isdigit() else _NUMBERS.get(word)
    if number is None:
        raise NetworkRefused(detail=f"security group rule {rule.id}: unknown protocol {name!r}")
    return [f"ip.proto == {number}"]
