"""Projects, and domains, which are projects at the root."""

from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from cumulet.core.db import Duplicate, Tx
from cumulet.core.errors import BadRequest, Conflict, Forbidden
from cumulet.identity.records import ApplicationCredential, Credential, Group, Limit, Project, Role, Trust, User
from cumulet.identity.service.realm import Realm, immutable, merged, missing, split_extra
from cumulet.identity.store import access, filters, options, rows

__all__ = ["Projects", "remove_users"]

TAGS_MAX = 80
_KNOWN = frozenset({"name", "domain_id", "parent_id", "is_domain", "enabled", "description", "tags", "options"})
DEFAULT_DOMAIN = "default"


class Projects:
    """Part of the identity service."""

    def __init__(self, realm: Realm) -> None:
        self._realm = realm

    def project(self, project_id: str) -> Project:
        return self._realm.get(Project, project_id)

    def domain(self, domain_id: str) -> Project:
        with self._realm.db.read() as tx:
            return need_domain(tx, domain_id)

    def create(self, given: dict[str, Any], *, default_domain_id: str = DEFAULT_DOMAIN) -> Project:
        """A project, or with `is_domain` a domain.  Raises BadRequest for a place where it cannot be, Conflict for a
        taken name.
        """
        ours, extra = split_extra(given, _KNOWN)
        is_domain = bool(ours.get("is_domain"))
        with self._realm.db.read() as tx:
            domain_id, parent_id = ("", "") if is_domain else self._place(tx, ours, default_domain_id)
        if is_domain and (ours.get("domain_id") or ours.get("parent_id")):
            msg = "only root projects are allowed to act as domains."
            raise BadRequest(msg)
        project = Project(
            id=self._domain_id(given) if is_domain else self._realm.ids.hex(),
            name=ours["name"].strip(),
            domain_id=domain_id,
            parent_id=parent_id,
            is_domain=is_domain,
            enabled=ours.get("enabled", True),
            description=ours.get("description") or "",
            tags=sorted(ours.get("tags") or ()),
            options=merged({}, ours.get("options")),
            extra=extra,
        )
        try:
            with self._realm.write() as tx:
                rows.add(tx, project)
        except Duplicate:
            raise _taken(project) from None
        return project

    def _domain_id(self, given: dict[str, Any]) -> str:
        """A domain's id may be chosen by who makes it (`explicit_domain_id`)."""
        chosen = given.get("explicit_domain_id")
        return str(chosen) if chosen else self._realm.ids.hex()

    def _place(self, tx: Tx, ours: dict[str, Any], default_domain_id: str) -> tuple[str, str]:
        """The domain and the parent of a new project."""
        parent_id = ours.get("parent_id")
        parent = rows.get(tx, Project, parent_id) if parent_id else None
        if parent_id and parent is None:
            raise BadRequest(missing("project", parent_id).message)
        domain_id = ours.get("domain_id") or (parent.owner_id if parent else default_domain_id)
        domain = rows.get(tx, Project, domain_id)
        if domain is None or not domain.is_domain:
            raise BadRequest(missing("domain", domain_id).message)
        if parent is None:
            parent = domain
        if parent.owner_id != domain_id:
            msg = (
                f"Cannot create project, since it specifies its domain_id {domain_id}, but specifies a parent in a "
                f"different domain ({parent.owner_id})."
            )
            raise BadRequest(msg)
        line = [parent, *self._above(tx, parent)]
        for project in line:
            if not project.enabled:
                msg = f"cannot create a project in a branch containing a disabled project: {project.id}"
                raise BadRequest(msg)
        if len(line) >= self._realm.config.project_depth_max:
            msg = f"Max hierarchy depth reached for {parent.id} branch."
            raise Forbidden(msg)
        return domain_id, parent.id

    @staticmethod
    def _above(tx: Tx, project: Project) -> list[Project]:
        """Its ancestors, nearest first, the domain last."""
        line: list[Project] = []
        while project.parent_id:
            parent = rows.get(tx, Project, project.parent_id)
            if parent is None:
                break
            line.append(parent)
            project = parent
        return line

    @staticmethod
    def below(tx: Tx, project_ids: Collection[str]) -> list[Project]:
        """Everything below, level by level."""
        found: list[Project] = []
        level: Sequence[str] = list(project_ids)
        while level:
            children = rows.find(tx, Project, parent_id=level)
            found += children
            level = [child.id for child in children]
        return found

    def ancestors(self, project: Project) -> list[Project]:
        with self._realm.db.read() as tx:
            return self._above(tx, project)

    def subtree(self, project: Project) -> list[Project]:
        with self._realm.db.read() as tx:
            return self.below(tx, [project.id])

    def update(self, project_id: str, given: dict[str, Any]) -> Project:
        """A changed project or domain.  Raises Forbidden where the tree does not allow it."""
        ours, extra = split_extra(given, _KNOWN)
        try:
            with self._realm.write() as tx:
                old = self._realm.need(tx, Project, project_id)
                immutable("domain" if old.is_domain else "project", old, ours)
                self._check(tx, old, ours)
                changes: dict[str, Any] = {"extra": {**old.extra, **extra}}
                if "name" in ours:
                    changes["name"] = ours["name"].strip()
                if "enabled" in ours:
                    changes["enabled"] = ours["enabled"]
                if "description" in ours:
                    changes["description"] = ours["description"] or ""
                if "tags" in ours:
                    changes["tags"] = sorted(ours["tags"])
                if "options" in ours:
                    changes["options"] = merged(old.options, ours["options"])
                rows.change(tx, Project, project_id, **changes)
        except Duplicate:
            raise _taken(msgspec.structs.replace(old, name=ours["name"])) from None
        return msgspec.structs.replace(old, **changes)

    def _check(self, tx: Tx, old: Project, ours: dict[str, Any]) -> None:
        if "domain_id" in ours and (ours["domain_id"] or "") != old.domain_id:
            msg = "Cannot change Domain ID"
            raise BadRequest(msg)
        if "parent_id" in ours and (ours["parent_id"] or "") != old.parent_id:
            msg = "Update of `parent_id` is not allowed."
            raise Forbidden(msg)
        if "is_domain" in ours and ours["is_domain"] != old.is_domain:
            msg = "Update of `is_domain` is not allowed."
            raise BadRequest(msg)
        if old.is_domain or "enabled" not in ours or ours["enabled"] == old.enabled:
            return
        if ours["enabled"] and any(not project.enabled for project in self._above(tx, old)):
            msg = f"Cannot enable project {old.id} since it has disabled parents"
            raise Forbidden(msg)
        if not ours["enabled"] and any(project.enabled for project in self.below(tx, [old.id])):
            msg = f"Cannot disable project {old.id} since its subtree contains enabled projects."
            raise Forbidden(msg)

    def delete(self, project_id: str) -> None:
        """Delete a project that has no children; a domain too, when it is disabled, with everything in it."""
        with self._realm.write() as tx:
            project = self._realm.need(tx, Project, project_id)
            if project.is_domain:
                self._delete_domain(tx, project)
                return
            immutable("project", project)
            if rows.count(tx, Project, parent_id=project_id):
                msg = f"Cannot delete the project {project_id} since it is not a leaf in the hierarchy."
                raise Forbidden(msg)
            remove_projects(tx, [project_id])

    def delete_domain(self, domain_id: str) -> None:
        with self._realm.write() as tx:
            self._delete_domain(tx, need_domain(tx, domain_id))

    def _delete_domain(self, tx: Tx, domain: Project) -> None:
        immutable("domain", domain)
        if domain.enabled:
            msg = "Cannot delete a domain that is enabled, please disable it first."
            raise Forbidden(msg)
        if domain.id == DEFAULT_DOMAIN:
            msg = "The default domain cannot be deleted."
            raise Forbidden(msg)
        remove_users(tx, [user.id for user in rows.find(tx, User, domain_id=domain.id)])
        for group in rows.find(tx, Group, domain_id=domain.id):
            access.remove_member(tx, group_id=group.id)
            access.withdraw(tx, actors=[group.id])
        rows.remove(tx, Group, domain_id=domain.id)
        for role in rows.find(tx, Role, domain_id=domain.id):
            access.remove_implication(tx, prior_id=role.id)
            access.remove_implication(tx, implied_id=role.id)
            access.withdraw(tx, role_id=role.id)
        rows.remove(tx, Role, domain_id=domain.id)
        remove_projects(tx, [domain.id, *(project.id for project in rows.find(tx, Project, domain_id=domain.id))])
        rows.remove(tx, Limit, domain_id=domain.id)
        options.remove(tx, domain.id)

    def set_tags(self, project_id: str, tags: Sequence[str]) -> list[str]:
        with self._realm.write() as tx:
            project = self._realm.need(tx, Project, project_id)
            immutable("project", project, {})
            kept = sorted(set(tags))
            rows.change(tx, Project, project_id, tags=kept)
        return kept

    def add_tag(self, project_id: str, tag: str) -> None:
        with self._realm.write() as tx:
            project = self._realm.need(tx, Project, project_id)
            if tag not in project.tags:
                if len(project.tags) >= TAGS_MAX:
                    msg = f"A project may have at most {TAGS_MAX} tags."
                    raise BadRequest(msg)
                rows.change(tx, Project, project_id, tags=sorted([*project.tags, tag]))

    def remove_tag(self, project_id: str, tag: str) -> None:
        with self._realm.write() as tx:
            project = self._realm.need(tx, Project, project_id)
            if tag not in project.tags:
                raise missing("project tag", tag)
            rows.change(tx, Project, project_id, tags=[kept for kept in project.tags if kept != tag])


def need_domain(tx: Tx, domain_id: str) -> Project:
    """Raises NotFound, also for a project that is no domain."""
    found = rows.get(tx, Project, domain_id)
    if found is None or not found.is_domain:
        raise missing("domain", domain_id)
    return found


def remove_projects(tx: Tx, project_ids: Collection[str]) -> None:
    """Projects, with what hangs on them."""
    access.withdraw(tx, targets=project_ids)
    rows.remove(tx, ApplicationCredential, project_id=project_ids)
    rows.remove(tx, Trust, project_id=project_ids)
    rows.remove(tx, Credential, project_id=project_ids)
    rows.remove(tx, Limit, project_id=project_ids)
    for project_id in project_ids:
        filters.remove(tx, project_id=project_id)
    rows.remove(tx, Project, id=project_ids)


def remove_users(tx: Tx, user_ids: Collection[str]) -> None:
    """Users, with what hangs on them."""
    if not user_ids:
        return
    access.withdraw(tx, actors=user_ids)
    for user_id in user_ids:
        access.remove_member(tx, user_id=user_id)
    access.remove_delegations(tx, user_ids)
    rows.remove(tx, User, id=user_ids)


def _taken(project: Project) -> Conflict:
    if project.is_domain:
        detail = f"it is not permitted to have two projects acting as domains with the same name: {project.name}"
    else:
        detail = (
            "it is not permitted to have two projects with either the same name or same id in the same domain: "
            f"name is {project.name}, project id {project.id}"
        )
    return Conflict(f"Conflict occurred attempting to store project - {detail}.")
