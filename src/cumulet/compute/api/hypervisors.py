"""Hypervisors: what each host is and what its servers take of it."""

import json
import uuid
from typing import Any

from cumulet.compute.api.services import NotImplementedFault
from cumulet.compute.api.subject import known_query, limit_of, next_link, service_of
from cumulet.compute.service.fleet import local_uptime
from cumulet.compute.store.hosts import Host
from cumulet.compute.store.servers import HostUse
from cumulet.core.errors import BadRequest, NotFound
from cumulet.core.web import Call, Get, Route

__all__ = ["ROUTES"]

_P = "os_compute_api:os-hypervisors:"
#: what a host keeps for itself, as the reference counts it
RESERVED_MB = 512


def _brief(call: Call, number: int, host: Host) -> dict[str, Any]:
    return {
        "id": host.hypervisor_id if call.version >= (2, 53) else number,
        "hypervisor_hostname": host.host,
        "state": "up" if service_of(call).fleet.is_up(host) else "down",
        "status": "disabled" if host.disabled else "enabled",
    }


def _detail(call: Call, number: int, host: Host, use: HostUse) -> dict[str, Any]:
    version = call.version
    shown: dict[str, Any] = {
        **_brief(call, number, host),
        "hypervisor_type": host.hypervisor_type,
        "hypervisor_version": host.hypervisor_version,
        "host_ip": host.host_ip,
        "service": {
            "id": host.service_id if version >= (2, 53) else number + 2,
            "host": host.host,
            "disabled_reason": host.disabled_reason,
        },
    }
    if version >= (2, 88):
        shown["uptime"] = local_uptime(host.host) if service_of(call).fleet.is_up(host) else None
        return shown
    memory_used = use.memory_mb + RESERVED_MB
    return shown | {
        "cpu_info": host.cpu_info if version >= (2, 28) else json.dumps(host.cpu_info),
        "vcpus": host.vcpus,
        "vcpus_used": use.vcpus,
        "memory_mb": host.memory_mb,
        "memory_mb_used": memory_used,
        "free_ram_mb": host.memory_mb - memory_used,
        "local_gb": host.local_gb,
        "local_gb_used": use.disk_gb,
        "free_disk_gb": host.local_gb - use.disk_gb,
        "disk_available_least": host.local_gb - use.disk_gb,
        "running_vms": len(use.servers),
        "current_workload": 0,
    }


def _servers(use: HostUse) -> list[dict[str, str]]:
    return [{"uuid": id_, "name": name} for id_, name in use.servers]


def list_brief(call: Call) -> Any:
    return _list(call, detailed=False)


def list_detail(call: Call) -> Any:
    return _list(call, detailed=True)


def _list(call: Call, *, detailed: bool) -> dict[str, Any]:
    known = ["limit", "marker"] if call.version >= (2, 33) else []
    if call.version >= (2, 53):
        known += ["hypervisor_hostname_pattern", "with_servers"]
    known_query(call, known, since=(2, 33))
    fleet = service_of(call).fleet
    found = list(enumerate(fleet.hosts(), 1))
    uses = fleet.usage()
    with_servers = False
    if call.version >= (2, 53):
        with_servers = (call.one("with_servers") or "").lower() in {"true", "1", "t", "yes", "y", "on"}
        pattern = call.one("hypervisor_hostname_pattern")
        if pattern is not None:
            if call.one("limit") or call.one("marker"):
                raise BadRequest(
                    "Paging over hypervisors with the hypervisor_hostname_pattern query parameter is not supported."
                )
            found = _matching(found, pattern)
    links: dict[str, Any] = {}
    if call.version >= (2, 33):
        found, links = _page(call, found)
    shown = []
    for number, host in found:
        use = uses.get(host.host, HostUse())
        entry = _detail(call, number, host, use) if detailed else _brief(call, number, host)
        if with_servers and use.servers:
            entry["servers"] = _servers(use)
        shown.append(entry)
    return {"hypervisors": shown, **links}


def _page(call: Call, found: list[tuple[int, Host]]) -> tuple[list[tuple[int, Host]], dict[str, Any]]:
    limit, marker = limit_of(call), call.one("marker")

    def name(one: tuple[int, Host]) -> str:
        return one[1].hypervisor_id if call.version >= (2, 53) else str(one[0])

    if marker:
        places = [at for at, one in enumerate(found) if name(one) == marker]
        if not places:
            raise BadRequest(f"marker [{marker}] not found")
        found = found[places[0] + 1 :]
    links = {"hypervisors_links": next_link(call, name(found[limit - 1]))} if len(found) > limit else {}
    return found[:limit], links


def _matching(found: list[tuple[int, Host]], pattern: str) -> list[tuple[int, Host]]:
    kept = [one for one in found if pattern.lower() in one[1].host.lower()]
    if not kept:
        raise NotFound(f"No hypervisor matching '{pattern}' could be found.")
    return kept


def _one(call: Call, id_: str) -> tuple[int, Host]:
    """The hypervisor that the path names: a UUID since 2.53, a number before."""
    if call.version >= (2, 53):
        try:
            uuid.UUID(id_)
        except ValueError:
            raise BadRequest(f"Invalid uuid {id_}") from None
    for number, host in enumerate(service_of(call).fleet.hosts(), 1):
        if id_ == (host.hypervisor_id if call.version >= (2, 53) else str(number)):
            return number, host
    raise NotFound(f"Hypervisor with ID '{id_}' could not be found.")


def show_hypervisor(call: Call, id: str) -> Any:
    known_query(call, ("with_servers",) if call.version >= (2, 53) else (), since=(2, 53))
    number, host = _one(call, id)
    use = service_of(call).fleet.usage().get(host.host, HostUse())
    shown = _detail(call, number, host, use)
    if call.version >= (2, 53) and (call.one("with_servers") or "").lower() in {"true", "1"} and use.servers:
        shown["servers"] = _servers(use)
    return {"hypervisor": shown}


def show_uptime(call: Call, id: str) -> Any:
    number, host = _one(call, id)
    brief = _brief(call, number, host)
    uptime = local_uptime(host.host) if brief["state"] == "up" else None
    if uptime is None:
        if brief["state"] == "down":
            raise BadRequest(f"Compute service of {host.host} is unavailable at this time.")
        raise NotImplementedFault
    return {"hypervisor": {**brief, "uptime": uptime}}


def show_statistics(call: Call) -> Any:
    fleet = service_of(call).fleet
    found, uses = fleet.hosts(), fleet.usage()
    keys = (
        "vcpus",
        "vcpus_used",
        "memory_mb",
        "memory_mb_used",
        "free_ram_mb",
        "local_gb",
        "local_gb_used",
        "free_disk_gb",
        "disk_available_least",
        "running_vms",
        "current_workload",
    )
    details = [_detail(call, 0, host, uses.get(host.host, HostUse())) for host in found if not host.disabled]
    return {"hypervisor_statistics": {"count": len(details), **{key: sum(one[key] for one in details) for key in keys}}}


def search(call: Call, id: str) -> Any:
    found = _matching(list(enumerate(service_of(call).fleet.hosts(), 1)), id)
    return {"hypervisors": [_brief(call, number, host) for number, host in found]}


def list_servers(call: Call, id: str) -> Any:
    fleet = service_of(call).fleet
    found, uses = _matching(list(enumerate(fleet.hosts(), 1)), id), fleet.usage()
    shown = []
    for number, host in found:
        use = uses.get(host.host)
        shown.append({**_brief(call, number, host), **({"servers": _servers(use)} if use else {})})
    return {"hypervisors": shown}


_H = "/v2.1/os-hypervisors"

ROUTES: list[Route] = [
    Get(_H, list_brief, may=f"{_P}list"),
    Get(_H + "/detail", list_detail, may=f"{_P}list-detail"),
    Get(_H + "/statistics", show_statistics, may=f"{_P}statistics", until=(2, 87)),
    Get(_H + "/{id}", show_hypervisor, may=f"{_P}show"),
    Get(_H + "/{id}/uptime", show_uptime, may=f"{_P}uptime", until=(2, 87)),
    Get(_H + "/{id}/search", search, may=f"{_P}search", until=(2, 52)),
    Get(_H + "/{id}/servers", list_servers, may=f"{_P}servers", until=(2, 52)),
]
