"""Servers: create, list, show, update, delete."""

import re
import secrets
from collections.abc import Sequence
from typing import Any

import msgspec

from cumulet.compute import states
from cumulet.compute.api.server_schemas import NEW_SERVER, SERVER_UPDATE
from cumulet.compute.api.server_view import Shown, addresses, brief, detail, plain
from cumulet.compute.api.subject import limit_of, moment, next_link, service_of
from cumulet.compute.records import Server
from cumulet.compute.service.resolve import canonical_v6
from cumulet.compute.service.servers import Arrival
from cumulet.compute.store import servers
from cumulet.compute.store.servers import SORT_KEYS
from cumulet.compute.tables import SERVERS as S
from cumulet.compute.truth import TRUE
from cumulet.core.errors import BadRequest, NotFound
from cumulet.core.truth import YES
from cumulet.core.web import Call, Delete, Get, Post, Put, Response, Route

__all__ = ["ROUTES"]

_P = "os_compute_api:"
_SHOWN = Shown(size_max=2048)


def create_server(call: Call) -> Response:
    """Answer 202 as soon as the entry is written; the launch goes on by itself."""
    service, context = service_of(call), call.context
    body = call.body["server"]
    hints = {
        **(call.body.get("os:scheduler_hints") or {}),
        **(call.body.get("OS-SCH-HNT:scheduler_hints") or {}),
        **(body.get("os:scheduler_hints") or {}),
        **(body.get("OS-SCH-HNT:scheduler_hints") or {}),
    }
    unknown = set(call.body) - {"server", "os:scheduler_hints", "OS-SCH-HNT:scheduler_hints"}
    if unknown:
        raise BadRequest(
            f"Additional properties are not allowed ({', '.join(map(repr, sorted(unknown)))} were unexpected)"
        )
    if call.version >= (2, 37) and "networks" not in body:
        raise BadRequest("Invalid input for field/attribute server. 'networks' is a required property")
    if body.get("host") or body.get("hypervisor_hostname"):
        call.authorize(f"{_P}servers:create:requested_destination", project_id=context.project_id)
    wanted = service.resolver.new_servers(context, service.credentials(context), body, hints)
    arrival = Arrival(
        arrived=context.arrived,
        validation_began=call.authenticated[0],
        validated=call.authenticated[1],
        allowed=call.allowed_at,
    )
    made = service.flows.launch(context, arrival, wanted, key=call.key)
    # shown once and kept nowhere
    return _accepted(call, made[0], adminPass=body.get("adminPass") or secrets.token_urlsafe(12))


def create_server_again(call: Call, ids: list[str]) -> Response:
    """The answer for a request that has made its servers before."""
    return _accepted(call, service_of(call).server(call, ids[0]))


def _accepted(call: Call, first: Server, **once: str) -> Response:
    """Of several servers the first is shown."""
    if call.body["server"].get("return_reservation_id", False) in TRUE:
        return Response(202, {"reservation_id": first.reservation_id})
    shown: dict[str, Any] = {
        "id": first.id,
        "links": brief(call, first.id, first.name)["links"],
        "OS-DCF:diskConfig": first.disk_config,
        "security_groups": [{"name": group.name} for group in first.security_groups] or [{"name": "default"}],
        **once,
    }
    return Response(202, {"server": shown}, {"Location": call.url(f"/v2.1/servers/{first.id}")})


# --- lists ---------------------------------------------------------------------------------------------------------------------------


def list_servers(call: Call) -> Any:
    return _list(call, detailed=False)


def list_servers_detail(call: Call) -> Any:
    return _list(call, detailed=True)


def _list(call: Call, *, detailed: bool) -> dict[str, Any]:
    service = service_of(call)
    project, where, deleted = _scope(call, detailed=detailed)
    limit = limit_of(call)
    marker_id = call.one("marker")
    sort = _sort(call)
    with service.db.read() as tx:
        marker = servers.get(tx, marker_id, project_id=project, deleted=True) if marker_id else None
        if marker_id and marker is None:
            raise BadRequest(f"marker [{marker_id}] not found")
        wanted = servers.Page(project, tuple(where), tuple(sort), marker, limit, deleted=deleted)
        whole = detailed or _needs_network(call)
        found = servers.page(tx, wanted) if whole else []
        names = [] if whole else servers.names(tx, wanted)
    if _needs_network(call):
        found = _by_address(call, found)
    if whole:
        names = [(one.id, one.name) for one in found]
    shown: dict[str, Any] = {
        "servers": _SHOWN.each(call, found, _hosts(call, found)) if detailed else [brief(call, *name) for name in names]
    }
    if len(names) == limit and call.one("limit") is not None:
        shown["servers_links"] = next_link(call, names[-1][0])
    return shown


_SORT_NAMES = {"id": "uuid", "name": "display_name", "description": "display_description"}


def _sort(call: Call) -> list[tuple[str, str]]:
    keys = call.query.get("sort_key") or []
    directions = call.query.get("sort_dir") or []
    order: list[tuple[str, str]] = []
    for index, key in enumerate(keys):
        if key not in SORT_KEYS:
            raise BadRequest(f"Sort key {key} is not valid")
        direction = directions[index] if index < len(directions) else "desc"
        if direction not in {"asc", "desc"}:
            raise BadRequest(f"Sort direction {direction} is not valid")
        order.append((_SORT_NAMES.get(key, key), direction))
    return order or [("created_at", "desc"), ("uuid", "desc")]


_FALSE = {"", "0", "f", "false", "off", "n", "no"}


def _boolean(text: str, key: str) -> bool:
    if text.lower() in YES:
        return True
    if text.lower() in _FALSE:
        return False
    raise BadRequest(f"Invalid input for query parameters {key}. Value: {text}. '{text}' is not a boolean")


def _scope(call: Call, *, detailed: bool) -> tuple[str | None, list[Any], bool]:
    """(project or None for all, conditions, whether deleted ones show)."""
    context = call.context
    admin = context.is_admin
    everyone = any(_boolean(text, "all_tenants") for text in call.query.get("all_tenants", ())[-1:])
    project: str | None = context.project_id
    if everyone:
        call.authorize(f"{_P}servers:{'detail' if detailed else 'index'}:get_all_tenants", project_id=project)
        project = None
    where: list[Any] = []
    deleted = False
    status = call.query.get("status") or []
    if status:
        where.append(_by_status(status, admin=admin))
        deleted = any(text.upper() == "DELETED" for text in status)
    if admin and call.one("deleted") is not None and _boolean(call.one("deleted") or "", "deleted"):
        deleted = True
        where.append(S.c.deleted.is_(True))
    since = call.one("changes-since")
    if since is not None:
        where.append(S.c.updated_at >= moment(since, "changes-since"))
        deleted = True
    if call.version >= (2, 66) and (before := call.one("changes-before")) is not None:
        where.append(S.c.updated_at <= moment(before, "changes-before"))
        deleted = True
    where += _filters(call, admin=admin)
    if everyone and (tenant := call.one("tenant_id") or call.one("project_id")):
        project = tenant
    return project, where, deleted


def _by_status(words: list[str], *, admin: bool) -> Any:
    from sqlalchemy import false, or_

    wanted = {word.upper() for word in words}
    found = []
    for vm_state, by_task in states.STATUS.items():
        if vm_state == states.DELETED and not admin:
            continue
        for task, status in by_task.items():
            if status in wanted:
                others = [t for t, s in by_task.items() if t and s != status]
                if task:
                    found.append((S.c.vm_state == vm_state) & (S.c.task_state == task))
                else:
                    free = (
                        or_(S.c.task_state.is_(None), S.c.task_state.not_in(others)) if others else S.c.id.is_not(None)
                    )
                    found.append((S.c.vm_state == vm_state) & free)
    return or_(*found) if found else false()


#: query key → column, for equality
_EQUAL = {
    "uuid": S.c.id,
    "image": S.c.image_id,
    "image_ref": S.c.image_id,
    "reservation_id": S.c.reservation_id,
    "key_name": S.c.key_name,
    "user_id": S.c.user_id,
    "access_ip_v4": S.c.access_ip_v4,
    "access_ip_v6": S.c.access_ip_v6,
    "hostname": S.c.hostname,
    "vm_state": S.c.vm_state,
    "task_state": S.c.task_state,
    "availability_zone": S.c.availability_zone,
    "host": S.c.host,
    "node": S.c.node,
    "root_device_name": S.c.root_device_name,
}
_FOR_ALL = {"uuid", "image", "image_ref", "reservation_id", "key_name", "user_id", "access_ip_v4", "access_ip_v6"}
#: what everyone may filter by from 2.83 on
_LATER = {"availability_zone", "vm_state", "task_state"}


def _filters(call: Call, *, admin: bool) -> list[Any]:
    where: list[Any] = []
    if name := call.one("name"):
        # the reference matches a regular expression; a plain piece of text is what clients send
        where.append(S.c.name.like(f"%{_like(name)}%", escape="\\"))
    for key, column in _EQUAL.items():
        value = call.one(key)
        if value is None or not (admin or key in _FOR_ALL or (call.version >= (2, 83) and key in _LATER)):
            continue
        where.append(column == value)
    if flavor := call.one("flavor"):
        where.append(S.c.flavor.like(f'%"id":"{_like(flavor)}"%', escape="\\"))
    if (locked := call.one("locked")) is not None and call.version >= (2, 73):
        where.append(S.c.locked.is_(_boolean(locked, "locked")))
    if admin and (power := call.one("power_state")) is not None and power.isdigit():
        where.append(S.c.power_state == int(power))
    if call.version >= (2, 26):
        where += _tag_filters(call)
    return where


def _like(text: str) -> str:
    return re.sub(r"([\\%_])", r"\\\1", text.replace(".*", "").strip("^$"))


def _tag_filters(call: Call) -> list[Any]:
    from sqlalchemy import and_, not_, or_

    def has(tag: str) -> Any:
        return S.c.tags.like(f"%{_like(msgspec.json.encode(tag).decode())}%", escape="\\")

    where: list[Any] = []
    for key, join, negate in (
        ("tags", and_, False),
        ("tags-any", or_, False),
        ("not-tags", and_, True),
        ("not-tags-any", or_, True),
    ):
        text = call.one(key)
        if text:
            met = join(*[has(tag) for tag in text.split(",")])
            where.append(not_(met) if negate else met)
    return where


def _needs_network(call: Call) -> bool:
    return call.one("ip") is not None or call.one("ip6") is not None


def _by_address(call: Call, found: list[Server]) -> list[Server]:
    kept = []
    for server in found:
        mine = [address for nic in server.interfaces for address in nic.addresses]
        for key, version in (("ip", 4), ("ip6", 6)):
            text = call.one(key)
            if text is None:
                continue
            try:
                pattern = re.compile(text)
            except re.error:
                raise BadRequest(f"Invalid input for query parameters {key}. Value: {text}.") from None
            if any(address.version == version and pattern.match(address.address) for address in mine):
                kept.append(server)
                break
    return kept


# --- one -----------------------------------------------------------------------------------------------------------------------------


def show_server(call: Call, id: str) -> Any:
    server = service_of(call).server(call, id)
    call.authorize(f"{_P}servers:show", project_id=server.project_id)
    return {"server": _SHOWN.of(call, server, _hosts(call, [server]))}


def _hosts(call: Call, shown: Sequence[Server]) -> dict[str, str]:
    """How the hosts of these servers are, if the caller may know."""
    rule, project = f"{_P}servers:show:host_status", call.context.project_id
    if call.version < (2, 16) or not (
        call.allowed(rule, project_id=project) or call.allowed(f"{rule}:unknown-only", project_id=project)
    ):
        return {}
    return service_of(call).fleet.host_statuses(server.host for server in shown)


def update_server(call: Call, id: str) -> Any:
    service = service_of(call)
    server = service.server(call, id)
    call.authorize(f"{_P}servers:update", project_id=server.project_id)
    columns = {
        "name": "name",
        "description": "description",
        "hostname": "hostname",
        "accessIPv4": "access_ip_v4",
        "accessIPv6": "access_ip_v6",
        "OS-DCF:diskConfig": "disk_config",
    }
    values = {columns[key]: value for key, value in call.body.items()}
    if "access_ip_v6" in values:
        values["access_ip_v6"] = canonical_v6(values["access_ip_v6"])
    with service.db.write() as tx:
        servers.set_fields(tx, server.id, at=service.clock.now(), **values)
        changed = servers.get(tx, server.id)
    if changed is None:
        raise NotFound(f"Instance {id} could not be found.")
    return {"server": detail(call, changed, after="update")}


def delete_server(call: Call, id: str) -> None:
    service = service_of(call)
    server = service.server(call, id)
    call.authorize(f"{_P}servers:delete", project_id=server.project_id)
    service.flows.delete(call.context, server)


def list_addresses(call: Call, id: str) -> Any:
    server = service_of(call).server(call, id)
    call.authorize(f"{_P}ips:index", project_id=server.project_id)
    return {"addresses": plain(addresses(server.interfaces))}


def show_addresses(call: Call, id: str, network: str) -> Any:
    server = service_of(call).server(call, id)
    call.authorize(f"{_P}ips:show", project_id=server.project_id)
    found = plain(addresses(server.interfaces))
    if network not in found:
        raise NotFound("Instance is not a member of specified network")
    return {network: found[network]}


ROUTES: list[Route] = [
    Post(
        "/v2.1/servers",
        create_server,
        may=f"{_P}servers:create",
        takes=NEW_SERVER,
        status=202,
        again=create_server_again,
    ),
    Get("/v2.1/servers", list_servers, may=f"{_P}servers:index"),
    Get("/v2.1/servers/detail", list_servers_detail, may=f"{_P}servers:detail"),
    Get("/v2.1/servers/{id}", show_server, may=f"{_P}servers:show", look=True),
    Put("/v2.1/servers/{id}", update_server, may=f"{_P}servers:update", takes=SERVER_UPDATE),
    Delete("/v2.1/servers/{id}", delete_server, may=f"{_P}servers:delete"),
    Get("/v2.1/servers/{id}/ips", list_addresses, may=f"{_P}ips:index"),
    Get("/v2.1/servers/{id}/ips/{network}", show_addresses, may=f"{_P}ips:show"),
]
