"""/v3/domains, and what a domain configures of its own."""

from typing import Any

from cumulet.core.errors import BadRequest, Forbidden, NotFound
from cumulet.core.web import Call, Delete, Get, Patch, Post, Put, Response
from cumulet.identity.api.collection import links, page, where
from cumulet.identity.api.judge import changes, judge, need
from cumulet.identity.records import Project
from cumulet.identity.resources import DOMAIN, DOMAIN_OPTIONS, show
from cumulet.identity.service.documents import DEFAULT_OPTIONS
from cumulet.identity.service.projects import DEFAULT_DOMAIN

__all__ = ["ROUTES", "domain_view"]


def domain_view(call: Call, domain: Project) -> dict[str, Any]:
    return show(call, DOMAIN, domain, links=links(call, f"/v3/domains/{domain.id}"))


def list_domains(call: Call) -> dict[str, Any]:
    own = call.context.domain_id
    judge(call, "list_domains", domain=None if own is None else {"id": own})
    chosen = where(call, "name", flags=("enabled",))
    if own is not None:
        chosen["id"] = own
    return page(call, "domains", Project, domain_view, path="/v3/domains", is_domain=True, **chosen)


def create_domain(call: Call) -> dict[str, Any]:
    given = {**call.body, "is_domain": True, "domain_id": None, "parent_id": None}
    return {"domain": domain_view(call, call.service.projects.create(given))}


def show_domain(call: Call, domain_id: str) -> dict[str, Any]:
    return {"domain": domain_view(call, need(call, "get_domain", Project, domain_id, word="domain"))}


def update_domain(call: Call, domain_id: str) -> dict[str, Any]:
    call.service.projects.domain(domain_id)
    judge(call, "update_domain")
    given = {
        key: value
        for key, value in changes(call, domain_id).items()
        if key not in {"is_domain", "domain_id", "parent_id"}
    }
    return {"domain": domain_view(call, call.service.projects.update(domain_id, given))}


def delete_domain(call: Call, domain_id: str) -> None:
    call.service.projects.domain(domain_id)
    judge(call, "delete_domain")
    call.service.projects.delete_domain(domain_id)


def create_options(call: Call, domain_id: str) -> Response:
    """201 for a first configuration, 200 for one that replaces another."""
    given = _options(call.body["config"])
    there = call.service.documents.has_options(domain_id)
    config = call.service.documents.set_options(domain_id, given, replace=True)
    return Response(200 if there else 201, {"config": config})


def show_options(call: Call, domain_id: str, group: str | None = None, option: str | None = None) -> dict[str, Any]:
    found = call.service.documents.options(domain_id, group, option)
    return {"config": found[group] if group is not None and option is not None else found}


def show_compliance(_call: Call, domain_id: str, option: str | None = None) -> dict[str, Any]:
    """What passwords must look like: of the default domain only, for everybody to see."""
    if domain_id != DEFAULT_DOMAIN:
        msg = "Security compliance options are of the default domain only."
        raise Forbidden(msg)
    if option is None:
        return {"config": {"security_compliance": COMPLIANCE}}
    if option not in COMPLIANCE:
        msg = f"Option {option} in group security_compliance is not supported."
        raise Forbidden(msg)
    return {"config": {option: COMPLIANCE[option]}}


def update_options(call: Call, domain_id: str, group: str | None = None, option: str | None = None) -> dict[str, Any]:
    given = call.body["config"]
    if group is not None and option is not None:
        if set(given) != {option}:
            msg = f"Invalid domain specific configuration: only option {option} may be given."
            raise BadRequest(msg)
        given = {group: given}
    elif group is not None and set(given) != {group}:
        msg = f"Invalid domain specific configuration: only group {group} may be given."
        raise BadRequest(msg)
    call.service.documents.need_options(domain_id, group, option)
    return {"config": call.service.documents.set_options(domain_id, _options(given), replace=False)}


def delete_options(call: Call, domain_id: str, group: str | None = None, option: str | None = None) -> None:
    call.service.documents.delete_options(domain_id, group, option)


def show_defaults(_call: Call, group: str | None = None, option: str | None = None) -> dict[str, Any]:
    if group is None:
        return {"config": DEFAULT_OPTIONS}
    if group not in DEFAULT_OPTIONS or (option is not None and option not in DEFAULT_OPTIONS[group]):
        msg = f"Could not find option {option} in group {group}." if option else f"Could not find group {group}."
        raise NotFound(msg)
    return {"config": {group: DEFAULT_OPTIONS[group]} if option is None else {option: DEFAULT_OPTIONS[group][option]}}


def _options(given: Any) -> dict[str, dict[str, Any]]:
    for group, values in given.items():
        if not isinstance(values, dict) or not values:
            msg = f"Invalid domain specific configuration: group {group} has no options."
            raise BadRequest(msg)
    found: dict[str, dict[str, Any]] = given
    return found


COMPLIANCE: dict[str, str | None] = {"password_regex": None, "password_regex_description": None}

_CONFIG = "/v3/domains/{domain_id}/config"
_DEFAULT = "/v3/domains/config"
_GROUP = "/{group}"
_OPTION = "/{group}/{option}"

ROUTES = [
    Get("/v3/domains", list_domains, may="identity:list_domains"),
    Post("/v3/domains", create_domain, may="identity:create_domain", takes=DOMAIN),
    # before the domains themselves: "config" is no domain
    *(
        Get(f"{_DEFAULT}{part}/default", show_defaults, may="identity:get_domain_config_default")
        for part in ("", _GROUP, _OPTION)
    ),
    Get("/v3/domains/{domain_id}", show_domain, may="identity:get_domain"),
    Patch("/v3/domains/{domain_id}", update_domain, may="identity:update_domain", takes=DOMAIN),
    Delete("/v3/domains/{domain_id}", delete_domain, may="identity:delete_domain"),
    *(
        Get(
            f"{_CONFIG}/security_compliance{part}",
            show_compliance,
            may="identity:get_security_compliance_domain_config",
        )
        for part in ("", "/{option}")
    ),
    Put(_CONFIG, create_options, may="identity:create_domain_config", takes=DOMAIN_OPTIONS),
    *(Get(f"{_CONFIG}{part}", show_options, may="identity:get_domain_config") for part in ("", _GROUP, _OPTION)),
    *(
        Patch(f"{_CONFIG}{part}", update_options, may="identity:update_domain_config", takes=DOMAIN_OPTIONS)
        for part in ("", _GROUP, _OPTION)
    ),
    *(
        Delete(f"{_CONFIG}{part}", delete_options, may="identity:delete_domain_config")
        for part in ("", _GROUP, _OPTION)
    ),
]
