"""POST /volumes/{id}/action."""

from collections.abc import Generator
from typing import Any

from cumulet.core.clock import iso_seconds
from cumulet.core.errors import BadRequest
from cumulet.core.web import Action, Call, Response
from cumulet.core.work import Slow
from cumulet.volume.api.caller import caller, service
from cumulet.volume.api.listing import is_true
from cumulet.volume.api.schemas import FLAG, ID, ID_OR_NULL, TEXTS, wrapped
from cumulet.volume.api.types import type_document
from cumulet.volume.api.volumes import found
from cumulet.volume.errors import BadVolume
from cumulet.volume.records import Volume
from cumulet.volume.store import volumes

__all__ = ["ROUTES"]

_PATH = "/v3/volumes/{id}/action"
_ACTIONS = "volume_extension:volume_actions"
_ADMIN = "volume_extension:volume_admin_actions"

_STATES = (
    "creating", "available", "deleting", "error", "error_deleting", "error_managing", "managing", "attaching", "in-use",
    "detaching", "maintenance", "restoring-backup", "error_restoring", "backing-up", "reserved", "awaiting-transfer", "retyping",
    "extending", "error_extending", "downloading", "uploading",
)  # fmt: skip


def _connector(call: Call) -> dict[str, Any]:
    connector = (call.body or {}).get("connector")
    if not isinstance(connector, dict):
        raise BadRequest("Must specify 'connector'")
    return connector


# --- size, flags ---------------------------------------------------------------------------------------------------


def extend(call: Call, id: str) -> Response:
    volume = found(call, id, "volume:extend")
    service(call).volumes.extend(caller(call), volume, int(call.body["new_size"]), attached_too=call.version >= (3, 42))
    return Response(202)


def set_bootable(call: Call, id: str) -> Response:
    volume = found(call, id, f"{_ACTIONS}:set_bootable")
    service(call).volumes.update(volume, bootable=is_true(call.body["bootable"]))
    return Response(200)


def set_readonly(call: Call, id: str) -> Response:
    volume = found(call, id, "volume:update_readonly_flag")
    flags = {**volume.admin_metadata, "readonly": str(is_true(call.body["readonly"]))}
    service(call).volumes.move(volume, ("available",), "available", verb="update_readonly_flag", admin_metadata=flags)
    return Response(202)


def retype(call: Call, id: str) -> Response:
    volume = found(call, id, "volume:retype")
    policy = call.body.get("migration_policy") or "never"
    service(call).volumes.retype(caller(call), volume, call.body["new_type"], policy=policy)
    return Response(202)


def revert(call: Call, id: str) -> Response:
    volume = found(call, id, "volume:revert_to_snapshot")
    service(call).volumes.revert(caller(call), volume, call.body["snapshot_id"])
    return Response(202)


def reset_status(call: Call, id: str) -> Response:
    volume = found(call, id, f"{_ADMIN}:reset_status")
    values = {}
    for name, column in (("status", "status"), ("migration_status", "migration_status")):
        if call.body.get(name) is not None:
            values[column] = call.body[name].lower()
    if not values and call.body.get("attach_status") is None:
        raise BadRequest("Must specify 'status', 'attach_status' or 'migration_status' for update.")
    if values.get("migration_status") == "none":
        values["migration_status"] = None
    service(call).volumes.reset_status(volume, values)
    return Response(202)


def force_delete(call: Call, id: str) -> Response:
    volume = found(call, id, f"{_ADMIN}:force_delete")
    service(call).volumes.delete(caller(call), volume, cascade=True, force=True)
    return Response(202)


# --- the older way to attach ---------------------------------------------------------------------------------------


def reserve(call: Call, id: str) -> Response:
    service(call).attachments.reserve(found(call, id, f"{_ACTIONS}:reserve"))
    return Response(202)


def unreserve(call: Call, id: str) -> Response:
    service(call).attachments.unreserve(found(call, id, f"{_ACTIONS}:unreserve"))
    return Response(202)


def begin_detaching(call: Call, id: str) -> Response:
    service(call).attachments.begin_detaching(found(call, id, f"{_ACTIONS}:begin_detaching"))
    return Response(202)


def roll_detaching(call: Call, id: str) -> Response:
    service(call).attachments.roll_detaching(found(call, id, f"{_ACTIONS}:roll_detaching"))
    return Response(202)


def attach(call: Call, id: str) -> Response:
    volume = found(call, id, f"{_ACTIONS}:attach")
    body = call.body
    server_id, host_name = body.get("instance_uuid"), body.get("host_name")
    if bool(server_id) == bool(host_name):
        raise BadRequest("Invalid request to attach volume to an instance and a host simultaneously or to neither.")
    service(call).attachments.attach(
        volume, server_id=server_id, host_name=host_name, mountpoint=body["mountpoint"], mode=body.get("mode") or "rw"
    )
    return Response(202)


def detach(call: Call, id: str) -> Generator[Slow, Any, Response]:
    return (yield from _detach(call, found(call, id, f"{_ACTIONS}:detach")))


def force_detach(call: Call, id: str) -> Generator[Slow, Any, Response]:
    return (yield from _detach(call, found(call, id, f"{_ADMIN}:force_detach")))


def _detach(call: Call, volume: Volume) -> Generator[Slow, Any, Response]:
    parts, body = service(call).attachments, call.body or {}
    tie = parts.tie_to_detach(caller(call), volume, body.get("attachment_id") or None)
    if tie is not None:
        yield from parts.delete(tie)
    elif volume.status in {"attaching", "detaching", "reserved"}:
        parts.settle(volume)
    else:
        raise BadVolume(
            reason="Unable to detach volume. Volume status must be 'in-use' and attach_status must be 'attached' to detach. "
            f"Currently: status: '{volume.status}'"
        )
    if body.get("connector"):
        yield from parts.disconnect(volume, body["connector"])
    return Response(202)


def initialize_connection(call: Call, id: str) -> Generator[Slow, Any, Any]:
    volume = found(call, id, f"{_ACTIONS}:initialize_connection")
    info = yield from service(call).attachments.connection_of(volume, _connector(call))
    return {"connection_info": info}


def terminate_connection(call: Call, id: str) -> Generator[Slow, Any, Response]:
    volume = found(call, id, f"{_ACTIONS}:terminate_connection")
    parts, connector = service(call).attachments, _connector(call)
    for tie in volume.attachments:
        parts.check_deletion(caller(call), tie)
    yield from parts.disconnect(volume, connector)
    return Response(202)


# --- images --------------------------------------------------------------------------------------------------------


def upload_image(call: Call, id: str) -> Any:
    volume = found(call, id, f"{_ACTIONS}:upload_image")
    body = call.body
    if is_true(body.get("protected", False)):
        raise BadRequest("An image that is made of a volume can be protected once it is there, not before.")
    image = service(call).volumes.upload(
        caller(call),
        volume,
        name=body["image_name"],
        disk_format=body.get("disk_format") or "raw",
        container_format=body.get("container_format") or "bare",
        visibility=(body.get("visibility") if call.version >= (3, 1) else None) or "private",
        force=is_true(body.get("force", False)),
    )
    kind = service(call).types.get(volume.type_id, project_id=None)
    shown: dict[str, Any] = {
        "id": volume.id,
        "updated_at": iso_seconds(volume.updated_at),
        "status": "uploading",
        "display_description": volume.description,
        "size": volume.size,
        "volume_type": type_document(call, kind),
        "image_id": image.id,
        "container_format": image.container_format,
        "disk_format": image.disk_format,
        "image_name": image.name,
    }
    if call.version >= (3, 1):
        shown["visibility"] = image.visibility
        shown["protected"] = False
    return {"os-volume_upload_image": shown}


def set_image_metadata(call: Call, id: str) -> Any:
    volume = found(call, id, "volume_extension:volume_image_metadata:set")
    return _image_metadata(call, volume, {**volume.image_metadata, **call.body["metadata"]})


def unset_image_metadata(call: Call, id: str) -> Any:
    volume = found(call, id, "volume_extension:volume_image_metadata:remove")
    key = call.body["key"]
    if key not in volume.image_metadata:
        raise BadVolume(reason=f"The volume has no image metadata with key {key}.")
    _image_metadata(call, volume, {k: v for k, v in volume.image_metadata.items() if k != key})
    return Response(200)


def show_image_metadata(call: Call, id: str) -> Any:
    return {"metadata": found(call, id, "volume_extension:volume_image_metadata:show").image_metadata}


def _image_metadata(call: Call, volume: Volume, wanted: dict[str, str]) -> Any:
    with service(call).db.write() as tx:
        volumes.set_fields(tx, volume.id, image_metadata=wanted)
    return {"metadata": wanted}


_SIZE = {"type": ["integer", "string"], "pattern": "^[0-9]+$", "minimum": 1, "minLength": 1}
_NAME = {"type": "string", "minLength": 1, "maxLength": 255}


def _object(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


_EXTEND = _object({"new_size": _SIZE}, "new_size")
_BOOTABLE = _object({"bootable": FLAG}, "bootable")
_READONLY = _object({"readonly": FLAG}, "readonly")
_RETYPE = _object({"new_type": _NAME, "migration_policy": {"enum": ["on-demand", "never", None]}}, "new_type")
_REVERT = _object({"snapshot_id": ID}, "snapshot_id")
_RESET = _object(
    {
        "status": {"enum": [*_STATES, *(state.upper() for state in _STATES), None]},
        "attach_status": {"enum": ["detached", "attached", "DETACHED", "ATTACHED", None]},
        "migration_status": {"enum": ["none", "error", "migrating", "success", "completing", "starting", None]},
    }
)
_ATTACH = _object(
    {
        "instance_uuid": ID_OR_NULL,
        "mountpoint": {"type": "string", "minLength": 1, "maxLength": 255},
        "host_name": {"type": ["string", "null"], "maxLength": 255},
        "mode": {"enum": ["rw", "ro"]},
    },
    "mountpoint",
)
_DETACH = {
    "type": ["object", "null"],
    "properties": {"attachment_id": ID_OR_NULL, "connector": {"type": ["object", "null"]}},
    "additionalProperties": False,
}
_UPLOAD = _object(
    {
        "image_name": _NAME,
        "force": FLAG,
        "disk_format": {"enum": ["raw", "vmdk", "vdi", "qcow2", "vhd", "vhdx", "ploop"]},
        "container_format": {"type": "string", "maxLength": 255},
        "visibility": {"enum": ["community", "public", "private", "shared"]},
        "protected": FLAG,
    },
    "image_name",
)
_IMAGE_METADATA = wrapped(
    "metadata", {**TEXTS, "patternProperties": {"^.{1,255}$": {"type": "string", "maxLength": 255}}}
)
_KEY = _object({"key": _NAME}, "key")

ROUTES = [
    Action(_PATH, "os-extend", extend, may="volume:extend", takes=_EXTEND),
    Action(_PATH, "os-set_bootable", set_bootable, may=f"{_ACTIONS}:set_bootable", takes=_BOOTABLE, status=200),
    Action(_PATH, "os-update_readonly_flag", set_readonly, may="volume:update_readonly_flag", takes=_READONLY),
    Action(_PATH, "os-retype", retype, may="volume:retype", takes=_RETYPE),
    Action(_PATH, "revert", revert, may="volume:revert_to_snapshot", takes=_REVERT, since=(3, 40)),
    Action(_PATH, "os-reset_status", reset_status, may=f"{_ADMIN}:reset_status", takes=_RESET),
    Action(_PATH, "os-force_delete", force_delete, may=f"{_ADMIN}:force_delete"),
    Action(_PATH, "os-reserve", reserve, may=f"{_ACTIONS}:reserve"),
    Action(_PATH, "os-unreserve", unreserve, may=f"{_ACTIONS}:unreserve"),
    Action(_PATH, "os-begin_detaching", begin_detaching, may=f"{_ACTIONS}:begin_detaching"),
    Action(_PATH, "os-roll_detaching", roll_detaching, may=f"{_ACTIONS}:roll_detaching"),
    Action(_PATH, "os-attach", attach, may=f"{_ACTIONS}:attach", takes=_ATTACH),
    Action(_PATH, "os-detach", detach, may=f"{_ACTIONS}:detach", takes=_DETACH),
    Action(_PATH, "os-force_detach", force_detach, may=f"{_ADMIN}:force_detach", takes=_DETACH),
    Action(
        _PATH, "os-initialize_connection", initialize_connection, may=f"{_ACTIONS}:initialize_connection", status=200
    ),
    Action(_PATH, "os-terminate_connection", terminate_connection, may=f"{_ACTIONS}:terminate_connection"),
    Action(_PATH, "os-volume_upload_image", upload_image, may=f"{_ACTIONS}:upload_image", takes=_UPLOAD),
    Action(
        _PATH,
        "os-set_image_metadata",
        set_image_metadata,
        may="volume_extension:volume_image_metadata:set",
        takes=_IMAGE_METADATA,
        status=200,
    ),
    Action(
        _PATH,
        "os-unset_image_metadata",
        unset_image_metadata,
        may="volume_extension:volume_image_metadata:remove",
        takes=_KEY,
        status=200,
    ),
    Action(
        _PATH,
        "os-show_image_metadata",
        show_image_metadata,
        may="volume_extension:volume_image_metadata:show",
        status=200,
    ),
]
