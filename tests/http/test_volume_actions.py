"""What is done to volumes: extended, attached, uploaded, reverted, reset, retyped."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.http.volume_world import BACKEND, CONNECTOR, HOST, SERVER, World, conforms

from cumulet.core.errors import ServerFault
from cumulet.core.web.client import Credentials
from cumulet.volume.drivers.local import LocalVolumes
from cumulet.volume.drivers.sim import SimVolumes

OTHER_SERVER = "88888888-8888-4888-8888-888888888888"


@pytest.fixture(params=BACKEND)
def world(request: pytest.FixtureRequest, tmp_path: Path, database_url: str) -> Iterator[World]:
    """A service on each back end."""
    driver = SimVolumes() if request.param == "sim" else LocalVolumes(tmp_path / "volumes", host=HOST)
    there = World(tmp_path, driver, url=database_url)
    yield there
    there.close()


@pytest.fixture
def sim(tmp_path: Path, database_url: str) -> Iterator[World]:
    """A service on the simulated back end."""
    there = World(tmp_path, url=database_url)
    yield there
    there.close()


def test_a_volume_grows_and_never_shrinks(world: World) -> None:
    """os-extend answers 202 and the size follows; equal and smaller sizes are refused."""
    volume_id = world.create(1)
    assert world.action(volume_id, "os-extend", {"new_size": 3}).status == 202
    world.until(volume_id, "available")
    assert world.api.get(f"/v3/volumes/{volume_id}").json["volume"]["size"] == 3
    for size in (3, 1, 0, "x"):
        assert world.action(volume_id, "os-extend", {"new_size": size}).status == 400
    assert [item.size_bytes for item in world.driver.list()] == [3 << 30]


def test_an_attached_volume_grows_where_compute_is_told(tmp_path: Path) -> None:
    """From 3.42 on; compute hears the volume, its size and its servers."""
    told: list[tuple[str, int, list[str]]] = []
    world = World(tmp_path, tell_extended=lambda *words: told.append(words))
    try:
        volume_id = world.create(1)
        world.attach(volume_id)
        assert world.action(volume_id, "os-extend", {"new_size": 2}, version="volume 3.41").status == 400
        assert world.action(volume_id, "os-extend", {"new_size": 2}).status == 202
        world.until(volume_id, "in-use")
        assert told == [(volume_id, 2, [SERVER])]
    finally:
        world.close()


def test_an_attachment_that_a_server_uses_is_computes_to_delete(world: World) -> None:
    """OSSA-2023-003: 409 for users, by every way; a service may."""
    volume_id = world.create()
    attachment_id = world.attach(volume_id)
    answer = world.api.delete(f"/v3/attachments/{attachment_id}")
    assert answer.status == 409
    assert answer.json["conflictingRequest"]["message"] == f"Detach volume from instance {SERVER} using the Compute API"
    assert world.action(volume_id, "os-detach", {"attachment_id": attachment_id}).status == 409
    assert world.action(volume_id, "os-terminate_connection", {"connector": CONNECTOR}).status == 409
    assert world.action(volume_id, "os-force_detach", {}, token="admin").status == 409
    assert world.api.get(f"/v3/attachments/{attachment_id}", token="other").status == 404
    answer = world.api.delete(f"/v3/attachments/{attachment_id}", headers={"x-service-token": "service"})
    assert (answer.status, answer.json["attachments"]) == (200, [])
    assert world.status(volume_id) == "available"


def test_an_attachment_of_a_server_that_lost_it_may_go(tmp_path: Path) -> None:
    """When compute says that the server has it not, its user may clean up."""
    world = World(tmp_path, server_uses=lambda *_: False)
    try:
        attachment_id = world.attach(world.create())
        assert world.api.delete(f"/v3/attachments/{attachment_id}").status == 200
    finally:
        world.close()


def test_a_reserved_volume_is_no_one_elses(world: World) -> None:
    """One server at a time, unless the type says multiattach."""
    volume_id = world.create()
    body = {"attachment": {"volume_uuid": volume_id, "instance_uuid": SERVER}}
    assert world.api.post("/v3/attachments", body).json["attachment"]["status"] == "reserved"
    other = {"attachment": {"volume_uuid": volume_id, "instance_uuid": OTHER_SERVER}}
    answer = world.api.post("/v3/attachments", other)
    assert answer.status == 400
    assert "to reserve, but the status is reserved" in answer.json["badRequest"]["message"]
    assert world.api.post("/v3/attachments", body, version="volume 3.26").status == 404
    shared = world.create(volume_type="multiattach")
    first = world.attach(shared)
    second = world.attach(shared, OTHER_SERVER)
    assert len(world.api.get(f"/v3/volumes/{shared}").json["volume"]["attachments"]) == 2
    world.door.delete_attachment(world.own, first)
    assert world.status(shared) == "in-use"
    world.door.delete_attachment(world.own, second)
    assert world.status(shared) == "available"


def test_a_host_that_cannot_reach_the_volume_leaves_no_attachment(tmp_path: Path) -> None:
    """A connector of another host is refused, and the reservation made on the way is taken back."""
    world = World(tmp_path, LocalVolumes(tmp_path / "volumes", host=HOST))
    try:
        volume_id = world.create()
        connector = {**CONNECTOR, "host": "elsewhere"}
        body = {"attachment": {"volume_uuid": volume_id, "instance_uuid": SERVER, "connector": connector}}
        assert world.api.post("/v3/attachments", body).status == 409
        assert world.api.get("/v3/attachments").json["attachments"] == []
        assert world.status(volume_id) == "available"
    finally:
        world.close()


def test_the_older_way_to_attach(world: World) -> None:
    """os-reserve, os-initialize_connection, os-attach, os-begin_detaching, os-detach."""
    volume_id = world.create()
    steps = [
        ("os-reserve", None, "attaching"),
        ("os-unreserve", None, "available"),
        ("os-attach", {"instance_uuid": SERVER, "mountpoint": "/dev/vdc"}, "in-use"),
        ("os-begin_detaching", None, "detaching"),
        ("os-roll_detaching", None, "in-use"),
    ]
    for name, value, status in steps:
        assert world.action(volume_id, name, value).status == 202, name
        assert world.status(volume_id) == status, name
    shown = world.api.get(f"/v3/volumes/{volume_id}").json["volume"]
    assert (shown["attachments"][0]["device"], shown["metadata"]["attached_mode"]) == ("/dev/vdc", "rw")
    connection = world.action(volume_id, "os-initialize_connection", {"connector": CONNECTOR})
    assert connection.json["connection_info"]["data"]["volume_id"] == volume_id
    assert world.action(volume_id, "os-terminate_connection", {"connector": CONNECTOR}).status == 202
    assert world.action(volume_id, "os-detach", {}).status == 202
    assert world.status(volume_id) == "available"
    assert world.action(volume_id, "os-detach", {}).status == 400
    assert world.action(volume_id, "os-nonsense", {}).status == 400


def test_flags(world: World) -> None:
    """Bootable and readonly are seen on the volume; a readonly one is attached so."""
    volume_id = world.create()
    assert world.action(volume_id, "os-set_bootable", {"bootable": True}).status == 200
    assert world.action(volume_id, "os-update_readonly_flag", {"readonly": True}).status == 202
    shown = world.api.get(f"/v3/volumes/{volume_id}").json["volume"]
    assert (shown["bootable"], shown["metadata"]["readonly"]) == ("true", "True")
    attachment_id = world.door.create_attachment(world.user, volume_id=volume_id, server_id=SERVER)
    connection = world.door.connect(world.user, attachment_id, CONNECTOR, mountpoint="/dev/vdb")
    assert connection["data"]["access_mode"] == "ro"


def test_a_volume_becomes_an_image(world: World, tmp_path: Path) -> None:
    """The image is queued when the request is answered, and has the bytes when the volume is available again."""
    volume_id = world.create(metadata={"a": "b"})
    conforms(
        world.action(volume_id, "os-set_image_metadata", {"metadata": {"os_distro": "plain"}}),
        "volumes",
        "update_volume_image_metadata",
    )
    answer = world.action(volume_id, "os-volume_upload_image", {"image_name": "made", "disk_format": "raw"})
    assert answer.status == 202
    shown = answer.json["os-volume_upload_image"]
    assert (shown["status"], shown["image_name"]) == ("uploading", "made")
    world.until(volume_id, "available")
    image = world.images.images[shown["image_id"]]
    assert (image.status, image.properties) == ("active", {"os_distro": "plain"})
    assert list((tmp_path / "uploads").iterdir()) == []
    assert world.action(volume_id, "os-unset_image_metadata", {"key": "os_distro"}).status == 200
    assert world.action(volume_id, "os-show_image_metadata").json["metadata"] == {}


def test_an_upload_that_fails_leaves_no_image(sim: World) -> None:
    """The volume is available again, the queued image is gone, and the owner is told."""
    volume_id = sim.create()
    assert isinstance(sim.driver, SimVolumes)
    sim.driver.fail("copy_to_image", ServerFault())
    answer = sim.action(volume_id, "os-volume_upload_image", {"image_name": "made", "disk_format": "raw"})
    sim.until(volume_id, "available")
    assert answer.json["os-volume_upload_image"]["image_id"] not in sim.images.images
    messages = conforms(sim.api.get("/v3/messages", version="volume 3.3"), "messages", "list_messages")["messages"]
    assert [message["resource_uuid"] for message in messages] == [volume_id]
    assert sim.api.get("/v3/messages", token="other").json["messages"] == []
    assert sim.api.delete(f"/v3/messages/{messages[0]['id']}").status == 204


def test_a_creation_that_fails_says_so(sim: World) -> None:
    """The volume is in error, nothing is left on the back end, and it can be deleted."""
    assert isinstance(sim.driver, SimVolumes)
    sim.driver.fail("create", ServerFault(), after=True)
    volume_id = sim.api.post("/v3/volumes", {"volume": {"size": 1}}).json["volume"]["id"]
    sim.until(volume_id, "error")
    assert sim.driver.list() == ()
    assert sim.api.delete(f"/v3/volumes/{volume_id}").status == 202
    sim.until(volume_id, None)


def test_a_volume_that_fits_nowhere_is_in_error(sim: World) -> None:
    """The scheduler's filters say why, in words that name no host."""
    assert isinstance(sim.driver, SimVolumes)
    volume_id = sim.api.post("/v3/volumes", {"volume": {"size": 999_999}}).json["volume"]["id"]
    sim.until(volume_id, "error")
    message = sim.api.get("/v3/messages").json["messages"][0]
    assert message["user_message"].endswith("No valid backend was found. Refused by: capacity.")


def test_going_back_to_a_snapshot(sim: World) -> None:
    """The latest one only; the volume holds again what it held."""
    assert isinstance(sim.driver, SimVolumes)
    volume_id = sim.create()
    sim.driver.write(volume_id, "before")
    first = sim.snapshot(volume_id)
    second = sim.snapshot(volume_id)
    sim.driver.write(volume_id, "after")
    assert sim.action(volume_id, "revert", {"snapshot_id": first}).status == 400
    assert sim.action(volume_id, "revert", {"snapshot_id": second}).status == 202
    sim.until(volume_id, "available")
    assert sim.driver.read(volume_id) == "before"
    assert sim.action(volume_id, "revert", {"snapshot_id": second}, version="volume 3.39").status == 400


def test_reset_force_delete_and_retype(world: World) -> None:
    """For admins: another status, deletion whatever the status; a retype on the same back end is for members."""
    volume_id = world.create()
    assert world.admin.post(f"/v3/volumes/{volume_id}/action", {"os-reset_status": {"status": "error"}}).status == 202
    assert world.status(volume_id) == "error"
    assert (
        world.admin.post(f"/v3/volumes/{volume_id}/action", {"os-reset_status": {"status": "creating"}}).status == 202
    )
    assert world.api.delete(f"/v3/volumes/{volume_id}").status == 400
    assert world.action(volume_id, "os-force_delete").status == 403
    assert world.admin.post(f"/v3/volumes/{volume_id}/action", {"os-force_delete": None}).status == 202
    world.until(volume_id, None)
    volume_id = world.create()
    assert world.action(volume_id, "os-retype", {"new_type": "multiattach"}).status == 202
    assert world.api.get(f"/v3/volumes/{volume_id}").json["volume"]["multiattach"] is True
    assert world.action(volume_id, "os-retype", {"new_type": "nonsense"}).status == 404


def test_a_volume_in_use_stays(world: World) -> None:
    """DELETE is 400 while attached or with snapshots; cascade takes the snapshots along."""
    volume_id = world.create()
    attachment_id = world.attach(volume_id)
    assert world.api.delete(f"/v3/volumes/{volume_id}").status == 400
    world.door.delete_attachment(world.own, attachment_id)
    world.snapshot(volume_id)
    assert world.api.delete(f"/v3/volumes/{volume_id}").status == 400
    assert world.api.delete(f"/v3/volumes/{volume_id}?cascade=True").status == 202
    world.until(volume_id, None)
    assert world.driver.list() == ()
    assert world.api.get("/v3/snapshots").json["snapshots"] == []


def test_a_users_own_token_alone_reaches_the_image(world: World) -> None:
    """The image is asked for with the user's rights, the service's token beside them."""
    assert world.api.post("/v3/volumes", {"volume": {"size": 1, "imageRef": SERVER}}).status == 400
    assert world.images.seen[-1].token == "member"
    assert isinstance(world.images.seen[-1], Credentials)
