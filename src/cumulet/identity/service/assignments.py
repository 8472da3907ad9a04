"""Who holds which role where: grants one by one, and the list of all of them, as written or as they take effect."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import msgspec

from cumulet.core.db import Tx
from cumulet.core.errors import Forbidden, NotFound
from cumulet.identity.records import SYSTEM, Assignment, Group, Project, Role, User
from cumulet.identity.roles import Place, reaches
from cumulet.identity.service.projects import Projects, need_domain
from cumulet.identity.service.realm import Realm
from cumulet.identity.service.tokens import Tokens
from cumulet.identity.store import access, rows

__all__ = ["Assignments", "Effect", "Filter"]


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which assignments are asked for; None: any.  `subtree`: the project's descendants too."""

    role_id: str | None = None
    user_id: str | None = None
    group_id: str | None = None
    project_id: str | None = None
    domain_id: str | None = None
    system: bool = False
    inherited: bool | None = None
    subtree: bool = False


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """An assignment as it takes effect: on whom, where, which role; and the written assignment it comes from."""

    actor: str
    actor_id: str
    target: str
    target_id: str
    role_id: str
    source: Assignment


class Assignments:
    """Part of the identity service."""

    def __init__(self, realm: Realm, tokens: Tokens) -> None:
        self._realm = realm
        self._tokens = tokens

    def grant(self, assignment: Assignment) -> None:
        """Give a role; a second time changes nothing.  Raises NotFound, Forbidden for a role of another domain."""
        with self._realm.write() as tx:
            role = self._check(tx, assignment)
            if role.domain_id and assignment.target == "project":
                place = rows.get(tx, Project, assignment.target_id)
                if place is None or place.owner_id != role.domain_id:
                    msg = f"Project {assignment.target_id} must be in the same domain as the role {role.id}."
                    raise Forbidden(msg)
            access.assign(tx, assignment)

    def revoke(self, assignment: Assignment) -> None:
        """Raises NotFound where there is no such assignment; the actor may be gone."""
        with self._realm.write() as tx:
            self._realm.need(tx, Role, assignment.role_id)
            if not access.unassign(tx, assignment):
                raise _no_grant(assignment)

    def check(self, assignment: Assignment) -> None:
        with self._realm.db.read() as tx:
            self._check(tx, assignment)
            if assignment not in access.held(tx, [assignment.actor_id], [assignment.target_id]):
                raise _no_grant(assignment)

    def roles(self, *, actor: str, actor_id: str, target: str, target_id: str, inherited: bool = False) -> list[Role]:
        """The roles an actor was given on a target."""
        with self._realm.db.read() as tx:
            self._need_actor(tx, actor, actor_id)
            self._need_target(tx, target, target_id)
            held = access.held(tx, [actor_id], [target_id])
            ids = [a.role_id for a in held if a.target == target and a.inherited == inherited]
            return rows.find(tx, Role, id=ids)

    def projects_of(self, user_id: str) -> list[Project]:
        """The projects on which a user has a role, disabled ones too."""
        with self._realm.db.read() as tx:
            held = access.held(tx, [user_id, *access.group_ids(tx, user_id)])
            ids = {a.target_id for a in held if a.target == "project" and not a.inherited}
            found = rows.find(tx, Project, id=ids)
            domains = {a.target_id for a in held if a.target == "domain" and a.inherited}
            found += rows.find(tx, Project, domain_id=domains) if domains else []
            found += Projects.below(tx, {a.target_id for a in held if a.target == "project" and a.inherited})
        return sorted({project.id: project for project in found if not project.is_domain}.values(), key=lambda p: p.id)

    def domains_of(self, user_id: str) -> list[Project]:
        """The domains on which a user has a role."""
        with self._realm.db.read() as tx:
            held = access.held(tx, [user_id, *access.group_ids(tx, user_id)])
            return rows.find(
                tx, Project, id={a.target_id for a in held if a.target == "domain" and not a.inherited}, is_domain=True
            )

    def has_system(self, user_id: str) -> bool:
        with self._realm.db.read() as tx:
            return bool(access.held(tx, [user_id, *access.group_ids(tx, user_id)], [SYSTEM]))

    def written(self, wanted: Filter) -> list[Effect]:
        """The assignments as they were written."""
        with self._realm.db.read() as tx:
            targets = self._targets(tx, wanted)
            where: dict[str, Any] = {}
            if wanted.role_id is not None:
                where["role_id"] = wanted.role_id
            if wanted.inherited is not None:
                where["inherited"] = wanted.inherited
            if wanted.user_id is not None or wanted.group_id is not None:
                where["actor"] = "user" if wanted.user_id is not None else "group"
                where["actor_id"] = wanted.user_id or wanted.group_id
            if targets is not None:
                where["target_id"] = targets
                where["target"] = _kind(wanted)
            found = rows.find(tx, Assignment, **where)
        return [
            Effect(
                actor=a.actor, actor_id=a.actor_id, target=a.target, target_id=a.target_id, role_id=a.role_id, source=a
            )
            for a in found
        ]

    def effective(self, wanted: Filter) -> list[Effect]:
        """What the assignments come to: groups by their members, inherited ones by the projects below, roles by what
        they imply.
        """
        with self._realm.db.read() as tx:
            places = self._places(tx, wanted)
            held = self._held(tx, wanted, places)
            groups = {a.actor_id for a in held if a.actor == "group"}
            members: dict[str, list[str]] = {}
            for group_id, user_id in access.member_ids(tx, groups) if groups else ():
                members.setdefault(group_id, []).append(user_id)
            graph = self._realm.graph(tx)
            effects: dict[tuple[str, str, str, str], Effect] = {}
            for source in held:
                if wanted.inherited is not None and source.inherited != wanted.inherited:
                    continue
                users = [source.actor_id] if source.actor == "user" else members.get(source.actor_id, [])
                for target, target_id in self._reached(tx, source, places):
                    for role in graph.in_token(graph.closure(source.role_id)):
                        for user_id in users:
                            if wanted.user_id not in {None, user_id} or wanted.role_id not in {None, role.id}:
                                continue
                            effect = Effect(
                                actor="user",
                                actor_id=user_id,
                                target=target,
                                target_id=target_id,
                                role_id=role.id,
                                source=source,
                            )
                            effects.setdefault((user_id, target, target_id, role.id), effect)
        return list(effects.values())

    def names(self, effects: Collection[Effect]) -> "Names":
        """The names of everything that a list mentions."""
        users = {e.actor_id for e in effects if e.actor == "user"}
        groups = {e.actor_id for e in effects if e.actor == "group"}
        projects = {e.target_id for e in effects if e.target != "system"}
        with self._realm.db.read() as tx:
            found_users = {user.id: user for user in rows.find(tx, User, id=users)}
            found_groups = {group.id: group for group in rows.find(tx, Group, id=groups)}
            found_projects = {project.id: project for project in rows.find(tx, Project, id=projects)}
            roles = self._realm.graph(tx).roles
            domains = {u.domain_id for u in found_users.values()} | {g.domain_id for g in found_groups.values()}
            domains |= {p.owner_id for p in found_projects.values()} | {role.domain_id for role in roles.values()}
            found_projects |= {domain.id: domain for domain in rows.find(tx, Project, id=domains)}
        return Names(found_users, found_groups, found_projects, roles)

    def _check(self, tx: Tx, assignment: Assignment) -> Role:
        role = self._realm.need(tx, Role, assignment.role_id)
        self._need_actor(tx, assignment.actor, assignment.actor_id)
        self._need_target(tx, assignment.target, assignment.target_id)
        return role

    def _need_actor(self, tx: Tx, actor: str, actor_id: str) -> None:
        if actor == "user":
            self._realm.need(tx, User, actor_id)
        else:
            self._realm.need(tx, Group, actor_id)

    def _need_target(self, tx: Tx, target: str, target_id: str) -> None:
        if target == "domain":
            need_domain(tx, target_id)
        elif target == "project":
            self._realm.need(tx, Project, target_id)

    def _targets(self, tx: Tx, wanted: Filter) -> list[str] | None:
        """The targets that are asked for; None for all."""
        if wanted.project_id is not None:
            below = [project.id for project in Projects.below(tx, [wanted.project_id])] if wanted.subtree else []
            return [wanted.project_id, *below]
        if wanted.domain_id is not None:
            return [wanted.domain_id]
        return [SYSTEM] if wanted.system else None

    def _places(self, tx: Tx, wanted: Filter) -> list[Place] | None:
        if wanted.project_id is not None:
            projects = rows.find(tx, Project, id=self._targets(tx, wanted))
            return [self._tokens.place(tx, project) for project in projects]
        if wanted.domain_id is not None:
            return [Place(target="domain", id=wanted.domain_id)]
        return [Place(target="system", id=SYSTEM)] if wanted.system else None

    @staticmethod
    def _held(tx: Tx, wanted: Filter, places: Collection[Place] | None) -> list[Assignment]:
        where: dict[str, Any] = {}
        if places is not None:
            where["target_id"] = {id_ for place in places for id_ in place.ids}
        if wanted.user_id is not None:
            where["actor_id"] = [wanted.user_id, *access.group_ids(tx, wanted.user_id)]
        return rows.find(tx, Assignment, **where)

    @staticmethod
    def _reached(tx: Tx, source: Assignment, places: Collection[Place] | None) -> Iterator[tuple[str, str]]:
        """Where an assignment counts, among the places asked for."""
        if places is not None:
            yield from ((place.target, place.id) for place in places if reaches(source, place))
        elif not source.inherited:
            yield source.target, source.target_id
        elif source.target == "domain":
            yield from (("project", project.id) for project in rows.find(tx, Project, domain_id=source.target_id))
        else:
            yield from (("project", project.id) for project in Projects.below(tx, [source.target_id]))


class Names(msgspec.Struct, frozen=True):
    """Records by id."""

    users: Mapping[str, User]
    groups: Mapping[str, Group]
    projects: Mapping[str, Project]
    roles: Mapping[str, Role]


def _kind(wanted: Filter) -> str:
    if wanted.project_id is not None:
        return "project"
    return "domain" if wanted.domain_id is not None else "system"


def _no_grant(assignment: Assignment) -> NotFound:
    return NotFound(
        f"Could not find role assignment with role: {assignment.role_id}, user or group: {assignment.actor_id}, "
        f"project, domain, or system: {assignment.target_id}."
    )
