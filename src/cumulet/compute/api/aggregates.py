"""Host aggregates and the availability zones that they make."""

from typing import Any

from cumulet.compute.api.server_schemas import NAME
from cumulet.compute.api.subject import service_of
from cumulet.compute.service.fleet import Service
from cumulet.compute.store.aggregates import Aggregate
from cumulet.core.clock import iso_seconds
from cumulet.core.web import CREATE, WRITE, Action, Call, Delete, Field, Get, Post, Put, Resource, Response, Route

__all__ = ["ROUTES"]

_P = "os_compute_api:os-aggregates:"
ZONE: dict[str, Any] = {"type": ["string", "null"], "minLength": 1, "maxLength": 255, "pattern": "^[^:]*$"}
AGGREGATE = Resource(
    "aggregate", {"name": Field(NAME, on=WRITE, required=True), "availability_zone": Field(ZONE, on=WRITE)}
)
HOST: dict[str, Any] = {
    "type": "object",
    "properties": {"host": {"type": "string", "minLength": 1, "maxLength": 255}},
    "required": ["host"],
    "additionalProperties": False,
}
METADATA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "metadata": {
            "type": "object",
            "patternProperties": {"^[a-zA-Z0-9-_:. ]{1,255}$": {"type": ["string", "null"], "maxLength": 255}},
            "additionalProperties": False,
        }
    },
    "required": ["metadata"],
    "additionalProperties": False,
}


def _shown(call: Call, one: Aggregate, *, new: bool = False) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": one.id,
        "name": one.name,
        "availability_zone": one.zone,
        "created_at": iso_seconds(one.created_at),
        "updated_at": iso_seconds(one.updated_at),
        "deleted": False,
        "deleted_at": None,
    }
    if call.version >= (2, 41):
        shown["uuid"] = one.uuid
    if not new:
        shown |= {"hosts": one.hosts, "metadata": one.metadata}
    return shown


def list_aggregates(call: Call) -> Any:
    return {"aggregates": [_shown(call, one) for one in service_of(call).fleet.aggregates()]}


def create_aggregate(call: Call) -> Any:
    made = service_of(call).fleet.create_aggregate(call.body["name"], call.body.get("availability_zone"))
    return {"aggregate": _shown(call, made, new=True)}


def show_aggregate(call: Call, id: str) -> Any:
    return {"aggregate": _shown(call, service_of(call).fleet.aggregate(id))}


def update_aggregate(call: Call, id: str) -> Any:
    body = call.body
    changed = service_of(call).fleet.update_aggregate(id, body.get("name"), body.get("availability_zone"))
    return {"aggregate": _shown(call, changed)}


def delete_aggregate(call: Call, id: str) -> Response:
    service_of(call).fleet.delete_aggregate(id)
    return Response(200)


def add_host(call: Call, id: str) -> Any:
    return {"aggregate": _shown(call, service_of(call).fleet.add_host(id, call.body["host"]))}


def remove_host(call: Call, id: str) -> Any:
    return {"aggregate": _shown(call, service_of(call).fleet.remove_host(id, call.body["host"]))}


def set_metadata(call: Call, id: str) -> Any:
    return {"aggregate": _shown(call, service_of(call).fleet.set_metadata(id, call.body["metadata"]))}


# --- zones ---------------------------------------------------------------------------------------------------------------------------


def list_zones(call: Call) -> Any:
    zones = _zones(service_of(call).fleet.services())
    shown = [
        {"zoneName": zone, "zoneState": {"available": _available(found)}, "hosts": None}
        for zone, found in zones.items()
        if zone != "internal"
    ]
    return {"availabilityZoneInfo": shown}


def list_zones_detail(call: Call) -> Any:
    zones = _zones(service_of(call).fleet.services())
    shown = []
    for zone, found in zones.items():
        hosts: dict[str, Any] = {}
        for one in found:
            state = {"active": not one.disabled, "available": one.up, "updated_at": iso_seconds(one.updated_at)}
            hosts.setdefault(one.host, {})[one.binary] = state
        shown.append({"zoneName": zone, "zoneState": {"available": _available(found)}, "hosts": hosts})
    return {"availabilityZoneInfo": shown}


def _zones(services: list[Service]) -> dict[str, list[Service]]:
    found: dict[str, list[Service]] = {}
    for one in services:
        found.setdefault(one.zone, []).append(one)
    return found


def _available(services: list[Service]) -> bool:
    """A zone is there as long as one of its services is enabled."""
    return any(not one.disabled for one in services)


_A = "/v2.1/os-aggregates"
_ACT = f"{_A}/{{id}}/action"

ROUTES: list[Route] = [
    Get(_A, list_aggregates, may=f"{_P}index"),
    Post(_A, create_aggregate, may=f"{_P}create", takes=AGGREGATE, operation=CREATE, status=200),
    Get(_A + "/{id}", show_aggregate, may=f"{_P}show"),
    Put(_A + "/{id}", update_aggregate, may=f"{_P}update", takes=AGGREGATE),
    Delete(_A + "/{id}", delete_aggregate, may=f"{_P}delete", status=200),
    Action(_ACT, "add_host", add_host, may=f"{_P}add_host", takes=HOST, status=200),
    Action(_ACT, "remove_host", remove_host, may=f"{_P}remove_host", takes=HOST, status=200),
    Action(_ACT, "set_metadata", set_metadata, may=f"{_P}set_metadata", takes=METADATA, status=200),
    Get("/v2.1/os-availability-zone", list_zones, may="os_compute_api:os-availability-zone:list"),
    Get("/v2.1/os-availability-zone/detail", list_zones_detail, may="os_compute_api:os-availability-zone:detail"),
]
