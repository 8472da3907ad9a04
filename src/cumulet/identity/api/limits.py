"""/v3/registered_limits and /v3/limits."""

from typing import Any

from cumulet.core.web import Call, Delete, Get, Patch, Post
from cumulet.identity.api.collection import collected, links, page, where
from cumulet.identity.api.judge import changes, judge
from cumulet.identity.records import Limit, Project, RegisteredLimit
from cumulet.identity.resources import LIMIT, LIMITS, REGISTERED_LIMIT, REGISTERED_LIMITS, show

__all__ = ["ROUTES"]

Both = tuple[Limit, RegisteredLimit]


def registered_view(call: Call, limit: RegisteredLimit) -> dict[str, Any]:
    return show(call, REGISTERED_LIMIT, limit, links=links(call, f"/v3/registered_limits/{limit.id}"))


def limit_view(call: Call, both: Both) -> dict[str, Any]:
    limit, registered = both
    return show(
        call,
        LIMIT,
        limit,
        service_id=registered.service_id,
        region_id=registered.region_id or None,
        resource_name=registered.resource_name,
        links=links(call, f"/v3/limits/{limit.id}"),
    )


def list_registered(call: Call) -> dict[str, Any]:
    chosen = where(call, "service_id", "region_id", "resource_name", empty=("region_id",))
    return page(call, "registered_limits", RegisteredLimit, registered_view, path="/v3/registered_limits", **chosen)


def create_registered(call: Call) -> dict[str, Any]:
    made = call.service.limits.register(call.body["registered_limits"])
    return {"registered_limits": [registered_view(call, limit) for limit in made]}


def show_registered(call: Call, limit_id: str) -> dict[str, Any]:
    return {"registered_limit": registered_view(call, call.service.realm.get(RegisteredLimit, limit_id))}


def update_registered(call: Call, limit_id: str) -> dict[str, Any]:
    changed = call.service.limits.update_registered(limit_id, changes(call, limit_id))
    return {"registered_limit": registered_view(call, changed)}


def delete_registered(call: Call, limit_id: str) -> None:
    call.service.limits.unregister(limit_id)


def list_limits(call: Call) -> dict[str, Any]:
    """All for the cloud's own people and services; a domain's, a project's own for the rest."""
    context = call.context
    chosen = where(call, "project_id", "domain_id")
    registered = where(call, "service_id", "region_id", "resource_name", empty=("region_id",))
    found: list[Both] = call.service.limits.find(registered, **chosen)
    if context.system_scope is None and not {"admin", "service"} & context.roles:
        if context.domain_id is not None:
            own = {project.id for project in call.service.realm.find(Project, domain_id=context.domain_id)}
            found = [both for both in found if both[0].project_id in own or both[0].domain_id == context.domain_id]
        else:
            found = [
                both for both in found if context.project_id is not None and both[0].project_id == context.project_id
            ]
    return collected(call, "limits", found, limit_view)


def create_limits(call: Call) -> dict[str, Any]:
    made = call.service.limits.create(call.body["limits"])
    return {"limits": [limit_view(call, both) for both in made]}


def show_limit(call: Call, limit_id: str) -> dict[str, Any]:
    found: list[Limit] = call.service.realm.find(Limit, id=limit_id)
    judge(call, "get_limit", limit=_whose(call, found[0]) if found else None)
    return {"limit": limit_view(call, call.service.limits.limit(limit_id))}


def _whose(call: Call, limit: Limit) -> dict[str, Any]:
    if limit.domain_id:
        return {"domain.id": limit.domain_id}
    project: Project = call.service.projects.project(limit.project_id)
    return {"project_id": limit.project_id, "project.domain_id": project.domain_id or None}


def update_limit(call: Call, limit_id: str) -> dict[str, Any]:
    return {"limit": limit_view(call, call.service.limits.update(limit_id, changes(call, limit_id)))}


def delete_limit(call: Call, limit_id: str) -> None:
    call.service.limits.delete(limit_id)


def show_model(_call: Call) -> dict[str, Any]:
    description = "Limit enforcement and validation does not take project hierarchy into consideration."
    return {"model": {"name": "flat", "description": description}}


ROUTES = [
    Get("/v3/registered_limits", list_registered, may="identity:list_registered_limits"),
    Post("/v3/registered_limits", create_registered, may="identity:create_registered_limits", takes=REGISTERED_LIMITS),
    Get("/v3/registered_limits/{limit_id}", show_registered, may="identity:get_registered_limit"),
    Patch(
        "/v3/registered_limits/{limit_id}",
        update_registered,
        may="identity:update_registered_limit",
        takes=REGISTERED_LIMIT,
    ),
    Delete("/v3/registered_limits/{limit_id}", delete_registered, may="identity:delete_registered_limit"),
    Get("/v3/limits", list_limits, may="identity:list_limits"),
    Post("/v3/limits", create_limits, may="identity:create_limits", takes=LIMITS),
    Get("/v3/limits/model", show_model, may="identity:get_limit_model"),
    Get("/v3/limits/{limit_id}", show_limit, may="identity:get_limit"),
    Patch("/v3/limits/{limit_id}", update_limit, may="identity:update_limit", takes=LIMIT),
    Delete("/v3/limits/{limit_id}", delete_limit, may="identity:delete_limit"),
]
