"""Volumes over the API: made, found, changed, deleted."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.http.harness import OTHER_PROJECT, PROJECT, ApiClient
from tests.http.volume_world import BACKEND, CONNECTOR, HOST, SERVER, World, conforms

from cumulet.core.errors import BadRequest, CloudError, ServerFault
from cumulet.volume.drivers.local import LocalVolumes
from cumulet.volume.drivers.sim import SimVolumes

IMAGE = "12121212-1212-4212-8212-121212121212"


@pytest.fixture(params=BACKEND)
def world(request: pytest.FixtureRequest, tmp_path: Path, database_url: str) -> Iterator[World]:
    """A service on each back end."""
    driver = SimVolumes() if request.param == "sim" else LocalVolumes(tmp_path / "volumes", host=HOST)
    there = World(tmp_path, driver, url=database_url)
    yield there
    there.close()


def test_a_volume_comes_and_goes(world: World) -> None:
    """POST answers 202 `creating`; then it is available on a back end; DELETE takes row and bytes."""
    answer = world.api.post(f"/v3/{PROJECT}/volumes", {"volume": {"size": 1, "name": "data", "metadata": {"a": "b"}}})
    assert answer.status == 202
    volume = answer.json["volume"]
    assert (volume["status"], volume["size"], volume["name"], volume["bootable"]) == ("creating", 1, "data", "false")
    world.until(volume["id"], "available")
    shown = world.admin.get(f"/v3/volumes/{volume['id']}").json["volume"]
    assert shown["os-vol-host-attr:host"] == f"{HOST}@local#local"
    assert world.api.delete(f"/v3/volumes/{volume['id']}").status == 202
    world.until(volume["id"], None)
    assert world.driver.list() == ()


def test_the_door_does_what_the_launch_needs(world: World) -> None:
    """create, list_marked, attach, connect, complete, delete: as the launch calls them."""
    volume = world.door.create(world.user, project_id=PROJECT, size_gb=1, metadata={"mark": "m1"})
    world.until(volume.id, "available")
    assert [v.id for v in world.door.list_marked(world.user, {"mark": "m1"})] == [volume.id]
    assert [v.id for v in world.door.list_marked(world.own, {"mark": "m1"})] == [volume.id]
    assert world.door.list_marked(world.own, {"mark": "other"}) == []
    attachment_id = world.door.create_attachment(world.user, volume_id=volume.id, server_id=SERVER)
    assert world.door.get(world.user, volume.id).status == "reserved"
    connection = world.door.connect(world.user, attachment_id, CONNECTOR, mountpoint="/dev/vdb")
    assert connection["data"]["volume_id"] == volume.id
    assert connection["driver_volume_type"] in {"local", "sim"}
    assert world.door.get(world.user, volume.id).status == "attaching"
    world.door.complete_attachment(world.user, attachment_id)
    there = world.door.get(world.user, volume.id)
    assert there.status == "in-use"
    assert (there.attachments[0]["server_id"], there.attachments[0]["device"]) == (SERVER, "/dev/vdb")
    assert [a.volume_id for a in world.door.attachments_of(world.own, server_id=SERVER)] == [volume.id]
    assert world.api.delete(f"/v3/volumes/{volume.id}").status == 400
    world.door.delete_attachment(world.own, attachment_id)
    world.door.delete_attachment(world.own, attachment_id)
    assert world.door.get(world.user, volume.id).status == "available"
    world.door.delete(world.own, volume.id)
    world.until(volume.id, None)


def test_the_door_attaches_in_one_call(world: World) -> None:
    """Reserved and connected at once; a volume that somebody has is refused, and what led nowhere leaves no attachment."""
    volume = world.door.create(world.user, project_id=PROJECT, size_gb=1)
    world.until(volume.id, "available")
    where = {"volume_id": volume.id, "server_id": SERVER, "mountpoint": "/dev/vdb"}
    with pytest.raises(BadRequest, match="names no host"):
        world.door.attach(world.user, {"ip": "10.0.0.1"}, **where)
    assert world.door.attachments_of(world.own, server_id=SERVER) == []
    if isinstance(world.driver, SimVolumes):  # its host was written down before it was asked, and is shut out again
        world.driver.fail("connection_info", ServerFault(), after=True)
        with pytest.raises(CloudError):
            world.door.attach(world.user, CONNECTOR, **where)
        assert world.door.attachments_of(world.own, server_id=SERVER) == []
    assert world.door.get(world.user, volume.id).status == "available"
    attachment_id, connection = world.door.attach(world.user, CONNECTOR, **where)
    assert (connection["attachment_id"], connection["data"]["volume_id"]) == (attachment_id, volume.id)
    assert connection == world.door.connect(world.user, attachment_id, CONNECTOR, mountpoint="/dev/vdb")
    assert world.door.get(world.user, volume.id).status == "attaching"
    with pytest.raises(BadRequest, match="must be available, downloading to reserve"):
        world.door.attach(world.user, CONNECTOR, volume_id=volume.id, server_id=IMAGE, mountpoint="/dev/vdc")
    world.door.complete_attachment(world.user, attachment_id)
    there = world.door.get(world.user, volume.id)
    assert (there.status, there.attachments[0]["device"], there.metadata["attached_mode"]) == (
        "in-use",
        "/dev/vdb",
        "rw",
    )
    world.door.delete_attachment(world.own, attachment_id)
    there = world.door.get(world.user, volume.id)
    assert (there.status, there.metadata) == ("available", {})


def test_a_service_makes_volumes_for_the_project_it_names(world: World) -> None:
    """After a restart only the service's token is left: the volume is the user's project's all the same."""
    volume = world.door.create(world.own, project_id=PROJECT, size_gb=1)
    assert volume.project_id == PROJECT
    assert world.api.get(f"/v3/volumes/{volume.id}").status == 200


def test_nobody_else_may_name_another_project(world: World) -> None:
    """A path with another project's id is malformed."""
    answer = world.api.get(f"/v3/{OTHER_PROJECT}/volumes")
    assert (answer.status, answer.json["badRequest"]["message"]) == (400, "Malformed request url")


def test_volumes_are_shown_as_the_reference_shows_them(world: World) -> None:
    """Create, show, list and detail answer in the shapes that tempest knows, in several versions."""
    body = {"volume": {"size": 1, "name": "shape", "description": "d", "metadata": {"k": "v"}}}
    volume = conforms(world.api.post("/v3/volumes", body, version="volume 3.0"), "volumes", "create_volume")["volume"]
    world.until(volume["id"], "available")
    for caller in (world.api, world.admin):
        for version, module in (
            ("3.0", "volumes"),
            ("3.61", "v3_61.volumes"),
            ("3.65", "v3_65.volumes"),
            ("3.69", "v3_69.volumes"),
        ):
            asked = {"version": f"volume {version}"}
            conforms(caller.get(f"/v3/volumes/{volume['id']}", **asked), module, "show_volume")
            conforms(caller.get("/v3/volumes/detail?all_tenants=1", **asked), module, "list_volumes_with_detail")
            conforms(caller.get("/v3/volumes?all_tenants=1", **asked), module, "list_volumes_no_detail")
    world.attach(volume["id"])
    conforms(world.api.get(f"/v3/volumes/{volume['id']}", version="volume 3.0"), "volumes", "show_volume")
    changed = {"volume": {"name": "other"}}
    shown = conforms(
        world.api.put(f"/v3/volumes/{volume['id']}", changed, version="volume 3.0"), "volumes", "update_volume"
    )
    assert shown["volume"]["name"] == "other"
    conforms(world.api.get("/v3/volumes/summary", version="volume 3.12"), "volumes", "show_volume_summary")


def test_other_projects_and_readers(world: World) -> None:
    """What is another project's is not found; a reader reads and does not write."""
    volume_id = world.create()
    where = f"/v3/volumes/{volume_id}"
    for method in ("GET", "DELETE"):
        assert world.api(method, where, token="other").status == 404
    assert world.api.get("/v3/volumes/detail", token="other").json["volumes"] == []
    assert world.api.get("/v3/volumes/detail?all_tenants=1", token="other").json["volumes"] == []
    assert world.api.get(where, token="reader").status == 200
    assert world.api.delete(where, token="reader").status == 403
    assert world.api.post("/v3/volumes", {"volume": {"size": 1}}, token="reader").status == 403
    assert world.action(volume_id, "os-extend", {"new_size": 2}, token="other").status == 404
    assert world.action(volume_id, "os-reset_status", {"status": "error"}).status == 403
    assert len(world.admin.get("/v3/volumes?all_tenants=1").json["volumes"]) == 1


@pytest.mark.parametrize("size", [0, -1, "", "0", None, "#$%", 1.5])
def test_a_size_that_is_none_is_refused(world: World, size: object) -> None:
    """Sizes are whole GiB above 0."""
    assert world.api.post("/v3/volumes", {"volume": {"size": size}}).status == 400


@pytest.mark.parametrize(
    ("source", "status"),
    [
        ({"snapshot_id": SERVER}, 404),
        ({"source_volid": SERVER}, 404),
        ({"volume_type": SERVER}, 404),
        ({"imageRef": SERVER}, 400),
    ],
)
def test_a_source_that_is_not_there(world: World, source: dict[str, str], status: int) -> None:
    """What a volume is to be made from must be there, before anything is written."""
    assert world.api.post("/v3/volumes", {"volume": {"size": 1, **source}}).status == status
    assert world.api.get("/v3/volumes").json["volumes"] == []


@pytest.mark.parametrize(
    "path", ["/v3/volumes/", f"/v3/{PROJECT}/volumes/", "/v3/volumes/xx-no-such", f"/v3/volumes/{SERVER}"]
)
def test_a_volume_without_or_with_a_wrong_id(world: World, path: str) -> None:
    """All of these are 404, whatever the method."""
    for method in ("GET", "DELETE"):
        assert world.api(method, path).status == 404
    assert world.api.put(path, {"volume": {"name": "x"}}).status == 404


def test_a_volume_from_an_image(world: World, tmp_path: Path) -> None:
    """It has the image's bytes, is bootable, and carries the image's metadata; the location came with a service token."""
    path = tmp_path / "image.raw"
    path.write_bytes(b"boot" + bytes(1 << 20))
    world.images.add(IMAGE, path)
    volume_id = world.create(imageRef=IMAGE)
    shown = world.api.get(f"/v3/volumes/{volume_id}").json["volume"]
    assert shown["bootable"] == "true"
    assert (shown["volume_image_metadata"]["image_id"], shown["volume_image_metadata"]["os_distro"]) == (IMAGE, "plain")
    copy = world.create(source_volid=volume_id, size=2)
    shown = world.api.get(f"/v3/volumes/{copy}").json["volume"]
    assert (shown["size"], shown["bootable"], shown["source_volid"]) == (2, "true", volume_id)
    world.images.add(IMAGE, path, min_disk=5)
    assert world.api.post("/v3/volumes", {"volume": {"size": 1, "imageRef": IMAGE}}).status == 400


def test_lists_filter_sort_and_page(world: World) -> None:
    """By name, status, metadata; in order; page by page with a link to the next."""
    ids = [world.create(name=f"v{n}", metadata={"n": str(n), "all": "1"}) for n in range(4)]
    get = world.api.get
    assert [v["name"] for v in get("/v3/volumes?sort=name:asc").json["volumes"]] == ["v0", "v1", "v2", "v3"]
    assert [v["id"] for v in get("/v3/volumes?name=v2").json["volumes"]] == [ids[2]]
    assert [v["id"] for v in get("/v3/volumes?metadata=%7B%27n%27%3A+%271%27%7D").json["volumes"]] == [ids[1]]
    assert get("/v3/volumes?status=nonsense").json["volumes"] == []
    assert len(get("/v3/volumes?status=available&availability_zone=nova").json["volumes"]) == 4
    first = get("/v3/volumes/detail?limit=3&sort=name:asc&with_count=1")
    assert (len(first.json["volumes"]), first.json["count"]) == (3, 4)
    rest = get(first.json["volumes_links"][0]["href"].partition("/volume")[2])
    assert [v["name"] for v in rest.json["volumes"]] == ["v3"]
    assert "volumes_links" not in rest.json
    for bad in ("limit=-1", "limit=x", "sort=colour", "marker=nowhere", "sort_key=name&sort=name"):
        assert get(f"/v3/volumes?{bad}").status == 400, bad


def test_metadata_is_kept(world: World) -> None:
    """Added, replaced, one by one, in tempest's shapes."""
    where = f"/v3/volumes/{world.create()}/metadata"
    conforms(world.api.post(where, {"metadata": {"a": "1", "b": "2"}}), "volumes", "create_volume_metadata")
    assert world.api.get(where).json["metadata"] == {"a": "1", "b": "2"}
    assert world.api.put(where, {"metadata": {"c": "3"}}).json["metadata"] == {"c": "3"}
    conforms(world.api.put(f"{where}/c", {"meta": {"c": "4"}}), "volumes", "update_volume_metadata_item")
    assert world.api.get(f"{where}/c").json["meta"] == {"c": "4"}
    assert world.api.put(f"{where}/c", {"meta": {"d": "4"}}).status == 400
    assert world.api.delete(f"{where}/c").status == 200
    assert world.api.get(f"{where}/c").status == 404
    assert world.api.put(where, {"metadata": {"x": "y" * 256}}).status == 400


def test_version_documents_are_open_and_versions_are_judged(world: World) -> None:
    """300 at the root and 200 at /v3 without a token; 406 beyond the range."""
    assert world.api.get("/", token=None).status == 300
    nobody = ApiClient(world.app, None, base_url="http://cloud.test/volume")
    assert nobody.get("/").status == 300
    assert nobody.get("/v3").json["versions"][0]["version"] == "3.70"
    assert nobody.get("/v3/volumes").status == 401
    assert world.api.get("/v3/volumes", version="volume 3.99").status == 406
    assert world.api.get("/v3/volumes", version="volume 3.27").headers["openstack-api-version"] == "volume 3.27"
