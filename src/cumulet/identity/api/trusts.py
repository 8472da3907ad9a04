"""/v3/OS-TRUST/trusts: one user lets another act for it."""

from typing import Any

from cumulet.core.web import Call, Delete, Get, Head, Post
from cumulet.identity.api.collection import collected, links
from cumulet.identity.api.judge import judge, standing
from cumulet.identity.api.roles import role_view
from cumulet.identity.records import Role, Trust
from cumulet.identity.resources import TRUST, show
from cumulet.identity.service.delegation import refuse_credential
from cumulet.identity.service.realm import missing

__all__ = ["ROUTES"]

_BASE = "/v3/OS-TRUST/trusts"


def summary(call: Call, trust: Trust) -> dict[str, Any]:
    return show(call, TRUST, trust, links=links(call, f"{_BASE}/{trust.id}"))


def trust_view(call: Call, trust: Trust) -> dict[str, Any]:
    path = f"{_BASE}/{trust.id}/roles"
    return {
        **summary(call, trust),
        "roles": [role_view(call, role) for role in _roles(call, trust)],
        "roles_links": {"self": call.url(path), "next": None, "previous": None},
    }


def list_trusts(call: Call) -> dict[str, Any]:
    trustor, trustee = call.one("trustor_user_id"), call.one("trustee_user_id")
    if trustor:
        judge(call, "list_trusts_for_trustor", trust={"trustor_user_id": trustor})
    elif trustee:
        judge(call, "list_trusts_for_trustee", trust={"trustee_user_id": trustee})
    else:
        judge(call, "list_trusts")
    refuse_credential(standing(call))
    chosen = {name: value for name, value in (("trustor_user_id", trustor), ("trustee_user_id", trustee)) if value}
    return collected(call, "trusts", call.service.trusts.find(**chosen), summary)


def create_trust(call: Call) -> dict[str, Any]:
    judge(call, "create_trust", trust={"trustor_user_id": call.body["trustor_user_id"]})
    return {"trust": trust_view(call, call.service.trusts.create(call.body, standing(call)))}


def show_trust(call: Call, trust_id: str) -> dict[str, Any]:
    trust = _trust(call, "get_trust", trust_id)
    refuse_credential(standing(call))
    return {"trust": trust_view(call, trust)}


def delete_trust(call: Call, trust_id: str) -> None:
    _trust(call, "delete_trust", trust_id)
    refuse_credential(standing(call))
    call.service.trusts.delete(trust_id)


def list_roles(call: Call, trust_id: str) -> dict[str, Any]:
    trust = _trust(call, "list_roles_for_trust", trust_id)
    return collected(call, "roles", _roles(call, trust), role_view)


def show_role(call: Call, trust_id: str, role_id: str) -> dict[str, Any]:
    trust = _trust(call, "get_role_for_trust", trust_id)
    for role in _roles(call, trust):
        if role.id == role_id:
            return {"role": role_view(call, role)}
    raise missing("role", role_id)


def check_role(call: Call, trust_id: str, role_id: str) -> None:
    show_role(call, trust_id, role_id)


def _trust(call: Call, rule: str, trust_id: str) -> Trust:
    """Unlike elsewhere, one that is not there is 404 to everybody, as in the reference; its id cannot be guessed."""
    judge(call, rule, trust=call.service.realm.get(Trust, trust_id))
    trust: Trust = call.service.trusts.trust(trust_id)
    return trust


def _roles(call: Call, trust: Trust) -> list[Role]:
    graph = call.service.roles.graph()
    return [graph.roles[role_id] for role_id in trust.role_ids if role_id in graph.roles]


_ROLE = f"{_BASE}/{{trust_id}}/roles/{{role_id}}"

ROUTES = [
    # who may list depends on whose are asked for
    Get(_BASE, list_trusts, may="identity:list_trusts_for_trustor"),
    Post(_BASE, create_trust, may="identity:create_trust", takes=TRUST),
    Get(f"{_BASE}/{{trust_id}}", show_trust, may="identity:get_trust"),
    Delete(f"{_BASE}/{{trust_id}}", delete_trust, may="identity:delete_trust"),
    Get(f"{_BASE}/{{trust_id}}/roles", list_roles, may="identity:list_roles_for_trust"),
    Get(_ROLE, show_role, may="identity:get_role_for_trust"),
    Head(_ROLE, check_role, may="identity:get_role_for_trust"),
]
