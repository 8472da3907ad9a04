"""Hosts as servers and hypervisors show them: how they are, what they are, what is taken of them, how long they have been up."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.http.compute_world import HOST, UPTIME, World

from cumulet.compute.store import hosts

LONG_AGO = "2020-01-01T00:00:00.000000"


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    """A compute API of its own."""
    world = World(database_url)
    yield world
    world.close()


def set_host(world: World, **values: Any) -> None:
    """Change what is known of the host."""
    with world.db.write() as tx:
        assert hosts.set_fields(tx, HOST, **values)


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ({"disabled": False}, "UP"),
        ({"seen_at": LONG_AGO}, "UNKNOWN"),
        ({"disabled": True}, "MAINTENANCE"),
        ({"disabled": True, "seen_at": LONG_AGO}, "MAINTENANCE"),
        ({"forced_down": True}, "DOWN"),
        ({"forced_down": True, "disabled": True}, "DOWN"),
    ],
)
def test_a_server_shows_how_its_host_is(world: World, state: dict[str, Any], status: str) -> None:
    """As the host's compute service is, one server or a list of them; only since 2.16, and to admins."""
    server = world.boot()
    set_host(world, **state)
    admin = world.client("admin", "2.16")
    assert admin.get(f"/v2.1/servers/{server}").json["server"]["host_status"] == status
    (shown,) = admin.get("/v2.1/servers/detail?all_tenants=1").json["servers"]
    assert shown["host_status"] == status
    for client in (world.client("admin", "2.15"), world.client(version="2.16")):
        assert "host_status" not in client.get(f"/v2.1/servers/{server}").json["server"]


def test_a_server_on_no_host_shows_no_state_of_it(world: World) -> None:
    """The status is there and empty."""
    world.broken("launch")
    body = {"name": "vm", "flavorRef": "42", "imageRef": world.image.id}
    server = world.client().post("/v2.1/servers", {"server": body}).json["server"]["id"]
    assert world.settle(server).host is None
    assert world.client("admin", "2.16").get(f"/v2.1/servers/{server}").json["server"]["host_status"] == ""


def hypervisor(world: World, version: str, query: str = "") -> dict[str, Any]:
    """The one hypervisor, shown and listed alike."""
    admin = world.client("admin", version)
    (listed,) = admin.get(f"/v2.1/os-hypervisors/detail{query}").json["hypervisors"]
    answer = admin.get(f"/v2.1/os-hypervisors/{listed['id']}{query}")
    assert answer.json == {"hypervisor": listed}
    return dict(listed)


def test_a_hypervisor_by_version(world: World) -> None:
    """Its CPU is text before 2.28 and an object since; what it has and what is taken shows until 2.87, its uptime since 2.88."""
    world.boot()
    cpu = {"arch": "x86_64"}
    assert json.loads(hypervisor(world, "2.27")["cpu_info"]) == cpu
    old = hypervisor(world, "2.87")
    assert old["cpu_info"] == cpu
    assert (old["vcpus"], old["vcpus_used"]) == (8, 1)
    assert (old["memory_mb"], old["memory_mb_used"], old["free_ram_mb"]) == (16_000, 128 + 512, 16_000 - 128 - 512)
    assert (old["running_vms"], "uptime" in old) == (1, False)
    new = hypervisor(world, "2.88")
    assert new["uptime"] == UPTIME
    assert set(old) - set(new) == {
        "cpu_info", "vcpus", "vcpus_used", "memory_mb", "memory_mb_used", "free_ram_mb", "local_gb", "local_gb_used",
        "free_disk_gb", "disk_available_least", "running_vms", "current_workload",
    }  # fmt: skip


def test_an_uptime_is_asked_of_the_host(world: World) -> None:
    """Its own answer before 2.88; a host that does not answer has none, which is 400 where only that was asked."""
    admin = world.client("admin", "2.87")
    where = "/v2.1/os-hypervisors/" + hypervisor(world, "2.87")["id"]
    assert admin.get(f"{where}/uptime").json["hypervisor"]["uptime"] == UPTIME
    assert world.client("admin", "2.88").get(f"{where}/uptime").status == 404
    world.host.answers = False
    assert hypervisor(world, "2.88")["uptime"] is None
    assert admin.get(f"{where}/uptime").status == 400
    world.host.answers = True
    set_host(world, seen_at=LONG_AGO)
    assert (hypervisor(world, "2.88")["uptime"], hypervisor(world, "2.88")["state"]) == (None, "down")


def test_servers_of_a_hypervisor(world: World) -> None:
    """Shown when asked for since 2.53; none are an empty list since 2.75 and no list before."""
    assert "servers" not in hypervisor(world, "2.74", "?with_servers=true")
    assert hypervisor(world, "2.75", "?with_servers=true")["servers"] == []
    server = world.boot()
    for version, yes in (("2.53", "true"), ("2.53", "1"), ("2.88", "yes"), ("2.88", "True")):
        assert hypervisor(world, version, f"?with_servers={yes}")["servers"] == [{"uuid": server, "name": "vm"}]
    assert "servers" not in hypervisor(world, "2.88", "?with_servers=no")
    assert "servers" not in hypervisor(world, "2.88")
    assert world.client("admin", "2.88").get("/v2.1/os-hypervisors?with_servers=perhaps").status == 400
