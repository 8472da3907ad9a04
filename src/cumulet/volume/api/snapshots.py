"""/snapshots and their metadata."""

from typing import Any

from cumulet.core.errors import BadRequest
from cumulet.core.web import Action, Call, Delete, Get, Post, Put, Response
from cumulet.volume.api import listing
from cumulet.volume.api.caller import caller, service
from cumulet.volume.api.metadata import Labelled, few
from cumulet.volume.api.schemas import SNAPSHOT_CREATE, SNAPSHOT_UPDATE
from cumulet.volume.api.views import snapshot_detail, snapshot_view
from cumulet.volume.api.volumes import found as found_volume
from cumulet.volume.api.volumes import text_of
from cumulet.volume.records import Snapshot
from cumulet.volume.store import labels, snapshots
from cumulet.volume.tables import SNAPSHOTS as S

__all__ = ["ROUTES"]

_SORTABLE = {
    "id": "id",
    "name": "name",
    "display_name": "name",
    "status": "status",
    "volume_size": "size",
    "volume_id": "volume_id",
    "created_at": "created_at",
    "updated_at": "updated_at",
    "user_id": "user_id",
}
_FILTERS = {
    "id": "id",
    "name": "name",
    "display_name": "name",
    "status": "status",
    "volume_id": "volume_id",
    "description": "description",
    "user_id": "user_id",
    "created_at": "created_at",
    "updated_at": "updated_at",
}
_STATES = ("creating", "available", "deleting", "error", "error_deleting", "backing-up", "restoring")


def _found(call: Call, id: str, rule: str) -> Snapshot:
    snapshot = service(call).snapshots.get(caller(call), id)
    call.authorize(rule, project_id=snapshot.project_id, user_id=snapshot.user_id)
    return snapshot


_LABELLED = Labelled(word="Snapshot", found=_found)


def create_snapshot(call: Call) -> Any:
    body = call.body["snapshot"]
    volume = found_volume(call, body["volume_id"], "volume:create_snapshot")
    forced = listing.is_true(body.get("force"))
    if call.version >= (3, 66) and "force" in body and not forced:
        raise BadRequest(
            "Invalid value for 'force': the flag is not supported since 3.66; an attached volume may be kept without it."
        )
    snapshot = service(call).snapshots.create(
        caller(call),
        volume,
        name=text_of(body, "name"),
        description=text_of(body, "description"),
        metadata=few(body.get("metadata") or {}),
        attached_too=forced or call.version >= (3, 66),
    )
    return {"snapshot": snapshot_view(call, snapshot)}


def _list(call: Call, path: str, show: Any) -> Any:
    every = listing.flag(call, "all_tenants") and call.allowed("volume:get_all_tenants")
    project = None if every else (call.context.project_id or "")
    if every and (asked := call.one("project_id") or call.one("tenant_id")):
        project = asked
    page = listing.page_of(call, _SORTABLE)
    where = listing.conditions(call, S, _FILTERS)
    if call.version >= (3, 22):
        where += labels.carries(S, listing.mapping(call.one("metadata")))
    if project is not None:
        where.append(S.c.project_id == project)
    counted = call.version >= (3, 45) and listing.flag(call, "with_count")
    with service(call).db.read() as tx:
        snapshots_found = snapshots.page(tx, where, page)
        count = snapshots.count(tx, where) if counted else 0
    answer = listing.answer(call, "snapshots", path, page, snapshots_found, show)
    if counted:
        answer["count"] = count
    return answer


def list_snapshots(call: Call) -> Any:
    return _list(call, "/snapshots", snapshot_view)


def list_snapshots_detail(call: Call) -> Any:
    return _list(call, "/snapshots/detail", snapshot_detail)


def show_snapshot(call: Call, id: str) -> Any:
    return {"snapshot": snapshot_detail(call, _found(call, id, "volume:get_snapshot"))}


def update_snapshot(call: Call, id: str) -> Any:
    snapshot = _found(call, id, "volume:update_snapshot")
    body = call.body["snapshot"]
    values: dict[str, Any] = {}
    for name in ("name", "description"):
        if name in body or f"display_{name}" in body:
            values[name] = text_of(body, name)
    return {"snapshot": snapshot_view(call, service(call).snapshots.update(snapshot, **values))}


def delete_snapshot(call: Call, id: str) -> Response:
    service(call).snapshots.delete(caller(call), _found(call, id, "volume:delete_snapshot"))
    return Response(202)


# --- actions -------------------------------------------------------------------------------------------------------


def reset_status(call: Call, id: str) -> Response:
    snapshot = _found(call, id, "volume_extension:snapshot_admin_actions:reset_status")
    service(call).snapshots.update(snapshot, status=call.body["status"])
    return Response(202)


def force_delete(call: Call, id: str) -> Response:
    snapshot = _found(call, id, "volume_extension:snapshot_admin_actions:force_delete")
    service(call).snapshots.delete(caller(call), snapshot, force=True)
    return Response(202)


def update_status(call: Call, id: str) -> Response:
    """A service says how far it is."""
    snapshot = _found(call, id, "volume_extension:snapshot_actions:update_snapshot_status")
    allowed = {"creating": ("creating", "available", "error"), "deleting": ("deleting", "error_deleting")}
    wanted = call.body["status"]
    if wanted not in allowed.get(snapshot.status, ()):
        raise BadRequest(f"Provided snapshot status {wanted} not allowed for snapshot with status {snapshot.status}.")
    values = {"status": wanted}
    if call.body.get("progress") is not None:
        values["progress"] = call.body["progress"]
    service(call).snapshots.update(snapshot, **values)
    return Response(202)


_PATH = "/v3/snapshots/{id}/action"
_RESET = {
    "type": "object",
    "properties": {"status": {"enum": list(_STATES)}},
    "required": ["status"],
    "additionalProperties": False,
}
_UPDATE_STATUS = {
    "type": "object",
    "properties": {
        "status": {"enum": list(_STATES)},
        "progress": {"type": ["string", "null"], "pattern": "^(?:0|[1-9][0-9]?|100)%$"},
    },
    "required": ["status"],
    "additionalProperties": False,
}
_ADMIN = "volume_extension:snapshot_admin_actions"

ROUTES = [
    Post("/v3/snapshots", create_snapshot, may="volume:create_snapshot", takes=SNAPSHOT_CREATE, status=202),
    Get("/v3/snapshots", list_snapshots, may="volume:get_all_snapshots"),
    Get("/v3/snapshots/detail", list_snapshots_detail, may="volume:get_all_snapshots"),
    Get("/v3/snapshots/{id}", show_snapshot, may="volume:get_snapshot"),
    Put("/v3/snapshots/{id}", update_snapshot, may="volume:update_snapshot", takes=SNAPSHOT_UPDATE),
    Delete("/v3/snapshots/{id}", delete_snapshot, may="volume:delete_snapshot"),
    Action(_PATH, "os-reset_status", reset_status, may=f"{_ADMIN}:reset_status", takes=_RESET),
    Action(_PATH, "os-force_delete", force_delete, may=f"{_ADMIN}:force_delete"),
    Action(
        _PATH,
        "os-update_snapshot_status",
        update_status,
        may="volume_extension:snapshot_actions:update_snapshot_status",
        takes=_UPDATE_STATUS,
    ),
    *_LABELLED.routes(
        "/v3/snapshots/{id}/metadata",
        show="volume:get_snapshot_metadata",
        add="volume:update_snapshot_metadata",
        change="volume:update_snapshot_metadata",
        remove="volume:delete_snapshot_metadata",
    ),
]
