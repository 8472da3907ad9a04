"""Copies of attached volumes over HTTP: asked for by services, once each, and never by a path."""

from collections.abc import Iterator
from typing import Any

import pytest
from tests.http.compute_world import World
from tests.http.harness import Answer

from cumulet.compute.door import ComputeRest
from cumulet.compute.store import servers
from cumulet.core.errors import BadRequest, Conflict, NotFound
from cumulet.core.web.client import Client, Credentials, LocalTransport

OWN = Credentials(token="service", service_token="service")


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    """A compute API of its own."""
    world = World(database_url)
    yield world
    world.close()


@pytest.fixture
def volume_id(world: World) -> str:
    """A volume that the server will have."""
    return world.volumes.add().id


@pytest.fixture
def server(world: World, volume_id: str) -> str:
    """A server that has it."""
    server = world.boot()
    body = {"volumeAttachment": {"volumeId": volume_id}}
    assert world.client().post(f"/v2.1/servers/{server}/os-volume_attachments", body).status == 200
    world.settle(server)
    return server


def put(world: World, server: str, copy_id: str, token: str = "service", **asked: Any) -> Answer:
    """Ask for a copy."""
    return world.client(token).put(f"/v2.1/servers/{server}/volume-copies/{copy_id}", {"copy": asked})


def test_a_copy_is_made_once_and_seen(world: World, server: str, volume_id: str) -> None:
    """By the door: none before, then one that ends; asked for again it begins anew; its end is told; the owner's log has no word of it."""
    door = ComputeRest(Client("compute", LocalTransport(world.app), world.clock))
    assert door.volume_copy(OWN, server, "copy-1") is None
    for _ in range(2):
        door.copy_volume(OWN, server, "copy-1", volume_id=volume_id, file="volume-1.part")
        world.settle(server)
        found = door.volume_copy(OWN, server, "copy-1")
        assert found is not None
        assert (found.status, found.message) == ("done", "")
    door.stop_copying_volume(OWN, server, "copy-1")
    actions = world.client().get(f"/v2.1/servers/{server}/os-instance-actions").json["instanceActions"]
    assert {action["action"] for action in actions} == {"create", "attach_volume"}


def test_a_copy_that_was_given_up_does_not_begin(world: World, server: str, volume_id: str) -> None:
    """Its request may come after its end: it is refused, and nothing is copied.  A server that is gone has no copy to end."""
    door = ComputeRest(Client("compute", LocalTransport(world.app), world.clock))
    for _ in range(2):
        door.stop_copying_volume(OWN, server, "copy-2")
        world.settle(server)
        with pytest.raises(Conflict):
            door.copy_volume(OWN, server, "copy-2", volume_id=volume_id, file="volume-2.part")
    found = door.volume_copy(OWN, server, "copy-2")
    assert found is not None
    assert found.status == "failed"
    assert world.client().delete(f"/v2.1/servers/{server}").status == 204
    world.settle(server)
    with pytest.raises(NotFound):
        door.stop_copying_volume(OWN, server, "copy-3")


def test_why_a_copy_failed_is_told(world: World, server: str, volume_id: str) -> None:
    """In words for the volume's owner; the server stays what it is."""
    world.fail["volume_copy"] = Conflict("The guest went away.")
    assert put(world, server, "copy-1", volume_id=volume_id, file="a.part").status == 202
    world.settle(server)
    shown = world.client("service").get(f"/v2.1/servers/{server}/volume-copies/copy-1").json["copy"]
    assert (shown["status"], shown["message"], shown["volume_id"]) == ("failed", "The guest went away.", volume_id)
    about = world.client().get(f"/v2.1/servers/{server}").json["server"]
    assert (about["status"], about["OS-EXT-STS:task_state"], about.get("fault")) == ("ACTIVE", None, None)


def test_only_services_may(world: World, server: str, volume_id: str) -> None:
    """A member gets no copy, not even of its own; who is not allowed is told so."""
    assert put(world, server, "copy-1", "member", volume_id=volume_id, file="a.part").status == 403
    for method in ("get", "delete"):
        asked = getattr(world.client("member"), method)(f"/v2.1/servers/{server}/volume-copies/copy-1")
        assert asked.status == 403


@pytest.mark.parametrize("file", ["../a", "/etc/a", "a/b", ".hidden", "", "a\0b"])
def test_a_file_is_a_name(world: World, server: str, volume_id: str, file: str) -> None:
    """What could be a path is 400."""
    assert put(world, server, "copy-1", volume_id=volume_id, file=file).status == 400


def test_what_cannot_be_copied(world: World, server: str, volume_id: str) -> None:
    """A volume that the server does not have, a server that is on no host, one that is going, one that is not there."""
    door = ComputeRest(Client("compute", LocalTransport(world.app), world.clock))
    with pytest.raises(BadRequest):
        door.copy_volume(OWN, server, "copy-1", volume_id=world.ids.uuid(), file="a")
    for values in ({"host": None}, {"host": "host-1", "task_state": "deleting"}):
        with world.db.write() as tx:
            servers.set_fields(tx, server, **values)
        with pytest.raises(Conflict):
            door.copy_volume(OWN, server, "copy-1", volume_id=volume_id, file="a")
    with pytest.raises(NotFound):
        door.copy_volume(OWN, world.ids.uuid(), "copy-1", volume_id=volume_id, file="a")


def test_an_image_of_a_server_on_volumes(world: World) -> None:
    """403 where its snapshots do not fit the quota; else queued, of no bytes' format, with the boot disk's facts, and the owner's words
    but for those that are the cloud's to say."""
    facts = {"os_distro": "plain", "min_disk": "1", "min_ram": "64", "image_id": "i", "size": "7"}
    boot = world.volumes.add(image_metadata=facts)
    entry = {"boot_index": 0, "uuid": boot.id, "source_type": "volume", "destination_type": "volume"}
    body = {"name": "one", "flavorRef": "42", "block_device_mapping_v2": [entry]}
    made = world.client().post("/v2.1/servers", {"server": body})
    assert made.status == 202, made.content
    server = made.json["server"]["id"]
    world.settle(server)
    where = f"/v2.1/servers/{server}/action"
    asked = {"createImage": {"name": "kept", "metadata": {"bdm_v2": "mine", "colour": "blue"}}}
    world.volumes.left = 0
    refused = world.client(version="2.45").post(where, asked)
    assert (refused.status, len(world.images.images)) == (403, 1)
    world.volumes.left = 1
    answer = world.client(version="2.45").post(where, asked)
    world.settle(server)
    image = world.images.images[answer.json["image_id"]]
    assert (image.status, image.name) == ("queued", "kept")
    assert image.properties == {
        "os_distro": "plain",
        "colour": "blue",
        "base_image_ref": "",
        "root_device_name": "/dev/vda",
    }
    assert (image.disk_format, image.min_disk, image.min_ram) == ("raw", 1, 64)
