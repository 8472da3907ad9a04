"""/attachments: how compute reserves, connects, completes and lets go."""

from collections.abc import Generator
from typing import Any

from cumulet.core.errors import BadRequest
from cumulet.core.web import Action, Call, Delete, Get, Post, Put, Response
from cumulet.core.work import Slow
from cumulet.volume.api import listing
from cumulet.volume.api.caller import caller, service
from cumulet.volume.api.schemas import ATTACHMENT_CREATE, ATTACHMENT_UPDATE
from cumulet.volume.api.views import attachment_brief, attachment_detail
from cumulet.volume.api.volumes import found as found_volume
from cumulet.volume.records import Attachment
from cumulet.volume.store import attachments
from cumulet.volume.tables import ATTACHMENTS as A

__all__ = ["ROUTES"]

_SORTABLE = {
    "id": "id",
    "created_at": "created_at",
    "status": "status",
    "attach_status": "status",
    "volume_id": "volume_id",
    "instance_id": "server_id",
    "instance_uuid": "server_id",
}
_FILTERS = {
    "id": "id",
    "volume_id": "volume_id",
    "status": "status",
    "attach_status": "status",
    "instance_id": "server_id",
    "instance_uuid": "server_id",
}


def _found(call: Call, id: str, rule: str) -> Attachment:
    tie = service(call).attachments.get(caller(call), id)
    call.authorize(rule, project_id=tie.project_id)
    return tie


def create_attachment(call: Call) -> Generator[Slow, Any, Any]:
    body = call.body["attachment"]
    volume = found_volume(call, body["volume_uuid"], "volume:attachment_create")
    mode = body.get("mode") if call.version >= (3, 54) else None
    server_id, connector = body.get("instance_uuid") or None, body.get("connector")
    parts = service(call).attachments
    if isinstance(connector, dict) and connector:
        tie = yield from parts.create_connected(volume, connector, server_id=server_id, mode=mode)
    else:
        tie = parts.create(volume, server_id=server_id, mode=mode)
    return {"attachment": attachment_detail(call, tie)}


def update_attachment(call: Call, id: str) -> Generator[Slow, Any, Any]:
    tie = _found(call, id, "volume:attachment_update")
    body = call.body["attachment"]
    mode = (body.get("mode") if call.version >= (3, 54) else None) or body["connector"].get("mode")
    if mode is not None and mode not in {"rw", "ro"}:
        raise BadRequest(f"Invalid attachment mode: {mode}")
    tie = yield from service(call).attachments.connect(tie, body["connector"], mode=mode)
    return {"attachment": attachment_detail(call, tie)}


def complete_attachment(call: Call, id: str) -> Response:
    service(call).attachments.complete(_found(call, id, "volume:attachment_complete"))
    return Response(204)


def delete_attachment(call: Call, id: str) -> Generator[Slow, Any, Any]:
    tie = _found(call, id, "volume:attachment_delete")
    parts = service(call).attachments
    parts.check_deletion(caller(call), tie)
    rest = yield from parts.delete(tie)
    return {"attachments": [attachment_brief(call, other) for other in rest]}


def show_attachment(call: Call, id: str) -> Any:
    return {"attachment": attachment_detail(call, _found(call, id, "volume:get"))}


def _list(call: Call, path: str, show: Any) -> Any:
    every = listing.flag(call, "all_tenants") and call.allowed("volume:get_all_tenants")
    project = None if every else (call.context.project_id or "")
    if every and (asked := call.one("project_id")):
        project = asked
    page = listing.page_of(call, _SORTABLE)
    where = attachments.listed(project_id=project) + listing.conditions(call, A, _FILTERS)
    with service(call).db.read() as tx:
        ties = attachments.page(tx, where, page)
    return listing.answer(call, "attachments", path, page, ties, show)


def list_attachments(call: Call) -> Any:
    return _list(call, "/attachments", attachment_brief)


def list_attachments_detail(call: Call) -> Any:
    return _list(call, "/attachments/detail", attachment_detail)


ROUTES = [
    Get("/v3/attachments", list_attachments, may="volume:get_all", since=(3, 27)),
    Get("/v3/attachments/detail", list_attachments_detail, may="volume:get_all", since=(3, 27)),
    Get("/v3/attachments/summary", list_attachments, may="volume:get_all", since=(3, 27)),
    Get("/v3/attachments/{id}", show_attachment, may="volume:get", since=(3, 27)),
    Post(
        "/v3/attachments",
        create_attachment,
        may="volume:attachment_create",
        takes=ATTACHMENT_CREATE,
        status=200,
        since=(3, 27),
    ),
    Put(
        "/v3/attachments/{id}",
        update_attachment,
        may="volume:attachment_update",
        takes=ATTACHMENT_UPDATE,
        since=(3, 27),
    ),
    Action(
        "/v3/attachments/{id}/action",
        "os-complete",
        complete_attachment,
        may="volume:attachment_complete",
        status=204,
        since=(3, 44),
    ),
    Delete("/v3/attachments/{id}", delete_attachment, may="volume:attachment_delete", status=200, since=(3, 27)),
]
