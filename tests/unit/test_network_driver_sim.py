"""What the data plane in memory can do to its users: fail, go away, and let ports stay down."""

from __future__ import annotations

import pytest

from cumulet.network.drivers.driver import Network, NetworkBackendDown, NetworkRefused, Port, PortEvent
from cumulet.network.drivers.sim import SimNetwork

PORT = Port(id="p1", network_id="n1", mac="fa:16:3e:00:00:01", binding_host="host-1")


@pytest.fixture
def driver() -> SimNetwork:
    """A data plane with one network."""
    made = SimNetwork(hosts=("host-1",))
    made.ensure_network(Network(id="n1"))
    return made


def test_a_planned_failure_happens_once_and_changes_nothing(driver: SimNetwork) -> None:
    """The verb raises the given error before it did anything, and works the next time."""
    driver.fail("ensure_port", NetworkRefused())
    with pytest.raises(NetworkRefused):
        driver.ensure_port(PORT)
    assert driver.ports == {}
    driver.ensure_port(PORT)
    assert driver.port_up("p1")


def test_an_unknown_verb_cannot_be_made_to_fail(driver: SimNetwork) -> None:
    """A misspelt verb is the test's own mistake and is told at once."""
    with pytest.raises(AttributeError):
        driver.fail("ensure_prot")


def test_ports_stay_down_when_told_to(driver: SimNetwork) -> None:
    """In this mode a bound port never comes up and nobody is told; those that were up stay so."""
    driver.ensure_port(PORT)
    told: list[PortEvent] = []
    driver.subscribe(told.append)
    driver.ports_never_up()
    other = Port(id="p2", network_id="n1", mac="fa:16:3e:00:00:02", binding_host="host-1")
    driver.ensure_port(other)
    driver.ensure_port(PORT)
    assert (driver.port_up("p1"), driver.port_up("p2"), told) == (True, False, [])


def test_an_unbound_or_disabled_port_is_down(driver: SimNetwork) -> None:
    """Only a bound and enabled port is up; losing either takes it down again, and that is told."""
    told: list[PortEvent] = []
    driver.subscribe(told.append)
    driver.ensure_port(PORT)
    driver.ensure_port(Port(id="p1", network_id="n1", mac=PORT.mac, binding_host="host-1", admin_up=False))
    driver.ensure_port(PORT)
    driver.ensure_port(Port(id="p1", network_id="n1", mac=PORT.mac))
    assert [event.up for event in told] == [True, False, True, False]


def test_while_away_every_verb_says_so_and_afterwards_all_ports_are_told_anew(driver: SimNetwork) -> None:
    """A subscriber that missed nothing but the connection hears every level again."""
    driver.ensure_port(PORT)
    driver.backend_down()
    assert not driver.ready()
    with pytest.raises(NetworkBackendDown):
        driver.remove_port("p1")
    told: list[PortEvent] = []
    driver.subscribe(told.append)
    driver.backend_down(False)
    assert told == [PortEvent("p1", up=True)]
    assert driver.ready()


def test_one_subscribers_mistake_costs_the_others_nothing(driver: SimNetwork) -> None:
    """An event reaches every subscriber even when one of them raises."""

    def broken(_event: PortEvent) -> None:
        raise RuntimeError("a mistake")

    told: list[PortEvent] = []
    driver.subscribe(broken)
    driver.subscribe(told.append)
    driver.ensure_port(PORT)
    assert told == [PortEvent("p1", up=True)]
