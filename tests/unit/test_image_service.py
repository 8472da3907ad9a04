"""The image service without the web: what a start finds after a crash, and images from the operator's files."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.http.image_cloud import ImageCloud
from tests.unit import disk_images

from cumulet.core.disk.errors import ImageRefused
from cumulet.image import store


@pytest.fixture
def cloud(tmp_path: Path, database_url: str) -> Iterator[ImageCloud]:
    """A service of its own."""
    cloud = ImageCloud(tmp_path, database_url)
    yield cloud
    cloud.db.close()


def _leave(cloud: ImageCloud, image_id: str, status: str, *files: str) -> None:
    """What a crash leaves: a row in the middle of its way, and files."""
    with cloud.db.write() as tx:
        store.set_image(tx, image_id, {"status": status})
    for name in files:
        (cloud.folder / name).write_bytes(b"half")


def test_a_start_puts_interrupted_images_back(cloud: ImageCloud) -> None:
    """What was saving or importing is queued; staged bytes and active images stay; files of no image go."""
    active = cloud.active(b"kept")
    saving, importing, staged, unstaged = (cloud.create() for _ in range(4))
    _leave(cloud, saving, "saving", f"incoming/{saving}")
    _leave(cloud, importing, "importing", importing, f"staging/{importing}")
    _leave(cloud, unstaged, "uploading", f"incoming/{unstaged}", "no-image-at-all")
    assert cloud.put(staged, b"staged", where="stage") == 204
    for _ in range(2):
        cloud.service.recover()
        states = [cloud.status(image_id) for image_id in (active, saving, importing, staged, unstaged)]
        assert states == ["active", "queued", "queued", "uploading", "queued"]
        assert cloud.left() == sorted([active, f"staging/{staged}"])
    assert cloud.put(saving, b"again") == 204


def test_a_file_of_the_operator_becomes_an_image_once(cloud: ImageCloud, tmp_path: Path) -> None:
    """The same file, and the same bytes in another file, give the image that is there; other bytes give another one."""
    source = tmp_path / "guest.qcow2"
    source.write_bytes(disk_images.qcow2())

    def add(path: Path) -> str:
        made = cloud.service.add_file(
            name="guest", path=path, disk_format="qcow2", owner="9" * 32, properties={"os_admin_user": "cloud"}
        )
        return made.id

    cloud.active(source.read_bytes(), name="guest", disk_format="qcow2")  # a stranger's twin is not taken for it
    stranger = cloud.left()
    first = add(source)
    image = cloud.other.get(f"/v2/images/{first}").json
    assert (image["status"], image["visibility"], image["os_admin_user"]) == ("active", "public", "cloud")
    assert add(source) == first
    copy = tmp_path / "copy.qcow2"
    copy.write_bytes(source.read_bytes())
    assert [add(copy), add(copy)] == [first, first]
    assert cloud.left() == sorted([first, *stranger])
    source.write_bytes(disk_images.qcow2(size=5 << 20))
    assert add(source) != first
    assert len(cloud.listed("name=guest")) == 3


def test_a_file_of_the_operator_passes_the_gate(cloud: ImageCloud, tmp_path: Path) -> None:
    """A file with a backing file is refused, and tried anew at the next start without a second row."""
    source = tmp_path / "bad.qcow2"
    source.write_bytes(disk_images.qcow2(backing=b"/etc/passwd"))
    for _ in range(2):
        with pytest.raises(ImageRefused):
            cloud.service.add_file(name="bad", path=source, disk_format="qcow2", owner=None)
    assert (len(cloud.listed("name=bad", cloud.admin)), cloud.left()) == (1, [])
