"""Server groups: one policy each, affinity or anti-affinity, hard or soft."""

import re
from typing import Any

from cumulet.compute.api.server_schemas import NAME
from cumulet.compute.api.subject import known_query, limit_of, service_of
from cumulet.compute.store.groups import ServerGroup
from cumulet.core.errors import BadRequest
from cumulet.core.web import Call, Delete, Field, Get, Post, Resource, Route

__all__ = ["ROUTES"]

_P = "os_compute_api:os-server-groups:"
HARD = ["anti-affinity", "affinity"]
ALL = [*HARD, "soft-anti-affinity", "soft-affinity"]


def _policies(names: list[str]) -> dict[str, Any]:
    return {"type": "array", "items": {"enum": names}, "minItems": 1, "maxItems": 1, "uniqueItems": True}


RULES: dict[str, Any] = {
    "type": "object",
    "properties": {"max_server_per_host": {"type": ["integer", "string"], "pattern": "^[1-9][0-9]*$", "minimum": 1}},
    "additionalProperties": False,
}
NEW_GROUP = Resource(
    "server_group",
    {
        "name": Field(NAME, required=True),
        "policies": [
            Field(_policies(HARD), until=(2, 14), required=True),
            Field(_policies(ALL), since=(2, 15), until=(2, 63), required=True),
        ],
        "policy": Field({"enum": ALL}, since=(2, 64), required=True),
        "rules": Field(RULES, since=(2, 64)),
    },
)


def _shown(call: Call, group: ServerGroup, members: list[str]) -> dict[str, Any]:
    shown: dict[str, Any] = {"id": group.id, "name": group.name, "members": members}
    if call.version >= (2, 64):
        shown |= {"policy": group.policy, "rules": group.rules}
    else:
        shown |= {"policies": [group.policy], "metadata": {}}
    if call.version >= (2, 13):
        shown |= {"project_id": group.project_id, "user_id": group.user_id}
    return shown


def _mine(call: Call) -> str | None:
    return None if call.context.is_admin else call.context.project_id or ""


def list_groups(call: Call) -> Any:
    known_query(call, ("all_projects", "limit", "offset"))
    project_id: str | None = call.context.project_id or ""
    if call.one("all_projects") is not None and call.context.is_admin:
        call.authorize(f"{_P}index:all_projects", project_id=project_id)
        project_id = None
    offset = call.one("offset") or "0"
    if not re.fullmatch("[0-9]+", offset):
        raise BadRequest(
            f"Invalid input for query parameters offset. Value: {offset}. '{offset}' does not match '^[0-9]*$'"
        )
    found = service_of(call).server_groups.page(project_id, limit=limit_of(call), offset=int(offset))
    return {"server_groups": [_shown(call, group, members) for group, members in found]}


def create_group(call: Call) -> Any:
    body = call.body
    policy = body["policy"] if call.version >= (2, 64) else body["policies"][0]
    rules = {key: int(value) for key, value in (body.get("rules") or {}).items()}
    if rules and policy != "anti-affinity":
        raise BadRequest("Only anti-affinity policy supports rules.")
    group = service_of(call).server_groups.create(call.context, body["name"], policy, rules)
    return {"server_group": _shown(call, group, [])}


def show_group(call: Call, id: str) -> Any:
    group, members = service_of(call).server_groups.get(id, project_id=_mine(call))
    call.authorize(f"{_P}show", project_id=group.project_id)
    return {"server_group": _shown(call, group, members)}


def delete_group(call: Call, id: str) -> None:
    group, _ = service_of(call).server_groups.get(id, project_id=_mine(call))
    call.authorize(f"{_P}delete", project_id=group.project_id)
    service_of(call).server_groups.delete(group.id)


ROUTES: list[Route] = [
    Get("/v2.1/os-server-groups", list_groups, may=f"{_P}index"),
    Post("/v2.1/os-server-groups", create_group, may=f"{_P}create", takes=NEW_GROUP, status=200),
    Get("/v2.1/os-server-groups/{id}", show_group, may=f"{_P}show"),
    Delete("/v2.1/os-server-groups/{id}", delete_group, may=f"{_P}delete"),
]
