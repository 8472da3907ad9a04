"""What the network driver does when OVN's databases die, hang and come back; and how long a port takes to be up."""

from __future__ import annotations

import contextlib
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.real.ovn_lab import BRIDGE, CHASSIS, CLOUD, OvnLab, only_one, wait_for
from tests.unit.test_network_driver_contract import new_id, new_mac

from cumulet.compute.agent.vif.ovs import OvsVif
from cumulet.network.drivers.driver import (
    FixedIp,
    Network,
    NetworkBackendDown,
    NetworkRefused,
    Port,
    PortEvent,
    SecurityGroup,
    SecurityGroupRule,
    Subnet,
)
from cumulet.network.drivers.ovn import OvnNetwork

pytestmark = pytest.mark.real

#: a verb's own limit is 2.5 s
_VERB_S_MAX = 3.2


class Host:
    """A driver, the host's taps, one network, and everything told about ports."""

    def __init__(self, lab: OvnLab) -> None:
        self.lab = lab
        self.driver = OvnNetwork(northbound=lab.northbound, southbound=lab.southbound, cloud=CLOUD)
        self.vif = OvsVif(ovsdb=lab.ovsdb, cloud=CLOUD, bridge=BRIDGE, tap_owner=None, name=lambda p: f"nt-t{p[:9]}")
        self.network = Network(id=new_id())
        self.told: list[PortEvent] = []
        self.driver.subscribe(self.told.append)
        self.driver.ensure_network(self.network)

    def port(self) -> Port:
        return Port(id=new_id(), network_id=self.network.id, mac=new_mac(), binding_host=CHASSIS)

    def plug(self, port: Port) -> None:
        self.vif.plug(port.id, mac=port.mac, server_id=new_id(), mtu=1442)

    def hears_up(self, port: Port) -> bool:
        return PortEvent(port.id, up=True) in self.told

    def close(self) -> None:
        for tap in self.vif.plugged():
            self.vif.unplug(tap.port_id)
        self.driver.remove_network(self.network.id)
        self.driver.close()


@pytest.fixture(scope="module")
def lab() -> Iterator[OvnLab]:
    """One OVN for all claims; each leaves it running."""
    with only_one(), tempfile.TemporaryDirectory(prefix="nt-", dir="/tmp") as folder:
        made = OvnLab(Path(folder))
        try:
            made.start()
            yield made
        finally:
            made.stop()


@pytest.fixture
def host(lab: OvnLab) -> Iterator[Host]:
    """A driver of its own for each claim."""
    made = Host(lab)
    try:
        yield made
    finally:
        made.close()


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """What happens inside must not take longer."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


def test_without_its_database_a_verb_fails_by_name_and_in_time(host: Host) -> None:
    """A killed northbound database ends in `NetworkBackendDown`; after its restart the same driver works again."""
    host.lab.kill("ovnnb")
    try:
        port = host.port()
        with within(_VERB_S_MAX), pytest.raises(NetworkBackendDown):
            host.driver.ensure_port(port)
        with within(_VERB_S_MAX):
            assert not host.driver.ready()
    finally:
        host.lab.start_daemon("ovnnb")
    wait_for(host.driver.ready)
    host.driver.ensure_port(port)
    host.plug(port)
    wait_for(lambda: host.hears_up(port))


def test_a_database_that_hangs_is_no_reason_to_hang(host: Host) -> None:
    """A stopped northbound database is a `NetworkBackendDown` for all callers at once, not one by one."""
    host.lab.signal("ovnnb", signal.SIGSTOP)
    failed: list[NetworkBackendDown] = []

    def attempt() -> None:
        try:
            host.driver.ensure_port(host.port())
        except NetworkBackendDown as error:
            failed.append(error)

    try:
        callers = [threading.Thread(target=attempt) for _ in range(5)]  # noqa: TID251 - a test's own callers
        with within(2 * _VERB_S_MAX):
            for caller in callers:
                caller.start()
            for caller in callers:
                caller.join()
    finally:
        host.lab.signal("ovnnb", signal.SIGCONT)
    assert len(failed) == 5
    wait_for(host.driver.ready)
    assert host.driver.settle(10)


def test_a_driver_that_never_connected_fails_by_name_and_connects_later(lab: OvnLab) -> None:
    """Made while the database is away, it says so; once the database is there it works without being made anew."""
    lab.kill("ovnnb")
    driver = OvnNetwork(northbound=lab.northbound, southbound=lab.southbound, cloud=CLOUD)
    try:
        try:
            with within(_VERB_S_MAX), pytest.raises(NetworkBackendDown):
                driver.port_up(new_id())
        finally:
            lab.start_daemon("ovnnb")
        network = Network(id=new_id())
        wait_for(driver.ready)
        driver.ensure_network(network)
        driver.remove_network(network.id)
    finally:
        driver.close()


def test_an_up_that_comes_while_the_database_is_away_is_told(host: Host) -> None:
    """Plugged while the northbound database is dead, the port's event comes after its restart, and its level is up."""
    port = host.port()
    host.driver.ensure_port(port)
    host.lab.kill("ovnnb")
    try:
        host.plug(port)
    finally:
        host.lab.start_daemon("ovnnb")
    wait_for(lambda: host.hears_up(port))
    assert host.driver.port_up(port.id)


def test_an_up_in_the_gap_of_the_connection_is_told(host: Host) -> None:
    """The driver's own connection is down while the port comes up: the row is told anew afterwards."""
    port = host.port()
    host.driver.ensure_port(port)
    watcher = OvnNetwork(northbound=host.lab.northbound, southbound=host.lab.southbound, cloud=CLOUD)
    try:
        with host.driver._nb._connection.lock:
            # Nothing is read from the connection meanwhile; then it is cut.
            host.plug(port)
            wait_for(lambda: watcher.port_up(port.id))
            host.driver._nb._connection.idl.force_reconnect()
    finally:
        watcher.close()
    wait_for(lambda: host.hears_up(port))


def test_a_port_removed_behind_the_drivers_back_is_forgotten(host: Host) -> None:
    """Gone while the connection was down, the port is no longer up."""
    port, other = host.port(), host.port()
    host.driver.ensure_port(port)
    host.driver.ensure_port(other)
    host.plug(port)
    wait_for(lambda: host.hears_up(port))
    host.lab.kill("ovnnb")
    host.lab.start_daemon("ovnnb")
    with host.driver._nb._connection.lock:
        host.lab.nbctl("lsp-del", port.id)
    wait_for(host.driver.ready)
    wait_for(lambda: not host.driver.port_up(port.id))


def test_the_southbound_database_may_die_too(host: Host) -> None:
    """After its restart a new port comes up, and the hosts are known again."""
    host.driver.heartbeat()
    assert [agent.host for agent in host.driver.agents()] == [CHASSIS]
    host.lab.kill("ovnsb")
    host.lab.start_daemon("ovnsb")
    port = host.port()
    host.driver.ensure_port(port)
    host.plug(port)
    wait_for(lambda: host.hears_up(port))
    wait_for(lambda: [agent.host for agent in host.driver.agents()] == [CHASSIS])


def test_one_bad_change_fails_alone(host: Host) -> None:
    """Of many changes that come at once, the one that cannot be made is refused, the others are made."""
    rule = SecurityGroupRule(id=new_id(), direction="ingress", remote_ip_prefix="10.0.0.0/8 || ip4")
    refused: list[NetworkRefused] = []
    groups = [SecurityGroup(id=new_id()) for _ in range(20)]

    def attempt(group: SecurityGroup) -> None:
        host.driver.ensure_security_group(group)

    def attempt_bad() -> None:
        try:
            host.driver.ensure_security_group(SecurityGroup(id=new_id(), rules=(rule,)))
        except NetworkRefused as error:
            refused.append(error)

    callers = [threading.Thread(target=attempt, args=(group,)) for group in groups]  # noqa: TID251 - a test's own callers
    callers.insert(10, threading.Thread(target=attempt_bad))  # noqa: TID251 - likewise
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(refused) == 1
    assert {thing.id for thing in host.driver.owned() if thing.kind == "security_group"} == {
        group.id for group in groups
    }
    for group in groups:
        host.driver.remove_security_group(group.id)


def test_a_host_that_does_not_answer_is_shown_as_dead(host: Host) -> None:
    """Asked for a sign of life and silent for longer than the grace, the host is dead; answering, it lives again."""
    now = [0.0]

    class Clock:
        def now(self) -> str:
            return "2026-01-01T00:00:00.000000"

        def epoch(self) -> float:
            return now[0]

        def monotonic(self) -> float:
            return now[0]

    driver = OvnNetwork(northbound=host.lab.northbound, southbound=host.lab.southbound, cloud=CLOUD, clock=Clock())
    try:
        driver.heartbeat()
        assert driver.settle(10)
        now[0] = 100.0
        assert driver.agents()[0].alive
        host.lab.signal("controller", signal.SIGSTOP)
        try:
            driver.heartbeat()
            assert driver.agents()[0].alive
            now[0] = 200.0
            assert not driver.agents()[0].alive
        finally:
            host.lab.signal("controller", signal.SIGCONT)
        wait_for(lambda: driver.agents()[0].alive)
    finally:
        driver.close()


def test_a_port_is_up_soon_after_it_was_made_and_plugged(host: Host, record_property: pytest.RecordProperty) -> None:
    """Created, plugged and told to be up: tens of milliseconds on a small network (the bound is for a busy machine)."""
    group = SecurityGroup(id=new_id(), rules=(SecurityGroupRule(id=new_id(), direction="egress"),))
    host.driver.ensure_security_group(group)
    subnet = Subnet(id=new_id(), network_id=host.network.id, cidr="10.7.0.0/16", gateway_ip="10.7.0.1")
    host.driver.ensure_subnet(subnet)
    created, plugged, up, unplugged, removed = [], [], [], [], []
    for n in range(30):
        told = threading.Event()
        port = Port(
            id=new_id(), network_id=host.network.id, mac=new_mac(), binding_host=CHASSIS,
            security_group_ids=(group.id,), fixed_ips=(FixedIp(subnet_id=subnet.id, address=f"10.7.1.{n + 1}"),),
        )  # fmt: skip
        stop = host.driver.subscribe(
            lambda event, port=port, told=told: told.set() if event == PortEvent(port.id, up=True) else None  # type: ignore[misc]  # a lambda's defaults
        )
        began = time.perf_counter()
        host.driver.ensure_port(port)
        created.append(time.perf_counter() - began)
        host.plug(port)
        plugged.append(time.perf_counter() - began - created[-1])
        assert told.wait(10)
        up.append(time.perf_counter() - began)
        stop()
        began = time.perf_counter()
        host.vif.unplug(port.id)
        unplugged.append(time.perf_counter() - began)
        began = time.perf_counter()
        host.driver.remove_port(port.id)
        removed.append(time.perf_counter() - began)
    host.driver.remove_security_group(group.id)
    for name, values in (
        ("create", created), ("plug", plugged), ("create to up", up), ("unplug", unplugged), ("remove", removed),
    ):  # fmt: skip
        record_property(name, f"{statistics.median(values) * 1000:.1f} ms, worst {max(values) * 1000:.1f} ms")
    assert statistics.median(up) < 0.25
