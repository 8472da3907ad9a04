"""What every network data plane must do, whatever it is made of; here on the one in memory, in `tests/real` on OVN."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator

import msgspec
import pytest

from cumulet.core.ids import SystemIds
from cumulet.network.drivers.driver import (
    AddressPair,
    DhcpOption,
    FixedIp,
    FloatingIp,
    HostRoute,
    InterfaceAddress,
    Network,
    NetworkDriver,
    NetworkMissing,
    Owned,
    Port,
    PortEvent,
    Router,
    RouterGateway,
    RouterInterface,
    SecurityGroup,
    SecurityGroupRule,
    Subnet,
)
from cumulet.network.drivers.sim import SimNetwork

_EVENT_S_MAX = 10


class World:
    """A driver, the host that may claim its ports, and how that host plugs one."""

    def __init__(self, driver: NetworkDriver, host: str, plug: Callable[[Port], None]) -> None:
        self.driver = driver
        self.host = host
        self.plug = plug

    def network(self) -> Network:
        network = Network(id=new_id(), name="blue")
        self.driver.ensure_network(network)
        return network

    def port(self, network: Network, **more: object) -> Port:
        return Port(
            id=new_id(),
            network_id=network.id,
            mac=new_mac(),
            device_id=new_id(),
            device_owner="compute:nova",
            **more,  # type: ignore[arg-type]  # the test's own words
        )


_IDS = SystemIds()


def new_id() -> str:
    """An id as the API chooses it."""
    return _IDS.uuid()


def new_mac() -> str:
    """A MAC as the API chooses it."""
    tail = _IDS.hex()
    return f"fa:16:3e:{tail[:2]}:{tail[2:4]}:{tail[4:6]}"


class NetworkDriverContract:
    """Claims that hold for every driver.  A subclass gives the fixture `world`."""

    def test_a_network_and_its_parts_are_owned_and_go_again(self, world: World) -> None:
        """Everything ensured is listed as this cloud's, and nothing is left when each was removed."""
        driver = world.driver
        network, subnet, port, group, router, floating = build(world)
        assert set(driver.owned()) >= {
            Owned("network", network.id),
            Owned("subnet", subnet.id),
            Owned("port", port.id, port.device_id),
            Owned("security_group", group.id),
            Owned("router", router.id),
            Owned("floating_ip", floating.id, port.id),
        }
        driver.remove_floating_ip(floating.id)
        driver.remove_router(router.id)
        driver.remove_port(port.id)
        driver.remove_security_group(group.id)
        driver.remove_subnet(subnet.id)
        driver.remove_network(network.id)
        assert router.gateway is not None
        driver.remove_network(router.gateway.network_id)
        assert driver.owned() == ()

    def test_every_verb_may_be_repeated(self, world: World) -> None:
        """Ensuring the same twice and removing twice changes nothing and raises nothing."""
        driver = world.driver
        network, subnet, port, group, router, floating = build(world)
        before = sorted(driver.owned(), key=repr)
        driver.ensure_network(network)
        driver.ensure_subnet(subnet)
        driver.ensure_security_group(group)
        driver.ensure_security_group_rule(group.id, group.rules[0])
        driver.ensure_port(port)
        driver.ensure_router(router)
        driver.ensure_floating_ip(floating)
        assert sorted(driver.owned(), key=repr) == before
        for _ in range(2):
            driver.remove_floating_ip(floating.id)
            driver.remove_router(router.id)
            driver.remove_port(port.id)
            driver.remove_security_group_rule(group.id, group.rules[0].id)
            driver.remove_security_group(group.id)
            driver.remove_subnet(subnet.id)
            driver.remove_network(network.id)
        assert Owned("network", network.id) not in driver.owned()

    def test_a_removed_network_takes_its_parts_along(self, world: World) -> None:
        """No port and no subnet of a removed network is left."""
        network = world.network()
        subnet = Subnet(id=new_id(), network_id=network.id, cidr="10.0.1.0/24", gateway_ip="10.0.1.1")
        world.driver.ensure_subnet(subnet)
        world.driver.ensure_port(world.port(network))
        world.driver.remove_network(network.id)
        assert [thing for thing in world.driver.owned() if thing.kind in {"network", "subnet", "port"}] == []

    def test_a_port_of_an_unknown_network_is_refused(self, world: World) -> None:
        """The error names the kind of thing that is missing; nothing is kept."""
        port = world.port(Network(id=new_id()))
        with pytest.raises(NetworkMissing) as raised:
            world.driver.ensure_port(port)
        assert raised.value.fields["kind"] == "network"
        assert Owned("port", port.id, port.device_id) not in world.driver.owned()

    def test_a_router_of_an_unknown_network_is_refused(self, world: World) -> None:
        """A router whose interface leads nowhere is not made."""
        router = Router(id=new_id(), interfaces=(interface(Network(id=new_id()), "10.0.1.1"),))
        with pytest.raises(NetworkMissing):
            world.driver.ensure_router(router)
        assert Owned("router", router.id) not in world.driver.owned()

    def test_a_floating_ip_of_an_unknown_router_is_refused(self, world: World) -> None:
        """An address cannot be translated where there is no router."""
        floating = FloatingIp(id=new_id(), external_ip="172.24.4.9", router_id=new_id(), fixed_ip="10.0.1.9")
        with pytest.raises(NetworkMissing):
            world.driver.ensure_floating_ip(floating)

    def test_an_unassociated_floating_ip_is_nothing(self, world: World) -> None:
        """Ensuring it without a port takes an earlier association away."""
        _, _, _, _, _, floating = build(world)
        free = msgspec.structs.replace(floating, port_id=None, fixed_ip=None, router_id=None)
        world.driver.ensure_floating_ip(free)
        assert all(thing.kind != "floating_ip" for thing in world.driver.owned())

    def test_a_port_for_a_floating_ip_is_nothing(self, world: World) -> None:
        """The network API's own record of a floating IP's port needs nothing here."""
        network = world.network()
        world.driver.ensure_port(msgspec.structs.replace(world.port(network), device_owner="network:floatingip"))
        assert all(thing.kind != "port" for thing in world.driver.owned())

    def test_a_port_comes_up_and_is_told(self, world: World) -> None:
        """Bound and plugged, a port's level becomes up, and a subscriber hears of it."""
        network = world.network()
        port = world.port(network, binding_host=world.host)
        told: queue.SimpleQueue[PortEvent] = queue.SimpleQueue()
        stop = world.driver.subscribe(told.put)
        try:
            assert not world.driver.port_up(port.id)
            world.driver.ensure_port(port)
            world.plug(port)
            wait_event(told, PortEvent(port.id, up=True))
            assert world.driver.port_up(port.id)
        finally:
            stop()

    def test_a_removed_port_is_down(self, world: World) -> None:
        """The level of a port that is gone, or never was, is down."""
        network = world.network()
        port = world.port(network, binding_host=world.host)
        world.driver.ensure_port(port)
        world.driver.remove_port(port.id)
        assert not world.driver.port_up(port.id)
        assert not world.driver.port_up(new_id())

    def test_a_subscriber_that_stopped_hears_nothing(self, world: World) -> None:
        """After stopping, only the other subscriber is told."""
        stopped: queue.SimpleQueue[PortEvent] = queue.SimpleQueue()
        told: queue.SimpleQueue[PortEvent] = queue.SimpleQueue()
        world.driver.subscribe(stopped.put)()
        stop = world.driver.subscribe(told.put)
        try:
            port = world.port(world.network(), binding_host=world.host)
            world.driver.ensure_port(port)
            world.plug(port)
            wait_event(told, PortEvent(port.id, up=True))
            assert stopped.empty()
        finally:
            stop()

    def test_a_changed_port_is_the_new_one(self, world: World) -> None:
        """Security groups, pairs, options and security may change at once; the port stays one port."""
        driver = world.driver
        network, subnet, port, _, _, _ = build(world)
        other = new_id()
        driver.ensure_port(
            msgspec.structs.replace(
                port,
                security_group_ids=(other,),
                allowed_address_pairs=(
                    AddressPair(address="10.0.9.0/24"),
                    AddressPair(address="10.0.8.8", mac=new_mac()),
                ),
                extra_dhcp_opts=(DhcpOption(name="mtu", value="1300"),),
            )
        )
        driver.ensure_port(msgspec.structs.replace(port, port_security_enabled=False, security_group_ids=()))
        assert [thing.id for thing in driver.owned() if thing.kind == "port" and thing.owner == port.device_id] == [
            port.id
        ]
        assert Owned("subnet", subnet.id) in driver.owned()
        assert Owned("security_group", other) in driver.owned()
        assert Owned("network", network.id) in driver.owned()

    def test_it_is_ready_and_settles(self, world: World) -> None:
        """A living data plane says so, and says when what was written is in place."""
        world.network()
        assert world.driver.ready()
        assert world.driver.settle(_EVENT_S_MAX)

    def test_its_hosts_are_known(self, world: World) -> None:
        """The host is among the agents, alive, with its external network."""
        world.driver.heartbeat()
        agent = next(agent for agent in world.driver.agents() if agent.host == world.host)
        assert agent.alive
        assert "physnet1" in agent.bridge_mappings


def build(world: World) -> tuple[Network, Subnet, Port, SecurityGroup, Router, FloatingIp]:
    """One of everything, as a small tenant has it."""
    driver = world.driver
    network = world.network()
    external = Network(id=new_id(), name="public", physical_network="physnet1", mtu=1500)
    driver.ensure_network(external)
    subnet = Subnet(
        id=new_id(), network_id=network.id, cidr="10.0.1.0/24", gateway_ip="10.0.1.1", metadata_address="10.0.1.2",
        dns_nameservers=("10.0.1.2",), host_routes=(HostRoute(destination="10.9.0.0/16", nexthop="10.0.1.7"),),
    )  # fmt: skip
    driver.ensure_subnet(subnet)
    group_id = new_id()
    group = SecurityGroup(
        id=group_id,
        name="default",
        rules=(
            SecurityGroupRule(id=new_id(), direction="egress"),
            SecurityGroupRule(id=new_id(), direction="ingress", remote_group_id=group_id),
            SecurityGroupRule(
                id=new_id(), direction="ingress", protocol="tcp", port_range_min=22, port_range_max=22,
                remote_ip_prefix="0.0.0.0/0",
            ),
        ),
    )  # fmt: skip
    driver.ensure_security_group(group)
    port = world.port(
        network, fixed_ips=(FixedIp(subnet_id=subnet.id, address="10.0.1.11"),), security_group_ids=(group_id,)
    )
    driver.ensure_port(port)
    router = Router(
        id=new_id(),
        name="r1",
        interfaces=(interface(network, "10.0.1.1"),),
        gateway=RouterGateway(
            port_id=new_id(), network_id=external.id, mac=new_mac(),
            addresses=(InterfaceAddress(address="172.24.4.10", prefix=24),), nexthops=("172.24.4.1",),
        ),
        routes=(HostRoute(destination="10.8.0.0/16", nexthop="10.0.1.8"),),
    )  # fmt: skip
    driver.ensure_router(router)
    floating = FloatingIp(
        id=new_id(), external_ip="172.24.4.50", router_id=router.id, port_id=port.id, fixed_ip="10.0.1.11"
    )
    driver.ensure_floating_ip(floating)
    return network, subnet, port, group, router, floating


def interface(network: Network, address: str) -> RouterInterface:
    """A router's foot in a tenant network."""
    return RouterInterface(
        port_id=new_id(),
        network_id=network.id,
        mac=new_mac(),
        addresses=(InterfaceAddress(address=address, prefix=24),),
    )


def wait_event(told: queue.SimpleQueue[PortEvent], wanted: PortEvent) -> None:
    """Events of other ports may come between."""
    while told.get(timeout=_EVENT_S_MAX) != wanted:
        pass


class TestSim(NetworkDriverContract):
    """The contract on the data plane in memory."""

    @pytest.fixture
    def world(self) -> Iterator[World]:
        """A data plane with one host; being bound is enough there."""
        driver = SimNetwork(hosts=("host-1",))
        yield World(driver, "host-1", lambda _port: None)
        driver.close()
