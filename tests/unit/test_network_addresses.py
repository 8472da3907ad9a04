"""Arithmetic of addresses."""

import ipaddress
import random

from hypothesis import given
from hypothesis import strategies as st

from cumulet.network import addresses

CIDRS = st.builds(
    lambda base, length: str(ipaddress.ip_network((base, length), strict=False)),
    st.integers(0, 2**32 - 1).map(ipaddress.IPv4Address),
    st.integers(20, 32),
)


@given(CIDRS, st.randoms(use_true_random=False))
def test_what_is_offered_may_be_given(cidr: str, rng: random.Random) -> None:
    """Every candidate lies on the subnet, may belong to a port, and is not the gateway."""
    gateway = addresses.default_gateway(cidr)
    pools = addresses.pools_around(cidr, gateway)
    network = ipaddress.ip_network(cidr)
    offered = addresses.candidates(pools, rng)
    assert all(addresses.on_subnet(cidr, address, router=False) for address in offered)
    assert network.num_addresses == 1 or gateway not in offered
    assert addresses.pools_size(pools) <= network.num_addresses


@given(CIDRS, st.integers(0, 40), st.randoms(use_true_random=False))
def test_the_pick_finds_whatever_is_free(cidr: str, count: int, rng: random.Random) -> None:
    """While an address of the pools is free the pick gives one of them, and None only when all are taken."""
    pools = addresses.pools_around(cidr, None)
    taken = set(addresses.candidates(pools, rng)[:count])
    found = addresses.pick(pools, taken)
    if addresses.pools_size(pools) > len(taken):
        assert found is not None
        assert found not in taken
        assert addresses.on_subnet(cidr, found, router=False)
    else:
        assert found is None


def test_the_edges_of_a_subnet_are_nobodys() -> None:
    """IPv4's network and broadcast addresses; IPv6's first is the routers'; a pair of addresses has no edges."""
    assert not addresses.on_subnet("10.0.0.0/24", "10.0.0.0", router=True)
    assert not addresses.on_subnet("10.0.0.0/24", "10.0.0.255", router=True)
    assert not addresses.on_subnet("2001:db8::/64", "2001:db8::", router=False)
    assert addresses.on_subnet("2001:db8::/64", "2001:db8::", router=True)
    assert addresses.on_subnet("10.0.0.0/31", "10.0.0.0", router=False)
    assert not addresses.on_subnet("10.0.0.0/24", "10.0.1.1", router=True)


def test_a_guest_makes_its_address_of_prefix_and_mac() -> None:
    """As RFC 4291 has it: the MAC's halves around fffe, its universal bit turned."""
    address = addresses.eui64("2001:db8::/64", "fa:16:3e:12:34:56")
    assert address == "2001:db8::f816:3eff:fe12:3456"
    assert addresses.is_eui64(address)
    assert not addresses.is_eui64("2001:db8::1")
    assert not addresses.is_eui64("10.0.0.1")


def test_neighbouring_pools_are_joined() -> None:
    """Pools come out in order, those that touch as one."""
    pools = [
        {"start": "10.0.0.20", "end": "10.0.0.29"},
        {"start": "10.0.0.2", "end": "10.0.0.9"},
        {"start": "10.0.0.10", "end": "10.0.0.15"},
    ]
    assert addresses.merged(pools) == [
        {"start": "10.0.0.2", "end": "10.0.0.15"},
        {"start": "10.0.0.20", "end": "10.0.0.29"},
    ]


def test_a_prefix_is_cut_from_the_smallest_piece_that_holds_it() -> None:
    """So that large pieces stay whole for large wishes; None when there is no room."""
    assert addresses.free_prefix(["10.0.0.0/16", "10.1.0.0/24"], [], 25) == "10.1.0.0/25"
    assert addresses.free_prefix(["10.0.0.0/24"], ["10.0.0.0/25"], 25) == "10.0.0.128/25"
    assert addresses.free_prefix(["10.0.0.0/24"], ["10.0.0.0/25"], 24) is None


@given(st.lists(st.integers(0, 15), max_size=8, unique=True))
def test_what_is_taken_and_what_is_left_make_the_whole(taken: list[int]) -> None:
    """Subtracting prefixes leaves exactly the other addresses."""
    used = [f"10.0.{number * 16}.0/20" for number in taken]
    left = addresses.subtract(["10.0.0.0/16"], used)
    assert sum(piece.num_addresses for piece in left) == 2**16 - len(taken) * 2**12
    assert not any(addresses.overlaps(str(piece), cidr) for piece in left for cidr in used)
