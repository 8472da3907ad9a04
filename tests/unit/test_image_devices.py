"""Images that name their disks: what a launch from one asks for, in both words of the property, and what is refused."""

import json
from typing import Any

import pytest

from cumulet.compute.service.image_devices import has_devices, with_devices
from cumulet.core.errors import BadRequest
from cumulet.image.door import ImageInfo

SNAPSHOT = "11111111-bbbb-4bbb-8bbb-111111111111"
OTHER = "22222222-bbbb-4bbb-8bbb-222222222222"
ROOT = {
    "source_type": "snapshot", "destination_type": "volume", "snapshot_id": SNAPSHOT, "volume_id": None, "image_id": None,
    "no_device": None, "boot_index": 0, "device_name": "/dev/vda", "device_type": "disk", "disk_bus": "virtio", "volume_size": 2,
    "delete_on_termination": True, "tag": None, "connection_info": None,
}  # fmt: skip
DATA = ROOT | {"snapshot_id": OTHER, "boot_index": None, "device_name": "/dev/vdb", "delete_on_termination": False}


def image(mapping: Any, **properties: str) -> ImageInfo:
    """An image that names these disks."""
    text = mapping if isinstance(mapping, str) else json.dumps(mapping)
    return ImageInfo(
        id="i", name="i", status="active", disk_format="raw", container_format="bare", size=0, virtual_size=0, checksum=None,
        os_hash_value=None, owner=None, visibility="private", min_disk=0, min_ram=0,
        properties={"block_device_mapping": text, **properties}, location=None, tags=[],
    )  # fmt: skip


def test_the_images_own_disks_are_asked_for() -> None:
    """Each under its snapshot's id; the boot disk that clients add for every image gives way."""
    added = {"source_type": "image", "uuid": "i", "boot_index": 0, "destination_type": "local"}
    entries, boots = with_devices(image([ROOT, DATA], bdm_v2="True"), [added])
    assert boots
    assert [(entry["uuid"], entry.get("boot_index"), entry["delete_on_termination"]) for entry in entries] == [
        (SNAPSHOT, 0, True),
        (OTHER, None, False),
    ]
    assert all(entry["destination_type"] == "volume" and "snapshot_id" not in entry for entry in entries)


def test_a_request_counts_more() -> None:
    """A disk of the same name is the request's, also where that wants none; others are kept beside."""
    asked = [{"device_name": "/dev/vdb", "no_device": True}, {"device_name": "vdc", "source_type": "blank"}]
    entries, _ = with_devices(image([ROOT, DATA], bdm_v2="True"), list(asked))
    assert entries[:2] == asked
    assert [entry["uuid"] for entry in entries[2:]] == [SNAPSHOT]


def test_the_older_words_mean_the_same() -> None:
    """Without `bdm_v2` the source is told by which id is there, the boot disk by its name; numbers and flags may be texts."""
    legacy = [
        {"device_name": "vda", "snapshot_id": SNAPSHOT, "delete_on_termination": "1"},
        {"device_name": "vdb", "volume_id": OTHER, "volume_size": "3"},
    ]
    entries, boots = with_devices(image(legacy, root_device_name="/dev/vda"), [])
    assert boots
    assert [(entry["source_type"], entry["uuid"], entry.get("boot_index")) for entry in entries] == [
        ("snapshot", SNAPSHOT, 0),
        ("volume", OTHER, None),
    ]
    assert (entries[0]["delete_on_termination"], entries[1]["volume_size"]) == (True, 3)


def test_a_mapping_without_a_boot_disk_adds_disks() -> None:
    """The image itself is booted, with the request's own entry for it."""
    added = {"source_type": "image", "uuid": "i", "boot_index": 0, "destination_type": "local"}
    entries, boots = with_devices(image([DATA], bdm_v2="True"), [added])
    assert not boots
    assert [entry["uuid"] for entry in entries] == ["i", OTHER]


def test_most_images_name_none() -> None:
    """An empty text is no mapping."""
    assert not has_devices(image(""))
    assert has_devices(image([ROOT]))


@pytest.mark.parametrize(
    "mapping",
    [
        "[", "7", '{"a": 1}', "[7]", [ROOT | {"source_type": "tape"}], [ROOT | {"boot_index": "first"}],
        [ROOT | {"snapshot_id": "../other"}], [ROOT | {"device_name": "/dev/../vda"}], [ROOT | {"volume_size": -1}],
        [ROOT | {"snapshot_id": {"a": 1}}],
    ],
)  # fmt: skip
def test_what_is_no_mapping_is_refused(mapping: Any) -> None:
    """The property is anybody's text."""
    with pytest.raises(BadRequest):
        with_devices(image(mapping, bdm_v2="True"), [])
