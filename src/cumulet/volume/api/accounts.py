"""Limits, quotas and messages: what a project may have, has, and is told."""

from typing import Any

from cumulet.core.clock import iso_seconds
from cumulet.core.errors import BadRequest, NotFound
from cumulet.core.web import Call, Delete, Get, Put, Response
from cumulet.volume.api import listing
from cumulet.volume.api.caller import caller, service
from cumulet.volume.api.schemas import wrapped
from cumulet.volume.api.views import links
from cumulet.volume.records import Message
from cumulet.volume.store import messages
from cumulet.volume.tables import MESSAGES as M

__all__ = ["ROUTES"]

_QUOTAS = "volume_extension:quotas"


def show_limits(call: Call) -> Any:
    project = call.context.project_id or ""
    if call.version >= (3, 39) and (asked := call.one("project_id")) and caller(call).sees is None:
        project = asked
    usage = service(call).quotas.usages(project)
    absolute = {
        "maxTotalVolumes": usage["volumes"]["limit"],
        "maxTotalVolumeGigabytes": usage["gigabytes"]["limit"],
        "maxTotalSnapshots": usage["snapshots"]["limit"],
        "maxTotalBackups": usage["backups"]["limit"],
        "maxTotalBackupGigabytes": usage["backup_gigabytes"]["limit"],
        "totalVolumesUsed": usage["volumes"]["in_use"],
        "totalGigabytesUsed": usage["gigabytes"]["in_use"],
        "totalSnapshotsUsed": usage["snapshots"]["in_use"],
        "totalBackupsUsed": 0,
        "totalBackupGigabytesUsed": 0,
    }
    return {"limits": {"rate": [], "absolute": absolute}}


def show_quota(call: Call, project_id: str) -> Any:
    call.authorize(f"{_QUOTAS}:show", project_id=project_id)
    parts = service(call).quotas
    shown = parts.usages(project_id) if listing.flag(call, "usage") else parts.limits(project_id)
    return {"quota_set": {"id": project_id, **shown}}


def show_quota_defaults(call: Call, project_id: str) -> Any:
    call.authorize(f"{_QUOTAS}:show", project_id=project_id)
    return {"quota_set": {"id": project_id, **service(call).quotas.defaults()}}


def update_quota(call: Call, project_id: str) -> Any:
    checked = listing.flag(call, "skip_validation", default=True)
    limits = service(call).quotas.set_limits(project_id, call.body["quota_set"], skip_validation=checked)
    return {"quota_set": limits}


def delete_quota(call: Call, project_id: str) -> Response:
    service(call).quotas.reset(project_id)
    return Response(200)


def show_class(call: Call, name: str) -> Any:
    return {"quota_class_set": {"id": name, **service(call).quotas.defaults()}}


def update_class(call: Call, name: str) -> Any:
    if name != "default":
        raise BadRequest("There is one quota class: default.")
    return {"quota_class_set": service(call).quotas.set_defaults(call.body["quota_class_set"])}


# --- messages ------------------------------------------------------------------------------------------------------

_SORTABLE = {
    "id": "id",
    "created_at": "created_at",
    "event_id": "event_id",
    "resource_type": "resource_type",
    "resource_uuid": "resource_id",
    "request_id": "request_id",
    "guaranteed_until": "guaranteed_until",
}
_FILTERS = {
    "event_id": "event_id",
    "resource_type": "resource_type",
    "resource_uuid": "resource_id",
    "request_id": "request_id",
}


def _view(call: Call, message: Message) -> dict[str, Any]:
    return {
        "id": message.id,
        "event_id": message.event_id,
        "user_message": message.user_message,
        "message_level": "ERROR",
        "created_at": iso_seconds(message.created_at),
        "guaranteed_until": iso_seconds(message.guaranteed_until),
        "request_id": message.request_id,
        "resource_type": message.resource_type,
        "resource_uuid": message.resource_id,
        "links": links(call, f"/messages/{message.id}"),
    }


def _found(call: Call, id: str, rule: str) -> Message:
    with service(call).db.read() as tx:
        message = messages.get(tx, id, project_id=caller(call).sees)
    if message is None:
        raise NotFound(f"Message {id} could not be found.")
    call.authorize(rule, project_id=message.project_id)
    return message


def list_messages(call: Call) -> Any:
    page = listing.page_of(call, _SORTABLE)
    where = [M.c.project_id == (call.context.project_id or ""), *listing.conditions(call, M, _FILTERS)]
    with service(call).db.read() as tx:
        found = messages.page(tx, where, page)
    return listing.answer(call, "messages", "/messages", page, found, _view)


def show_message(call: Call, id: str) -> Any:
    return {"message": _view(call, _found(call, id, "message:get"))}


def delete_message(call: Call, id: str) -> Response:
    message = _found(call, id, "message:delete")
    with service(call).db.write() as tx:
        messages.remove(tx, message.id)
    return Response(204)


_SET = {"type": "object", "additionalProperties": {"type": ["integer", "string", "boolean", "null"]}}
_LIMITS = wrapped("quota_set", _SET)
_CLASS = wrapped("quota_class_set", _SET)

ROUTES = [
    Get("/v3/limits", show_limits, may="limits_extension:used_limits"),
    Get("/v3/os-quota-sets/{project_id}", show_quota, may=f"{_QUOTAS}:show"),
    Get("/v3/os-quota-sets/{project_id}/defaults", show_quota_defaults, may=f"{_QUOTAS}:show"),
    Put("/v3/os-quota-sets/{project_id}", update_quota, may=f"{_QUOTAS}:update", takes=_LIMITS),
    Delete("/v3/os-quota-sets/{project_id}", delete_quota, may=f"{_QUOTAS}:delete", status=200),
    Get("/v3/os-quota-class-sets/{name}", show_class, may="volume_extension:quota_classes:get"),
    Put("/v3/os-quota-class-sets/{name}", update_class, may="volume_extension:quota_classes:update", takes=_CLASS),
    Get("/v3/messages", list_messages, may="message:get_all", since=(3, 3)),
    Get("/v3/messages/{id}", show_message, may="message:get", since=(3, 3)),
    Delete("/v3/messages/{id}", delete_message, may="message:delete", since=(3, 3)),
]
