"""The data plane and the rows: what one refuses the other does not keep, what it missed it is told, and levels are passed on."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select
from tests.http.network_world import HOST, NetworkWorld, refused

from cumulet.network.drivers.driver import Network, NetworkBackendDown, NetworkRefused, Port, SecurityGroup
from cumulet.network.tables import owed


@pytest.fixture
def world(database_url: str) -> Iterator[NetworkWorld]:
    """A network service of this test's own."""
    world = NetworkWorld(database_url)
    yield world
    world.close()


def debts(world: NetworkWorld) -> set[str]:
    """The kinds of what the data plane must still be told."""
    with world.db.read() as tx:
        return {row["kind"] for row in tx.all(select(owed))}


CREATIONS = [
    ("network", "ensure_network", {"name": "n"}),
    ("subnet", "ensure_subnet", {"cidr": "10.77.0.0/24", "ip_version": 4}),
    ("port", "ensure_port", {}),
    ("router", "ensure_router", {"external_gateway_info": "public"}),
    ("floatingip", "ensure_floating_ip", {"floating_network_id": "public", "port_id": "port"}),
    ("security_group", "ensure_security_group", {"name": "g"}),
    ("security_group_rule", "ensure_security_group", {"direction": "ingress", "protocol": "tcp"}),
]


@pytest.mark.parametrize(("kind", "verb", "attributes"), CREATIONS, ids=[row[0] for row in CREATIONS])
def test_what_the_data_plane_cannot_take_is_not_kept(
    world: NetworkWorld, kind: str, verb: str, attributes: dict[str, Any]
) -> None:
    """A creation that fails there leaves no row and no address, says 503 in safe words, and what may be there is taken out."""
    network, _, _ = world.joined()
    port = world.made("port", network_id=network["id"])
    group = world.made("security_group", name="base")
    path = {"security_group": "security-groups", "security_group_rule": "security-group-rules"}.get(kind, f"{kind}s")
    names = {"public": world.public.id, "port": port["id"]}
    body = {key: names.get(value, value) if isinstance(value, str) else value for key, value in attributes.items()}
    if "external_gateway_info" in body:
        body["external_gateway_info"] = {"network_id": world.public.id}
    if kind in {"subnet", "port"}:
        body["network_id"] = network["id"]
    if kind == "security_group_rule":
        body["security_group_id"] = group["id"]
    before = [thing["id"] for thing in world.listed(path)]
    given = world.addresses(network["id"]) | world.addresses(world.public.id)
    world.driver.fail(verb, NetworkBackendDown(detail="ssl:10.0.0.5:6641 refused"))
    words = refused(world.member.post(f"/v2.0/{path}", {kind: body}), 503, "ServiceUnavailable")
    assert "10.0.0.5" not in words
    assert [thing["id"] for thing in world.listed(path)] == before
    assert world.addresses(network["id"]) | world.addresses(world.public.id) == given
    assert debts(world)
    assert world.service.upkeep() == 0
    assert debts(world) == set()
    assert {port.id for port in world.driver.ports.values() if port.network_id == network["id"]} <= {
        port["id"] for port in world.listed(f"ports?network_id={network['id']}", world.admin)
    }
    assert world.member.post(f"/v2.0/{path}", {kind: body}).status == 201


def test_a_refusal_of_the_data_plane_is_our_fault(world: NetworkWorld) -> None:
    """What it refuses for good answers 500, without a word of why; so does a driver that breaks."""
    world.driver.fail("ensure_network", NetworkRefused(detail="constraint violation in table x"))
    words = refused(world.member.post("/v2.0/networks", {"network": {}}), 500, "HTTPInternalServerError")
    assert "table x" not in words
    world.driver.fail("ensure_network", RuntimeError("table y"))
    words = refused(world.member.post("/v2.0/networks", {"network": {}}), 500, "HTTPInternalServerError")
    assert "table y" not in words


def test_a_change_that_was_not_taken_is_owed(world: NetworkWorld) -> None:
    """The row keeps the change, the caller is told, and the next upkeep brings the data plane up to it."""
    group = world.made("security_group", name="before")
    world.driver.fail("ensure_security_group")
    path = f"/v2.0/security-groups/{group['id']}"
    refused(world.member.put(path, {"security_group": {"name": "after"}}), 503, "ServiceUnavailable")
    assert world.show(f"security-groups/{group['id']}")["name"] == "after"
    assert world.driver.security_groups[group["id"]].name == "before"
    assert debts(world) == {"security_group"}
    assert world.service.upkeep() == 0
    assert world.driver.security_groups[group["id"]].name == "after"
    assert debts(world) == set()


def test_a_deletion_that_was_not_taken_is_owed(world: NetworkWorld) -> None:
    """The row is gone and that is the answer; the data plane loses it before it takes anything new."""
    network = world.network()
    world.subnet(network["id"])
    port = world.made("port", network_id=network["id"], fixed_ips=[{"ip_address": "10.0.0.9"}])
    world.driver.fail("remove_port")
    assert world.member.delete(f"/v2.0/ports/{port['id']}").status == 204
    assert world.member.get(f"/v2.0/ports/{port['id']}").status == 404
    assert port["id"] in world.driver.ports
    heir = world.made("port", network_id=network["id"], fixed_ips=[{"ip_address": "10.0.0.9"}])
    assert port["id"] not in world.driver.ports
    assert world.driver.calls[-2:] == ["remove_port", "ensure_port"]
    assert heir["id"] in world.driver.ports
    assert debts(world) == set()


def test_while_the_data_plane_is_away_nothing_is_made(world: NetworkWorld) -> None:
    """Each creation is 503 and leaves no row; once it is back the first one pays what is owed."""
    network, idle = world.network(), world.network()
    world.subnet(network["id"])
    world.driver.backend_down()
    for _ in range(3):
        refused(world.member.post("/v2.0/ports", {"port": {"network_id": network["id"]}}), 503, "ServiceUnavailable")
    assert len(world.listed(f"ports?network_id={network['id']}")) == 1
    assert world.member.delete(f"/v2.0/networks/{idle['id']}").status == 204
    world.driver.backend_down(False)
    world.made("port", network_id=network["id"])
    assert debts(world) == set()
    assert world.service.upkeep() == 0


def test_one_debt_that_is_refused_does_not_keep_the_next(world: NetworkWorld) -> None:
    """Each is tried; what is refused again stays owed."""
    groups = [world.made("security_group", name=name) for name in ("a", "b")]
    world.driver.fail("ensure_security_group", NetworkRefused(), times=4)
    for group in groups:
        world.member.put(f"/v2.0/security-groups/{group['id']}", {"security_group": {"name": "new"}})
    assert world.service.upkeep() == 1
    assert sorted(world.driver.security_groups[group["id"]].name for group in groups) in (["a", "new"], ["b", "new"])
    assert world.service.upkeep() == 0


def test_a_lost_data_plane_is_filled_again(world: NetworkWorld) -> None:
    """Resync puts every row back, in order, and takes out what no row knows; a second one changes nothing."""
    network, _, _ = world.joined()
    port = world.made("port", network_id=network["id"])
    world.made("floatingip", floating_network_id=world.public.id, port_id=port["id"])
    driver = world.driver

    def contents() -> tuple[dict[str, Any], ...]:
        return tuple(
            dict(table)
            for table in (
                driver.networks,
                driver.subnets,
                driver.ports,
                driver.security_groups,
                driver.routers,
                driver.floating_ips,
            )
        )

    whole = contents()
    for table in (
        driver.networks,
        driver.subnets,
        driver.ports,
        driver.security_groups,
        driver.routers,
        driver.floating_ips,
    ):
        table.clear()
    driver.ensure_network(Network(id="stray", name="stray"))
    driver.ensure_port(Port(id="stray-port", network_id="stray", mac="fa:16:3e:00:00:01", device_id="x"))
    driver.ensure_security_group(SecurityGroup(id="stray-group"))
    done = world.service.resync()
    assert contents() == whole
    assert (done.removed, done.failed) == (3, 0)
    assert world.service.resync().removed == 0
    assert contents() == whole


def test_a_port_on_a_lost_network_brings_it_back(world: NetworkWorld) -> None:
    """When the data plane does not know a port's network any more, network and subnet are put in first."""
    network = world.network()
    subnet = world.subnet(network["id"])
    world.driver.networks.clear()
    world.driver.subnets.clear()
    port = world.made("port", network_id=network["id"])
    assert port["id"] in world.driver.ports
    assert network["id"] in world.driver.networks
    assert subnet["id"] in world.driver.subnets


def test_levels_of_ports_are_recorded_and_told(world: NetworkWorld) -> None:
    """A bound port that comes up is ACTIVE and its listeners hear of it once; down again likewise."""
    network = world.network()
    world.subnet(network["id"])
    heard: list[tuple[str, bool]] = []
    stop = world.service.on_port_up(lambda port_id, up: heard.append((port_id, up)))
    body = {"network_id": network["id"], "project_id": "1" * 32, "binding:host_id": HOST}
    port = world.agent.post("/v2.0/ports", {"port": body}).json["port"]
    assert world.show(f"ports/{port['id']}")["status"] == "ACTIVE"
    assert world.service.port_is_up(port["id"])
    assert heard == [(port["id"], True)]
    world.driver.set_port_up(port["id"], True)  # told again, and no news
    world.driver.set_port_up(port["id"], False)
    assert world.show(f"ports/{port['id']}")["status"] == "DOWN"
    assert heard == [(port["id"], True), (port["id"], False)]
    stop()
    world.driver.set_port_up(port["id"], True)
    assert len(heard) == 2
    assert world.service.port_status("not-there", up=True) is False


def test_the_api_does_not_write_a_ports_level(world: NetworkWorld) -> None:
    """Enabling, binding and renaming are wishes; only the data plane makes a port ACTIVE."""
    network = world.network()
    world.driver.ports_never_up()
    body = {"network_id": network["id"], "binding:host_id": HOST}
    port = world.agent.post("/v2.0/ports", {"port": body}).json["port"]
    changed = world.agent.put(f"/v2.0/ports/{port['id']}", {"port": {"name": "x", "admin_state_up": True}}).json["port"]
    assert changed["status"] == "DOWN"
    refused(world.agent.put(f"/v2.0/ports/{port['id']}", {"port": {"status": "ACTIVE"}}), 400, "HTTPBadRequest")


def test_a_level_that_changed_unheard_is_read_again(world: NetworkWorld) -> None:
    """Resync reads every level: an event missed while the service was away is made good, and told."""
    network = world.network()
    body = {"network_id": network["id"], "binding:host_id": HOST}
    port = world.agent.post("/v2.0/ports", {"port": body}).json["port"]
    heard: list[tuple[str, bool]] = []
    world.service.on_port_up(lambda port_id, up: heard.append((port_id, up)))
    world.service.levels.close()
    world.driver.set_port_up(port["id"], False)
    assert world.show(f"ports/{port['id']}", world.agent)["status"] == "ACTIVE"
    world.driver.ports_never_up()
    world.service.resync()
    assert world.show(f"ports/{port['id']}", world.agent)["status"] == "DOWN"
    assert heard == [(port["id"], False)]


def test_events_may_be_handled_on_another_thread(database_url: str) -> None:
    """Given a place to post to, the thread that hears an event only posts; the level is read when the post runs."""
    from tests.http.harness import ApiClient, authenticate

    from cumulet.core.clock import SystemClock
    from cumulet.core.db import open_database
    from cumulet.core.ids import SystemIds
    from cumulet.network import api
    from cumulet.network.config import NetworkConfig
    from cumulet.network.drivers.sim import SimNetwork
    from cumulet.network.service import NetworkService
    from cumulet.network.tables import METADATA

    posted: list[Any] = []
    clock, ids = SystemClock(), SystemIds()
    db = open_database(database_url, "network", METADATA)
    db.create()
    driver = SimNetwork(hosts=(HOST,), clock=clock)
    service = NetworkService(db, driver, clock=clock, ids=ids, config=NetworkConfig(), post=posted.append)
    client = ApiClient(api.application(service, authenticate=authenticate, clock=clock, ids=ids), "service")
    network = client.post("/v2.0/networks", {"network": {}}).json["network"]
    body = {"network_id": network["id"], "binding:host_id": HOST}
    port = client.post("/v2.0/ports", {"port": body}).json["port"]
    assert client.get(f"/v2.0/ports/{port['id']}").json["port"]["status"] == "DOWN"
    assert len(posted) == 1
    posted.pop()()
    assert client.get(f"/v2.0/ports/{port['id']}").json["port"]["status"] == "ACTIVE"
    db.close()


def test_addresses_stay_unique_when_many_ask_at_once(world: NetworkWorld) -> None:
    """Threads that ask together for more than there is get each address once, and the rest a clear no."""
    network = world.network()
    world.subnet(network["id"], "10.4.0.0/26", enable_dhcp=False)
    body = {"port": {"network_id": network["id"]}}
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: world.member.post("/v2.0/ports", body), range(80)))
    made = [answer.json["port"] for answer in answers if answer.status == 201]
    assert len(answers) == 80
    assert {answer.status for answer in answers} == {201, 409}
    assert len({port["fixed_ips"][0]["ip_address"] for port in made}) == len(made) == 61
    assert set(world.addresses(network["id"]).values()) == {port["id"] for port in made}
