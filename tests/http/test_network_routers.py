"""Routers and floating IPs over HTTP: what joins, what leads where, and what must be let go of first."""

from collections.abc import Iterator
from typing import Any

import pytest
from tests.http.network_world import ABSENT, NetworkWorld, refused


@pytest.fixture
def world(database_url: str) -> Iterator[NetworkWorld]:
    """A network service of this test's own."""
    world = NetworkWorld(database_url)
    yield world
    world.close()


def interface(world: NetworkWorld, router: dict[str, Any], verb: str = "add", **body: str) -> Any:
    """Add an interface to a router, or remove one."""
    return world.member.put(f"/v2.0/routers/{router['id']}/{verb}_router_interface", body)


def test_a_router_joins_a_subnet_to_the_outside(world: NetworkWorld) -> None:
    """Its interface holds the gateway address, its gateway an address of the external network; the data plane has both."""
    network, subnet, router = world.joined()
    seen = world.show(f"routers/{router['id']}")
    (outer,) = seen["external_gateway_info"]["external_fixed_ips"]
    assert seen["external_gateway_info"]["network_id"] == world.public.id
    assert seen["external_gateway_info"]["enable_snat"] is True
    (port,) = world.listed(f"ports?device_id={router['id']}")  # the gateway's port is not the tenant's to see
    assert (port["device_owner"], port["status"]) == ("network:router_interface", "ACTIVE")
    assert port["fixed_ips"] == [{"subnet_id": subnet["id"], "ip_address": "10.0.0.1"}]
    told = world.driver.routers[router["id"]]
    (foot,) = told.interfaces
    assert (foot.network_id, foot.addresses[0].address, foot.addresses[0].prefix) == (network["id"], "10.0.0.1", 24)
    assert told.gateway is not None
    assert (told.gateway.addresses[0].address, told.gateway.nexthops) == (outer["ip_address"], ("172.24.4.1",))


def test_an_interface_is_added_and_removed_by_port(world: NetworkWorld) -> None:
    """A port that is nobody's becomes the router's foot, and goes when it is taken away."""
    network = world.network()
    subnet = world.subnet(network["id"])
    port = world.made("port", network_id=network["id"])
    router = world.made("router", name="r")
    info = interface(world, router, port_id=port["id"]).json
    assert (info["port_id"], info["subnet_ids"], info["network_id"]) == (port["id"], [subnet["id"]], network["id"])
    refused(world.member.delete(f"/v2.0/ports/{port['id']}"), 409, "ServicePortInUse")
    refused(interface(world, router, port_id=port["id"]), 409, "PortInUse")
    assert interface(world, router, "remove", port_id=port["id"]).status == 200
    assert world.member.get(f"/v2.0/ports/{port['id']}").status == 404
    assert world.driver.routers[router["id"]].interfaces == ()


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ({}, 400, "BadRequest"),
        ({"subnet_id": "own", "port_id": ABSENT}, 400, "BadRequest"),
        ({"subnet_id": ABSENT}, 404, "SubnetNotFound"),
        ({"port_id": ABSENT}, 404, "PortNotFound"),
        ({"subnet_id": "x"}, 400, "HTTPBadRequest"),
        ({"subnet_id": "joined"}, 400, "BadRequest"),
        ({"subnet_id": "overlapping"}, 400, "BadRequest"),
        ({"subnet_id": "outer"}, 400, "BadRequest"),
        ({"subnet_id": "gateless"}, 400, "BadRequest"),
        ({"subnet_id": "foreign"}, 404, "SubnetNotFound"),
    ],
    ids=str,
)
def test_what_cannot_be_joined_is_refused(world: NetworkWorld, body: dict[str, str], status: int, kind: str) -> None:
    """Nothing, both, unknown, twice, overlapping, without gateway, another's: each is refused and leaves no port."""
    _, joined, router = world.joined()
    own = world.subnet(world.network()["id"], "10.7.0.0/24")
    foreign = world.network(world.other)
    theirs = world.other.post(
        "/v2.0/subnets", {"subnet": {"network_id": foreign["id"], "cidr": "10.8.0.0/24", "ip_version": 4}}
    ).json["subnet"]
    ids = {
        "own": own["id"],
        "joined": joined["id"],
        "overlapping": world.subnet(world.network()["id"], "10.0.0.0/25")["id"],
        "outer": world.subnet(world.network()["id"], "172.24.4.0/25")["id"],
        "gateless": world.subnet(world.network()["id"], "10.9.0.0/24", gateway_ip=None)["id"],
        "foreign": theirs["id"],
    }
    before = world.listed(f"ports?device_id={router['id']}")
    refused(interface(world, router, **{key: ids.get(id, id) for key, id in body.items()}), status, kind)
    assert world.listed(f"ports?device_id={router['id']}") == before


def test_a_router_in_use_stays(world: NetworkWorld) -> None:
    """With an interface its deletion is 409; without, its gateway's address comes back."""
    _, subnet, router = world.joined()
    path = f"/v2.0/routers/{router['id']}"
    refused(world.member.delete(path), 409, "RouterInUse")
    assert interface(world, router, "remove", subnet_id=subnet["id"]).status == 200
    assert world.member.delete(path).status == 204
    assert world.addresses(world.public.id) == {}
    assert router["id"] not in world.driver.routers
    refused(world.member.get(path), 404, "RouterNotFound")


def test_the_gateway_changes_and_goes(world: NetworkWorld) -> None:
    """Only an external network is one, only an admin chooses its address and SNAT, and {} takes it away."""
    network = world.network()
    router = world.made("router", name="r")
    path = f"/v2.0/routers/{router['id']}"

    def gateway(who: Any, **info: object) -> Any:
        return who.put(path, {"router": {"external_gateway_info": info}})

    refused(gateway(world.member, network_id=network["id"]), 400, "BadRequest")
    refused(gateway(world.member, network_id=ABSENT), 404, "NetworkNotFound")
    refused(gateway(world.member, network_id=world.public.id, enable_snat=False), 403, "PolicyNotAuthorized")
    chosen = [{"ip_address": "172.24.4.200"}]
    refused(gateway(world.member, network_id=world.public.id, external_fixed_ips=chosen), 403, "PolicyNotAuthorized")
    set_ = gateway(world.admin, network_id=world.public.id, enable_snat=False, external_fixed_ips=chosen)
    info = set_.json["router"]["external_gateway_info"]
    assert (info["enable_snat"], info["external_fixed_ips"][0]["ip_address"]) == (False, "172.24.4.200")
    told = world.driver.routers[router["id"]].gateway
    assert told is not None
    assert told.enable_snat is False
    taken = {"network_id": world.public.id, "external_fixed_ips": chosen}
    refused(
        world.admin.post("/v2.0/routers", {"router": {"external_gateway_info": taken}}),
        409,
        "IpAddressAlreadyAllocated",
    )
    assert gateway(world.member).json["router"]["external_gateway_info"] is None
    assert world.driver.routers[router["id"]].gateway is None
    assert world.addresses(world.public.id) == {}


def test_routes_lead_to_neighbours(world: NetworkWorld) -> None:
    """A next hop lies on a subnet of the router and is not the router; such a route holds its interface."""
    _, subnet, router = world.joined()
    path = f"/v2.0/routers/{router['id']}"
    for hop in ("192.168.0.1", "10.0.0.1", "2001:db8::1"):
        routes = [{"destination": "10.50.0.0/16", "nexthop": hop}]
        refused(world.member.put(path, {"router": {"routes": routes}}), 400, "InvalidRoutes")
    one = {"destination": "10.50.0.0/16", "nexthop": "10.0.0.9"}
    two = {"destination": "10.60.0.0/16", "nexthop": "10.0.0.9"}
    assert world.member.put(path, {"router": {"routes": [one]}}).json["router"]["routes"] == [one]
    more = world.member.put(f"{path}/add_extraroutes", {"router": {"routes": [one, two]}})
    assert more.json["router"]["routes"] == [one, two]
    assert [route.destination for route in world.driver.routers[router["id"]].routes] == [
        "10.50.0.0/16",
        "10.60.0.0/16",
    ]
    refused(interface(world, router, "remove", subnet_id=subnet["id"]), 409, "RouterInterfaceInUseByRoute")
    less = world.member.put(f"{path}/remove_extraroutes", {"router": {"routes": [one, two]}})
    assert less.json["router"]["routes"] == []
    assert interface(world, router, "remove", subnet_id=subnet["id"]).status == 200


def test_ipv6_prefixes_share_one_interface(world: NetworkWorld) -> None:
    """A second IPv6 subnet of a network joins the foot that is there, and leaves it again by itself."""
    network = world.network()
    modes = {"ipv6_ra_mode": "slaac", "ipv6_address_mode": "slaac"}
    one = world.subnet(network["id"], "2001:db8:1::/64", **modes)
    two = world.subnet(network["id"], "2001:db8:2::/64", **modes)
    router = world.made("router", name="r")
    first = interface(world, router, subnet_id=one["id"]).json
    second = interface(world, router, subnet_id=two["id"]).json
    assert first["port_id"] == second["port_id"]
    (foot,) = world.driver.routers[router["id"]].interfaces
    assert (len(foot.addresses), foot.ipv6_address_mode) == (2, "slaac")
    assert interface(world, router, "remove", subnet_id=one["id"]).status == 200
    (foot,) = world.driver.routers[router["id"]].interfaces
    assert [address.address for address in foot.addresses] == ["2001:db8:2::1"]


def test_a_floating_ip_leads_to_a_port_and_lets_go(world: NetworkWorld) -> None:
    """Created with a port it is ACTIVE and names its router; let go of it is DOWN; the data plane follows."""
    network, _, router = world.joined()
    port = world.made("port", network_id=network["id"], name="p")
    floating = world.made("floatingip", floating_network_id=world.public.id, port_id=port["id"], description="d")
    assert (floating["status"], floating["router_id"]) == ("ACTIVE", router["id"])
    assert floating["fixed_ip_address"] == port["fixed_ips"][0]["ip_address"]
    assert floating["port_details"]["name"] == "p"
    told = world.driver.floating_ips[floating["id"]]
    assert (told.external_ip, told.port_id) == (floating["floating_ip_address"], port["id"])
    path = f"/v2.0/floatingips/{floating['id']}"
    assert world.member.put(path, {"floatingip": {"description": "e"}}).json["floatingip"]["port_id"] == port["id"]
    loose = world.member.put(path, {"floatingip": {"port_id": None}}).json["floatingip"]
    assert (loose["status"], loose["port_id"], loose["router_id"], loose["fixed_ip_address"]) == (
        "DOWN",
        None,
        None,
        None,
    )
    assert floating["id"] not in world.driver.floating_ips
    again = world.member.put(path, {"floatingip": {"port_id": port["id"]}}).json["floatingip"]
    assert again["status"] == "ACTIVE"
    assert world.member.delete(path).status == 204
    assert floating["floating_ip_address"] not in world.addresses(world.public.id)
    assert world.driver.floating_ips == {}


def test_a_port_that_goes_lets_go_of_its_floating_ip(world: NetworkWorld) -> None:
    """The floating IP stays with its owner, leading nowhere."""
    network, _, _ = world.joined()
    port = world.made("port", network_id=network["id"])
    floating = world.made("floatingip", floating_network_id=world.public.id, port_id=port["id"])
    change = {"port": {"fixed_ips": []}}
    refused(world.member.put(f"/v2.0/ports/{port['id']}", change), 400, "BadRequest")
    assert world.member.delete(f"/v2.0/ports/{port['id']}").status == 204
    left = world.show(f"floatingips/{floating['id']}")
    assert (left["port_id"], left["router_id"], left["status"]) == (None, None, "DOWN")
    assert world.driver.floating_ips == {}


def test_what_a_floating_ip_needs_stays(world: NetworkWorld) -> None:
    """Neither the interface nor the gateway on its way may go, and a fixed address has one floating IP."""
    network, subnet, router = world.joined()
    port = world.made("port", network_id=network["id"])
    world.made("floatingip", floating_network_id=world.public.id, port_id=port["id"])
    refused(interface(world, router, "remove", subnet_id=subnet["id"]), 409, "RouterInterfaceInUseByFloatingIP")
    refused(
        world.member.put(f"/v2.0/routers/{router['id']}", {"router": {"external_gateway_info": {}}}),
        409,
        "RouterExternalGatewayInUseByFloatingIp",
    )
    body = {"floatingip": {"floating_network_id": world.public.id, "port_id": port["id"]}}
    before = world.addresses(world.public.id)
    refused(world.member.post("/v2.0/floatingips", body), 409, "FloatingIPPortAlreadyAssociated")
    assert world.addresses(world.public.id) == before


def test_a_floating_ip_that_cannot_be_is_refused(world: NetworkWorld) -> None:
    """A network that is not external, a port out of reach, another's port, a wrong address: no address is lost by them."""
    network, _, _ = world.joined()
    port = world.made("port", network_id=network["id"])
    lonely = world.network()
    world.subnet(lonely["id"], "10.7.0.0/24")
    out_of_reach = world.made("port", network_id=lonely["id"])
    theirs = world.network(world.other)
    world.other.post("/v2.0/subnets", {"subnet": {"network_id": theirs["id"], "cidr": "10.8.0.0/24", "ip_version": 4}})
    foreign = world.made("port", world.other, network_id=theirs["id"])
    before = world.addresses(world.public.id)
    for body, status, kind in (
        ({"floating_network_id": network["id"]}, 400, "BadRequest"),
        ({"floating_network_id": ABSENT}, 404, "NetworkNotFound"),
        ({"port_id": out_of_reach["id"]}, 404, "ExternalGatewayForFloatingIPNotFound"),
        ({"port_id": ABSENT}, 404, "PortNotFound"),
        ({"port_id": foreign["id"]}, 404, "PortNotFound"),
        ({"port_id": port["id"], "fixed_ip_address": "10.0.0.250"}, 400, "BadRequest"),
        ({"fixed_ip_address": "10.0.0.250"}, 400, "BadRequest"),
        ({"subnet_id": port["fixed_ips"][0]["subnet_id"]}, 400, "InvalidInput"),
        ({"floating_ip_address": "172.24.4.77"}, 403, "PolicyNotAuthorized"),
    ):
        whole = {"floating_network_id": world.public.id, **body}
        refused(world.member.post("/v2.0/floatingips", {"floatingip": whole}), status, kind)
    assert world.addresses(world.public.id) == before
    chosen = {"floating_network_id": world.public.id, "floating_ip_address": "172.24.4.77"}
    assert world.admin.post("/v2.0/floatingips", {"floatingip": chosen}).json["floatingip"]["status"] == "DOWN"
    refused(world.admin.post("/v2.0/floatingips", {"floatingip": chosen}), 409, "IpAddressAlreadyAllocated")


def test_an_external_network_goes_with_floating_ips_that_lead_nowhere(world: NetworkWorld) -> None:
    """Unassociated ones go along with it; one that leads to a port keeps it."""
    outer = world.network(world.admin, name="outer", **{"router:external": True})
    world.admin.post(
        "/v2.0/subnets",
        {"subnet": {"network_id": outer["id"], "cidr": "192.0.2.0/24", "ip_version": 4, "enable_dhcp": False}},
    )
    floating = world.made("floatingip", floating_network_id=outer["id"])
    assert world.admin.delete(f"/v2.0/networks/{outer['id']}").status == 204
    assert world.member.get(f"/v2.0/floatingips/{floating['id']}").status == 404
    network, _, _ = world.joined()
    port = world.made("port", network_id=network["id"])
    world.made("floatingip", floating_network_id=world.public.id, port_id=port["id"])
    refused(world.admin.delete(f"/v2.0/networks/{world.public.id}"), 409, "NetworkInUse")


def test_others_see_neither_routers_nor_floating_ips(world: NetworkWorld) -> None:
    """They are their project's alone: 404 for strangers, read-only for readers."""
    _, _, router = world.joined()
    floating = world.made("floatingip", floating_network_id=world.public.id)
    for path in (f"routers/{router['id']}", f"floatingips/{floating['id']}"):
        assert world.other.get(f"/v2.0/{path}").status == 404
        assert world.other.delete(f"/v2.0/{path}").status == 404
        assert world.reader.get(f"/v2.0/{path}").status == 200
        assert world.reader.delete(f"/v2.0/{path}").status == 403
    assert world.other.put(f"/v2.0/routers/{router['id']}/add_router_interface", {"subnet_id": ABSENT}).status == 404
    assert world.listed("routers", world.other) == world.listed("floatingips", world.other) == []
