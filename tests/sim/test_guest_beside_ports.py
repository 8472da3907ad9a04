"""A guest is made while its ports are: what it was told of them, and what becomes of it when that was wrong."""

from collections.abc import Iterator
from typing import Any

import pytest

from cumulet.dev.chaos.proofs import Stage
from cumulet.dev.chaos.world import World, template
from cumulet.network.door import mac_of

PORT, GUEST = "network POST /v2.0/ports", "hypervisor.start"


@pytest.fixture
def stage() -> Iterator[Stage]:
    """A cloud that keeps its story, and where nothing goes wrong by itself."""
    with template() as made:
        world = World(1, template=made, keep=True)
        world.perils.on = False
        world.start()
        yield Stage(world)
        world.close()


def _launched(stage: Stage, **more: Any) -> tuple[dict[str, Any], list[str]]:
    """The server's record, and the order of what its host did."""
    body = {"name": "one", "imageRef": stage.ids["image"], "flavorRef": stage.ids["m1.nano"]}
    body["networks"] = [{"uuid": stage.ids["blue"]}, {"uuid": stage.ids["green"]}]
    began = len(stage.world.agenda.lines)
    stage.send("compute", "POST", "/v2.1/servers", {"server": body | more})
    stage.settle()
    told = [
        next((word for word in (PORT, GUEST) if line.endswith(word)), "") for line in stage.world.agenda.lines[began:]
    ]
    (server,) = stage.story.servers()
    return server, [word for word in told if word]


def _macs(stage: Stage, server: dict[str, Any]) -> list[tuple[str, str]]:
    """What the guest has, by its ports' ids."""
    domain = stage.world.outside.hosts[server["host"]].hypervisor.record(server["id"])
    assert domain is not None
    return [(nic.port_id, nic.mac) for nic in domain.nics]


def test_the_guest_is_begun_before_its_ports_are_made(stage: Stage) -> None:
    """It has their ids and MACs, which were chosen with the request."""
    server, told = _launched(stage)
    assert told == [GUEST, PORT, PORT]
    assert server["vm_state"] == "active"
    assert _macs(stage, server) == [(nic["port_id"], nic["mac"]) for nic in server["interfaces"]]
    assert all(nic["mac"] == mac_of(nic["port_id"]) for nic in server["interfaces"])


def test_servers_of_one_request_have_ports_of_their_own(stage: Stage) -> None:
    """Each port is its server's alone."""
    body = {"name": "two", "imageRef": stage.ids["image"], "flavorRef": stage.ids["m1.nano"], "min_count": 2}
    stage.send("compute", "POST", "/v2.1/servers", {"server": body | {"networks": [{"uuid": stage.ids["blue"]}]}})
    stage.settle()
    ports = [nic["port_id"] for server in stage.story.servers() for nic in server["interfaces"]]
    assert len(set(ports)) == 2


def test_a_guest_that_must_know_its_addresses_waits_for_its_ports(stage: Stage) -> None:
    """A config drive tells of them."""
    server, told = _launched(stage, config_drive=True)
    assert told == [PORT, PORT, GUEST]
    assert server["vm_state"] == "active"


def test_a_guest_whose_mac_was_taken_is_made_anew(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another port of the network has the MAC that it was begun with: it gets the one that its port got."""
    monkeypatch.setattr("cumulet.network.service.ports.mac_of", lambda _prefix, port: f"02:00:00:00:00:{port[:2]}")
    server, told = _launched(stage)
    assert told == [GUEST, PORT, PORT, GUEST]
    assert server["vm_state"] == "active"
    assert all(nic["mac"].startswith("02:") for nic in server["interfaces"])
    assert _macs(stage, server) == [(nic["port_id"], nic["mac"]) for nic in server["interfaces"]]
