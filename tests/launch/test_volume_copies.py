"""What is made of volumes that servers have: snapshots, clones, and images of servers that boot from a volume."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.launch.world import TIMEOUT_S, VERSION, World

from cumulet.dev.cloud import Refused, RunningCloud, Session

pytestmark = pytest.mark.xdist_group("launch")

NEW = {"OpenStack_API_Version": "volume 3.66"}
OLD = {"OpenStack_API_Version": "volume 3.0"}


@pytest.fixture(autouse=True)
def tidy(world: World) -> Iterator[None]:
    """Whatever a test kept goes at its end: snapshots first, then the volumes that stayed because of them."""
    yield
    for kind in ("snapshot", "volume"):
        drop(world, kind, *(one["id"] for one in world.member.get("block-storage", f"/{kind}s")[f"{kind}s"]))


def from_volume(world: World, **more: Any) -> dict[str, Any]:
    """A launch request that boots from a new volume, with a second one."""
    root = {
        "boot_index": 0,
        "uuid": world.image,
        "source_type": "image",
        "destination_type": "volume",
        "volume_size": 2,
    }
    data = {"boot_index": -1, "source_type": "blank", "destination_type": "volume", "volume_size": 1}
    devices = [one | {"delete_on_termination": True} for one in (root, data)]
    body = world.body(block_device_mapping_v2=devices, **more)
    del body["server"]["imageRef"]
    return body


def volumes_of(world: World, server_id: str) -> list[str]:
    """Ids of the volumes that a server has."""
    attached = world.member.get("compute", f"/servers/{server_id}/os-volume_attachments")["volumeAttachments"]
    return [one["volumeId"] for one in attached]


def reach(session: Session, kind: str, id: str, *statuses: str) -> dict[str, Any]:
    """A volume or a snapshot once it has one of these statuses."""

    def look() -> dict[str, Any] | None:
        shown: dict[str, Any] = session.get("block-storage", f"/{kind}s/{id}")[kind]
        return shown if shown["status"] in statuses else None

    return World.wait_for(look, f"{kind} {id} to be {' or '.join(statuses)}")


def drop(world: World, kind: str, *ids: str) -> None:
    """Delete volumes or snapshots and wait until they are gone."""
    for id in ids:
        with suppress(Refused):  # going already
            world.member.delete("block-storage", f"/{kind}s/{id}")
    world.wait_for(
        lambda: not {one["id"] for one in world.member.get("block-storage", f"/{kind}s")[f"{kind}s"]} & {*ids},
        f"{kind}s to go",
    )


def image_of(world: World, server_id: str, name: str = "kept") -> str:
    """Ask for an image of a server; its id."""
    asked = {"createImage": {"name": name, "metadata": {"colour": "blue"}}}
    made = world.member.post("compute", f"/servers/{server_id}/action", asked, **VERSION)
    return str(made["image_id"])


def active_image(world: World, image_id: str) -> dict[str, Any]:
    """An image once it is active."""

    def look() -> dict[str, Any] | None:
        shown: dict[str, Any] = world.member.get("image", f"/v2/images/{image_id}")
        return shown if shown["status"] == "active" else None

    return world.wait_for(look, f"image {image_id} to be active")


def stop(world: World, server_id: str) -> None:
    """Have a server off and idle."""
    world.act(server_id, {"os-stop": None})
    world.wait_for(lambda: world.server(server_id)["status"] == "SHUTOFF", "the server to stop")
    world.settled(server_id)


@pytest.mark.parametrize("running", [True, False])
def test_an_attached_volume_is_kept_and_cloned(world: World, running: bool) -> None:
    """With force, and from 3.66 on without it, a volume in use is snapshot; a new volume is made of one in use; the server's log of
    actions has no word of the copies, and the volume stays in use."""
    with world.launched(world.with_volume()) as server_id:
        if not running:
            stop(world, server_id)
        (volume_id,) = volumes_of(world, server_id)
        actions = world.member.get("compute", f"/servers/{server_id}/os-instance-actions")["instanceActions"]
        asked = {"snapshot": {"volume_id": volume_id}}
        with pytest.raises(Refused) as refused:
            world.member.post("block-storage", "/snapshots", asked, **OLD)
        assert refused.value.status == 400
        forced = {"snapshot": {"volume_id": volume_id, "force": True}}
        kept = [
            world.member.post("block-storage", "/snapshots", body, **version)["snapshot"]["id"]
            for body, version in ((forced, OLD), (asked, NEW))
        ]
        clone = world.member.post("block-storage", "/volumes", {"volume": {"source_volid": volume_id}})["volume"]["id"]
        for snapshot_id in kept:
            reach(world.member, "snapshot", snapshot_id, "available")
        assert reach(world.member, "volume", clone, "available")["size"] == 1
        assert reach(world.member, "volume", volume_id, "in-use")
        assert world.leaks() == []
        assert actions == world.member.get("compute", f"/servers/{server_id}/os-instance-actions")["instanceActions"]


@pytest.mark.parametrize("running", [True, False])
def test_an_image_of_a_server_on_volumes_names_their_snapshots(world: World, running: bool) -> None:
    """The image has no byte; its mapping names a snapshot of each volume, all of them available; the server goes through the states of
    an image and is what it was."""
    with world.launched(from_volume(world)) as server_id:
        if not running:
            stop(world, server_id)
        before = world.server(server_id)
        image_id = image_of(world, server_id)
        seen = [world.server(server_id)["OS-EXT-STS:task_state"]]
        image = active_image(world, image_id)
        assert world.settled(server_id)["status"] == before["status"]
        assert set(seen) <= {"image_snapshot", "image_pending_upload", "image_uploading", None}
        assert (image["size"], image["bdm_v2"], image["root_device_name"]) == (0, "True", "/dev/vda")
        assert (image["colour"], image["container_format"], image["visibility"]) == ("blue", "bare", "private")
        mapping = json.loads(image["block_device_mapping"])
        assert [(one["source_type"], one["destination_type"]) for one in mapping] == [("snapshot", "volume")] * 2
        assert [one["boot_index"] for one in mapping] == [0, -1]
        assert [one["device_name"] for one in mapping] == ["/dev/vda", "/dev/vdb"]
        snapshots = [reach(world.member, "snapshot", one["snapshot_id"], "available") for one in mapping]
        assert [one["volume_id"] for one in snapshots] == volumes_of(world, server_id)
        assert {one["name"] for one in snapshots} == {"snapshot for kept"}
        assert [event["event"] for event in world.events(server_id, "createImage")] == [
            "own_image",
            "snapshot_volumes",
            "write_image",
        ]
        world.member.delete("image", f"/v2/images/{image_id}")
        for one in snapshots:
            assert reach(world.member, "snapshot", one["id"], "available")


@pytest.mark.parametrize("asked", ["image", "image as boot device", "volume"])
def test_a_server_is_booted_from_such_an_image(world: World, asked: str) -> None:
    """Named as the server's image, or as the source of its boot volume, the image's own disks are what the server gets; a volume made
    of the image is made of the boot disk's snapshot."""
    with world.launched(from_volume(world)) as server_id:
        image_id = image_of(world, server_id)
        mapping = json.loads(active_image(world, image_id)["block_device_mapping"])
        world.settled(server_id)
    snapshots = {one["snapshot_id"] for one in mapping}
    if asked == "volume":
        body = {"volume": {"imageRef": image_id, "size": 2}}
        made = world.member.post("block-storage", "/volumes", body)["volume"]["id"]
        assert reach(world.member, "volume", made, "available")["snapshot_id"] == mapping[0]["snapshot_id"]
    else:
        body = world.body(imageRef=image_id)
        boot = {"boot_index": 0, "uuid": image_id, "source_type": "image", "destination_type": "local"}
        if asked == "image as boot device":
            body["server"]["block_device_mapping_v2"] = [boot]
        with world.launched(body) as booted:
            shown = world.server(booted)
            assert (shown["status"], shown["image"]) == ("ACTIVE", "")
            volumes = [reach(world.member, "volume", id, "in-use") for id in volumes_of(world, booted)]
            assert {volume["snapshot_id"] for volume in volumes} == snapshots
            assert {volume["attachments"][0]["device"] for volume in volumes} == {"/dev/vda", "/dev/vdb"}
    world.member.delete("image", f"/v2/images/{image_id}")


@pytest.mark.parametrize(
    "mapping",
    [None, "[", '{"a": 1}', '[{"boot_index": "x"}]', '[{"source_type": "snapshot", "snapshot_id": "../x"}]'],
    ids=["none", "no-json", "no-list", "no-number", "no-id"],
)
def test_a_mapping_that_is_none_is_refused(world: World, mapping: str | None) -> None:
    """The property is anybody's text: what is no mapping is 400, and so is an image without a byte or a mapping."""
    body = {"name": "odd", "disk_format": "raw", "container_format": "bare"}
    if mapping is not None:
        body["block_device_mapping"] = mapping
    image_id = world.member.post("image", "/v2/images", body)["id"]
    try:
        world.member.ask("PUT", "image", f"/v2/images/{image_id}/file", Content_Type="application/octet-stream")
        with pytest.raises(Refused) as refused:
            world.post(world.body(imageRef=image_id))
        assert refused.value.status == 400
    finally:
        world.member.delete("image", f"/v2/images/{image_id}")


@contextmanager
def quota(world: World, server_id: str, **limits: int) -> Iterator[None]:
    """The project of a server with other quotas of the volume service."""
    project = world.server(server_id)["tenant_id"]
    before = world.admin.get("block-storage", f"/os-quota-sets/{project}")["quota_set"]
    world.admin.ask("PUT", "block-storage", f"/os-quota-sets/{project}", {"quota_set": limits})
    try:
        yield
    finally:
        back = {name: before[name] for name in limits}
        world.admin.ask("PUT", "block-storage", f"/os-quota-sets/{project}", {"quota_set": back})


def test_a_project_without_room_for_the_snapshots_gets_no_image(world: World) -> None:
    """403 at once, before anything is made."""
    with world.launched(from_volume(world)) as server_id:
        images = world.member.get("image", "/v2/images")["images"]
        with quota(world, server_id, snapshots=1), pytest.raises(Refused) as refused:
            image_of(world, server_id)
        assert refused.value.status == 403
        assert world.member.get("image", "/v2/images")["images"] == images
        assert world.member.get("block-storage", "/snapshots")["snapshots"] == []


def test_a_snapshot_that_fails_takes_the_image_along(world: World) -> None:
    """Room for the snapshots' number and not for their size: neither image nor snapshot stays, and the server is idle again."""
    with world.launched(from_volume(world)) as server_id:
        with quota(world, server_id, gigabytes=4):
            image_id = image_of(world, server_id)
            world.settled(server_id)
        with pytest.raises(Refused) as refused:
            world.member.get("image", f"/v2/images/{image_id}")
        assert refused.value.status == 404
        world.wait_for(lambda: not world.member.get("block-storage", "/snapshots")["snapshots"], "the snapshots to go")


def test_a_volume_with_a_snapshot_outlives_its_server(world: World) -> None:
    """A disk that is to go with its server stays when its owner has kept a snapshot of it, and the server goes all the same."""
    with world.launched(world.with_volume()) as server_id:
        (volume_id,) = volumes_of(world, server_id)
        kept = world.member.post("block-storage", "/snapshots", {"snapshot": {"volume_id": volume_id}}, **NEW)
        reach(world.member, "snapshot", kept["snapshot"]["id"], "available")
    assert reach(world.member, "volume", volume_id, "available")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "of_guest"),
    [
        ("snapshot_create_of_guest.copy.before", True),
        ("volume_copy.copy_volume.before", True),
        ("volume_copy.copy_volume.after", True),
        ("snapshot_create_of_guest.keep.before", True),
        ("snapshot_create_of_guest.keep.after", True),
        ("volume_snapshots.snapshot_volumes.before", False),
        ("volume_snapshots.snapshot_volumes.after", False),
        ("volume_snapshots.write_image.before", False),
        ("volume_snapshots.write_image.after", False),
    ],
)
def test_what_is_killed_is_finished_by_the_next_start(tmp_path: Path, moment: str, of_guest: bool) -> None:
    """A cloud that dies anywhere on the way ends it when it is started again: the snapshot or the image is there, once, and no copy is."""
    arguments = ["--sim", "--bcrypt-rounds", "4"]
    with RunningCloud(tmp_path, [*arguments, "--failpoint", moment], quiet=True) as cloud, World(cloud) as world:
        server_id = world.post(from_volume(world))
        world.settled(server_id)
        volume_id = volumes_of(world, server_id)[0]
        with suppress(httpx.TransportError):  # it may be killed while it answers
            if of_guest:
                body = {"snapshot": {"volume_id": volume_id, "force": True}}
                world.member.post("block-storage", "/snapshots", body)
            else:
                image_of(world, server_id)
        assert cloud.wait_until_killed(TIMEOUT_S)
    with RunningCloud(tmp_path, arguments, quiet=True) as cloud, cloud.session("cumulet") as member:
        wanted = 1 if of_guest else 2
        looked = "/snapshots?status=available"
        World.wait_for(lambda: len(member.get("block-storage", looked)["snapshots"]) == wanted, "the snapshots")
        if not of_guest:
            World.wait_for(
                lambda: [one["status"] for one in member.get("image", "/v2/images?name=kept")["images"]] == ["active"],
                "the image",
            )
        assert len(member.get("block-storage", "/snapshots")["snapshots"]) == wanted
        assert not list(tmp_path.rglob("*.copy"))
        with cloud.session("cumulet-admin") as admin:
            assert admin.operator("/check")["leaks"] == []
