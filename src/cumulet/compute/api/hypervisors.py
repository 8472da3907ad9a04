"""Hypervisors: what each host is and what its servers take of it."""

import contextlib
import json
import uuid
from collections.abc import Generator
from typing import Any

from cumulet.compute.api.subject import known_query, limit_of, next_link, service_of
from cumulet.compute.service.compute import ComputeService
from cumulet.compute.store.hosts import Host, HostRow
from cumulet.compute.store.servers import HostUse
from cumulet.core.errors import BadRequest, CloudError, NotFound
from cumulet.core.truth import NO, YES
from cumulet.core.web import Call, Get, Route
from cumulet.core.work import Slow

__all__ = ["ROUTES"]

_P = "os_compute_api:os-hypervisors:"
#: what a host keeps for itself, as the reference counts it
RESERVED_MB = 512
#: sizes are shown before this version
LAST_SIZES = (2, 88)
_SIZES = (
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


Handler = Generator[Slow, Any, Any]


def _brief(call: Call, number: int, host: Host | HostRow) -> dict[str, Any]:
    return {
        "id": host.hypervisor_id if call.version >= (2, 53) else number,
        "hypervisor_hostname": host.host,
        "state": "up" if service_of(call).fleet.is_up(host) else "down",
        "status": "disabled" if host.disabled else "enabled",
    }


def _detail(call: Call, number: int, host: Host, use: HostUse) -> dict[str, Any]:
    """All but the uptime, which the host itself has to be asked for."""
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
        return shown
    return {
        **shown,
        "cpu_info": host.cpu_info if version >= (2, 28) else json.dumps(host.cpu_info),
        **_sizes(host, use),
    }


def _sizes(host: Host, use: HostUse) -> dict[str, int]:
    """What the host has, and what its servers take of it by their flavors: gone from the API since 2.88."""
    memory_used = use.memory_mb + RESERVED_MB
    return {
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


def _uptimes(service: ComputeService, hosts: list[Host]) -> dict[str, str]:
    """What each host that answers says of itself.  For a pool's thread."""
    found = {}
    for host in hosts:
        # a host that does not answer has no uptime, and says so with its state
        with contextlib.suppress(CloudError):
            found[host.host] = service.host(host.host).uptime()
    return found


def _ask_uptimes(call: Call, hosts: list[Host]) -> Generator[Slow, Any, dict[str, str]]:
    service = service_of(call)
    up = [host for host in hosts if service.fleet.is_up(host)]
    uptimes: dict[str, str] = (yield Slow("calls", _uptimes, (service, up))) if up else {}
    return uptimes


def _add_servers(call: Call, shown: dict[str, Any], use: HostUse) -> None:
    """The servers on a hypervisor; an empty list has been shown as such since 2.75 only."""
    if use.servers or call.version >= (2, 75):
        shown["servers"] = _servers(use)


def _servers(use: HostUse) -> list[dict[str, str]]:
    return [{"uuid": id_, "name": name} for id_, name in use.servers]


def _with_servers(call: Call) -> bool:
    """Whether the query asks for servers, in any of the words for yes."""
    text = call.one("with_servers") if call.version >= (2, 53) else None
    if text is None:
        return False
    if text.lower() not in YES | NO:
        raise BadRequest(
            f"Invalid input for query parameters with_servers. Value: {text}. '{text}' is not one of the words for yes and no"
        )
    return text.lower() in YES


def list_brief(call: Call) -> Any:
    return _list(call, *_found(call), detailed=False, uptimes={})


def list_detail(call: Call) -> Handler:
    found, links = _found(call)
    uptimes = (yield from _ask_uptimes(call, [host for _, host in found])) if call.version >= (2, 88) else {}
    return _list(call, found, links, detailed=True, uptimes=uptimes)


def _found(call: Call) -> tuple[list[tuple[int, Host]], dict[str, Any]]:
    """The hypervisors of a list, and the link to the rest."""
    known = ["limit", "marker"] if call.version >= (2, 33) else []
    if call.version >= (2, 53):
        known += ["hypervisor_hostname_pattern", "with_servers"]
    known_query(call, known, since=(2, 33))
    found = list(enumerate(service_of(call).fleet.listed(), 1))
    pattern = call.one("hypervisor_hostname_pattern") if call.version >= (2, 53) else None
    if pattern is not None:
        if call.one("limit") or call.one("marker"):
            raise BadRequest(
                "Paging over hypervisors with the hypervisor_hostname_pattern query parameter is not supported."
            )
        found = _matching(found, pattern)
    found, links = _page(call, found) if call.version >= (2, 33) else (found, {})
    whole = service_of(call).fleet.some([host.host for _, host in found])
    return [(number, whole[host.host]) for number, host in found if host.host in whole], links


def _list(
    call: Call, found: list[tuple[int, Host]], links: dict[str, Any], *, detailed: bool, uptimes: dict[str, str]
) -> dict[str, Any]:
    with_servers = _with_servers(call)
    of_use = with_servers or (detailed and call.version < LAST_SIZES)
    uses = service_of(call).fleet.usage([host.host for _, host in found]) if of_use else {}
    shown = []
    for number, host in found:
        use = uses.get(host.host, HostUse())
        entry = _detail(call, number, host, use) if detailed else _brief(call, number, host)
        if detailed and call.version >= (2, 88):
            entry["uptime"] = uptimes.get(host.host)
        if with_servers:
            _add_servers(call, entry, use)
        shown.append(entry)
    return {"hypervisors": shown, **links}


def _page(call: Call, found: list[tuple[int, HostRow]]) -> tuple[list[tuple[int, HostRow]], dict[str, Any]]:
    limit, marker = limit_of(call), call.one("marker")

    def name(one: tuple[int, HostRow]) -> str:
        return one[1].hypervisor_id if call.version >= (2, 53) else str(one[0])

    if marker:
        places = [at for at, one in enumerate(found) if name(one) == marker]
        if not places:
            raise BadRequest(f"marker [{marker}] not found")
        found = found[places[0] + 1 :]
    links = {"hypervisors_links": next_link(call, name(found[limit - 1]))} if len(found) > limit else {}
    return found[:limit], links


def _matching(found: list[tuple[int, HostRow]], pattern: str) -> list[tuple[int, HostRow]]:
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
    fleet = service_of(call).fleet
    for number, host in enumerate(fleet.listed(), 1):
        if id_ == (host.hypervisor_id if call.version >= (2, 53) else str(number)) and (
            whole := fleet.some([host.host])
        ):
            return number, whole[host.host]
    raise NotFound(f"Hypervisor with ID '{id_}' could not be found.")


def show_hypervisor(call: Call, id: str) -> Handler:
    known_query(call, ("with_servers",) if call.version >= (2, 53) else (), since=(2, 53))
    with_servers = _with_servers(call)
    number, host = _one(call, id)
    uptimes = (yield from _ask_uptimes(call, [host])) if call.version >= (2, 88) else {}
    use = service_of(call).fleet.usage([host.host]).get(host.host, HostUse())
    shown = _detail(call, number, host, use)
    if call.version >= (2, 88):
        shown["uptime"] = uptimes.get(host.host)
    if with_servers:
        _add_servers(call, shown, use)
    return {"hypervisor": shown}


def show_uptime(call: Call, id: str) -> Handler:
    number, host = _one(call, id)
    uptime = (yield from _ask_uptimes(call, [host])).get(host.host)
    if uptime is None:
        raise BadRequest(f"Compute service of {host.host} is unavailable at this time.")
    return {"hypervisor": {**_brief(call, number, host), "uptime": uptime}}


def show_statistics(call: Call) -> Any:
    fleet = service_of(call).fleet
    found, uses = fleet.hosts(), fleet.usage()
    sizes = [_sizes(host, uses.get(host.host, HostUse())) for host in found if not host.disabled]
    total = {key: sum(one[key] for one in sizes) for key in _SIZES}
    return {"hypervisor_statistics": {"count": len(sizes), **total}}


def search(call: Call, id: str) -> Any:
    found = _matching(list(enumerate(service_of(call).fleet.listed(), 1)), id)
    return {"hypervisors": [_brief(call, number, host) for number, host in found]}


def list_servers(call: Call, id: str) -> Any:
    fleet = service_of(call).fleet
    found = _matching(list(enumerate(fleet.listed(), 1)), id)
    uses = fleet.usage([host.host for _, host in found])
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
