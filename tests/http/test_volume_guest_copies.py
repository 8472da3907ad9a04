"""What is made of volumes that servers have, with a compute service on paper: who is asked for what, and what a refusal leaves."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.http.volume_world import HOST, SERVER, World

from cumulet.compute.door import VolumeCopyInfo
from cumulet.core.errors import NotFound, ServerFault
from cumulet.core.web.client import Credentials
from cumulet.volume.drivers.sim import SimVolumes

OTHER_SERVER = "88888888-8888-4888-8888-888888888888"


class PaperCompute:
    """`ComputeDoor` on paper.  `answer` decides how a copy ends; until then it is being made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[tuple[str, str, str]] = []
        self.stopped: list[str] = []
        self.copies: dict[str, VolumeCopyInfo] = {}
        self.files: dict[str, Path] = {}
        self.answer: str | None = "done"

    def copy_volume(self, credentials: Credentials, server_id: str, copy_id: str, *, volume_id: str, file: str) -> None:
        assert credentials.service_token == "service"
        self.files[copy_id] = self.folder / file
        self.files[copy_id].touch()
        self.copies[copy_id] = VolumeCopyInfo(status="copying", message="")
        if self.answer is not None:
            self.end(copy_id, self.answer)
        self.asked.append((server_id, copy_id, volume_id))  # last: whoever sees it may end the copying

    def end(self, copy_id: str, status: str, message: str = "The guest said no.") -> None:
        self.copies[copy_id] = VolumeCopyInfo(status=status, message=message if status == "failed" else "")

    def volume_copy(self, credentials: Credentials, server_id: str, copy_id: str) -> VolumeCopyInfo | None:
        return self.copies.get(copy_id)

    def stop_copying_volume(self, credentials: Credentials, server_id: str, copy_id: str) -> None:
        if copy_id not in self.copies:
            raise NotFound
        self.stopped.append(copy_id)
        self.files[copy_id].unlink(missing_ok=True)
        if self.copies[copy_id].status == "copying":
            self.end(copy_id, "failed")


@pytest.fixture
def compute(tmp_path: Path) -> PaperCompute:
    """It writes where the simulated back end looks."""
    return PaperCompute(tmp_path / "volumes")


@pytest.fixture
def world(tmp_path: Path, compute: PaperCompute) -> Iterator[World]:
    """A volume service that reaches it."""
    there = World(tmp_path, SimVolumes(folder=tmp_path / "volumes"), compute=lambda: compute)
    yield there
    there.close()


def left(world: World, compute: PaperCompute) -> set[str | None]:
    """Owners of what the back end has; and no copy of anything."""
    assert not list(compute.folder.glob("*.copy"))
    return {item.owner_id for item in world.driver.list()}


def test_compute_is_asked_once_for_a_snapshot_in_use(world: World, compute: PaperCompute) -> None:
    """By the server that has the volume and the snapshot's id; the snapshot is what the volume was, and the copy is gone."""
    volume_id = world.create()
    world.attach(volume_id)
    snapshot_id = world.snapshot(volume_id)
    assert compute.asked == [(SERVER, snapshot_id, volume_id)]
    assert left(world, compute) == {volume_id, snapshot_id}
    assert world.status(volume_id) == "in-use"


def test_a_volume_in_use_can_be_the_source_of_another(world: World, compute: PaperCompute) -> None:
    """The new volume is larger if asked, and knows its source."""
    source = world.create()
    world.attach(source)
    made = world.create(2, source_volid=source)
    assert compute.asked == [(SERVER, made, source)]
    assert world.api.get(f"/v3/volumes/{made}").json["volume"]["source_volid"] == source
    assert left(world, compute) == {source, made}


def test_an_image_of_a_volume_in_use_wants_force(world: World, compute: PaperCompute) -> None:
    """400 without it; with it the image has the copy's bytes, and the volume is in use again."""
    volume_id = world.create()
    world.attach(volume_id)
    asked = {"image_name": "made", "disk_format": "raw"}
    assert world.action(volume_id, "os-volume_upload_image", asked).status == 400
    shown = world.action(volume_id, "os-volume_upload_image", {**asked, "force": True}).json["os-volume_upload_image"]
    world.until(volume_id, "in-use")
    assert compute.asked == [(SERVER, shown["image_id"], volume_id)]
    assert world.images.images[shown["image_id"]].status == "active"
    assert left(world, compute) == {volume_id}


def test_word_of_the_end_wakes_who_waits(world: World, compute: PaperCompute) -> None:
    """Until then the snapshot is being made, and nobody asks again and again."""
    compute.answer = None
    volume_id = world.create()
    world.attach(volume_id)
    body = {"snapshot": {"volume_id": volume_id}}
    snapshot_id = world.api.post("/v3/snapshots", body).json["snapshot"]["id"]
    world.wait_for(lambda: compute.asked)
    where = f"/v3/snapshots/{snapshot_id}"
    assert world.api.get(where).json["snapshot"]["status"] == "creating"
    compute.end(snapshot_id, "done")
    world.worker.signal(("copy", snapshot_id))
    world.wait_for(lambda: world.api.get(where).json["snapshot"]["status"] == "available")


@pytest.mark.parametrize("made", ["snapshot", "volume", "image"])
def test_a_copy_that_fails_leaves_nothing(world: World, compute: PaperCompute, made: str) -> None:
    """The owner is told why, the volume stays in use, and neither copy nor image is left."""
    compute.answer = "failed"
    volume_id = world.create()
    world.attach(volume_id)
    if made == "snapshot":
        answer = world.api.post("/v3/snapshots", {"snapshot": {"volume_id": volume_id}})
        where = f"/v3/snapshots/{answer.json['snapshot']['id']}"
        world.wait_for(lambda: world.api.get(where).json["snapshot"]["status"] == "error")
    elif made == "volume":
        answer = world.api.post("/v3/volumes", {"volume": {"size": 1, "source_volid": volume_id}})
        world.until(answer.json["volume"]["id"], "error")
    else:
        asked = {"image_name": "made", "disk_format": "raw", "force": True}
        assert world.action(volume_id, "os-volume_upload_image", asked).status == 202
        world.wait_for(lambda: not world.images.images)
    world.until(volume_id, "in-use")
    assert world.api.get("/v3/messages").json["messages"][0]["user_message"].endswith("The guest said no.")
    assert left(world, compute) == {volume_id}


def test_what_fails_after_the_copy_takes_it_along(world: World, compute: PaperCompute) -> None:
    """The copy was made and the back end could not keep it: compute is told, and the file is gone."""
    assert isinstance(world.driver, SimVolumes)
    volume_id = world.create()
    world.attach(volume_id)
    world.driver.fail("create_snapshot", ServerFault(), after=True)
    answer = world.api.post("/v3/snapshots", {"snapshot": {"volume_id": volume_id}})
    where = f"/v3/snapshots/{answer.json['snapshot']['id']}"
    world.wait_for(lambda: world.api.get(where).json["snapshot"]["status"] == "error")
    assert compute.stopped == [answer.json["snapshot"]["id"]]
    assert left(world, compute) == {volume_id}


def test_a_copy_that_vanished_is_missed(world: World, compute: PaperCompute) -> None:
    """A back end makes nothing of a copy that is not there."""
    ended: Callable[[str, str], None] = compute.end

    def end_without(copy_id: str, status: str) -> None:
        compute.files[copy_id].unlink()
        ended(copy_id, status)

    compute.end = end_without  # type: ignore[method-assign,assignment]  # what a careless operator does
    volume_id = world.create()
    world.attach(volume_id)
    answer = world.api.post("/v3/snapshots", {"snapshot": {"volume_id": volume_id}})
    where = f"/v3/snapshots/{answer.json['snapshot']['id']}"
    world.wait_for(lambda: world.api.get(where).json["snapshot"]["status"] == "error")
    assert left(world, compute) == {volume_id}


def test_a_volume_of_several_servers_is_not_copied(world: World, compute: PaperCompute) -> None:
    """400: one hypervisor does not know what the others write.  Nor is one that only a host has."""
    shared = world.create(volume_type="multiattach")
    for server_id in (SERVER, OTHER_SERVER):
        world.attach(shared, server_id)
    hosts = world.create()
    body = {"host_name": HOST, "mountpoint": "/dev/vdc"}
    assert world.action(hosts, "os-attach", body).status == 202
    for volume_id in (shared, hosts):
        assert world.api.post("/v3/snapshots", {"snapshot": {"volume_id": volume_id}}).status == 400
        assert world.api.post("/v3/volumes", {"volume": {"size": 1, "source_volid": volume_id}}).status == 400
        asked = {"image_name": "made", "disk_format": "raw", "force": True}
        assert world.action(volume_id, "os-volume_upload_image", asked).status == 400
    assert (compute.asked, world.images.images) == ([], {})
    assert world.api.get("/v3/snapshots").json["snapshots"] == []
    assert {world.status(shared), world.status(hosts)} == {"in-use"}


def test_a_free_volume_is_nobodys_business(world: World, compute: PaperCompute) -> None:
    """The volume host reads it by itself, as ever."""
    volume_id = world.create()
    world.snapshot(volume_id)
    assert compute.asked == []
