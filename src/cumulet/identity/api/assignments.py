"""/v3/role_assignments: all of them, as written or as they take effect."""

from typing import Any

from cumulet.core.errors import BadRequest
from cumulet.core.web import Call, Get
from cumulet.identity.api.collection import collected
from cumulet.identity.api.judge import judge
from cumulet.identity.api.projects import flag_without_value
from cumulet.identity.records import Project
from cumulet.identity.service.assignments import Effect, Filter, Names

__all__ = ["ROUTES"]


def list_assignments(call: Call) -> dict[str, Any]:
    wanted = _wanted(call)
    effective = flag_without_value(call, "effective")
    own = call.context.domain_id
    if wanted.subtree:
        found = call.service.realm.find(Project, id=wanted.project_id) if wanted.project_id else []
        judge(call, "list_role_assignments_for_tree", domain_id=found[0].owner_id if found else None)
        if wanted.project_id is None:
            msg = "scope.project.id must be specified if include_subtree is also specified"
            raise BadRequest(msg)
    else:
        judge(call, "list_role_assignments", domain_id=own)
    _check(wanted, effective=effective)
    service = call.service.assignments
    effects = service.effective(wanted) if effective else service.written(wanted)
    if own is not None:
        in_domain = {
            project.id
            for project in call.service.realm.find(Project, id={e.target_id for e in effects})
            if project.owner_id == own
        }
        effects = [effect for effect in effects if effect.target_id in in_domain]
    names = service.names(effects) if flag_without_value(call, "include_names") else None
    return collected(call, "role_assignments", effects, lambda call_, effect: _view(call_, effect, names))


def _wanted(call: Call) -> Filter:
    inherited = call.one("scope.OS-INHERIT:inherited_to")
    return Filter(
        role_id=call.one("role.id") or None,
        user_id=call.one("user.id") or None,
        group_id=call.one("group.id") or None,
        project_id=call.one("scope.project.id") or None,
        domain_id=call.one("scope.domain.id") or None,
        system=bool(call.one("scope.system")),
        inherited=None if inherited is None else inherited == "projects",
        subtree=flag_without_value(call, "include_subtree"),
    )


def _check(wanted: Filter, *, effective: bool) -> None:
    """Combinations that make no sense."""
    wrong = None
    if sum((wanted.project_id is not None, wanted.domain_id is not None, wanted.system)) > 1:
        wrong = "Specify a domain, a project or the system, not several of them"
    elif wanted.user_id is not None and wanted.group_id is not None:
        wrong = "Specify a user or group, not both"
    elif effective and wanted.group_id is not None:
        wrong = "Combining effective and group filter will always result in an empty list."
    elif effective and wanted.inherited and wanted.domain_id is not None:
        wrong = "Combining effective, domain and inherited filters will always result in an empty list."
    if wrong:
        raise BadRequest(wrong)


def _view(call: Call, effect: Effect, names: Names | None) -> dict[str, Any]:
    source = effect.source
    scope: dict[str, Any] = (
        {effect.target: _project(effect.target_id, names)} if effect.target != "system" else {"system": {"all": True}}
    )
    if source.inherited:
        scope["OS-INHERIT:inherited_to"] = "projects"
    found = {"links": _links(call, effect), "scope": scope, "role": _role(effect.role_id, names)}
    if effect.actor == "user":
        found["user"] = _person(effect.actor_id, names, "users")
    else:
        found["group"] = _person(effect.actor_id, names, "groups")
    return found


def _links(call: Call, effect: Effect) -> dict[str, str]:
    """Where the written assignment stands, and what made it count here."""
    source = effect.source
    place = "/system" if source.target == "system" else f"/{source.target}s/{source.target_id}"
    path = f"{place}/{source.actor}s/{source.actor_id}/roles/{source.role_id}"
    shown = {
        "assignment": call.url(f"/v3/OS-INHERIT{path}/inherited_to_projects" if source.inherited else f"/v3{path}")
    }
    if effect.actor != source.actor:
        shown["membership"] = call.url(f"/v3/groups/{source.actor_id}/users/{effect.actor_id}")
    if effect.role_id != source.role_id:
        shown["prior_role"] = call.url(f"/v3/prior_role/{source.role_id}/implies/{effect.role_id}")
    return shown


def _project(project_id: str, names: Names | None) -> dict[str, Any]:
    project = names.projects.get(project_id) if names else None
    if names is None or project is None:
        return {"id": project_id}
    if project.is_domain:
        return {"id": project_id, "name": project.name}
    return {"id": project_id, "name": project.name, "domain": _domain(project.domain_id, names)}


def _person(actor_id: str, names: Names | None, kind: str) -> dict[str, Any]:
    person = getattr(names, kind).get(actor_id) if names else None
    if names is None or person is None:
        return {"id": actor_id}
    return {"id": actor_id, "name": person.name, "domain": _domain(person.domain_id, names)}


def _role(role_id: str, names: Names | None) -> dict[str, Any]:
    role = names.roles.get(role_id) if names else None
    if names is None or role is None:
        return {"id": role_id}
    own = {"domain": _domain(role.domain_id, names)} if role.domain_id else {}
    return {"id": role_id, "name": role.name, **own}


def _domain(domain_id: str, names: Names) -> dict[str, str]:
    domain = names.projects.get(domain_id)
    return {"id": domain_id, "name": domain.name if domain else ""}


ROUTES = [Get("/v3/role_assignments", list_assignments, may="identity:list_role_assignments")]
