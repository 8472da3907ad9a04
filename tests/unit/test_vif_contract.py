"""What every driver of a host's taps must do; here on the one in memory, in `tests/real` on Open vSwitch."""

from __future__ import annotations

import socket

import pytest

from cumulet.compute.agent.vif.driver import MetadataPort, Plugged, VifDriver, VifFailed
from cumulet.compute.agent.vif.sim import SimNamespaces, SimVif

MAC = "fa:16:3e:00:00:01"
PORT = "0a1b2c3d-0000-4000-8000-000000000001"
OTHER = "0a1b2c3e-0000-4000-8000-000000000002"


class VifContract:
    """Claims that hold for every driver.  A subclass gives the fixture `vif`."""

    def test_a_plugged_port_is_listed_for_its_server(self, vif: VifDriver) -> None:
        """The tap is listed with port and server, and only for that server."""
        vif.plug(PORT, mac=MAC, server_id="server-1", mtu=1442)
        vif.plug(OTHER, mac=MAC, server_id="server-2", mtu=1442)
        assert Plugged(port_id=PORT, server_id="server-1", tap=vif.tap_name(PORT)) in vif.plugged()
        assert vif.ports_of("server-1") == (PORT,)
        assert vif.ports_of("server-3") == ()

    def test_a_made_tap_is_listed_and_completed_by_a_plug(self, vif: VifDriver) -> None:
        """Before it is plugged it belongs to its server, and an unplug takes it away."""
        for _ in range(2):
            vif.make(PORT, mac=MAC, server_id="server-1", mtu=1442)
        assert vif.ports_of("server-1") == (PORT,)
        vif.plug(PORT, mac=MAC, server_id="server-1", mtu=1442)
        assert vif.plugged() == (Plugged(port_id=PORT, server_id="server-1", tap=vif.tap_name(PORT)),)
        vif.make(OTHER, mac=MAC, server_id="server-1", mtu=1442)
        for port in (PORT, OTHER):
            vif.unplug(port)
        assert vif.plugged() == ()

    def test_plugging_and_unplugging_may_be_repeated(self, vif: VifDriver) -> None:
        """The second time changes nothing; what was never plugged can be unplugged."""
        for _ in range(2):
            vif.plug(PORT, mac=MAC, server_id="server-1", mtu=1442)
        assert len(vif.plugged()) == 1
        for _ in range(2):
            vif.unplug(PORT)
        vif.unplug(OTHER)
        assert vif.plugged() == ()

    def test_a_port_plugged_for_another_server_is_the_others(self, vif: VifDriver) -> None:
        """The last server a port was plugged for is the one it is listed for."""
        vif.plug(PORT, mac=MAC, server_id="server-1", mtu=1442)
        vif.plug(PORT, mac=MAC, server_id="server-2", mtu=1400)
        assert (vif.ports_of("server-1"), vif.ports_of("server-2")) == ((), (PORT,))

    def test_a_taps_name_fits_the_kernel(self, vif: VifDriver) -> None:
        """At most 15 bytes, and different for different ports."""
        assert len(vif.tap_name(PORT)) <= 15
        assert vif.tap_name(PORT) != vif.tap_name(OTHER)


class TestSim(VifContract):
    """The contract on taps in memory."""

    @pytest.fixture
    def vif(self) -> SimVif:
        """Taps of a host that has none."""
        return SimVif()


def test_a_simulated_world_is_told_of_plugs() -> None:
    """Each plug and each unplug is told once, repeats are not."""
    told: list[tuple[str, str]] = []
    vif = SimVif(plugged=lambda port: told.append(("on", port)), unplugged=lambda port: told.append(("off", port)))
    for _ in range(2):
        vif.plug(PORT, mac=MAC, server_id="s", mtu=1442)
    for _ in range(2):
        vif.unplug(PORT)
    assert told == [("on", PORT), ("off", PORT)]


def test_a_planned_failure_happens_before_anything_changed() -> None:
    """The verb raises once and works the next time."""
    vif = SimVif()
    vif.fail("plug")
    with pytest.raises(VifFailed):
        vif.plug(PORT, mac=MAC, server_id="s", mtu=1442)
    assert vif.plugged() == ()
    vif.plug(PORT, mac=MAC, server_id="s", mtu=1442)
    assert vif.ports_of("s") == (PORT,)


def test_sockets_in_memory_answer_on_the_loopback() -> None:
    """A network's socket can be reached; a network without a namespace has none."""
    namespaces = SimNamespaces()
    with pytest.raises(VifFailed):
        namespaces.listen_socket("n1", "169.254.169.254", 80)
    namespaces.ensure_namespace(MetadataPort(network_id="n1", port_id="p1", mac=MAC, addresses=("10.0.1.2/24",)))
    assert namespaces.namespaces() == ("n1",)
    with (
        namespaces.listen_socket("n1", "169.254.169.254", 80) as server,
        socket.create_connection(server.getsockname(), timeout=5) as client,
        server.accept()[0] as served,
    ):
        served.sendall(b"here")
        assert client.recv(10) == b"here"
    namespaces.remove_namespace("n1")
    assert namespaces.namespaces() == ()
