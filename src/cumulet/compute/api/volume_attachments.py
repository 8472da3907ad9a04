"""A server's volumes: list, show, attach, keep or delete with the server, detach."""

import re
from collections.abc import Generator
from typing import Any

from cumulet.compute.api.server_schemas import TAG
from cumulet.compute.api.subject import known_query, owned, service_of, settled
from cumulet.compute.records import BlockDevice, Server
from cumulet.compute.service.devices import DEVICE_WORK_TIMEOUT_S
from cumulet.compute.truth import BOOLEAN, TRUE
from cumulet.core.errors import BadRequest, NotFound
from cumulet.core.web import CREATE, UPDATE, Call, Delete, Field, Get, Post, Put, Resource, Route
from cumulet.core.work import After

__all__ = ["ROUTES"]

_P = "os_compute_api:os-volumes-attachments:"
UUID: dict[str, Any] = {"type": "string", "format": "uuid"}
DEVICE: dict[str, Any] = {"type": ["string", "null"], "pattern": r"^/dev/(x?v?[hs]?d)[a-z]+[0-9]*$|^/dev/[a-z]+[0-9]*$"}
ATTACHMENT = Resource(
    "volumeAttachment",
    {
        "volumeId": Field(UUID, on=CREATE | UPDATE, required=True),
        "device": Field(DEVICE, on=CREATE),
        "tag": Field(TAG, on=CREATE, since=(2, 49)),
        "delete_on_termination": [Field(BOOLEAN, on=CREATE, since=(2, 79)), Field(BOOLEAN, on=UPDATE, since=(2, 85))],
        # the answer's own words may stand in an update
        "id": Field(UUID, on=UPDATE, since=(2, 85)),
        "serverId": Field(UUID, on=UPDATE, since=(2, 85)),
    },
)


def _shown(call: Call, server: Server, device: BlockDevice) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "serverId": server.id,
        "volumeId": device.volume_id,
        "device": f"/dev/{device.device_name.removeprefix('/dev/')}" if device.device_name else None,
    }
    if call.version < (2, 89) or call.request.method == "POST":
        shown["id"] = device.volume_id
    else:
        shown |= {"attachment_id": device.attachment_id, "bdm_uuid": device.id}
    if call.version >= (2, 70):
        shown["tag"] = device.tag
    if call.version >= (2, 79):
        shown["delete_on_termination"] = device.delete_on_termination
    return shown


def _attached(server: Server) -> list[BlockDevice]:
    return [one for one in server.block_devices if one.destination == "volume" and one.volume_id and one.attachment_id]


def list_attachments(call: Call, id: str) -> Any:
    server = owned(call, id, f"{_P}index")
    known_query(call, ("limit", "offset"))
    limit, offset = _number(call, "limit", 1000), _number(call, "offset", 0)
    return {"volumeAttachments": [_shown(call, server, one) for one in _attached(server)[offset : offset + limit]]}


def _number(call: Call, key: str, default: int) -> int:
    text = call.one(key)
    if text is None:
        return default
    if not re.fullmatch("[0-9]+", text):
        raise BadRequest(f"Invalid input for query parameters {key}. Value: {text}. '{text}' does not match '^[0-9]*$'")
    return int(text)


def _device(server: Server, volume_id: str) -> BlockDevice:
    found = next((one for one in _attached(server) if one.volume_id == volume_id), None)
    if found is None:
        raise NotFound(f"Instance {server.id} is not attached to volume {volume_id}")
    return found


def show_attachment(call: Call, id: str, volume_id: str) -> Any:
    server = owned(call, id, f"{_P}show")
    return {"volumeAttachment": _shown(call, server, _device(server, volume_id))}


def create_attachment(call: Call, id: str) -> Generator[After, Any, Any]:
    service, context = service_of(call), call.context
    server = yield from settled(call, id, f"{_P}create")
    body = call.body
    device, saga_id = service.devices.attach_volume(
        context,
        service.credentials(context),
        server,
        body["volumeId"],
        device=body.get("device"),
        tag=body.get("tag"),
        delete_on_termination=body.get("delete_on_termination", False) in TRUE,
        multiattach=call.version >= (2, 60),
    )
    saga = yield from service.devices.wait_for(saga_id, DEVICE_WORK_TIMEOUT_S)
    if saga is not None:  # else a guest that takes its time: the volume is on its way
        service.devices.check_done(saga)
    attached = next((one for one in service.server(call, id).block_devices if one.id == device.id), device)
    return {"volumeAttachment": _shown(call, server, attached)}


def update_attachment(call: Call, id: str, volume_id: str) -> None:
    """Whether the volume goes with the server.  Putting another volume in its place is not built."""
    server = owned(call, id, f"{_P}update")
    body = call.body
    if body["volumeId"] != volume_id:
        raise BadRequest("Swapping a volume for another one is not supported.")
    if body.get("serverId", server.id) != server.id or body.get("id", volume_id) != volume_id:
        raise BadRequest("The id and the serverId of an attachment cannot be changed.")
    if "delete_on_termination" not in body:
        raise BadRequest("delete_on_termination is required.")
    _device(server, volume_id)
    service_of(call).devices.keep_on_termination(server, volume_id, delete=body["delete_on_termination"] in TRUE)


def delete_attachment(call: Call, id: str, volume_id: str) -> Generator[After, Any, None]:
    server = yield from settled(call, id, f"{_P}delete")
    service_of(call).devices.detach_volume(call.context, server, volume_id)


_A = "/v2.1/servers/{id}/os-volume_attachments"

ROUTES: list[Route] = [
    Get(_A, list_attachments, may=f"{_P}index"),
    Post(_A, create_attachment, may=f"{_P}create", takes=ATTACHMENT, status=200),
    Get(_A + "/{volume_id}", show_attachment, may=f"{_P}show"),
    Put(_A + "/{volume_id}", update_attachment, may=f"{_P}update", takes=ATTACHMENT, status=202, since=(2, 85)),
    Delete(_A + "/{volume_id}", delete_attachment, may=f"{_P}delete", status=202),
]
