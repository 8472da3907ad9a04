"""What bodies look like: the reference's schemas."""

from typing import Any

__all__ = [
    "ATTACHMENT_CREATE",
    "ATTACHMENT_UPDATE",
    "FLAG",
    "ID",
    "ID_OR_NULL",
    "META",
    "METADATA",
    "NAME",
    "SNAPSHOT_CREATE",
    "SNAPSHOT_UPDATE",
    "TEXTS",
    "VOLUME_CREATE",
    "VOLUME_UPDATE",
    "wrapped",
]

ID = {"type": "string", "pattern": "^[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}$"}
ID_OR_NULL = {"anyOf": [ID, {"type": "null"}]}
NAME = {"type": ["string", "null"], "minLength": 0, "maxLength": 255}
TEXTS = {
    "type": "object",
    "patternProperties": {r"^[a-zA-Z0-9\-_:. ]{1,255}$": {"type": "string", "maxLength": 255}},
    "additionalProperties": False,
}
FLAG = {
    "anyOf": [
        {"type": "boolean"},
        {"enum": [1, 0]},
        {"type": "string", "pattern": "^(?i:true|false|1|0|on|off|yes|no|y|n|t|f)$"},
    ]
}


def wrapped(name: str, inner: dict[str, Any], *, siblings: bool = False) -> dict[str, Any]:
    """{name: inner}."""
    return {"type": "object", "properties": {name: inner}, "required": [name], "additionalProperties": siblings}


METADATA = wrapped("metadata", TEXTS)
META = wrapped("meta", {**TEXTS, "minProperties": 1, "maxProperties": 1})

VOLUME_CREATE = wrapped(
    "volume",
    {
        "type": "object",
        "properties": {
            "name": NAME,
            "description": NAME,
            "display_name": NAME,
            "display_description": NAME,
            "size": {"type": ["integer", "string", "null"], "pattern": "^[0-9]+$", "minLength": 1, "minimum": 1},
            "volume_type": {"type": ["string", "null"], "minLength": 0, "maxLength": 255},
            "metadata": {**TEXTS, "type": ["object", "null"]},
            "snapshot_id": ID_OR_NULL,
            "source_volid": ID_OR_NULL,
            "consistencygroup_id": ID_OR_NULL,
            "group_id": ID_OR_NULL,
            "backup_id": ID_OR_NULL,
            "availability_zone": {"type": ["string", "null"], "minLength": 0, "maxLength": 255},
            "multiattach": {"anyOf": [FLAG, {"type": "null"}]},
            "image_id": {"type": ["string", "null"], "maxLength": 255},
            "imageRef": {"type": ["string", "null"], "maxLength": 255},
        },
    },
    siblings=True,
)

_NAMES = {
    "type": "object",
    "properties": {
        "name": NAME,
        "description": NAME,
        "display_name": NAME,
        "display_description": NAME,
        "metadata": {**TEXTS, "type": ["object", "null"]},
    },
    "additionalProperties": False,
    "minProperties": 1,
}
VOLUME_UPDATE = wrapped("volume", _NAMES)
SNAPSHOT_UPDATE = wrapped("snapshot", _NAMES)

SNAPSHOT_CREATE = wrapped(
    "snapshot",
    {
        "type": "object",
        "properties": {
            "volume_id": ID,
            "name": NAME,
            "description": NAME,
            "display_name": NAME,
            "display_description": NAME,
            "force": {"anyOf": [FLAG, {"type": "null"}]},
            "metadata": {**TEXTS, "type": ["object", "null"]},
        },
        "required": ["volume_id"],
        "additionalProperties": True,
    },
)

_CONNECTOR = {"type": ["object", "string", "null"]}

ATTACHMENT_CREATE = wrapped(
    "attachment",
    {
        "type": "object",
        "properties": {
            "volume_uuid": ID,
            "instance_uuid": ID_OR_NULL,
            "connector": _CONNECTOR,
            "mode": {"type": ["string", "null"], "maxLength": 255},
        },
        "required": ["volume_uuid"],
        "additionalProperties": False,
    },
)

ATTACHMENT_UPDATE = wrapped(
    "attachment",
    {
        "type": "object",
        "properties": {
            "connector": {"type": "object", "minProperties": 1},
            "mode": {"type": ["string", "null"], "maxLength": 255},
        },
        "required": ["connector"],
        "additionalProperties": False,
    },
)
