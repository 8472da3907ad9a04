"""Subnets over HTTP: sound ranges only, addresses for metadata, IPv6 that guests make for themselves, and pools."""

from collections.abc import Iterator

import pytest
from tests.http.network_world import NetworkWorld, refused


@pytest.fixture
def world(database_url: str) -> Iterator[NetworkWorld]:
    """A network service of this test's own."""
    world = NetworkWorld(database_url)
    yield world
    world.close()


def test_a_new_subnet_has_a_gateway_and_pools_around_it(world: NetworkWorld) -> None:
    """The first address is the gateway, the rest but the edges is given out, and the network names its subnet."""
    network = world.network()
    subnet = world.subnet(network["id"], "10.1.0.0/24", dns_nameservers=["1.1.1.1"])
    assert subnet["gateway_ip"] == "10.1.0.1"
    assert subnet["allocation_pools"] == [{"start": "10.1.0.2", "end": "10.1.0.254"}]
    assert world.show(f"networks/{network['id']}")["subnets"] == [subnet["id"]]
    told = world.driver.subnets[subnet["id"]]
    assert (told.cidr, told.mtu, told.dns_nameservers) == ("10.1.0.0/24", 1442, ("1.1.1.1",))


def test_a_gateway_in_the_middle_splits_the_pool(world: NetworkWorld) -> None:
    """Pools lie around the gateway; without one there is a single pool."""
    network = world.network()
    middle = world.subnet(network["id"], "10.1.0.0/29", gateway_ip="10.1.0.3")
    assert middle["allocation_pools"] == [
        {"start": "10.1.0.1", "end": "10.1.0.2"},
        {"start": "10.1.0.4", "end": "10.1.0.6"},
    ]
    none = world.subnet(network["id"], "10.2.0.0/29", gateway_ip=None)
    assert (none["gateway_ip"], none["allocation_pools"]) == (None, [{"start": "10.2.0.1", "end": "10.2.0.6"}])


@pytest.mark.parametrize(
    ("attributes", "status", "kind"),
    [
        ({"cidr": "10.0.0.5/24"}, 400, "HTTPBadRequest"),
        ({"cidr": "10.0.0.0"}, 400, "HTTPBadRequest"),
        ({"cidr": "0.0.0.0/0"}, 400, "InvalidInput"),
        ({"cidr": "10.0.0.0/31"}, 400, "InvalidInput"),
        ({"cidr": "224.0.0.0/24"}, 400, "InvalidInput"),
        ({"cidr": "127.0.0.0/24"}, 400, "InvalidInput"),
        ({"cidr": "10.0.0.0/24", "ip_version": 6}, 400, "InvalidInput"),
        ({"cidr": "10.0.0.0/24", "ip_version": 5}, 400, "HTTPBadRequest"),
        ({"ip_version": 4}, 400, "BadRequest"),
        ({"cidr": "10.0.0.0/24", "prefixlen": 24}, 400, "BadRequest"),
        ({"cidr": "10.0.0.0/24", "gateway_ip": "10.0.0.255"}, 400, "InvalidInput"),
        ({"cidr": "10.0.0.0/24", "gateway_ip": "::1"}, 400, "InvalidInput"),
        ({"cidr": "10.0.0.0/24", "dns_nameservers": ["x"]}, 400, "HTTPBadRequest"),
        ({"cidr": "10.0.0.0/24", "dns_nameservers": ["1.1.1.1", "1.1.1.1"]}, 400, "HTTPBadRequest"),
        ({"cidr": "10.0.0.0/24", "dns_nameservers": [f"1.1.1.{n}" for n in range(6)]}, 400, "DNSNameServersExhausted"),
        ({"cidr": "10.0.0.0/24", "host_routes": [{"destination": "10.9.0.0/24"}]}, 400, "HTTPBadRequest"),
        (
            {"cidr": "10.0.0.0/24", "host_routes": [{"destination": "2001::/64", "nexthop": "2001::1"}]},
            400,
            "InvalidInput",
        ),
        (
            {"cidr": "10.0.0.0/24", "allocation_pools": [{"start": "10.0.0.9", "end": "10.0.0.4"}]},
            400,
            "InvalidAllocationPool",
        ),
        (
            {"cidr": "10.0.0.0/24", "allocation_pools": [{"start": "10.0.1.2", "end": "10.0.1.9"}]},
            400,
            "OutOfBoundsAllocationPool",
        ),
        (
            {
                "cidr": "10.0.0.0/24",
                "allocation_pools": [
                    {"start": "10.0.0.2", "end": "10.0.0.9"},
                    {"start": "10.0.0.9", "end": "10.0.0.20"},
                ],
            },
            409,
            "OverlappingAllocationPools",
        ),
        (
            {"cidr": "10.0.0.0/24", "allocation_pools": [{"start": "10.0.0.1", "end": "10.0.0.9"}]},
            409,
            "GatewayConflictWithAllocationPools",
        ),
        ({"cidr": "10.0.0.0/24", "ipv6_ra_mode": "slaac"}, 400, "InvalidInput"),
        (
            {"cidr": "2001:db8::/64", "ipv6_ra_mode": "slaac", "ipv6_address_mode": "dhcpv6-stateful"},
            400,
            "InvalidInput",
        ),
        ({"cidr": "2001:db8::/80", "ipv6_address_mode": "slaac"}, 400, "InvalidInput"),
        ({"cidr": "2001:db8::/64", "ipv6_address_mode": "slaac", "enable_dhcp": False}, 400, "InvalidInput"),
    ],
    ids=str,
)
def test_an_unsound_subnet_is_refused(
    world: NetworkWorld, attributes: dict[str, object], status: int, kind: str
) -> None:
    """Every combination is checked before anything is written: no subnet, no address, no word to the data plane."""
    network = world.network()
    body = {"network_id": network["id"], "ip_version": 6 if ":" in str(attributes.get("cidr")) else 4, **attributes}
    calls = list(world.driver.calls)
    refused(world.member.post("/v2.0/subnets", {"subnet": body}), status, kind)
    assert world.show(f"networks/{network['id']}")["subnets"] == []
    assert world.addresses(network["id"]) == {}
    assert world.driver.calls == calls


def test_subnets_of_one_network_lie_apart(world: NetworkWorld) -> None:
    """An overlap is 400 on the same network, and nobody's business on another."""
    network = world.network()
    world.subnet(network["id"], "10.0.0.0/24")
    body = {"subnet": {"network_id": network["id"], "ip_version": 4, "cidr": "10.0.0.128/25"}}
    assert "overlaps with another subnet" in refused(world.member.post("/v2.0/subnets", body), 400, "InvalidInput")
    world.subnet(world.network()["id"], "10.0.0.128/25")


def test_dhcp_brings_a_metadata_port(world: NetworkWorld) -> None:
    """The first subnet with DHCP brings the network's metadata port, further ones an address each, the last one's end takes it."""
    network = world.network()
    first = world.subnet(network["id"], "10.0.0.0/24")
    (port,) = world.listed(f"ports?network_id={network['id']}")
    assert (port["device_owner"], port["device_id"]) == ("network:distributed", f"ovnmeta-{network['id']}")
    assert port["fixed_ips"] == [{"subnet_id": first["id"], "ip_address": "10.0.0.2"}]
    assert world.driver.subnets[first["id"]].metadata_address == "10.0.0.2"
    assert world.driver.ports[port["id"]].device_owner == "network:distributed"
    second = world.subnet(network["id"], "10.0.1.0/24")
    world.subnet(network["id"], "10.0.2.0/24", enable_dhcp=False)
    assert {ip["subnet_id"] for ip in world.show(f"ports/{port['id']}")["fixed_ips"]} == {first["id"], second["id"]}
    world.member.put(f"/v2.0/subnets/{first['id']}", {"subnet": {"enable_dhcp": False}})
    assert [ip["subnet_id"] for ip in world.show(f"ports/{port['id']}")["fixed_ips"]] == [second["id"]]
    assert world.driver.subnets[first["id"]].metadata_address is None
    refused(world.member.delete(f"/v2.0/ports/{port['id']}"), 409, "ServicePortInUse")


def test_a_subnet_with_addresses_in_use_stays(world: NetworkWorld) -> None:
    """A port's address holds the subnet; the metadata port's does not."""
    network = world.network()
    subnet = world.subnet(network["id"])
    port = world.made("port", network_id=network["id"])
    refused(world.member.delete(f"/v2.0/subnets/{subnet['id']}"), 409, "SubnetInUse")
    world.member.delete(f"/v2.0/ports/{port['id']}")
    assert world.member.delete(f"/v2.0/subnets/{subnet['id']}").status == 204
    assert world.addresses(network["id"]) == {}
    assert subnet["id"] not in world.driver.subnets
    assert world.show(f"networks/{network['id']}")["subnets"] == []


def test_the_gateway_of_a_router_cannot_be_moved(world: NetworkWorld) -> None:
    """While a router holds the gateway address it stays; any other time it may change, but not into the pools."""
    _, subnet, router = world.joined()
    path, change = f"/v2.0/subnets/{subnet['id']}", {"subnet": {"gateway_ip": None}}
    refused(world.member.put(path, change), 409, "GatewayIpInUse")
    world.member.put(f"/v2.0/routers/{router['id']}/remove_router_interface", {"subnet_id": subnet["id"]})
    refused(world.member.put(path, {"subnet": {"gateway_ip": "10.0.0.9"}}), 409, "GatewayConflictWithAllocationPools")
    assert world.member.put(path, change).json["subnet"]["gateway_ip"] is None


def test_what_cannot_change_is_refused(world: NetworkWorld) -> None:
    """A subnet's range and network are for ever."""
    subnet = world.subnet(world.network()["id"])
    for key, value in (("cidr", "10.1.0.0/24"), ("network_id", subnet["network_id"]), ("ip_version", 6)):
        refused(world.member.put(f"/v2.0/subnets/{subnet['id']}", {"subnet": {key: value}}), 400, "HTTPBadRequest")


def test_guests_make_their_own_ipv6_address(world: NetworkWorld) -> None:
    """With SLAAC a port's address follows from its MAC, for ports that were there before the subnet as well."""
    network = world.network()
    world.subnet(network["id"], "10.0.0.0/24")
    before = world.made("port", network_id=network["id"], mac_address="fa:16:3e:00:00:01")
    modes = {"ipv6_ra_mode": "slaac", "ipv6_address_mode": "slaac"}
    subnet = world.subnet(network["id"], "2001:db8::/64", **modes)
    after = world.made("port", network_id=network["id"], mac_address="fa:16:3e:00:00:02")
    six = {"subnet_id": subnet["id"], "ip_address": "2001:db8::f816:3eff:fe00:2"}
    assert six in after["fixed_ips"]
    assert "2001:db8::f816:3eff:fe00:1" in {ip["ip_address"] for ip in world.show(f"ports/{before['id']}")["fixed_ips"]}
    wanted = {"port": {"network_id": network["id"], "fixed_ips": [{"ip_address": "2001:db8::77"}]}}
    refused(world.member.post("/v2.0/ports", wanted), 400, "AllocationOnAutoAddressSubnet")
    # and the subnet may go, though ports have addresses in it
    assert world.member.delete(f"/v2.0/subnets/{subnet['id']}").status == 204
    assert [ip["subnet_id"] for ip in world.show(f"ports/{after['id']}")["fixed_ips"]] != [subnet["id"]]


def test_subnets_are_cut_from_a_pool(world: NetworkWorld) -> None:
    """A pool gives free prefixes of the length asked for, until it is exhausted, and gets them back."""
    pool = world.made("subnetpool", name="p", prefixes=["10.8.0.0/23"], default_prefixlen=24, min_prefixlen=24)
    assert (pool["min_prefixlen"], pool["ip_version"]) == ("24", 4)
    network = world.network()
    cut = {"network_id": network["id"], "ip_version": 4, "subnetpool_id": pool["id"]}
    first = world.made("subnet", **cut)
    second = world.made("subnet", **cut)
    assert {first["cidr"], second["cidr"]} == {"10.8.0.0/24", "10.8.1.0/24"}
    assert world.member.post("/v2.0/subnets", {"subnet": cut}).status == 500
    refused(world.member.delete(f"/v2.0/subnetpools/{pool['id']}"), 400, "SubnetPoolDeleteError")
    world.member.delete(f"/v2.0/subnets/{first['id']}")
    assert world.made("subnet", **cut)["cidr"] == first["cidr"]
    refused(
        world.member.post("/v2.0/subnets", {"subnet": {**cut, "prefixlen": 23}}), 400, "MinPrefixSubnetAllocationError"
    )


def test_prefixes_in_a_scope_are_unique(world: NetworkWorld) -> None:
    """Two pools of one address scope may not overlap; the scope stays while a pool is in it."""
    answer = world.member.post("/v2.0/address-scopes", {"address_scope": {"name": "s", "ip_version": 4}})
    scope = answer.json["address_scope"]["id"]
    world.made("subnetpool", name="a", prefixes=["10.8.0.0/16"], address_scope_id=scope)
    overlapping = {"subnetpool": {"name": "b", "prefixes": ["10.8.4.0/24"], "address_scope_id": scope}}
    refused(world.member.post("/v2.0/subnetpools", overlapping), 409, "AddressScopePrefixConflict")
    refused(world.member.delete(f"/v2.0/address-scopes/{scope}"), 409, "AddressScopeInUse")
