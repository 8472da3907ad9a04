"""What images and members look like in requests and answers."""

from typing import Any

from cumulet.core.clock import iso_z
from cumulet.core.disk.formats import DISK_FORMATS
from cumulet.core.web.resource import SHOW, WRITE, Field, Resource
from cumulet.image.files import HASH_ALGORITHM
from cumulet.image.records import ACTIVE, DEACTIVATED, ID_PATTERN, MEMBER_STATUSES, VISIBILITIES, Image, Task

__all__ = ["CONTAINER_FORMATS", "IMAGE", "IMPORT", "MEMBER", "MEMBER_CREATE", "MEMBER_UPDATE", "STORE", "TASK"]

#: the one store's name
STORE = "file"
CONTAINER_FORMATS = ("ami", "ari", "aki", "bare", "ovf", "ova", "docker", "compressed")
INT_MAX = 0x7FFFFFFF

#: a null character is no text to a database
_CLEAN = "^[^\\u0000]*$"
_ID = {"type": "string", "pattern": ID_PATTERN}
_NAME = {"type": ["null", "string"], "maxLength": 255, "pattern": _CLEAN}
_OWNER = {"type": ["null", "string"], "maxLength": 255, "pattern": _CLEAN}
_COUNT = {"type": "integer", "minimum": 0, "maximum": INT_MAX}
_FLAG = {"type": "boolean"}
_TEXT = {"type": "string", "readOnly": True}
_TEXT_OR_NULL = {"type": ["null", "string"], "readOnly": True}
_SIZE = {"type": ["null", "integer"], "readOnly": True}
_TAGS = {"type": "array", "items": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": _CLEAN}}

_CREATED = Field(_TEXT, SHOW, read=lambda record, _: iso_z(record.created_at))
_UPDATED = Field(_TEXT, SHOW, read=lambda record, _: iso_z(record.updated_at))


def _has_data(image: Image) -> bool:
    return image.status in {ACTIVE, DEACTIVATED}


def _hash_algorithm(image: Image, _: Any) -> str | None:
    return HASH_ALGORITHM if image.os_hash_value else None


#: free properties stand beside these as keys of their own
IMAGE = Resource(
    "image",
    {
        "id": Field(_ID),
        "name": Field(_NAME),
        "status": Field(_TEXT, SHOW),
        "visibility": Field({"type": "string", "enum": list(VISIBILITIES)}),
        "protected": Field(_FLAG),
        "os_hidden": Field(_FLAG),
        "owner": Field(_OWNER),
        "container_format": Field({"type": ["null", "string"], "enum": [None, *CONTAINER_FORMATS]}),
        "disk_format": Field({"type": ["null", "string"], "enum": [None, *sorted(DISK_FORMATS)]}),
        "min_disk": Field(_COUNT),
        "min_ram": Field(_COUNT),
        "tags": Field(_TAGS),
        "size": Field(_SIZE, SHOW),
        "virtual_size": Field(_SIZE, SHOW),
        "checksum": Field(_TEXT_OR_NULL, SHOW),
        "os_hash_algo": Field(_TEXT_OR_NULL, SHOW, read=_hash_algorithm),
        "os_hash_value": Field(_TEXT_OR_NULL, SHOW),
        "created_at": _CREATED,
        "updated_at": _UPDATED,
        "self": Field(_TEXT, SHOW, read=lambda image, _: f"/v2/images/{image.id}"),
        "file": Field(_TEXT, SHOW, read=lambda image, _: f"/v2/images/{image.id}/file"),
        "schema": Field(_TEXT, SHOW, read=lambda *_: "/v2/schemas/image"),
        "stores": Field(_TEXT, SHOW, read=lambda image, _: STORE if _has_data(image) else ""),
    },
    extra=True,
    envelope=False,
)

MEMBER = Resource(
    "member",
    {
        "image_id": Field(_TEXT, SHOW),
        "member_id": Field({"type": "string"}, SHOW),
        "status": Field({"type": "string", "enum": list(MEMBER_STATUSES)}, WRITE | SHOW),
        "created_at": _CREATED,
        "updated_at": _UPDATED,
        "schema": Field(_TEXT, SHOW, read=lambda *_: "/v2/schemas/member"),
    },
    envelope=False,
)
MEMBER_CREATE = {
    "type": "object",
    "properties": {"member": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": _CLEAN}},
    "required": ["member"],
}
MEMBER_UPDATE = {
    "type": "object",
    "properties": {"status": {"type": "string", "enum": list(MEMBER_STATUSES)}},
    "required": ["status"],
}

IMPORT = {
    "type": "object",
    "properties": {
        "method": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
        "stores": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
        "all_stores": _FLAG,
        "all_stores_must_succeed": _FLAG,
    },
    "required": ["method"],
}


def _self_of_task(task: Task, _: Any) -> str:
    return f"/v2/tasks/{task.id}"


TASK = Resource(
    "task",
    {
        "id": Field(_TEXT, SHOW),
        "image_id": Field(_TEXT, SHOW),
        "type": Field(_TEXT, SHOW, read=lambda *_: "api_image_import"),
        "status": Field(_TEXT, SHOW),
        "owner": Field(_TEXT_OR_NULL, SHOW),
        "user_id": Field(_TEXT, SHOW),
        "request_id": Field(_TEXT, SHOW),
        "input": Field({}, SHOW),
        "result": Field(_TEXT_OR_NULL, SHOW, read=lambda *_: None),
        "message": Field(_TEXT, SHOW),
        "created_at": _CREATED,
        "updated_at": _UPDATED,
        "self": Field(_TEXT, SHOW, read=_self_of_task),
        "schema": Field(_TEXT, SHOW, read=lambda *_: "/v2/schemas/task"),
    },
    envelope=False,
)
