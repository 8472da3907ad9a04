"""A host's taps on a real Open vSwitch: the contract, what is left in the kernel, and failures."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.real.ovn_lab import BRIDGE, CLOUD, OvnLab, only_one
from tests.unit.test_vif_contract import MAC, PORT, VifContract

from cumulet.compute.agent.vif.driver import VifDown, VifFailed
from cumulet.compute.agent.vif.ovs import OvsVif

pytestmark = pytest.mark.real

_VERB_S_MAX = 3.2


def tap_name(port_id: str) -> str:
    """Marked as a test's own."""
    return f"nt-t{port_id[:9]}"


@pytest.fixture(scope="module")
def lab() -> Iterator[OvnLab]:
    """One Open vSwitch for all claims."""
    with only_one(), tempfile.TemporaryDirectory(prefix="nt-", dir="/tmp") as folder:
        made = OvnLab(Path(folder))
        try:
            made.start()
            yield made
        finally:
            made.stop()


@pytest.fixture
def vif(lab: OvnLab) -> Iterator[OvsVif]:
    """Taps for whoever runs the tests."""
    made = OvsVif(ovsdb=lab.ovsdb, cloud=CLOUD, bridge=BRIDGE, tap_owner=None, name=tap_name)
    yield made
    for tap in made.plugged():
        made.unplug(tap.port_id)


class TestOvs(VifContract):
    """The contract on Open vSwitch."""


def test_a_tap_speaks_no_ipv6_and_leaves_nothing(lab: OvnLab, vif: OvsVif) -> None:
    """It has the MTU it was given and no IPv6; unplugged, neither device nor row is left."""
    vif.plug(PORT, mac=MAC, server_id="server-1", mtu=1400)
    tap = vif.tap_name(PORT)
    assert Path(f"/sys/class/net/{tap}/mtu").read_text().strip() == "1400"
    assert Path(f"/proc/sys/net/ipv6/conf/{tap}/disable_ipv6").read_text().strip() == "1"
    assert tap in lab.vsctl("list-ports", BRIDGE)
    vif.unplug(PORT)
    assert not Path(f"/sys/class/net/{tap}").exists()
    assert tap not in lab.vsctl("list-ports", BRIDGE)


def test_half_a_tap_is_found_completed_and_removed(lab: OvnLab, vif: OvsVif) -> None:
    """Cut short on either side, by a kill or a hand, it is listed as incomplete; plugging again completes it."""
    vif.plug(PORT, mac=MAC, server_id="server-1", mtu=1400)
    lab.vsctl("del-port", BRIDGE, vif.tap_name(PORT))
    (found,) = vif.plugged()
    assert (found.port_id, found.server_id, found.complete) == (PORT, "server-1", False)
    vif.plug(PORT, mac=MAC, server_id="server-1", mtu=1400)
    assert vif.plugged()[0].complete
    lab._run("ip", "link", "del", vif.tap_name(PORT))
    assert not vif.plugged()[0].complete
    vif.unplug(PORT)
    assert vif.plugged() == ()


def test_plugging_again_keeps_what_ovn_wrote(lab: OvnLab, vif: OvsVif) -> None:
    """OVN writes on an interface that it is installed, once; a tap plugged again has it still, and its own ids anew."""
    vif.plug(PORT, mac=MAC, server_id="server-1", mtu=1400)
    lab.vsctl("set", "Interface", vif.tap_name(PORT), "external_ids:ovn-installed=true")
    vif.plug(PORT, mac=MAC, server_id="server-2", mtu=1400)
    ids = lab.vsctl("get", "Interface", vif.tap_name(PORT), "external_ids")
    assert 'ovn-installed="true"' in ids
    assert "server-2" in ids
    vif.unplug(PORT)


def test_without_bridge_or_database_plugging_fails_by_name(lab: OvnLab, vif: OvsVif) -> None:
    """Either is a `VifFailed`, in time, and no answer a passing one; the tap made for it is found and can be removed."""
    lost = OvsVif(ovsdb=f"unix:{lab.folder}/nowhere.sock", cloud=CLOUD, tap_owner=None, name=tap_name)
    wrong = OvsVif(ovsdb=lab.ovsdb, cloud=CLOUD, bridge="nt-none", tap_owner=None, name=tap_name)
    for broken in (lost, wrong):
        began = time.monotonic()
        with pytest.raises(VifDown if broken is lost else VifFailed):
            broken.plug(PORT, mac=MAC, server_id="server-1", mtu=1442)
        assert time.monotonic() - began < _VERB_S_MAX
    assert [tap.complete for tap in vif.plugged()] == [False]
    vif.unplug(PORT)
    assert vif.plugged() == ()
