"""Users and their passwords; groups and their members."""

from collections.abc import Generator
from typing import Any

import msgspec

from cumulet.core.db import Duplicate
from cumulet.core.errors import BadRequest, Unauthorized
from cumulet.core.work import Slow, Until
from cumulet.identity import passwords
from cumulet.identity.records import Group, Project, User
from cumulet.identity.service.authentication import PASSWORD_POOL, Authentication
from cumulet.identity.service.projects import need_domain, remove_users
from cumulet.identity.service.realm import Realm, immutable, merged, missing, split_extra, taken
from cumulet.identity.store import access, rows

__all__ = ["Groups", "Users"]

_KNOWN = frozenset({"name", "domain_id", "enabled", "default_project_id", "password", "options", "password_expires_at"})
_GROUP_KNOWN = frozenset({"name", "domain_id", "description"})

Work = Generator[Slow | Until, Any, User]


class Users:
    """Part of the identity service.  What hashes a password is a generator."""

    def __init__(self, realm: Realm, authentication: Authentication) -> None:
        self._realm = realm
        self._authentication = authentication

    def user(self, user_id: str) -> User:
        return self._realm.get(User, user_id)

    def create(self, given: dict[str, Any]) -> Work:
        """A new user.  Raises NotFound for its domain, BadRequest, Conflict for a taken name."""
        ours, extra = split_extra(given, _KNOWN)
        with self._realm.db.read() as tx:
            need_domain(tx, ours["domain_id"])
            self._check_project(rows.get(tx, Project, ours.get("default_project_id") or ""))
        hashed = yield from self._hash(ours.get("password"))
        user = User(
            id=self._realm.ids.hex(),
            name=ours["name"].strip(),
            domain_id=ours["domain_id"],
            enabled=ours.get("enabled", True),
            default_project_id=ours.get("default_project_id"),
            password_hash=hashed,
            password_expires_at=None,
            tokens_since="",
            created_at=self._realm.clock.now(),
            options=merged({}, ours.get("options")),
            extra=extra,
        )
        try:
            with self._realm.write() as tx:
                need_domain(tx, user.domain_id)
                rows.add(tx, user)
        except Duplicate:
            raise taken("user", user.name, user.domain_id) from None
        return user

    def update(self, user_id: str, given: dict[str, Any]) -> Work:
        """A changed user.  A new password, or being disabled, ends all the user's tokens."""
        ours, extra = split_extra(given, _KNOWN)
        with self._realm.db.read() as tx:
            old = self._realm.need(tx, User, user_id)
            self._check_project(rows.get(tx, Project, ours.get("default_project_id") or ""))
        if "domain_id" in ours and ours["domain_id"] != old.domain_id:
            msg = "Cannot change Domain ID"
            raise BadRequest(msg)
        hashed = yield from self._hash(ours.get("password"))
        try:
            with self._realm.write() as tx:
                old = self._realm.need(tx, User, user_id)
                immutable("user", old, ours)
                changes: dict[str, Any] = {"extra": {**old.extra, **extra}}
                for name in ("enabled", "default_project_id"):
                    if name in ours:
                        changes[name] = ours[name]
                if "name" in ours:
                    changes["name"] = ours["name"].strip()
                if "options" in ours:
                    changes["options"] = merged(old.options, ours["options"])
                if "password" in ours:
                    changes |= {"password_hash": hashed, "password_expires_at": None}
                if "password" in ours or (old.enabled and ours.get("enabled") is False):
                    changes["tokens_since"] = self._realm.clock.now()
                rows.change(tx, User, user_id, **changes)
        except Duplicate:
            raise taken("user", ours["name"], old.domain_id) from None
        return msgspec.structs.replace(old, **changes)

    def change_password(self, user_id: str, original: str, new: str) -> Work:
        """The user's own change.  Raises Unauthorized for a wrong original password."""
        with self._realm.db.read() as tx:
            user = rows.get(tx, User, user_id)
        good = yield from self._authentication.check_password(user, original, key=user_id)
        if not good or user is None or not user.enabled or passwords.is_quick(user.password_hash or ""):
            raise Unauthorized
        if user.options.get("lock_password"):
            msg = "Password changes are locked for this user."
            raise BadRequest(msg)
        if original == new:
            msg = "The new password cannot be identical to a previous password."
            raise BadRequest(msg)
        hashed = yield from self._hash(new)
        with self._realm.write() as tx:
            now = self._realm.need(tx, User, user_id)
            if now.password_hash != user.password_hash:
                raise Unauthorized
            changes = {"password_hash": hashed, "password_expires_at": None, "tokens_since": self._realm.clock.now()}
            rows.change(tx, User, user_id, **changes)
        return user

    def delete(self, user_id: str) -> None:
        with self._realm.write() as tx:
            immutable("user", self._realm.need(tx, User, user_id))
            remove_users(tx, [user_id])

    def groups(self, user_id: str) -> list[Group]:
        with self._realm.db.read() as tx:
            self._realm.need(tx, User, user_id)
            return access.groups_of(tx, user_id)

    def _hash(self, password: str | None) -> Generator[Slow | Until, Any, str | None]:
        if password is None:
            return None
        passwords.check_text(password)
        hashed = yield Slow(PASSWORD_POOL, passwords.hash_password, (password, self._realm.config.bcrypt_rounds))
        return str(hashed)

    @staticmethod
    def _check_project(project: Project | None) -> None:
        if project is not None and project.is_domain:
            msg = "A default project cannot be a domain."
            raise BadRequest(msg)


class Groups:
    """Part of the identity service."""

    def __init__(self, realm: Realm) -> None:
        self._realm = realm

    def group(self, group_id: str) -> Group:
        return self._realm.get(Group, group_id)

    def create(self, given: dict[str, Any]) -> Group:
        ours, extra = split_extra(given, _GROUP_KNOWN)
        group = Group(
            id=self._realm.ids.hex(),
            name=ours["name"].strip(),
            domain_id=ours["domain_id"],
            description=ours.get("description") or "",
            extra=extra,
        )
        try:
            with self._realm.write() as tx:
                need_domain(tx, group.domain_id)
                rows.add(tx, group)
        except Duplicate:
            raise taken("group", group.name, group.domain_id) from None
        return group

    def update(self, group_id: str, given: dict[str, Any]) -> Group:
        ours, extra = split_extra(given, _GROUP_KNOWN)
        try:
            with self._realm.write() as tx:
                old = self._realm.need(tx, Group, group_id)
                if "domain_id" in ours and ours["domain_id"] != old.domain_id:
                    msg = "Cannot change Domain ID"
                    raise BadRequest(msg)
                changes: dict[str, Any] = {"extra": {**old.extra, **extra}}
                if "name" in ours:
                    changes["name"] = ours["name"].strip()
                if "description" in ours:
                    changes["description"] = ours["description"] or ""
                rows.change(tx, Group, group_id, **changes)
        except Duplicate:
            raise taken("group", ours["name"], old.domain_id) from None
        return msgspec.structs.replace(old, **changes)

    def delete(self, group_id: str) -> None:
        with self._realm.write() as tx:
            self._realm.need(tx, Group, group_id)
            access.withdraw(tx, actors=[group_id])
            access.remove_member(tx, group_id=group_id)
            rows.remove(tx, Group, id=group_id)

    def members(self, group_id: str) -> list[User]:
        with self._realm.db.read() as tx:
            self._realm.need(tx, Group, group_id)
            return access.members(tx, group_id)

    def add(self, group_id: str, user_id: str) -> None:
        with self._realm.write() as tx:
            self._realm.need(tx, Group, group_id)
            self._realm.need(tx, User, user_id)
            access.add_member(tx, group_id, user_id)

    def remove(self, group_id: str, user_id: str) -> None:
        with self._realm.write() as tx:
            self._realm.need(tx, Group, group_id)
            self._realm.need(tx, User, user_id)
            if not access.remove_member(tx, group_id=group_id, user_id=user_id):
                raise missing("user in group", f"{user_id} in {group_id}")

    def check(self, group_id: str, user_id: str) -> None:
        with self._realm.db.read() as tx:
            self._realm.need(tx, Group, group_id)
            self._realm.need(tx, User, user_id)
            if not access.is_member(tx, group_id, user_id):
                raise missing("user in group", f"{user_id} in {group_id}")
