"""A user's application credentials and access rules."""

from collections.abc import Generator, Mapping, Sequence
from typing import Any

from cumulet.core.errors import Forbidden
from cumulet.core.web import Call, Delete, Get, Post
from cumulet.identity.api.collection import collected, links, where
from cumulet.identity.api.judge import judge, standing
from cumulet.identity.records import AccessRule, ApplicationCredential, User
from cumulet.identity.resources import APPLICATION_CREDENTIAL, show
from cumulet.identity.service.realm import missing

__all__ = ["ROUTES"]


def rule_view(rule: AccessRule) -> dict[str, Any]:
    return {"id": rule.id, "service": rule.service, "path": rule.path, "method": rule.method}


def credential_view(call: Call, credential: ApplicationCredential, rules: Mapping[str, AccessRule]) -> dict[str, Any]:
    graph = call.service.roles.graph()
    roles = [graph.roles[role_id] for role_id in credential.role_ids if role_id in graph.roles]
    more: dict[str, Any] = {
        "roles": [{"id": role.id, "name": role.name, "domain_id": role.domain_id or None} for role in roles],
        "links": links(call, f"/v3/users/{credential.user_id}/application_credentials/{credential.id}"),
    }
    if credential.access_rule_ids is not None:
        more["access_rules"] = [rule_view(rules[rule_id]) for rule_id in credential.access_rule_ids if rule_id in rules]
    return show(call, APPLICATION_CREDENTIAL, credential, **more)


def _views(call: Call, credentials: Sequence[ApplicationCredential]) -> list[dict[str, Any]]:
    rules = call.service.application_credentials.rules(credentials)
    return [credential_view(call, credential, rules) for credential in credentials]


def list_credentials(call: Call, user_id: str) -> dict[str, Any]:
    judge(call, "list_application_credentials", path_user_id=user_id)
    _refuse_trust(call)
    found = call.service.realm.find(ApplicationCredential, user_id=user_id, **where(call, "name"))
    rules = call.service.application_credentials.rules(found)
    return collected(
        call, "application_credentials", found, lambda call_, credential: credential_view(call_, credential, rules)
    )


def create_credential(call: Call, user_id: str) -> Generator[Any, Any, dict[str, Any]]:
    judge(call, "create_application_credential", path_user_id=user_id)
    credential, secret = yield from call.service.application_credentials.create(call.body, standing(call))
    return {"application_credential": _views(call, [credential])[0] | {"secret": secret}}


def show_credential(call: Call, user_id: str, credential_id: str) -> dict[str, Any]:
    return {"application_credential": _views(call, [_credential(call, "get", user_id, credential_id)])[0]}


def delete_credential(call: Call, user_id: str, credential_id: str) -> None:
    _credential(call, "delete", user_id, credential_id)
    call.service.application_credentials.delete(credential_id, standing(call))


def _credential(call: Call, act: str, user_id: str, credential_id: str) -> ApplicationCredential:
    """Judged by whose it really is, whatever user the path names."""
    found: list[ApplicationCredential] = call.service.realm.find(ApplicationCredential, id=credential_id)
    judge(call, f"{act}_application_credential", path_user_id=found[0].user_id if found else user_id)
    _refuse_trust(call)
    if not found or found[0].user_id != user_id:
        raise missing("application credential", credential_id)
    return found[0]


def _refuse_trust(call: Call) -> None:
    if standing(call).trust is not None:
        msg = "Cannot manage application credentials with a token issued via delegation."
        raise Forbidden(msg)


def list_rules(call: Call, user_id: str) -> dict[str, Any]:
    judge(call, "list_access_rules", user=_user(call, user_id))
    found = call.service.realm.find(AccessRule, user_id=user_id, **where(call, "service", "path", "method"))
    return collected(call, "access_rules", found, _linked)


def show_rule(call: Call, user_id: str, rule_id: str) -> dict[str, Any]:
    return {"access_rule": _linked(call, _rule(call, "get", user_id, rule_id))}


def delete_rule(call: Call, user_id: str, rule_id: str) -> None:
    _rule(call, "delete", user_id, rule_id)
    call.service.application_credentials.delete_rule(user_id, rule_id)


def _rule(call: Call, act: str, user_id: str, rule_id: str) -> AccessRule:
    judge(call, f"{act}_access_rule", user=_user(call, user_id))
    found: list[AccessRule] = call.service.realm.find(AccessRule, id=rule_id, user_id=user_id)
    if not found:
        raise missing("access rule", rule_id)
    return found[0]


def _linked(call: Call, rule: AccessRule) -> dict[str, Any]:
    return {**rule_view(rule), "links": links(call, f"/v3/users/{rule.user_id}/access_rules/{rule.id}")}


def _user(call: Call, user_id: str) -> User | None:
    found: list[User] = call.service.realm.find(User, id=user_id)
    return found[0] if found else None


_BASE = "/v3/users/{user_id}/application_credentials"
_RULES = "/v3/users/{user_id}/access_rules"

ROUTES = [
    Get(_BASE, list_credentials, may="identity:list_application_credentials"),
    Post(_BASE, create_credential, may="identity:create_application_credential", takes=APPLICATION_CREDENTIAL),
    Get(f"{_BASE}/{{credential_id}}", show_credential, may="identity:get_application_credential"),
    Delete(f"{_BASE}/{{credential_id}}", delete_credential, may="identity:delete_application_credential"),
    Get(_RULES, list_rules, may="identity:list_access_rules"),
    Get(f"{_RULES}/{{rule_id}}", show_rule, may="identity:get_access_rule"),
    Delete(f"{_RULES}/{{rule_id}}", delete_rule, may="identity:delete_access_rule"),
]
