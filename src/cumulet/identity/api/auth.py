"""/v3/auth: tokens, and what a token can reach."""

from collections.abc import Generator
from typing import Any

from cumulet.core.errors import Forbidden, NotFound, Unauthorized
from cumulet.core.web import ANYONE, PUBLIC, Call, Delete, Get, Head, Post, Response
from cumulet.identity.api.collection import collected
from cumulet.identity.api.domains import domain_view
from cumulet.identity.api.judge import standing
from cumulet.identity.api.projects import project_view
from cumulet.identity.api.token_document import public_url, token_document
from cumulet.identity.resources import AUTH
from cumulet.identity.service.tokens import Standing

__all__ = ["ROUTES"]

#: names of headers
SUBJECT = "x-subject-token"
ACCESS_RULES = "openstack-identity-access-rules"


def issue_token(call: Call) -> Generator[Any, Any, Response]:
    token, standing = yield from call.service.authentication.log_in(call.body["auth"], started=call.request.arrived)
    document = token_document(call, standing, catalog="nocatalog" not in call.query)
    return Response(201, document, {"X-Subject-Token": token, "Vary": "X-Auth-Token"})


def show_token(call: Call) -> Response:
    token, standing = _subject(call)
    call.authorize("identity:validate_token", **_target(standing))
    if standing.access_rules is not None and ACCESS_RULES not in call.request.headers:
        # whoever cannot check the rules must not accept the token
        raise _unknown()
    document = token_document(call, standing, catalog="nocatalog" not in call.query)
    return Response(200, document, {"X-Subject-Token": token, "Vary": "X-Auth-Token"})


def check_token(call: Call) -> Response:
    token, standing = _subject(call)
    call.authorize("identity:check_token", **_target(standing))
    return Response(200, None, {"X-Subject-Token": token, "Vary": "X-Auth-Token"})


def revoke_token(call: Call) -> None:
    _, standing = _subject(call)
    call.authorize("identity:revoke_token", **_target(standing))
    call.service.tokens.revoke(standing)


def show_issue(call: Call, audit_id: str) -> dict[str, Any]:
    """When a token was asked for and answered: identity's own record, for the launch's trace."""
    found = call.service.tokens.issued(audit_id)
    if found is None:
        msg = f"Could not find token issue: {audit_id}."
        raise NotFound(msg)
    call.authorize("identity:get_token_issue", **{"target.token.user_id": found.user_id})
    return {
        "token_issue": {
            "audit_id": found.audit_id,
            "user_id": found.user_id,
            "methods": found.methods,
            "started_at": found.started,
            "finished_at": found.finished,
        }
    }


def show_catalog(call: Call) -> dict[str, Any]:
    if call.context.project_id is None:
        msg = "A project-scoped token is required to produce a service catalog."
        raise Forbidden(msg)
    document = call.service.catalog.document(public_url(call), call.context.project_id, call.context.user_id)
    return {"catalog": document, "links": {"self": call.url("/v3/auth/catalog")}}


def list_own_projects(call: Call) -> dict[str, Any]:
    """The projects a token of this user could be scoped to."""
    found = [project for project in call.service.assignments.projects_of(_user_id(call)) if project.enabled]
    return collected(call, "projects", found, project_view)


def list_own_domains(call: Call) -> dict[str, Any]:
    found = [domain for domain in call.service.assignments.domains_of(_user_id(call)) if domain.enabled]
    return collected(call, "domains", found, domain_view)


def list_own_system(call: Call) -> dict[str, Any]:
    there = call.service.assignments.has_system(_user_id(call))
    return {"system": [{"all": True}] if there else [], "links": {"self": call.url("/v3/auth/system")}}


def _user_id(call: Call) -> str:
    """Whose scopes are asked for: of a trust's token, the trustee's."""
    return standing(call).payload.user_id


def _subject(call: Call) -> tuple[str, Standing]:
    token = call.request.headers.get(SUBJECT, "")
    late = call.one("allow_expired", "") or ""
    window_s = call.service.config.allow_expired_window_s if late.lower() in {"1", "true", "yes", "on"} else 0
    try:
        return token, call.service.tokens.validate(token, window_s=window_s)
    except (Unauthorized, Forbidden):
        raise _unknown() from None


def _unknown() -> NotFound:
    # the token itself is not repeated: answers end up in logs
    return NotFound("Failed to validate token")


def _target(standing: Standing) -> dict[str, Any]:
    return {"target.token.user_id": standing.user.id, "target.token.user.domain.id": standing.user.domain_id}


ROUTES = [
    Post("/v3/auth/tokens", issue_token, may=PUBLIC, takes=AUTH),
    Get("/v3/auth/tokens", show_token, may=ANYONE, look=True),
    Head("/v3/auth/tokens", check_token, may=ANYONE),
    Delete("/v3/auth/tokens", revoke_token, may=ANYONE),
    Get("/v3/auth/token_issues/{audit_id}", show_issue, may=ANYONE),
    Get("/v3/auth/catalog", show_catalog, may="identity:get_auth_catalog"),
    Get("/v3/auth/projects", list_own_projects, may="identity:get_auth_projects"),
    Get("/v3/auth/domains", list_own_domains, may="identity:get_auth_domains"),
    Get("/v3/auth/system", list_own_system, may="identity:get_auth_system"),
]
