"""Images that name their disks: `block_device_mapping`, as `server image create` writes it for a server that boots from a volume.

Such a property is anybody's text, so it is read strictly.  A launch from the image is a launch with those disks; what the request says of
a disk by its device name counts more, and the boot disk that clients add for every image goes where the image has one of its own.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from cumulet.core.errors import BadRequest
from cumulet.core.truth import YES
from cumulet.image.door import ImageInfo

__all__ = ["MAPPING_KEYS", "has_devices", "with_devices"]

#: properties that are about the disks and end with the launch
MAPPING_KEYS = frozenset({"block_device_mapping", "bdm_v2", "root_device_name", "mappings"})

_Id = Annotated[str, msgspec.Meta(pattern="^[0-9A-Za-z-]{1,64}$")]
_Word = Annotated[str, msgspec.Meta(max_length=255)]


class _Device(msgspec.Struct, frozen=True, kw_only=True):
    """One disk, in the words of mapping v2; of v1 those that mean the same."""

    source_type: Literal["blank", "image", "snapshot", "volume"] | None = None
    destination_type: Literal["local", "volume"] | None = None
    snapshot_id: _Id | None = None
    volume_id: _Id | None = None
    image_id: _Id | None = None
    no_device: bool | None = None
    boot_index: Annotated[int, msgspec.Meta(ge=-1, le=255)] | None = None
    device_name: Annotated[str, msgspec.Meta(pattern="^(/dev/)?[a-z]{2,4}[0-9]{0,2}$")] | None = None
    device_type: _Word | None = None
    disk_bus: _Word | None = None
    guest_format: _Word | None = None
    volume_size: Annotated[int, msgspec.Meta(ge=1, le=1 << 31)] | None = None
    volume_type: _Word | None = None
    delete_on_termination: bool | None = None
    tag: Annotated[str, msgspec.Meta(max_length=60)] | None = None


def has_devices(image: ImageInfo) -> bool:
    """Whether an image says which disks its servers have."""
    return bool(image.properties.get("block_device_mapping"))


def with_devices(image: ImageInfo, entries: list[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], bool]:
    """A request's entries (mapping v2) with the image's own disks, and whether the boot disk is one of these.

    Raises BadRequest for a property that says no such thing.
    """
    own = [_entry(image, device) for device in _devices(image)]
    boots = any(entry.get("boot_index") == 0 for entry in own)
    if boots:
        entries = [entry for entry in entries if not _boots_image(entry)]
    named = {_name(entry) for entry in entries} - {""}
    return [*entries, *(entry for entry in own if _name(entry) not in named)], boots


def _devices(image: ImageInfo) -> list[_Device]:
    try:
        return msgspec.convert(
            msgspec.json.decode(image.properties["block_device_mapping"]), list[_Device], strict=False
        )
    except msgspec.MsgspecError as error:
        raise BadRequest(f"Block Device Mapping is Invalid: image {image.id}: {error}") from None


def _entry(image: ImageInfo, device: _Device) -> dict[str, Any]:
    entry = {name: value for name, value in msgspec.structs.asdict(device).items() if value is not None}
    sources = {kind: entry.pop(f"{kind}_id", None) for kind in ("snapshot", "volume", "image")}
    if image.properties.get("bdm_v2", "").lower() not in YES:
        # v1 has no word for the source, and none for the boot disk but its device's name
        entry["source_type"] = next((kind for kind, there in sources.items() if there), "blank")
        if _name(entry) == (image.properties.get("root_device_name") or "vda").removeprefix("/dev/"):
            entry["boot_index"] = 0
    kind = entry.get("source_type", "blank")
    if kind != "blank":
        entry["uuid"] = sources[kind]
    if entry.get("destination_type") is None and kind in {"snapshot", "volume"}:
        entry["destination_type"] = "volume"
    return entry


def _boots_image(entry: Mapping[str, Any]) -> bool:
    return entry.get("source_type") == "image" and entry.get("boot_index") in (0, "0")


def _name(entry: Mapping[str, Any]) -> str:
    return (entry.get("device_name") or "").removeprefix("/dev/")
