"""The parts that compute is made of, and whether they are up; hosts of the time before 2.43."""

import uuid
from typing import Any

from cumulet.compute.api.subject import known_query, service_of
from cumulet.compute.service.fleet import Service
from cumulet.compute.truth import BOOLEAN, TRUE
from cumulet.core.clock import iso_seconds
from cumulet.core.errors import BadRequest, CloudError, NotFound
from cumulet.core.web import UPDATE, Call, Field, Get, Put, Resource, Route

__all__ = ["ROUTES", "NotImplementedFault"]

_P = "os_compute_api:"
HOST: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[a-zA-Z0-9-._]*$"}
REASON: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": 255}

SERVICE = Resource(
    "service",
    {
        "host": Field(HOST, on=UPDATE, until=(2, 52)),
        "binary": Field({"type": "string", "minLength": 1, "maxLength": 255}, on=UPDATE, until=(2, 52)),
        "disabled_reason": Field(REASON, on=UPDATE),
        "forced_down": Field(BOOLEAN, on=UPDATE, since=(2, 11)),
        "status": Field({"enum": ["enabled", "disabled"]}, on=UPDATE, since=(2, 53)),
    },
    envelope=False,
)


class NotImplementedFault(CloudError):
    """The reference has it; this hypervisor does not."""

    status = 501
    title = "Not Implemented"
    code = "notImplemented"
    default = "This operation is not supported by the hypervisor."


def _shown(call: Call, one: Service) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": one.id if call.version >= (2, 53) else one.number,
        "binary": one.binary,
        "host": one.host,
        "zone": one.zone,
        "status": "disabled" if one.disabled else "enabled",
        "state": "up" if one.up else "down",
        "updated_at": iso_seconds(one.updated_at),
        "disabled_reason": one.disabled_reason,
    }
    if call.version >= (2, 11):
        shown["forced_down"] = one.forced_down
    return shown


def list_services(call: Call) -> Any:
    known_query(call, ("host", "binary"))
    host, binary = call.one("host"), call.one("binary")
    found = [
        one
        for one in service_of(call).fleet.services()
        if (not host or one.host == host) and (not binary or one.binary == binary)
    ]
    return {"services": [_shown(call, one) for one in found]}


def update_service(call: Call, id: str) -> Any:
    """Before 2.53 the path names what to do and the body the service; since then the path names the service."""
    return _update(call, id) if call.version >= (2, 53) else _act(call, id)


def _act(call: Call, what: str) -> Any:
    body = call.body
    if "host" not in body or "binary" not in body:
        raise BadRequest("Missing mandatory field 'host' or 'binary'.")
    host, binary = body["host"], body["binary"]
    shown: dict[str, Any] = {"host": host, "binary": binary}
    values: dict[str, Any]
    if what == "enable":
        values = {"disabled": False, "disabled_reason": None}
        shown["status"] = "enabled"
    elif what in {"disable", "disable-log-reason"}:
        reason = body.get("disabled_reason")
        if what == "disable-log-reason" and not reason:
            raise BadRequest("Missing disabled reason field")
        values = {"disabled": True, "disabled_reason": reason if what == "disable-log-reason" else None}
        shown["status"] = "disabled"
        if what == "disable-log-reason":
            shown["disabled_reason"] = reason
    elif what == "force-down" and call.version >= (2, 11):
        if "forced_down" not in body:
            raise BadRequest("Missing forced_down field")
        shown["forced_down"] = values_of = body["forced_down"] in TRUE
        values = {"forced_down": values_of}
    else:
        raise NotFound("Unknown action")
    fleet = service_of(call).fleet
    if not any(one.host == host and one.binary == binary for one in fleet.services()):
        raise NotFound(f"Could not find binary {binary} on host {host}.")
    if binary != "nova-compute":
        raise BadRequest(f"Updating a {binary} service is not supported. Only nova-compute services can be updated.")
    fleet.set_service(host, **values)
    return {"service": shown}


def _update(call: Call, service_id: str) -> Any:
    try:
        uuid.UUID(service_id)
    except ValueError:
        raise BadRequest(f"Invalid uuid {service_id}") from None
    body = call.body
    if "status" not in body and "forced_down" not in body:
        raise BadRequest("No updates were requested. Fields 'status' or 'forced_down' should be specified.")
    fleet = service_of(call).fleet
    one = next((one for one in fleet.services() if one.id == service_id), None)
    if one is None:
        raise NotFound(f"Service {service_id} could not be found.")
    if one.binary != "nova-compute":
        raise BadRequest(
            f"Updating a {one.binary} service is not supported. Only nova-compute services can be updated."
        )
    status, reason = body.get("status"), body.get("disabled_reason")
    if reason and status != "disabled":
        raise BadRequest("Specifying disabled_reason requires that status is 'disabled'.")
    values: dict[str, Any] = {}
    if status:
        values = {"disabled": status == "disabled", "disabled_reason": reason}
    if "forced_down" in body:
        values["forced_down"] = body["forced_down"] in TRUE
    fleet.set_service(one.host, **values)
    changed = next(again for again in fleet.services() if again.id == service_id)
    return {"service": _shown(call, changed)}


# --- hosts ---------------------------------------------------------------------------------------------------------------------------

LAST_HOSTS = (2, 42)


def list_hosts(call: Call) -> Any:
    zone = call.one("zone")
    found = [one for one in service_of(call).fleet.services() if zone is None or one.zone == zone]
    shown = [{"host_name": one.host, "service": one.binary.removeprefix("nova-"), "zone": one.zone} for one in found]
    return {"hosts": shown}


def show_host(call: Call, id: str) -> Any:
    fleet = service_of(call).fleet
    host = fleet.some([id]).get(id)
    if host is None:
        raise NotFound(f"Compute host {id} could not be found.")
    use = fleet.usage([id]).get(id)

    def line(project: str, cpu: int, memory_mb: int, disk_gb: int) -> dict[str, Any]:
        return {"resource": {"host": id, "project": project, "cpu": cpu, "memory_mb": memory_mb, "disk_gb": disk_gb}}

    used = (use.vcpus, use.memory_mb, use.disk_gb) if use else (0, 0, 0)
    total = line("(total)", host.vcpus, host.memory_mb, host.local_gb)
    return {"host": [total, line("(used_now)", *used), line("(used_max)", *used)]}


HOST_UPDATE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "status": {"type": "string", "enum": ["enable", "disable", "Enable", "Disable", "ENABLE", "DISABLE"]},
        "maintenance_mode": {"type": "string", "enum": ["enable", "disable", "Enable", "Disable", "ENABLE", "DISABLE"]},
    },
    "minProperties": 1,
    "additionalProperties": False,
}


def update_host(call: Call, id: str) -> Any:
    _compute(call, id)
    if "maintenance_mode" in call.body:
        raise NotImplementedFault
    disabled = call.body["status"].lower() == "disable"
    service_of(call).fleet.set_service(id, disabled=disabled, disabled_reason=None)
    return {"host": id, "status": "disabled" if disabled else "enabled"}


def power_host(call: Call, id: str) -> Any:
    """The cloud does not turn machines off and on."""
    _compute(call, id)
    raise NotImplementedFault


def _compute(call: Call, name: str) -> None:
    if not service_of(call).fleet.some([name]):
        raise NotFound(f"Compute host {name} could not be found.")


ROUTES: list[Route] = [
    Get("/v2.1/os-services", list_services, may=f"{_P}os-services:list"),
    Put("/v2.1/os-services/{id}", update_service, may=f"{_P}os-services:update", takes=SERVICE),
    Get("/v2.1/os-hosts", list_hosts, may=f"{_P}os-hosts:list", until=LAST_HOSTS),
    Get("/v2.1/os-hosts/{id}", show_host, may=f"{_P}os-hosts:show", until=LAST_HOSTS),
    Put("/v2.1/os-hosts/{id}", update_host, may=f"{_P}os-hosts:update", takes=HOST_UPDATE, until=LAST_HOSTS),
    Get("/v2.1/os-hosts/{id}/startup", power_host, may=f"{_P}os-hosts:start", until=LAST_HOSTS),
    Get("/v2.1/os-hosts/{id}/shutdown", power_host, may=f"{_P}os-hosts:shutdown", until=LAST_HOSTS),
    Get("/v2.1/os-hosts/{id}/reboot", power_host, may=f"{_P}os-hosts:reboot", until=LAST_HOSTS),
]
