"""Resizes as the operator sees them, and the state in which a server comes out of one."""

from collections.abc import Iterator
from typing import Any

import pytest
from tests.http.compute_world import HOST, World
from tests.http.harness import CALLERS, PROJECT

from cumulet.compute import states
from cumulet.compute.store import servers

MIGRATIONS = "/v2.1/os-migrations"


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    """A compute API of its own."""
    world = World(database_url)
    yield world
    world.close()


def act(world: World, server: str, action: str, value: Any = None) -> None:
    """Do something to a server, and wait for its end."""
    answer = world.client().post(f"/v2.1/servers/{server}/action", {action: value})
    assert answer.status in {202, 204}, answer.content
    world.settle(server)


def resize(world: World, server: str, flavor: str = "84") -> None:
    """Give a server another flavor, up to the point where it waits."""
    act(world, server, "resize", {"flavorRef": flavor})


def listed(world: World, query: str = "", version: str = "2.80") -> list[dict[str, Any]]:
    """The migrations that an admin sees."""
    answer = world.client("admin", version).get(f"{MIGRATIONS}{query}")
    assert answer.status == 200, answer.content
    found: list[dict[str, Any]] = answer.json["migrations"]
    return found


@pytest.mark.parametrize("end", ["confirmResize", "revertResize"])
@pytest.mark.parametrize("stopped", [True, False])
def test_a_server_comes_out_of_a_resize_as_it_went_in(world: World, end: str, stopped: bool) -> None:
    """One that was stopped is stopped after confirm and after revert, and so is its power state."""
    server = world.boot()
    if stopped:
        act(world, server, "os-stop")
    resize(world, server)
    there = world.settle(server)
    power = states.SHUTDOWN if stopped else states.RUNNING
    assert (there.vm_state, there.power_state) == (states.RESIZED, power)
    act(world, server, end)
    back = world.settle(server)
    assert (back.vm_state, back.power_state) == (states.STOPPED if stopped else states.ACTIVE, power)
    assert back.flavor.id == ("84" if end == "confirmResize" else "42")


def test_a_guest_that_went_off_while_it_waited(world: World) -> None:
    """Confirmed it is stopped, as it is; reverted it runs, as it did."""
    for end, vm_state in (("confirmResize", states.STOPPED), ("revertResize", states.ACTIVE)):
        server = world.boot()
        resize(world, server)
        with world.db.write() as tx:
            servers.set_fields(tx, server, power_state=states.SHUTDOWN)
        act(world, server, end)
        assert world.settle(server).vm_state == vm_state


def test_a_resize_is_listed_with_what_became_of_it(world: World) -> None:
    """finished, then confirmed or reverted; error when it failed; confirmed when the server went unconfirmed."""
    server = world.boot()
    resize(world, server)
    (one,) = listed(world)
    assert one == {
        "id": 1,
        "uuid": one["uuid"],
        "status": "finished",
        "instance_uuid": server,
        "migration_type": "resize",
        "source_compute": HOST,
        "source_node": HOST,
        "dest_compute": HOST,
        "dest_node": HOST,
        "dest_host": "127.0.0.1",
        "old_instance_type_id": 42,
        "new_instance_type_id": 84,
        "user_id": CALLERS["member"].user_id,
        "project_id": PROJECT,
        "created_at": one["created_at"],
        "updated_at": one["updated_at"],
    }
    act(world, server, "revertResize")
    assert [one["status"] for one in listed(world)] == ["reverted"]
    resize(world, server)
    act(world, server, "confirmResize")
    world.broken("resize")
    resize(world, server, "2")
    assert [(one["id"], one["status"]) for one in listed(world)] == [(3, "error"), (2, "confirmed"), (1, "reverted")]
    del world.fail["resize"]
    resize(world, server, "2")
    assert world.client().delete(f"/v2.1/servers/{server}").status == 204
    world.settle(server)
    assert listed(world)[0]["status"] == "confirmed"


def test_a_list_of_migrations_by_version(world: World) -> None:
    """The type shows since 2.23, the uuid since 2.59, whose it is since 2.80."""
    server = world.boot()
    resize(world, server)
    shown = {version: set(listed(world, version=version)[0]) for version in ("2.1", "2.23", "2.59", "2.80")}
    assert shown["2.23"] - shown["2.1"] == {"migration_type"}
    assert shown["2.59"] - shown["2.23"] == {"uuid"}
    assert shown["2.80"] - shown["2.59"] == {"user_id", "project_id"}
    assert world.client().get(MIGRATIONS).status == 403


def test_migrations_are_filtered(world: World) -> None:
    """By state, kind, server, host, owner and time; what a version does not know it refuses since 2.59 and overlooks before."""
    first, second = world.boot(), world.boot()
    resize(world, first)
    resize(world, second)
    act(world, second, "confirmResize")
    by = {one["instance_uuid"]: one for one in listed(world)}

    def found(query: str, version: str = "2.80") -> list[str]:
        return [one["instance_uuid"] for one in listed(world, f"?{query}", version)]

    assert found("status=finished") == [first]
    assert found("status=confirmed&migration_type=resize") == [second]
    assert found("migration_type=live-migration") == []
    assert found(f"instance_uuid={first}") == [first]
    assert found(f"host={HOST}&source_compute={HOST}") == [second, first]
    assert found("host=elsewhere") == []
    assert found("hidden=true") == []
    assert found(f"project_id={PROJECT}") == [second, first]
    assert found(f"user_id={'0' * 32}") == []
    assert found(f"changes-since={by[second]['updated_at']}") == [second]
    assert found(f"changes-before={by[first]['updated_at']}", "2.66") == [first]
    assert found("colour=red", "2.58") == [second, first]
    admin = world.client("admin")
    for version, query in (
        ("2.59", "colour=red"),
        ("2.59", "changes-before=2030-01-01T00:00:00"),
        ("2.79", f"user_id={'0' * 32}"),
        ("2.80", "changes-since=tomorrow"),
        ("2.80", "changes-since=2031-01-01T00:00:00&changes-before=2030-01-01T00:00:00"),
        ("2.80", "limit=-1"),
        ("2.80", "marker=7"),
        ("2.80", f"marker={world.ids.uuid()}"),
    ):
        assert admin.get(f"{MIGRATIONS}?{query}", version=f"compute {version}").status == 400, query


def test_migrations_come_in_pages(world: World) -> None:
    """The newest first, with a link to what follows, since 2.59."""
    server = world.boot()
    for _ in range(3):
        resize(world, server)
        act(world, server, "revertResize")
    admin = world.client("admin", "2.59")
    page = admin.get(f"{MIGRATIONS}?limit=2").json
    assert [one["id"] for one in page["migrations"]] == [3, 2]
    link = page["migrations_links"][0]["href"].partition("/compute")[2]
    rest = admin.get(link).json
    assert [one["id"] for one in rest["migrations"]] == [1]
    assert "migrations_links" not in rest


def test_a_resize_is_no_live_migration(world: World) -> None:
    """A server's own list has live ones under way only; asked for by number, a resize is refused as what it is."""
    server, other = world.boot(), world.boot()
    resize(world, server)
    admin = world.client("admin", "2.23")
    assert admin.get(f"/v2.1/servers/{server}/migrations").json == {"migrations": []}
    refused = admin.get(f"/v2.1/servers/{server}/migrations/1")
    assert (refused.status, "is not live-migration" in refused.json["itemNotFound"]["message"]) == (404, True)
    for path in (f"{server}/migrations/2", f"{other}/migrations/1"):
        unknown = admin.get(f"/v2.1/servers/{path}")
        assert (unknown.status, "is not found" in unknown.json["itemNotFound"]["message"]) == (404, True)
