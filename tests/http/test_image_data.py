"""The bytes of images over HTTP: what comes in, what is refused, and that a failure leaves nothing."""

import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.http.harness import ApiClient
from tests.http.image_cloud import STREAM, Chunks, ImageCloud
from tests.unit import disk_images

from cumulet.core.errors import Conflict, NotFound
from cumulet.core.web import Request
from cumulet.core.web.client import Credentials
from cumulet.core.web.http import FileBody

MIB = 1 << 20
SERVICE = Credentials(token="member", service_token="service")
PLAIN = Credentials(token="member")


@pytest.fixture
def cloud(tmp_path: Path, database_url: str) -> Iterator[ImageCloud]:
    """A service of its own."""
    cloud = ImageCloud(tmp_path, database_url, size_max=8 * MIB, virtual_size_max=64 * MIB)
    yield cloud
    cloud.db.close()


def test_an_upload_is_hashed_and_comes_back_the_same(cloud: ImageCloud) -> None:
    """An image goes from queued to active with sizes and both digests of its bytes, which are served again."""
    content = disk_images.noise(3 * MIB + 17)
    image_id = cloud.create()
    assert cloud.member.get(f"/v2/images/{image_id}/file").status == 204
    assert cloud.stream(image_id, Chunks(content[:100], content[100 : 2 * MIB], content[2 * MIB :])) == 204
    image = cloud.member.get(f"/v2/images/{image_id}").json
    assert (image["status"], image["size"], image["virtual_size"]) == ("active", len(content), len(content))
    assert image["checksum"] == hashlib.md5(content, usedforsecurity=False).hexdigest()
    assert (image["os_hash_algo"], image["os_hash_value"]) == ("sha512", hashlib.sha512(content).hexdigest())
    answer = cloud.member.get(f"/v2/images/{image_id}/file")
    assert (answer.status, answer.headers["content-md5"]) == (200, image["checksum"])
    assert (cloud.folder / image_id).read_bytes() == content
    assert cloud.left() == [image_id]


@pytest.mark.parametrize(
    ("disk_format", "content"),
    [
        ("qcow2", disk_images.qcow2(backing=b"/etc/passwd")),
        ("raw", disk_images.qcow2()),
        ("qcow2", b"no image at all" * 5000),
        ("vmdk", disk_images.qcow2()),
        ("qcow2", disk_images.qcow2(size=1 << 50)),
        ("qcow2", b""),
    ],
    ids=["backing-file", "qcow2-as-raw", "noise-as-qcow2", "qcow2-as-vmdk", "virtual-size", "empty"],
)
def test_a_hostile_upload_is_refused_and_leaves_nothing(cloud: ImageCloud, disk_format: str, content: bytes) -> None:
    """What the gate refuses is 4xx, the image is queued again, no file stays, and other bytes may come."""
    image_id = cloud.create(disk_format=disk_format)
    assert cloud.put(image_id, content) in {413, 415}
    image = cloud.member.get(f"/v2/images/{image_id}").json
    assert (image["status"], image["size"], image["checksum"]) == ("queued", None, None)
    assert cloud.left() == []
    assert cloud.patch(image_id, {"op": "replace", "path": "/disk_format", "value": "raw"}) == 200
    assert cloud.put(image_id, b"good") == 204


def test_an_upload_that_breaks_off_leaves_nothing(cloud: ImageCloud) -> None:
    """The sender going away midway is a 400, the image is queued, no file stays."""
    image_id = cloud.create()
    assert cloud.stream(image_id, Chunks(bytes(2 * MIB), then=ConnectionError("gone"))) == 400
    assert cloud.status(image_id) == "queued"
    assert cloud.left() == []


@pytest.mark.parametrize("declared", [True, False])
def test_an_upload_beyond_the_limit_is_refused(cloud: ImageCloud, declared: bool) -> None:
    """More bytes than allowed are 413, whether their number was told before or not."""
    image_id = cloud.create()
    headers = {**STREAM, "x-auth-token": "member", **({"content-length": str(9 * MIB)} if declared else {})}
    body = Chunks(*[bytes(MIB)] * 9)
    assert cloud.app.handle(Request("PUT", f"/v2/images/{image_id}/file", headers=headers, stream=body)).status == 413
    assert (cloud.status(image_id), cloud.left()) == ("queued", [])


def test_a_full_disk_is_told_and_leaves_nothing(cloud: ImageCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """No space left: 413 that says so, the image queued, no file."""

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    image_id = cloud.create()
    monkeypatch.setattr(os, "fsync", full)
    answer = cloud.member.put(f"/v2/images/{image_id}/file", body=b"x", headers=dict(STREAM))
    assert answer.status == 413
    assert b"full" in answer.content
    assert (cloud.status(image_id), cloud.left()) == ("queued", [])


def test_a_failure_nobody_expected_leaves_nothing(cloud: ImageCloud) -> None:
    """An error of ours during an upload is 500, and the image is queued all the same."""
    image_id = cloud.create()
    assert cloud.stream(image_id, Chunks(b"x", then=RuntimeError("a defect"))) == 500
    assert (cloud.status(image_id), cloud.left()) == ("queued", [])


def test_data_comes_once(cloud: ImageCloud) -> None:
    """A second upload is 409 and changes nothing; one before the formats are set is 400; other types are 415."""
    image_id = cloud.active(b"first")
    assert cloud.put(image_id, b"second") == 409
    assert (cloud.folder / image_id).read_bytes() == b"first"
    bare = cloud.member.post("/v2/images", {"name": "no formats"}).json["id"]
    assert cloud.put(bare, b"x") == 400
    assert cloud.member.put(f"/v2/images/{cloud.create()}/file", {"a": 1}).status == 415


def test_an_image_deleted_while_it_uploads_leaves_nothing(cloud: ImageCloud) -> None:
    """The upload ends in 410; neither the row nor a file is there."""
    image_id = cloud.create()

    class DeletedMidway(Chunks):
        def chunks(self) -> Iterator[bytes]:
            yield b"some"
            assert cloud.member.delete(f"/v2/images/{image_id}").status == 204
            yield b"more"

    assert cloud.stream(image_id, DeletedMidway()) == 410
    assert cloud.member.get(f"/v2/images/{image_id}").status == 404
    assert cloud.left() == []


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("bytes=0-3", (0, 4, "bytes 0-3/10")),
        ("bytes=4-", (4, 6, "bytes 4-9/10")),
        ("bytes=-3", (7, 3, "bytes 7-9/10")),
        ("bytes=8-99", (8, 2, "bytes 8-9/10")),
        ("bytes=-99", (0, 10, "bytes 0-9/10")),
    ],
)
def test_a_range_is_served(cloud: ImageCloud, wanted: str, expected: tuple[int, int, str]) -> None:
    """One range of bytes is 206, with the part of the file and where it stands."""
    image_id = cloud.active(b"0123456789")
    headers = {"x-auth-token": "member", "range": wanted}
    response = cloud.app.handle(Request("GET", f"/v2/images/{image_id}/file", headers=headers))
    assert isinstance(response.body, FileBody)
    assert (response.status, response.headers["Content-Range"]) == (206, expected[2])
    assert (response.body.offset, response.body.length) == expected[:2]


@pytest.mark.parametrize("wanted", ["bytes=10-", "bytes=5-2", "bytes=-0", "bytes=-", "bytes=0-1,3-4", "lines=1-2"])
def test_a_range_outside_is_416(cloud: ImageCloud, wanted: str) -> None:
    """What cannot be served is 416 and says how large the image is."""
    answer = cloud.member.get(f"/v2/images/{cloud.active(b'0123456789')}/file", headers={"range": wanted})
    assert (answer.status, answer.headers["content-range"]) == (416, "bytes */10")


def test_a_deactivated_image_is_downloaded_by_admins_only(cloud: ImageCloud) -> None:
    """Deactivation may be repeated and reversed; it needs data."""
    image_id = cloud.active()
    for _ in range(2):
        assert cloud.member.post(f"/v2/images/{image_id}/actions/deactivate").status == 204
    assert cloud.status(image_id) == "deactivated"
    assert cloud.member.get(f"/v2/images/{image_id}/file").status == 403
    assert cloud.admin.get(f"/v2/images/{image_id}/file").status == 200
    assert cloud.member.post(f"/v2/images/{image_id}/actions/reactivate").status == 204
    assert cloud.member.get(f"/v2/images/{image_id}/file").status == 200
    assert cloud.member.post(f"/v2/images/{cloud.create()}/actions/deactivate").status == 403


def test_staged_bytes_are_imported(cloud: ImageCloud) -> None:
    """Stage, then import: the image is active, and the task tells the request and its success."""
    image_id = cloud.create()
    assert cloud.put(image_id, b"staged", where="stage") == 204
    assert (cloud.status(image_id), cloud.put(image_id, b"x")) == ("uploading", 409)
    answer = cloud.member.post(f"/v2/images/{image_id}/import", {"method": {"name": "glance-direct"}})
    assert (answer.status, cloud.status(image_id)) == (202, "active")
    (task,) = cloud.member.get(f"/v2/images/{image_id}/tasks").json["tasks"]
    assert (task["status"], task["request_id"]) == ("success", answer.headers["x-openstack-request-id"])
    assert task["input"]["import_req"]["method"]["name"] == "glance-direct"
    assert cloud.left() == [image_id]


def test_a_refused_import_leaves_nothing(cloud: ImageCloud) -> None:
    """Staged bytes pass the same gate: the task fails with its words, the image is queued, no file stays."""
    image_id = cloud.create(disk_format="qcow2")
    cloud.put(image_id, disk_images.qcow2(backing=b"/etc/passwd"), where="stage")
    assert cloud.member.post(f"/v2/images/{image_id}/import", {"method": {"name": "glance-direct"}}).status == 202
    (task,) = cloud.member.get(f"/v2/images/{image_id}/tasks").json["tasks"]
    assert (task["status"], cloud.status(image_id), cloud.left()) == ("failure", "queued", [])
    assert "safety" in task["message"]


def test_only_what_is_built_is_imported(cloud: ImageCloud) -> None:
    """Other methods and stores are 400, nothing staged is 409; the info documents list what there is."""
    image_id = cloud.create()
    where = f"/v2/images/{image_id}/import"
    assert cloud.member.post(where, {"method": {"name": "web-download", "uri": "http://127.0.0.1/"}}).status == 400
    assert cloud.member.post(where, {"method": {"name": "glance-direct"}, "stores": ["moon"]}).status == 400
    assert cloud.member.post(where, {"method": {"name": "glance-direct"}}).status == 409
    assert cloud.member.get("/v2/info/import").json["import-methods"]["value"] == ["glance-direct"]
    assert [store["id"] for store in cloud.member.get("/v2/info/stores").json["stores"]] == ["file"]


def test_strangers_and_readers_do_not_touch_data(cloud: ImageCloud) -> None:
    """Another project's image is 404; a reader may look but neither upload nor download."""
    image_id = cloud.create()
    assert cloud.put(image_id, b"x", cloud.other) == 404
    assert cloud.other.get(f"/v2/images/{image_id}/file").status == 404
    assert cloud.put(image_id, b"x", cloud.reader) == 403
    assert cloud.reader.get(f"/v2/images/{image_id}/file").status == 403
    assert cloud.put(image_id, b"x", ApiClient(cloud.app, None)) == 401


def test_the_place_of_the_bytes_is_told_to_services_only(cloud: ImageCloud) -> None:
    """`direct_url` and `locations` come with a service token; members and admins see neither."""
    image_id = cloud.active(b"bytes")
    for client in (cloud.member, cloud.admin):
        assert not {"direct_url", "locations"} & set(client.get(f"/v2/images/{image_id}").json)
    seen = cloud.member.get(f"/v2/images/{image_id}", headers={"x-service-token": "service"}).json
    assert seen["direct_url"] == f"file://{cloud.folder}/{image_id}"
    assert seen["locations"][0]["url"] == seen["direct_url"]
    assert "direct_url" in ApiClient(cloud.app, "service").get(f"/v2/images/{image_id}").json


def test_the_door_makes_reads_and_removes_an_image(cloud: ImageCloud, tmp_path: Path) -> None:
    """A neighbour's snapshot: create, upload from a file, read with the location, delete; by the caller's rights."""
    source = tmp_path / "snapshot"
    source.write_bytes(disk_images.noise(2 * MIB + 5))
    made = cloud.door.create(PLAIN, name="snap", disk_format="raw", properties={"hw_x": "1"}, min_disk=3)
    assert (made.status, made.size, made.location) == ("queued", 0, None)
    cloud.door.upload(PLAIN, made.id, source)
    image, served = cloud.door.get_with_location(made.id, SERVICE)
    assert (image.status, image.size, image.min_disk, image.properties) == ("active", 2 * MIB + 5, 3, {"hw_x": "1"})
    assert Path(str(image.location).removeprefix("file://")).read_bytes() == source.read_bytes()
    assert served.started <= served.finished
    assert cloud.door.get(made.id, PLAIN).location is None
    with pytest.raises(Conflict):
        cloud.door.upload(PLAIN, made.id, source)
    with pytest.raises(NotFound):
        cloud.door.get(made.id, Credentials(token="other"))
    cloud.door.delete(PLAIN, made.id)
    assert cloud.left() == []
    with pytest.raises(NotFound):
        cloud.door.delete(PLAIN, made.id)
