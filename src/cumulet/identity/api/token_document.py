"""A token as the API shows it."""

from typing import Any

from cumulet.core.web import Call
from cumulet.identity.records import Project, User
from cumulet.identity.resources import stamp
from cumulet.identity.service.tokens import Standing

__all__ = ["public_url", "token_document"]


def public_url(call: Call) -> str:
    """Where the cloud is reached: the address of this service without its mount."""
    return call.request.base_url.rpartition("/")[0]


def token_document(call: Call, standing: Standing, *, catalog: bool) -> dict[str, Any]:
    """{"token": {…}}; with `catalog`, what the token's scope sees."""
    payload, user = standing.payload, standing.user
    token: dict[str, Any] = {
        "methods": list(payload.methods),
        "user": _user(user, standing.user_domain),
        "audit_ids": list(payload.audit_ids),
        "expires_at": stamp(payload.expires_at),
        "issued_at": stamp(payload.issued_at),
    }
    if payload.scope.kind == "unscoped":
        return {"token": token}
    token["roles"] = [{"id": role.id, "name": role.name} for role in standing.roles]
    if standing.project is not None and standing.domain is not None:
        project = standing.project
        token["project"] = {"id": project.id, "name": project.name, "domain": _named(standing.domain)}
        token["is_domain"] = project.is_domain
    elif standing.domain is not None:
        token["domain"] = _named(standing.domain)
    else:
        token["system"] = {"all": True}
    if standing.trust is not None:
        trust = standing.trust
        token["OS-TRUST:trust"] = {
            "id": trust.id,
            "trustor_user": {"id": trust.trustor_user_id},
            "trustee_user": {"id": trust.trustee_user_id},
            "impersonation": trust.impersonation,
        }
    if standing.application_credential is not None:
        credential = standing.application_credential
        shown: dict[str, Any] = {
            "id": credential.id,
            "name": credential.name,
            "restricted": not credential.unrestricted,
        }
        if standing.access_rules is not None:
            shown["access_rules"] = [
                {"id": rule.id, "service": rule.service, "path": rule.path, "method": rule.method}
                for rule in standing.access_rules
            ]
        token["application_credential"] = shown
    if catalog:
        project_id = standing.project.id if standing.project else None
        token["catalog"] = call.service.catalog.document(public_url(call), project_id, user.id)
    return {"token": token}


def _named(domain: Project) -> dict[str, str]:
    return {"id": domain.id, "name": domain.name}


def _user(user: User, domain: Project) -> dict[str, Any]:
    return {
        "id": user.id,
        "name": user.name,
        "domain": _named(domain),
        "password_expires_at": stamp(user.password_expires_at),
    }
