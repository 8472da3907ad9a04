"""Roles given one by one: to users and groups, on projects, domains and the system, and to whatever lies below
(OS-INHERIT).
"""

from collections.abc import Callable
from typing import Any

from cumulet.core.web import Call, Delete, Get, Put, Route
from cumulet.identity.api.collection import collected
from cumulet.identity.api.judge import judge
from cumulet.identity.api.roles import role_view
from cumulet.identity.records import SYSTEM, Assignment, Group, Project, Role, User

__all__ = ["ROUTES"]


class _Kind:
    """One family of paths: who (user, group) on what (project, domain, system), here or below."""

    def __init__(self, actor: str, target: str, *, inherited: bool) -> None:
        self.actor = actor
        self.target = target
        self.inherited = inherited

    def rule(self, act: str) -> str:
        """The policy of an act ("check", "list", "create", "revoke")."""
        if self.target == SYSTEM:
            plural = "system_grants" if act == "list" else "system_grant"
            return f"{act}_{plural}_for_{self.actor}"
        return "list_grants" if act == "list" else f"{act}_grant"

    def look(self, call: Call, act: str, ids: dict[str, str]) -> Assignment:
        """Judge, with the things named in the path."""
        actor_id = ids[f"{self.actor}_id"]
        target_id = ids.get(f"{self.target}_id", SYSTEM)
        realm = call.service.realm
        things: dict[str, Any] = {self.actor: _first(realm.find(User if self.actor == "user" else Group, id=actor_id))}
        if self.target != SYSTEM:
            things[self.target] = _first(realm.find(Project, id=target_id))
        if "role_id" in ids:
            things["role"] = _first(realm.find(Role, id=ids["role_id"]))
        judge(call, self.rule(act), **things)
        return Assignment(
            actor=self.actor,
            actor_id=actor_id,
            target=self.target,
            target_id=target_id,
            role_id=ids.get("role_id", ""),
            inherited=self.inherited,
        )

    def routes(self) -> list[Route]:
        base = "/v3/OS-INHERIT" if self.inherited else "/v3"
        place = "/system" if self.target == SYSTEM else f"/{self.target}s/{{{self.target}_id}}"
        path = f"{base}{place}/{self.actor}s/{{{self.actor}_id}}/roles"
        tail = "/inherited_to_projects" if self.inherited else ""
        one = f"{path}/{{role_id}}{tail}"
        return [
            Get(f"{path}{tail}", _lister(self), may=f"identity:{self.rule('list')}"),
            Put(one, _actor(self, "create", "grant"), may=f"identity:{self.rule('create')}", body="none", status=204),
            Get(one, _actor(self, "check", "check"), may=f"identity:{self.rule('check')}", status=204),
            Delete(one, _actor(self, "revoke", "revoke"), may=f"identity:{self.rule('revoke')}"),
        ]


def _lister(kind: _Kind) -> Callable[..., Any]:
    def list_grants(call: Call, **ids: str) -> dict[str, Any]:
        asked = kind.look(call, "list", ids)
        roles = call.service.assignments.roles(
            actor=asked.actor,
            actor_id=asked.actor_id,
            target=asked.target,
            target_id=asked.target_id,
            inherited=asked.inherited,
        )
        return collected(call, "roles", roles, role_view)

    return list_grants


def _actor(kind: _Kind, act: str, does: str) -> Callable[..., None]:
    def handle(call: Call, **ids: str) -> None:
        getattr(call.service.assignments, does)(kind.look(call, act, ids))

    handle.__name__ = f"{act}_grant"
    return handle


def _first(found: list[Any]) -> Any:
    return found[0] if found else None


ROUTES: list[Route] = [
    route
    for actor in ("user", "group")
    for target, inherited in (
        ("project", False),
        ("domain", False),
        (SYSTEM, False),
        ("project", True),
        ("domain", True),
    )
    for route in _Kind(actor, target, inherited=inherited).routes()
]
