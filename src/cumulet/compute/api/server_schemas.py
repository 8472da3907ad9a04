"""What requests about servers may say, by microversion."""

from typing import Any

from cumulet.compute.truth import BOOLEAN
from cumulet.core.web import CREATE, UPDATE, Field, Resource

__all__ = ["METADATA_SCHEMA", "NAME", "NEW_SERVER", "REBUILD", "SERVER_UPDATE", "TAG"]

UUID = {"type": "string", "format": "uuid"}
#: printable, no leading or trailing space, as the reference's newer rule
NAME: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^(?!\s)[^\x00-\x1f\x7f]*\S$"}
HOSTNAME = {"type": "string", "minLength": 2, "maxLength": 63, "pattern": r"^[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?$"}
DESCRIPTION = {"type": ["string", "null"], "maxLength": 255, "pattern": r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$"}
COUNT = {"type": ["integer", "string"], "pattern": "^[1-9][0-9]*$", "minimum": 1}
TAG: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": 60, "pattern": "^[^,/]*$"}
METADATA_SCHEMA: dict[str, Any] = {
    "type": "object",
    "patternProperties": {"^[a-zA-Z0-9-_:. ]{1,255}$": {"type": "string", "maxLength": 255}},
    "additionalProperties": False,
}
NETWORKS: dict[str, Any] = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "fixed_ip": {"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]},
            "port": {"type": ["string", "null"], "format": "uuid"},
            "uuid": {"type": "string", "format": "uuid"},
            "tag": TAG,
        },
        "additionalProperties": False,
    },
}
DEVICE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "source_type": {"enum": ["volume", "image", "snapshot", "blank"]},
        "destination_type": {"enum": ["volume", "local"]},
        "uuid": {"type": "string", "minLength": 1, "maxLength": 255},
        "boot_index": {"type": ["integer", "string", "null"], "pattern": "^-?[0-9]+$"},
        "volume_size": {"type": ["integer", "string", "null"], "pattern": "^[0-9]+$"},
        "volume_type": {"type": ["string", "null"], "minLength": 0, "maxLength": 255},
        "delete_on_termination": BOOLEAN,
        "device_name": {"type": ["string", "null"], "minLength": 1, "maxLength": 255, "pattern": "^[a-zA-Z0-9._/-]*$"},
        "disk_bus": {"type": ["string", "null"]},
        "device_type": {"type": ["string", "null"]},
        "guest_format": {"type": ["string", "null"]},
        "tag": TAG,
        "no_device": {"type": ["string", "boolean", "null"]},
        "image_id": UUID,
        "volume_id": UUID,
        "snapshot_id": UUID,
        "virtual_name": {"type": ["string", "null"]},
    },
    "additionalProperties": False,
}
HINTS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "group": UUID,
        "different_host": {"anyOf": [UUID, {"type": "array", "items": UUID}]},
        "same_host": {"anyOf": [UUID, {"type": "array", "items": UUID}]},
        "query": {"type": ["string", "object"]},
        "target_cell": {"type": "string"},
        "different_cell": {"anyOf": [{"type": "string"}, {"type": "array"}]},
        "build_near_host_ip": {"type": "string"},
        "cidr": {"type": "string", "pattern": "^/[0-9a-f.:]+$"},
    },
    "additionalProperties": True,
}
DISK_CONFIG = {"enum": ["AUTO", "MANUAL"]}
IMAGE = {"type": "string", "anyOf": [{"format": "uuid"}, {"maxLength": 0}]}
#: base64, 65,535 bytes as sent
USER_DATA = {"type": ["string", "null"], "maxLength": 65535, "pattern": r"^[A-Za-z0-9+/\s]*={0,2}\s*$"}
ADDRESS_V4 = {"type": ["string", "null"], "anyOf": [{"format": "ipv4"}, {"type": "null"}]}
ADDRESS_V6 = {"type": ["string", "null"], "anyOf": [{"format": "ipv6"}, {"type": "null"}]}
GROUPS = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"name": {"type": "string", "minLength": 1, "maxLength": 255}},
        "additionalProperties": True,
    },
}

NEW_SERVER = Resource(
    "server",
    {
        "name": Field(NAME, on=CREATE, required=True),
        "imageRef": Field(IMAGE, on=CREATE),
        "flavorRef": Field({"type": ["string", "integer"], "minLength": 1}, on=CREATE, required=True),
        "adminPass": Field({"type": "string", "maxLength": 255}, on=CREATE),
        "metadata": Field(METADATA_SCHEMA, on=CREATE),
        "networks": [
            Field(NETWORKS, on=CREATE, until=(2, 36)),
            Field({"oneOf": [NETWORKS, {"enum": ["auto", "none"]}]}, on=CREATE, since=(2, 37)),
        ],
        "key_name": Field({"type": "string", "minLength": 1, "maxLength": 255}, on=CREATE),
        "user_data": Field(USER_DATA, on=CREATE),
        "config_drive": Field({"anyOf": [BOOLEAN, {"type": "null"}]}, on=CREATE),
        "security_groups": Field(GROUPS, on=CREATE),
        "availability_zone": Field({"type": ["string", "null"], "minLength": 1, "maxLength": 255}, on=CREATE),
        "min_count": Field(COUNT, on=CREATE),
        "max_count": Field(COUNT, on=CREATE),
        "return_reservation_id": Field(BOOLEAN, on=CREATE),
        "block_device_mapping": Field({"type": "array", "items": DEVICE}, on=CREATE),
        "block_device_mapping_v2": Field({"type": "array", "items": DEVICE}, on=CREATE),
        "accessIPv4": Field(ADDRESS_V4, on=CREATE),
        "accessIPv6": Field(ADDRESS_V6, on=CREATE),
        "OS-DCF:diskConfig": Field(DISK_CONFIG, on=CREATE),
        "description": Field(DESCRIPTION, on=CREATE, since=(2, 19)),
        "tags": Field({"type": "array", "items": TAG, "maxItems": 50}, on=CREATE, since=(2, 52)),
        "host": Field({"type": "string", "minLength": 1, "maxLength": 255}, on=CREATE, since=(2, 74)),
        "hypervisor_hostname": Field({"type": "string", "minLength": 1, "maxLength": 255}, on=CREATE, since=(2, 74)),
        "hostname": [
            Field(HOSTNAME, on=CREATE, since=(2, 90), until=(2, 93)),
            Field(
                {
                    "type": "string",
                    "minLength": 2,
                    "maxLength": 255,
                    "pattern": r"^[a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?$",
                },
                on=CREATE,
                since=(2, 94),
            ),
        ],
        # scheduler hints may also stand inside
        "os:scheduler_hints": Field(HINTS, on=CREATE),
        "OS-SCH-HNT:scheduler_hints": Field(HINTS, on=CREATE),
    },
    siblings=True,
)

SERVER_UPDATE = Resource(
    "server",
    {
        "name": Field(NAME, on=UPDATE),
        "accessIPv4": Field(ADDRESS_V4, on=UPDATE),
        "accessIPv6": Field(ADDRESS_V6, on=UPDATE),
        "OS-DCF:diskConfig": Field(DISK_CONFIG, on=UPDATE),
        "description": Field(DESCRIPTION, on=UPDATE, since=(2, 19)),
        "hostname": Field(HOSTNAME, on=UPDATE, since=(2, 90)),
    },
)

REBUILD = Resource(
    "rebuild",
    {
        "name": Field(NAME, on=CREATE),
        "imageRef": Field(UUID, on=CREATE, required=True),
        "adminPass": Field({"type": "string", "maxLength": 255}, on=CREATE),
        "metadata": Field(METADATA_SCHEMA, on=CREATE),
        "preserve_ephemeral": Field(BOOLEAN, on=CREATE),
        "accessIPv4": Field(ADDRESS_V4, on=CREATE),
        "accessIPv6": Field(ADDRESS_V6, on=CREATE),
        "OS-DCF:diskConfig": Field(DISK_CONFIG, on=CREATE),
        "description": Field(DESCRIPTION, on=CREATE, since=(2, 19)),
        "key_name": Field({"type": ["string", "null"], "minLength": 1, "maxLength": 255}, on=CREATE, since=(2, 54)),
        "user_data": Field(USER_DATA, on=CREATE, since=(2, 57)),
        "hostname": Field(HOSTNAME, on=CREATE, since=(2, 90)),
    },
    envelope=False,
)
