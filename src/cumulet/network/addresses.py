"""Arithmetic of addresses: pools, EUI-64, overlaps.  Pure functions, no state."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Collection, Iterable, Sequence

__all__ = [
    "contains",
    "default_gateway",
    "eui64",
    "first_last",
    "free_prefix",
    "is_eui64",
    "mac_of",
    "merged",
    "on_subnet",
    "overlaps",
    "pick",
    "pools_around",
    "pools_size",
    "subtract",
    "version",
]

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Pool = dict[str, str]

#: below this many addresses every free one is looked at; above, dice are thrown first
SMALL_POOL = 64
#: addresses thrown at once for a large pool
THROWS = 8


def mac_of(prefix: str, id: str) -> str:
    """The MAC that a port of this id has, where no other port of its network has it: known before the port is made."""
    return f"{prefix}:{id[-6:-4]}:{id[-4:-2]}:{id[-2:]}"


def version(address: str) -> int:
    return 6 if ":" in address else 4


def contains(cidr: str, address: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(cidr)


def overlaps(first: str, second: str) -> bool:
    one, two = ipaddress.ip_network(first), ipaddress.ip_network(second)
    return one.version == two.version and one.overlaps(two)


def on_subnet(cidr: str, address: str, *, router: bool) -> bool:
    """Whether a port may have an address: not IPv4's first and last, nor IPv6's first, which belongs to routers."""
    network, ip = ipaddress.ip_network(cidr), ipaddress.ip_address(address)
    if ip not in network:
        return False
    if network.num_addresses <= 2:
        return True
    if network.version == 4:
        return ip not in {network.network_address, network.broadcast_address}
    return router or ip != network.network_address


def default_gateway(cidr: str) -> str:
    """The first address that a host can have."""
    network = ipaddress.ip_network(cidr)
    if network.num_addresses == 1:
        return str(network.network_address)
    return str(network.network_address + 1)


def first_last(cidr: str) -> tuple[int, int]:
    """The first and last address that may be given out, as numbers."""
    network = ipaddress.ip_network(cidr)
    first, last = int(network.network_address), int(network.broadcast_address)
    if network.num_addresses <= 2:
        return first, last
    return (first + 1, last - 1) if network.version == 4 else (first + 1, last)


def _text(number: int, ip_version: int) -> str:
    return str(ipaddress.IPv4Address(number) if ip_version == 4 else ipaddress.IPv6Address(number))


def pools_around(cidr: str, gateway: str | None) -> list[Pool]:
    """Everything that may be given out, without the gateway."""
    first, last = first_last(cidr)
    ip_version = version(cidr)
    if gateway is None or not first <= int(ipaddress.ip_address(gateway)) <= last or first == last:
        return [{"start": _text(first, ip_version), "end": _text(last, ip_version)}]
    middle = int(ipaddress.ip_address(gateway))
    return [
        {"start": _text(low, ip_version), "end": _text(high, ip_version)}
        for low, high in ((first, middle - 1), (middle + 1, last))
        if low <= high
    ]


def _ranges(pools: Iterable[Pool]) -> list[tuple[int, int]]:
    return [(int(ipaddress.ip_address(pool["start"])), int(ipaddress.ip_address(pool["end"]))) for pool in pools]


def pools_size(pools: Iterable[Pool]) -> int:
    return sum(max(0, high - low + 1) for low, high in _ranges(pools))


def merged(pools: Sequence[Pool]) -> list[Pool]:
    """In order, neighbours joined."""
    if not pools:
        return []
    ip_version = version(pools[0]["start"])
    joined: list[list[int]] = []
    for low, high in sorted(_ranges(pools)):
        if joined and low == joined[-1][1] + 1:
            joined[-1][1] = high
        else:
            joined.append([low, high])
    return [{"start": _text(low, ip_version), "end": _text(high, ip_version)} for low, high in joined]


def _nth(ranges: Sequence[tuple[int, int]], index: int) -> int:
    for low, high in ranges:
        if index <= high - low:
            return low + index
        index -= high - low + 1
    raise IndexError(index)


def candidates(pools: Sequence[Pool], rng: random.Random) -> list[str]:
    """Addresses to try first: a few at random of large pools, all in random order of small ones.

    At random, so that an address just freed is not the next one given out while others still remember its old owner.
    """
    ranges = _ranges(pools)
    size = sum(max(0, high - low + 1) for low, high in ranges)
    if not size:
        return []
    ip_version = version(pools[0]["start"])
    if size <= SMALL_POOL:
        numbers = [number for low, high in ranges for number in range(low, high + 1)]
        rng.shuffle(numbers)
    else:
        numbers = [_nth(ranges, rng.randrange(size)) for _ in range(THROWS)]
    return [_text(number, ip_version) for number in numbers]


def pick(pools: Sequence[Pool], taken: Collection[str]) -> str | None:
    """The first address of the pools that is not taken.  It looks at no more than there are taken ones, and one."""
    numbers = {int(ipaddress.ip_address(address)) for address in taken}
    for low, high in _ranges(pools):
        number = low
        while number <= high:
            if number not in numbers:
                return _text(number, version(pools[0]["start"]))
            number += 1
    return None


def eui64(cidr: str, mac: str) -> str:
    """The address that a guest makes for itself from a /64 prefix and its MAC (RFC 4291, appendix A)."""
    part = bytearray.fromhex(mac.replace(":", ""))
    part[0] ^= 2
    suffix = int.from_bytes(part[:3] + b"\xff\xfe" + part[3:], "big")
    return str(ipaddress.IPv6Address(int(ipaddress.ip_network(cidr).network_address) | suffix))


def is_eui64(address: str) -> bool:
    return version(address) == 6 and (int(ipaddress.IPv6Address(address)) >> 24) & 0xFFFF == 0xFFFE


def subtract(prefixes: Iterable[str], taken: Iterable[str]) -> list[Network]:
    """What is left of prefixes, smallest pieces first."""
    left: list[Network] = [ipaddress.ip_network(prefix) for prefix in prefixes]
    for text in taken:
        used = ipaddress.ip_network(text)
        rest: list[Network] = []
        for piece in left:
            if piece.version != used.version or not piece.overlaps(used):
                rest.append(piece)
            elif used.prefixlen > piece.prefixlen:
                rest.extend(piece.address_exclude(used))  # type: ignore[arg-type]  # both are of one version, as just asked
        left = rest
    return sorted(left, key=lambda piece: (-piece.prefixlen, int(piece.network_address)))


def free_prefix(prefixes: Iterable[str], taken: Iterable[str], length: int) -> str | None:
    """The first free network of a length, cut from the smallest piece that holds it."""
    for piece in subtract(prefixes, taken):
        if piece.prefixlen <= length:
            return str(next(iter(piece.subnets(new_prefix=length))))
    return None
