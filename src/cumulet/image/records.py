"""The image service's frozen records, and the states of an image."""

from pathlib import Path
from typing import Any

import msgspec

from cumulet.core.errors import Conflict, Forbidden, Gone, NotFound, PayloadTooLarge

__all__ = [
    "ACTIVE",
    "DEACTIVATED",
    "ID_PATTERN",
    "IMPORTING",
    "MEMBER_STATUSES",
    "QUEUED",
    "SAVING",
    "STATUSES",
    "UPLOADING",
    "VISIBILITIES",
    "Image",
    "ImageConfig",
    "ImageDeletedMeanwhile",
    "ImageNotFound",
    "ImageStateConflict",
    "Member",
    "MemberNotFound",
    "Sight",
    "Task",
    "TooMany",
    "TransitionForbidden",
    "Viewer",
]

#: how identifiers look; whoever makes an image may choose its own
ID_PATTERN = "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"

#   queued ──upload──▶ saving ──▶ active ◀──▶ deactivated
#      └──stage──▶ uploading ──import──▶ importing ──▶ active
# Whatever fails on the way falls back to queued.
QUEUED, SAVING, ACTIVE, DEACTIVATED = "queued", "saving", "active", "deactivated"
UPLOADING, IMPORTING = "uploading", "importing"
#: every word a filter may name; those not above occur at the reference only
STATUSES = frozenset({QUEUED, SAVING, ACTIVE, DEACTIVATED, UPLOADING, IMPORTING, "pending_delete", "killed", "deleted"})
VISIBILITIES = ("public", "private", "shared", "community")
MEMBER_STATUSES = ("pending", "accepted", "rejected")


class ImageNotFound(NotFound):
    default = "No image found with ID {id}"


class MemberNotFound(NotFound):
    default = "{member_id} not found in the member list of the image {id}."


class ImageStateConflict(Conflict):
    """The bytes of an image were asked to move while it was in another state."""

    default = "Image status transition from {status} to {wanted} is not allowed"


class TransitionForbidden(Forbidden):
    """Only an active image is deactivated, only a deactivated one made active again."""

    default = "Image status transition from {status} to {wanted} is not allowed"


class ImageDeletedMeanwhile(Gone):
    default = "Image {id} could not be found after upload. The image may have been deleted during the upload."


class TooMany(PayloadTooLarge):
    default = (
        "The limit has been exceeded on the number of allowed image {things}."
        " Attempted: {attempted}, Maximum: {maximum}"
    )


class ImageConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator decides.

    folder: where the bytes lie; size_max and virtual_size_max: bytes of a file, and of the disk inside it.
    """

    folder: Path
    size_max: int = 1 << 40
    virtual_size_max: int = 1 << 42
    properties_max: int = 128
    tags_max: int = 128
    members_max: int = 128


class Viewer(msgspec.Struct, frozen=True):
    """Who looks: a project, or one who sees everything."""

    project_id: str | None
    sees_all: bool


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """An image.  Times are core.clock text; sizes are bytes, min_disk GiB, min_ram MiB."""

    id: str
    name: str | None
    status: str
    visibility: str
    owner: str | None
    disk_format: str | None
    container_format: str | None
    size: int | None
    virtual_size: int | None
    checksum: str | None
    os_hash_value: str | None
    min_disk: int
    min_ram: int
    protected: bool
    os_hidden: bool
    origin: str | None
    created_at: str
    updated_at: str
    properties: dict[str, str]
    tags: list[str]


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A project that an image is shared with."""

    image_id: str
    member_id: str
    status: str
    created_at: str
    updated_at: str


class Sight(msgspec.Struct, frozen=True):
    """An image as one viewer sees it; `member_id` when it is shared with the viewer."""

    image: Image
    member_id: str | None

    @property
    def target(self) -> dict[str, Any]:
        """What a policy judges by."""
        # never None: a token without a project would take what belongs to nobody for its own
        return {
            "project_id": self.image.owner or "",
            "visibility": self.image.visibility,
            "member_id": self.member_id or "",
        }


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """The record of an import."""

    id: str
    image_id: str
    status: str
    owner: str | None
    user_id: str
    request_id: str
    input: dict[str, Any]
    message: str
    created_at: str
    updated_at: str
