"""The network's door: what other services do through it, with a user's token or a service's."""

from collections.abc import Iterator

import pytest
from tests.http.harness import OTHER_PROJECT, PROJECT
from tests.http.network_world import ABSENT, HOST, NetworkWorld, credentials

from cumulet.core.clock import SystemClock
from cumulet.core.errors import BadRequest, Conflict, Forbidden, NotFound, Unavailable
from cumulet.core.web.client import Client, LocalTransport
from cumulet.network.config import NetworkConfig
from cumulet.network.door import NetworkRest, UnknownLevelsError, mac_of

USER = credentials("member", service=True)
SERVICE = credentials("service")
PORT = "6f0c5a7e-33f4-4a5e-9a7b-5d1e0fa1b2c3"


@pytest.fixture
def world(database_url: str) -> Iterator[NetworkWorld]:
    """A network service of this test's own."""
    world = NetworkWorld(database_url)
    yield world
    world.close()


def test_a_port_is_made_bound_found_and_deleted(world: NetworkWorld) -> None:
    """With the user's token and a service token beside it a port comes up on its host; its deletion may be repeated."""
    network = world.network()
    subnet = world.subnet(network["id"])
    group = world.made("security_group", name="web")["id"]
    port = world.door.create_port(
        USER,
        network_id=network["id"],
        project_id=PROJECT,
        device_id="server",
        device_owner="compute:nova",
        host=HOST,
        fixed_ip="10.0.0.40",
        security_groups=[group],
        dns_name="vm",
    )
    assert (port.addresses, port.host, port.vif_type) == (("10.0.0.40",), HOST, "ovs")
    assert (port.security_group_ids, port.fixed_ips[0].subnet_id) == ((group,), subnet["id"])
    assert world.door.port_is_up(USER, port.id)
    assert [found.id for found in world.door.list_ports(SERVICE, device_id="server")] == [port.id]
    assert world.door.get_port(USER, port.id).status == "ACTIVE"
    world.door.delete_port(USER, port.id)
    world.door.delete_port(USER, port.id)
    assert world.door.list_ports(SERVICE, device_id="server") == []
    assert not world.door.port_is_up(USER, port.id)


def test_a_users_port_is_taken_and_given_back(world: NetworkWorld) -> None:
    """Binding and unbinding leave the port; both may be repeated, and unbinding what is gone is fine."""
    network = world.network()
    id = world.made("port", network_id=network["id"])["id"]
    for _ in range(2):
        bound = world.door.bind_port(
            USER, id, device_id="server", device_owner="compute:nova", host=HOST, profile={"a": 1}
        )
    assert (bound.device_id, bound.host, bound.profile) == ("server", HOST, {"a": 1})
    for _ in range(2):
        world.door.unbind_port(SERVICE, id)
    free = world.door.get_port(SERVICE, id)
    assert (free.device_id, free.device_owner, free.host, free.profile) == ("", "", "", {})
    world.door.unbind_port(SERVICE, ABSENT)


def test_errors_are_the_callers_own(world: NetworkWorld) -> None:
    """Each answer comes as the error its status names, with the network's words."""
    network = world.network()
    world.subnet(network["id"])
    with pytest.raises(NotFound):
        world.door.get_network(USER, ABSENT)
    with pytest.raises(Conflict, match="already allocated"):
        world.door.create_port(USER, network_id=network["id"], project_id=PROJECT, fixed_ip="10.0.0.2")
    with pytest.raises(BadRequest):
        world.door.create_port(USER, network_id=network["id"], project_id=PROJECT, fixed_ip="10.9.0.2")
    with pytest.raises(Forbidden):
        world.door.create_port(credentials(), network_id=network["id"], project_id=PROJECT, host=HOST)
    world.driver.fail("ensure_port")
    with pytest.raises(Unavailable):
        world.door.create_port(USER, network_id=network["id"], project_id=PROJECT)


def test_a_service_chooses_a_port_s_id_and_knows_its_mac(world: NetworkWorld) -> None:
    """The MAC is the id's unless another port of the network has it; asked for twice, there is one port."""
    network, other = world.network(), world.network()
    for id in (PORT, PORT[:-12] + "0" + PORT[-11:]):
        port = world.door.create_port(USER, network_id=network["id"], project_id=PROJECT, id=id)
        assert port.id == id
        # the second has the digits of the first: another MAC is drawn
        assert (port.mac_address == mac_of(id)) is (id == PORT)
    for where in (network, other):
        with pytest.raises(Conflict):
            world.door.create_port(SERVICE, network_id=where["id"], project_id=PROJECT, id=PORT)
    with pytest.raises(BadRequest, match="Attribute 'id' not allowed in POST"):
        world.door.create_port(credentials(), network_id=network["id"], project_id=PROJECT, id=ABSENT)


def test_networks_for_a_launch_are_ones_own_and_the_shared(world: NetworkWorld) -> None:
    """Neither the external network nor another project's is offered, whoever asks."""
    mine = world.network(name="mine")
    shared = world.network(world.admin, name="shared", shared=True)
    world.network(world.other, name="theirs")
    subnet = world.subnet(mine["id"], host_routes=[{"destination": "10.9.0.0/24", "nexthop": "10.0.0.5"}])
    for who in (USER, SERVICE):
        found = {network.id: network for network in world.door.networks_for(who, PROJECT)}
        assert set(found) == {mine["id"], shared["id"]}
    assert found[mine["id"]].subnet_ids == (subnet["id"],)
    (told,) = world.door.get_subnets(USER, mine["id"])
    assert (told.cidr, told.gateway_ip, told.host_routes) == ("10.0.0.0/24", "10.0.0.1", (("10.9.0.0/24", "10.0.0.5"),))


def test_who_asks_for_metadata_is_known_by_network_and_address(world: NetworkWorld) -> None:
    """The same address on two networks is two ports; an address nobody holds is nobody."""
    ports = []
    for device in ("server-a", "server-b"):
        network = world.network()
        world.subnet(network["id"])
        port = world.made("port", network_id=network["id"], fixed_ips=[{"ip_address": "10.0.0.9"}], device_id=device)
        ports.append(port)
    for port in ports:
        found = world.door.port_by_address(SERVICE, port["network_id"], "10.0.0.9")
        assert found is not None
        assert (found.id, found.device_id, found.project_id) == (port["id"], port["device_id"], PROJECT)
    assert world.door.port_by_address(SERVICE, ports[0]["network_id"], "10.0.0.10") is None
    assert world.door.address_in_use(USER, ports[0]["network_id"], "10.0.0.9")
    assert not world.door.address_in_use(USER, ports[0]["network_id"], "10.0.0.10")


def test_groups_floating_ips_and_quotas(world: NetworkWorld) -> None:
    """A project's groups with its default one and those shown to it, where floating IPs lead, and what is used."""
    network, _, _ = world.joined()
    port = world.made("port", network_id=network["id"])
    floating = world.made("floatingip", floating_network_id=world.public.id, port_id=port["id"])
    world.made("floatingip", floating_network_id=world.public.id)
    (found,) = world.door.floating_ips(USER, port_ids=[port["id"]])
    assert (found.address, found.fixed_ip) == (floating["floating_ip_address"], port["fixed_ips"][0]["ip_address"])
    assert world.door.floating_ips(USER, port_ids=[]) == []
    world.made("security_group", name="web")
    theirs = world.made("security_group", world.other, name="shown")["id"]
    policy = {
        "object_type": "security_group",
        "object_id": theirs,
        "action": "access_as_shared",
        "target_tenant": PROJECT,
    }
    assert world.other.post("/v2.0/rbac-policies", {"rbac_policy": policy}).status == 201
    assert {group.name for group in world.door.security_groups(USER, PROJECT)} == {"default", "web", "shown"}
    assert {group.name for group in world.door.security_groups(SERVICE, OTHER_PROJECT)} == {"default", "shown"}
    quotas = world.door.quotas(USER, PROJECT)
    assert (quotas["floatingip"].limit, quotas["floatingip"].used) == (500, 2)


def test_levels_are_heard_through_the_door(world: NetworkWorld) -> None:
    """In the service's process a listener hears of ports; a door to another process says that it cannot."""
    heard: list[tuple[str, bool]] = []
    stop = world.door.subscribe(lambda port_id, up: heard.append((port_id, up)))
    network = world.network()
    port = world.door.create_port(USER, network_id=network["id"], project_id=PROJECT, host=HOST)
    assert heard == [(port.id, True)]
    stop()
    elsewhere = NetworkRest(Client("network", LocalTransport(world.app), SystemClock()))
    with pytest.raises(UnknownLevelsError):
        elsewhere.subscribe(lambda *_: None)


def test_lists_are_read_to_their_end(database_url: str) -> None:
    """However small the pages are, the door gives everything."""
    world = NetworkWorld(database_url, NetworkConfig(page_max=2))
    network = world.network()
    for _ in range(5):
        world.made("port", network_id=network["id"], device_id="many")
    assert len(world.door.list_ports(USER, device_id="many")) == 5
    world.close()
