"""The network driver's contract on a real OVN."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.real.ovn_lab import BRIDGE, CHASSIS, CLOUD, OvnLab, only_one
from tests.unit.test_network_driver_contract import NetworkDriverContract, World

from cumulet.compute.agent.vif.ovs import OvsVif
from cumulet.network.drivers.driver import Port
from cumulet.network.drivers.ovn import OvnNetwork


@pytest.fixture(scope="module")
def lab() -> Iterator[OvnLab]:
    """One OVN for all claims."""
    with only_one(), tempfile.TemporaryDirectory(prefix="nt-", dir="/tmp") as folder:
        made = OvnLab(Path(folder))
        try:
            made.start()
            yield made
        finally:
            made.stop()


@pytest.mark.real
class TestOvn(NetworkDriverContract):
    """The contract on OVN, with taps on its bridge."""

    @pytest.fixture
    def world(self, lab: OvnLab) -> Iterator[World]:
        """A driver on an empty database; whatever a claim leaves there is removed."""
        driver = OvnNetwork(northbound=lab.northbound, southbound=lab.southbound, cloud=CLOUD)
        vif = OvsVif(
            ovsdb=lab.ovsdb, cloud=CLOUD, bridge=BRIDGE, tap_owner=None, name=lambda port_id: f"nt-t{port_id[:9]}"
        )

        def plug(port: Port) -> None:
            vif.plug(port.id, mac=port.mac, server_id=port.device_id, mtu=1442)

        yield World(driver, CHASSIS, plug)
        for tap in vif.plugged():
            vif.unplug(tap.port_id)
        remove = {
            "floating_ip": driver.remove_floating_ip, "router": driver.remove_router, "port": driver.remove_port,
            "subnet": driver.remove_subnet, "network": driver.remove_network,
            "security_group": driver.remove_security_group,
        }  # fmt: skip
        for thing in driver.owned():
            remove[thing.kind](thing.id)
        driver.close()
