"""/os-volume-transfer and /volume-transfers (3.55): a volume changes hands."""

from typing import Any

from cumulet.core.clock import iso_seconds
from cumulet.core.web import Call, Delete, Get, Post, Response, Route
from cumulet.volume.api import listing
from cumulet.volume.api.caller import caller, service
from cumulet.volume.api.schemas import FLAG, ID, NAME, wrapped
from cumulet.volume.api.views import links
from cumulet.volume.api.volumes import found as found_volume
from cumulet.volume.records import Transfer
from cumulet.volume.store import transfers
from cumulet.volume.tables import TRANSFERS as T

__all__ = ["ROUTES"]

_SORTABLE = {"id": "id", "name": "name", "created_at": "created_at", "volume_id": "volume_id"}
_FILTERS = {"name": "name", "volume_id": "volume_id", "id": "id"}


def _brief(call: Call, transfer: Transfer) -> dict[str, Any]:
    return {
        "id": transfer.id,
        "volume_id": transfer.volume_id,
        "name": transfer.name,
        "links": links(call, f"/os-volume-transfer/{transfer.id}"),
    }


def _detail(call: Call, transfer: Transfer) -> dict[str, Any]:
    shown = {**_brief(call, transfer), "created_at": iso_seconds(transfer.created_at)}
    if call.version >= (3, 55):
        shown["no_snapshots"] = transfer.no_snapshots
    if call.version >= (3, 57):
        shown |= {"source_project_id": transfer.project_id, "destination_project_id": None, "accepted": False}
    return shown


def _found(call: Call, id: str, rule: str) -> Transfer:
    transfer = service(call).transfers.get(caller(call), id)
    call.authorize(rule, project_id=transfer.project_id)
    return transfer


def create_transfer(call: Call) -> Any:
    body = call.body["transfer"]
    volume = found_volume(call, body["volume_id"], "volume:create_transfer")
    without = call.version >= (3, 55) and listing.is_true(body.get("no_snapshots"))
    transfer, key = service(call).transfers.create(volume, body.get("name"), no_snapshots=without)
    return {"transfer": {**_detail(call, transfer), "auth_key": key}}


def _list(call: Call, show: Any) -> Any:
    every = listing.flag(call, "all_tenants") and call.allowed("volume:get_all_tenants")
    page = listing.page_of(call, _SORTABLE)
    where = listing.conditions(call, T, _FILTERS)
    if not every:
        where.append(T.c.project_id == (call.context.project_id or ""))
    with service(call).db.read() as tx:
        shown = transfers.page(tx, where, page)
    return {"transfers": [show(call, transfer) for transfer in shown[: page.limit]]}


def list_transfers(call: Call) -> Any:
    return _list(call, _brief)


def list_transfers_detail(call: Call) -> Any:
    return _list(call, _detail)


def show_transfer(call: Call, id: str) -> Any:
    return {"transfer": _detail(call, _found(call, id, "volume:get_transfer"))}


def delete_transfer(call: Call, id: str) -> Response:
    service(call).transfers.delete(_found(call, id, "volume:delete_transfer"))
    return Response(202)


def accept_transfer(call: Call, id: str) -> Any:
    transfer = service(call).transfers.accept(caller(call), id, call.body["accept"]["auth_key"])
    return {"transfer": _brief(call, transfer)}


_CREATE = wrapped(
    "transfer",
    {
        "type": "object",
        "properties": {"volume_id": ID, "name": NAME, "no_snapshots": FLAG},
        "required": ["volume_id"],
        "additionalProperties": False,
    },
)
_ACCEPT = wrapped(
    "accept",
    {
        "type": "object",
        "properties": {"auth_key": {"type": "string", "minLength": 1, "maxLength": 255}},
        "required": ["auth_key"],
        "additionalProperties": False,
    },
)


def _routes(path: str, **more: Any) -> list[Route]:
    return [
        Post(path, create_transfer, may="volume:create_transfer", takes=_CREATE, status=202, **more),
        Get(path, list_transfers, may="volume:get_all_transfers", **more),
        Get(f"{path}/detail", list_transfers_detail, may="volume:get_all_transfers", **more),
        Get(f"{path}/{{id}}", show_transfer, may="volume:get_transfer", **more),
        Delete(f"{path}/{{id}}", delete_transfer, may="volume:delete_transfer", **more),
        Post(f"{path}/{{id}}/accept", accept_transfer, may="volume:accept_transfer", takes=_ACCEPT, status=202, **more),
    ]


ROUTES = [*_routes("/v3/os-volume-transfer"), *_routes("/v3/volume-transfers", since=(3, 55))]
