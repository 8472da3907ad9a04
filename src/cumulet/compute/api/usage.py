"""What projects used of the cloud in a span of time, and the hourly audit that this cloud does not keep."""

import datetime
from typing import Any

from cumulet.compute.api.subject import known_query, limit_of, moment, next_link, service_of
from cumulet.compute.records import Server
from cumulet.compute.store import servers
from cumulet.core.clock import iso_seconds, seconds_between
from cumulet.core.errors import BadRequest
from cumulet.core.web import Call, Get, Route

__all__ = ["ROUTES"]

_P = "os_compute_api:"
#: without `start`, the last four weeks
SPAN = datetime.timedelta(weeks=4)
QUERY = ("start", "end", "detailed")


def _span(call: Call) -> tuple[str, str]:
    now = service_of(call).clock.now()
    end = moment(call.one("end") or "", "end") if call.one("end") else now
    default = (datetime.datetime.fromisoformat(end) - SPAN).isoformat(timespec="microseconds")
    start = moment(call.one("start") or "", "start") if call.one("start") else default
    if start > end:
        raise BadRequest("Invalid start time. The start time cannot occur after the end time.")
    return start, end


def _hours(server: Server, start: str, end: str) -> float:
    first = max(server.launched_at or start, start)
    last = min(server.terminated_at or end, end)
    return max(0.0, seconds_between(first, last)) / 3600


def _server_usage(server: Server, start: str, end: str, now: str) -> dict[str, Any]:
    launched = server.launched_at or start
    return {
        "instance_id": server.id,
        "name": server.name,
        "tenant_id": server.project_id,
        "flavor": server.flavor.name,
        "vcpus": server.flavor.vcpus,
        "memory_mb": server.flavor.ram_mb,
        "local_gb": server.flavor.disk_gb + server.flavor.ephemeral_gb,
        "hours": _hours(server, start, end),
        "started_at": iso_seconds(launched),
        "ended_at": iso_seconds(server.terminated_at),
        "state": "terminated" if server.terminated_at else server.vm_state,
        "uptime": int(seconds_between(launched, server.terminated_at or now)),
    }


def _project_usage(
    project_id: str, found: list[Server], start: str, end: str, now: str, *, detailed: bool
) -> dict[str, Any]:
    hours = [(server, _hours(server, start, end)) for server in found]
    shown: dict[str, Any] = {
        "tenant_id": project_id,
        "start": iso_seconds(start),
        "stop": iso_seconds(end),
        "total_hours": sum(amount for _, amount in hours),
        "total_vcpus_usage": sum(server.flavor.vcpus * amount for server, amount in hours),
        "total_memory_mb_usage": sum(server.flavor.ram_mb * amount for server, amount in hours),
        "total_local_gb_usage": sum(
            (server.flavor.disk_gb + server.flavor.ephemeral_gb) * amount for server, amount in hours
        ),
    }
    if detailed:
        shown["server_usages"] = [_server_usage(server, start, end, now) for server in found]
    return shown


def _found(call: Call, start: str, end: str, project_id: str | None) -> tuple[list[Server], list[dict[str, str]]]:
    """The servers of a page, and the link to the next one (2.40)."""
    with service_of(call).db.read() as tx:
        found = servers.live_between(tx, start, end, project_id=project_id)
    if call.version < (2, 40):
        return found, []
    marker, limit = call.one("marker"), limit_of(call)
    if marker:
        places = [at for at, server in enumerate(found) if server.id == marker]
        if not places:
            raise BadRequest(f"marker [{marker}] not found")
        found = found[places[0] + 1 :]
    return found[:limit], next_link(call, found[limit - 1].id) if len(found) > limit else []


def list_usage(call: Call) -> Any:
    known_query(call, (*QUERY, "limit", "marker") if call.version >= (2, 40) else QUERY)
    start, end = _span(call)
    found, links = _found(call, start, end, None)
    by_project: dict[str, list[Server]] = {}
    for server in found:
        by_project.setdefault(server.project_id, []).append(server)
    now, detailed = service_of(call).clock.now(), call.one("detailed") == "1"
    shown = [_project_usage(project, mine, start, end, now, detailed=detailed) for project, mine in by_project.items()]
    return {"tenant_usages": shown, **({"tenant_usages_links": links} if links else {})}


def show_usage(call: Call, id: str) -> Any:
    known_query(call, (*QUERY, "limit", "marker") if call.version >= (2, 40) else QUERY)
    call.authorize(f"{_P}os-simple-tenant-usage:show", project_id=id)
    start, end = _span(call)
    found, links = _found(call, start, end, id)
    now = service_of(call).clock.now()
    shown = _project_usage(id, found, start, end, now, detailed=True) if found else {}
    return {"tenant_usage": shown, **({"tenant_usage_links": links} if links else {})}


# --- the hourly audit ----------------------------------------------------------------------------------------------------------------


def _audit(before: str) -> dict[str, Any]:
    """No host writes such an audit here: the shape, with nothing in it."""
    end = datetime.datetime.fromisoformat(before).replace(minute=0, second=0, microsecond=0)
    numbers = (
        "num_hosts_running",
        "num_hosts_done",
        "num_hosts_not_run",
        "total_instances",
        "total_errors",
        "num_hosts",
    )
    return {
        "period_beginning": str(end - datetime.timedelta(hours=1)),
        "period_ending": str(end),
        "hosts_not_run": [],
        "overall_status": "0 of 0 hosts done. 0 errors.",
        "log": {},
        **dict.fromkeys(numbers, 0),
    }


def show_audit(call: Call) -> Any:
    return {"instance_usage_audit_logs": _audit(service_of(call).clock.now())}


def show_audit_before(call: Call, before: str) -> Any:  # noqa: ARG001 - a handler's shape
    try:
        datetime.datetime.fromisoformat(before)
    except ValueError:
        raise BadRequest(f"Invalid timestamp for date {before}") from None
    return {"instance_usage_audit_log": _audit(before)}


ROUTES: list[Route] = [
    Get("/v2.1/os-simple-tenant-usage", list_usage, may=f"{_P}os-simple-tenant-usage:list"),
    Get("/v2.1/os-simple-tenant-usage/{id}", show_usage, may="ANYONE"),
    Get("/v2.1/os-instance_usage_audit_log", show_audit, may=f"{_P}os-instance-usage-audit-log:list"),
    Get("/v2.1/os-instance_usage_audit_log/{before}", show_audit_before, may=f"{_P}os-instance-usage-audit-log:show"),
]
