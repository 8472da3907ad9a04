"""Values of requests: each function takes what a client sent and gives what the service works with, or raises `Unfit` with the reason.

JSON schemas were turned down here: the reference takes "true", "22" and a missing list in several spellings, answers with reasons that
clients print, and takes bulk bodies; a schema would check the shape and leave the conversion to be written a second time.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any

from cumulet.core.truth import NO, YES
from cumulet.network import errors

__all__ = [
    "PROTOCOLS",
    "Take",
    "Unfit",
    "address",
    "address_or_none",
    "address_pairs",
    "boolean",
    "cidr",
    "dhcp_options",
    "dictionary",
    "dns_domain",
    "dns_name",
    "ethertype",
    "external_gateway",
    "family",
    "fixed_ips",
    "host_routes",
    "integer",
    "list_of",
    "mac",
    "network",
    "one_of",
    "optional",
    "pools",
    "port_number",
    "prefix",
    "project",
    "protocol",
    "text",
    "uuid",
]

Take = Callable[[Any], Any]

TEXT_MAX = 255
LIST_MAX = 1_000
INTEGER_MAX = 2**31 - 1

_UUID = re.compile(r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$", re.IGNORECASE)
_MAC = re.compile(r"^[0-9a-f]{2}(:[0-9a-f]{2}){5}$", re.IGNORECASE)
_LABEL = re.compile(r"^(?!-)[a-z0-9_-]{1,63}(?<!-)$", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

#: protocol names of security group rules and their numbers
PROTOCOLS: dict[str, int] = {
    "ah": 51,
    "dccp": 33,
    "egp": 8,
    "esp": 50,
    "gre": 47,
    "hopopt": 0,
    "icmp": 1,
    "igmp": 2,
    "ip": 0,
    "ipip": 4,
    "ipv6-encap": 41,
    "ipv6-frag": 44,
    "ipv6-icmp": 58,
    "icmpv6": 58,
    "ipv6-nonxt": 59,
    "ipv6-opts": 60,
    "ipv6-route": 43,
    "ospf": 89,
    "pgm": 113,
    "rsvp": 46,
    "sctp": 132,
    "tcp": 6,
    "udp": 17,
    "udplite": 136,
    "vrrp": 112,
}


class Unfit(ValueError):
    """A value that cannot be taken; its text is the reason."""


def text(limit: int = TEXT_MAX) -> Take:
    def take(value: Any) -> str:
        if not isinstance(value, str):
            msg = f"'{value}' is not a valid string"
            raise Unfit(msg)
        if len(value) > limit:
            msg = f"'{value[:limit]}…' exceeds maximum length of {limit}"
            raise Unfit(msg)
        if "\x00" in value:
            msg = "a string must not hold null characters"
            raise Unfit(msg)
        return value

    return take


def project(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > TEXT_MAX:
        msg = f"'{value}' is not a valid string"
        raise Unfit(msg)
    return value


def boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).lower() if isinstance(value, (str, int)) else ""
    if word in YES:
        return True
    if word in NO:
        return False
    msg = f"'{value}' cannot be converted to boolean"
    raise Unfit(msg)


def integer(low: int = 0, high: int = INTEGER_MAX) -> Take:
    def take(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            msg = f"'{value}' is not an integer"
            raise Unfit(msg)
        try:
            number = int(value)
        except ValueError:
            msg = f"'{value}' is not an integer"
            raise Unfit(msg) from None
        if number < low:
            msg = f"'{number}' is too small - must be at least '{low}'"
            raise Unfit(msg)
        if number > high:
            msg = f"'{number}' is too large - must be no larger than '{high}'"
            raise Unfit(msg)
        return number

    return take


def family(value: Any) -> int:
    """4 or 6."""
    number: int = integer(4, 6)(value)
    if number == 5:
        msg = "'5' is not in [4, 6]"
        raise Unfit(msg)
    return number


def optional(inner: Take) -> Take:
    """None stays None."""

    def take(value: Any) -> Any:
        return None if value is None else inner(value)

    return take


def one_of(*choices: Any) -> Take:
    def take(value: Any) -> Any:
        if value not in choices:
            msg = f"'{value}' is not in {list(choices)}"
            raise Unfit(msg)
        return value

    return take


def list_of(inner: Take, *, limit: int = LIST_MAX, distinct: bool = True) -> Take:
    """A list; None is the empty one, a single text a list of one."""

    def take(value: Any) -> list[Any]:
        if value is None:
            return []
        if isinstance(value, str):
            value = [value]
        if not isinstance(value, list):
            msg = f"'{value}' is not a list"
            raise Unfit(msg)
        if len(value) > limit:
            msg = f"the list has more than {limit} items"
            raise Unfit(msg)
        items = [inner(item) for item in value]
        if distinct and any(item in items[:index] for index, item in enumerate(items)):
            msg = f"Duplicate items in the list: '{', '.join(str(item) for item in items)}'"
            raise Unfit(msg)
        return items

    return take


def dictionary(value: Any) -> dict[str, Any]:
    if value is None or value == "":
        return {}
    if not isinstance(value, dict):
        msg = f"'{value}' is not a dictionary"
        raise Unfit(msg)
    return value


def uuid(value: Any) -> str:
    if not isinstance(value, str) or not _UUID.match(value):
        msg = f"'{value}' is not a valid UUID"
        raise Unfit(msg)
    return value


def mac(value: Any) -> str:
    if not isinstance(value, str) or not _MAC.match(value.replace("-", ":")):
        msg = f"'{value}' is not a valid MAC address"
        raise Unfit(msg)
    lower = value.replace("-", ":").lower()
    if lower == "00:00:00:00:00:00" or int(lower[:2], 16) & 1:
        msg = f"'{value}' is not a permitted MAC address"
        raise Unfit(msg)
    return lower


def address(value: Any) -> str:
    """An IPv4 or IPv6 address in its usual spelling."""
    try:
        if not isinstance(value, str) or "%" in value:
            raise ValueError
        return str(ipaddress.ip_address(value))
    except ValueError:
        msg = f"'{value}' is not a valid IP address"
        raise Unfit(msg) from None


address_or_none = optional(address)


def cidr(value: Any) -> str:
    """A network: no host bits set."""
    try:
        if not isinstance(value, str) or "/" not in value:
            raise ValueError
        interface = ipaddress.ip_interface(value)
    except ValueError:
        msg = f"'{value}' is not a valid IP subnet"
        raise Unfit(msg) from None
    if interface.ip != interface.network.network_address:
        msg = f"'{value}' isn't a recognized IP subnet cidr, '{interface.network}' is recommended"
        raise Unfit(msg)
    return str(interface.network)


def network(value: Any) -> str:
    """A network; host bits are dropped."""
    try:
        if not isinstance(value, str) or "/" not in value:
            raise ValueError
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError:
        msg = f"'{value}' is not a valid IP subnet"
        raise Unfit(msg) from None


def prefix(value: Any) -> str | None:
    """A remote_ip_prefix: an address or a CIDR, which may have host bits; `""` is none."""
    if not value:
        return None
    try:
        if not isinstance(value, str):
            raise ValueError  # noqa: TRY004 - one answer for every bad prefix
        interface = ipaddress.ip_interface(value)
    except ValueError:
        msg = f"Invalid CIDR {value} given as IP prefix."
        raise Unfit(msg) from None
    return f"{interface.ip}/{interface.network.prefixlen}"


def pools(value: Any) -> list[dict[str, str]]:
    """Allocation pools: [{"start": …, "end": …}]."""
    if not isinstance(value, list):
        msg = f"Invalid data format for IP pool: '{value}'"
        raise Unfit(msg)
    found = []
    for pool in value:
        if not isinstance(pool, dict) or set(pool) != {"start", "end"}:
            msg = f"Invalid data format for IP pool: '{pool}'"
            raise Unfit(msg)
        found.append({"start": address(pool["start"]), "end": address(pool["end"])})
    return found


def host_routes(value: Any) -> list[dict[str, str]]:
    """Routes: [{"destination": CIDR, "nexthop": address}], none twice."""
    if value is None:
        return []
    if not isinstance(value, list):
        msg = f"Invalid data format for hostroute: '{value}'"
        raise Unfit(msg)
    routes: list[dict[str, str]] = []
    for route in value:
        if not isinstance(route, dict) or set(route) != {"destination", "nexthop"}:
            msg = f"Invalid data format for hostroute: '{route}'"
            raise Unfit(msg)
        taken = {"destination": cidr(route["destination"]), "nexthop": address(route["nexthop"])}
        if taken in routes:
            msg = f"Duplicate hostroute '{route}'"
            raise Unfit(msg)
        routes.append(taken)
    return routes


def fixed_ips(value: Any) -> list[dict[str, str]]:
    """Wanted addresses: [{"subnet_id": …, "ip_address": …}], either or both."""
    if value is None:
        return []
    if not isinstance(value, list):
        msg = f"Invalid data format for fixed IP: '{value}'"
        raise Unfit(msg)
    wanted: list[dict[str, str]] = []
    seen: set[str] = set()
    for entry in value:
        if not isinstance(entry, dict) or not set(entry) <= {"subnet_id", "ip_address"}:
            msg = f"Invalid data format for fixed IP: '{entry}'"
            raise Unfit(msg)
        one: dict[str, str] = {}
        if entry.get("subnet_id") is not None:
            one["subnet_id"] = uuid(entry["subnet_id"])
        if entry.get("ip_address") is not None:
            one["ip_address"] = address(entry["ip_address"])
            if one["ip_address"] in seen:
                msg = f"Duplicate IP address '{one['ip_address']}'"
                raise Unfit(msg)
            seen.add(one["ip_address"])
        wanted.append(one)
    return wanted


def address_pairs(value: Any) -> list[dict[str, str]]:
    """Allowed address pairs: [{"ip_address": address or CIDR, "mac_address": …}]."""
    if value is None:
        return []
    if not isinstance(value, list):
        msg = "Allowed address pairs must be a list."
        raise Unfit(msg)
    pairs = []
    for pair in value:
        if not isinstance(pair, dict) or not set(pair) <= {"ip_address", "mac_address"}:
            msg = f"Unrecognized attribute(s) in '{pair}'"
            raise Unfit(msg)
        if "ip_address" not in pair:
            msg = "AllowedAddressPair must contain ip_address"
            raise Unfit(msg)
        raw = pair["ip_address"]
        try:
            if not isinstance(raw, str):
                raise ValueError  # noqa: TRY004 - one answer for every bad pair
            given = ipaddress.ip_interface(raw)
        except ValueError:
            msg = f"'{raw}' is not a valid IP address"
            raise Unfit(msg) from None
        one = {"ip_address": f"{given.ip}/{given.network.prefixlen}" if "/" in raw else str(given.ip)}
        if pair.get("mac_address") is not None:
            one["mac_address"] = mac(pair["mac_address"])
        pairs.append(one)
    return pairs


def dhcp_options(value: Any) -> list[dict[str, Any]]:
    """Extra DHCP options: [{"opt_name": …, "opt_value": …, "ip_version": 4}]; a value of None takes an option away."""
    if value is None:
        return []
    if not isinstance(value, list):
        msg = f"'{value}' is not a list"
        raise Unfit(msg)
    options: list[dict[str, Any]] = []
    for option in value:
        if (
            not isinstance(option, dict)
            or "opt_name" not in option
            or not set(option) <= {"opt_name", "opt_value", "ip_version"}
        ):
            msg = f"Invalid data format for extra DHCP option: '{option}'"
            raise Unfit(msg)
        name, given = option["opt_name"], option.get("opt_value")
        # no string-built configuration comes of these; a control character has no business in one all the same
        for part in (name, given):
            if part is not None and (
                not isinstance(part, str) or not part.strip() or len(part) > TEXT_MAX or _CONTROL.search(part)
            ):
                msg = f"'{part}' is not a valid extra DHCP option"
                raise Unfit(msg)
        if name is None:
            msg = "an extra DHCP option needs a name"
            raise Unfit(msg)
        version = family(option.get("ip_version") or 4)
        options.append({"opt_name": name, "opt_value": given, "ip_version": version})
    return options


def external_gateway(value: Any) -> dict[str, Any] | None:
    """A router's gateway: {"network_id": …, "enable_snat": …, "external_fixed_ips": […]}; None or {} is none."""
    if not value:
        return None
    if not isinstance(value, dict) or not set(value) <= {
        "network_id",
        "enable_snat",
        "external_fixed_ips",
        "qos_policy_id",
    }:
        msg = f"'{value}' is not a valid external gateway"
        raise Unfit(msg)
    if value.get("qos_policy_id") is not None:
        msg = "QoS policies are not supported"
        raise Unfit(msg)
    if "network_id" not in value:
        msg = "Validation of dictionary's keys failed. Expected keys: {'network_id'}"
        raise Unfit(msg)
    if value["network_id"] is None:
        return None
    taken: dict[str, Any] = {"network_id": uuid(value["network_id"])}
    if "enable_snat" in value:
        taken["enable_snat"] = boolean(value["enable_snat"])
    if value.get("external_fixed_ips") is not None:
        taken["external_fixed_ips"] = fixed_ips(value["external_fixed_ips"])
    return taken


def _dns(value: Any, limit: int) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > limit:
        msg = f"'{value}' is not a valid DNS name"
        raise Unfit(msg)
    if value and not all(_LABEL.match(label) for label in value.removesuffix(".").split(".")):
        msg = f"'{value}' not a valid PQDN or FQDN. Reason: a label has invalid characters or a bad length"
        raise Unfit(msg)
    return value


def dns_name(value: Any) -> str:
    return _dns(value, 255)


def dns_domain(value: Any) -> str:
    domain = _dns(value, 255)
    if domain and not domain.endswith("."):
        msg = f"'{domain}' is not a FQDN"
        raise Unfit(msg)
    return domain


def protocol(value: Any) -> str | None:
    """A rule's protocol: a known name in lower case, a number as text, or None for any."""
    if value is None or value == "" or (isinstance(value, str) and value.lower() == "any"):
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if isinstance(value, str):
        if value.isdecimal() and int(value) <= TEXT_MAX:
            return value
        if value.lower() in PROTOCOLS:
            return value.lower()
    raise errors.SecurityGroupRuleInvalidProtocol(protocol=value, values=sorted(PROTOCOLS))


def ethertype(value: Any) -> str:
    for known in ("IPv4", "IPv6"):
        if isinstance(value, str) and value.lower() == known.lower():
            return known
    raise errors.SecurityGroupRuleInvalidEtherType(ethertype=value, values=["IPv4", "IPv6"])


def port_number(value: Any) -> int | None:
    if value is None or value == "":
        return None
    try:
        number = int(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else -1
    except ValueError:
        number = -1
    if not 0 <= number <= 65_535:
        raise errors.SecurityGroupInvalidPortValue(port=value)
    return number
