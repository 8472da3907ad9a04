"""/v3/roles: roles, and what they imply."""

from typing import Any

from cumulet.core.web import Call, Delete, Get, Head, Patch, Post, Put
from cumulet.identity.api.collection import links, page, where
from cumulet.identity.api.judge import changes, judge
from cumulet.identity.records import Role
from cumulet.identity.resources import ROLE, show

__all__ = ["ROUTES", "role_view"]


def role_view(call: Call, role: Role) -> dict[str, Any]:
    return show(call, ROLE, role, links=links(call, f"/v3/roles/{role.id}"))


def list_roles(call: Call) -> dict[str, Any]:
    """A domain's own roles only where the query names the domain."""
    chosen = where(call, "name", "domain_id")
    judge(call, "list_domain_roles" if "domain_id" in chosen else "list_roles")
    chosen.setdefault("domain_id", "")
    keep = None
    if call.context.domain_id is not None and not call.allowed("identity:create_role"):
        # a domain's manager sees what it may give
        keep = _manageable
    return page(call, "roles", Role, role_view, keep=keep, path="/v3/roles", **chosen)


def _manageable(role: Role) -> bool:
    return role.name in {"manager", "member", "reader"}


def create_role(call: Call) -> dict[str, Any]:
    judge(call, "create_domain_role" if call.body.get("domain_id") else "create_role")
    return {"role": role_view(call, call.service.roles.create(call.body))}


def show_role(call: Call, role_id: str) -> dict[str, Any]:
    return {"role": role_view(call, _role(call, "get", role_id))}


def update_role(call: Call, role_id: str) -> dict[str, Any]:
    _role(call, "update", role_id)
    return {"role": role_view(call, call.service.roles.update(role_id, changes(call, role_id)))}


def delete_role(call: Call, role_id: str) -> None:
    _role(call, "delete", role_id)
    call.service.roles.delete(role_id)


def _role(call: Call, act: str, role_id: str) -> Role:
    role: Role = call.service.realm.get(Role, role_id)
    judge(call, f"{act}_domain_role" if role.domain_id else f"{act}_role", role=role)
    return role


def imply(call: Call, prior_id: str, implied_id: str) -> dict[str, Any]:
    return _rule(call, *call.service.roles.imply(prior_id, implied_id))


def show_implied(call: Call, prior_id: str, implied_id: str) -> dict[str, Any]:
    return _rule(call, *call.service.roles.implied(prior_id, implied_id))


def check_implied(call: Call, prior_id: str, implied_id: str) -> None:
    call.service.roles.implied(prior_id, implied_id)


def unimply(call: Call, prior_id: str, implied_id: str) -> None:
    call.service.roles.unimply(prior_id, implied_id)


def list_implied(call: Call, prior_id: str) -> dict[str, Any]:
    prior = call.service.realm.get(Role, prior_id)
    graph = call.service.roles.graph()
    implied = [_short(call, graph.roles[role_id]) for role_id in graph.implied.get(prior_id, ())]
    return {
        "role_inference": {"prior_role": _short(call, prior), "implies": implied},
        "links": links(call, f"/v3/roles/{prior_id}/implies"),
    }


def list_inferences(call: Call) -> dict[str, Any]:
    graph = call.service.roles.graph()
    return {
        "role_inferences": [
            {
                "prior_role": _short(call, graph.roles[prior_id]),
                "implies": [_short(call, graph.roles[i]) for i in implied],
            }
            for prior_id, implied in graph.implied.items()
        ],
        "links": {**links(call, "/v3/role_inferences"), "next": None, "previous": None},
    }


def _rule(call: Call, prior: Role, implied: Role) -> dict[str, Any]:
    return {
        "role_inference": {"prior_role": _short(call, prior), "implies": _short(call, implied)},
        "links": links(call, f"/v3/roles/{prior.id}/implies/{implied.id}"),
    }


def _short(call: Call, role: Role) -> dict[str, Any]:
    return {"id": role.id, "name": role.name, "links": links(call, f"/v3/roles/{role.id}")}


_RULE = "/v3/roles/{prior_id}/implies/{implied_id}"

ROUTES = [
    Get("/v3/roles", list_roles, may="identity:list_roles"),
    Post("/v3/roles", create_role, may="identity:create_role", takes=ROLE),
    Get("/v3/roles/{role_id}", show_role, may="identity:get_role"),
    Patch("/v3/roles/{role_id}", update_role, may="identity:update_role", takes=ROLE),
    Delete("/v3/roles/{role_id}", delete_role, may="identity:delete_role"),
    Get("/v3/roles/{prior_id}/implies", list_implied, may="identity:list_implied_roles"),
    Put(_RULE, imply, may="identity:create_implied_role", body="none", status=201),
    Get(_RULE, show_implied, may="identity:get_implied_role"),
    Head(_RULE, check_implied, may="identity:check_implied_role", status=204),
    Delete(_RULE, unimply, may="identity:delete_implied_role"),
    Get("/v3/role_inferences", list_inferences, may="identity:list_role_inference_rules"),
]
