"""Rows of OVN without a row of ours: seen by the leak check's question, taken out by the repair's verb."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from tests.real.ovn_lab import CLOUD, OvnLab, only_one

from cumulet.core.clock import SystemClock
from cumulet.core.db import open_database
from cumulet.core.ids import SystemIds
from cumulet.network.config import NetworkConfig
from cumulet.network.drivers.driver import (
    FixedIp,
    FloatingIp,
    InterfaceAddress,
    Network,
    Port,
    Router,
    RouterGateway,
    RouterInterface,
    SecurityGroup,
    Subnet,
)
from cumulet.network.drivers.ovn import OvnNetwork
from cumulet.network.service import NetworkService
from cumulet.network.tables import METADATA
from cumulet.run.repair import ORDER


@pytest.mark.real
def test_rows_without_an_owner_are_seen_and_taken_out(tmp_path: Path) -> None:
    """One of each kind, beside a network that has its row: exactly those are found, and only those go."""
    ids = SystemIds()
    with only_one(), tempfile.TemporaryDirectory(prefix="nt-", dir="/tmp") as folder:
        lab = OvnLab(Path(folder))
        try:
            lab.start()
            driver = OvnNetwork(northbound=lab.northbound, southbound=lab.southbound, cloud=CLOUD)
            db = open_database(f"sqlite://{tmp_path}", "network", METADATA)
            db.create()
            service = NetworkService(
                db, driver, clock=SystemClock(), ids=ids, config=NetworkConfig(external_physical_network="physnet1")
            )
            kept = service.bootstrap()
            net, out, sub, group, port, foot, gate, router, floating = (ids.uuid() for _ in range(9))
            driver.ensure_network(Network(id=net))
            driver.ensure_network(Network(id=out, physical_network="physnet1"))
            driver.ensure_subnet(Subnet(id=sub, network_id=net, cidr="10.7.0.0/24", gateway_ip="10.7.0.1"))
            driver.ensure_security_group(SecurityGroup(id=group))
            address = (FixedIp(subnet_id=sub, address="10.7.0.9"),)
            driver.ensure_port(
                Port(id=port, network_id=net, mac="fa:16:3e:00:07:09", fixed_ips=address, security_group_ids=(group,))
            )
            driver.ensure_router(
                Router(
                    id=router,
                    interfaces=(
                        RouterInterface(
                            port_id=foot,
                            network_id=net,
                            mac="fa:16:3e:00:07:01",
                            addresses=(InterfaceAddress(address="10.7.0.1", prefix=24),),
                        ),
                    ),
                    gateway=RouterGateway(
                        port_id=gate,
                        network_id=out,
                        mac="fa:16:3e:00:07:02",
                        addresses=(InterfaceAddress(address="172.30.77.9", prefix=24),),
                    ),
                )
            )
            driver.ensure_floating_ip(
                FloatingIp(id=floating, external_ip="172.30.77.10", router_id=router, port_id=port, fixed_ip="10.7.0.9")
            )
            found = {(owned.kind, owned.id) for owned in service.unowned()}
            wanted = {
                ("network", net), ("network", out), ("subnet", sub), ("security_group", group), ("port", port), ("port", foot),
                ("port", gate), ("router", router), ("floating_ip", floating),
            }  # fmt: skip
            assert found == wanted
            for kind, id in sorted(found, key=lambda one: ORDER.index(f"ovn {one[0]}")):
                service.put_again(kind, id)
            assert service.unowned() == []
            assert ("network", kept.id) in {(owned.kind, owned.id) for owned in driver.owned()}
            service.close()
            driver.close()
            db.close()
        finally:
            lab.stop()
