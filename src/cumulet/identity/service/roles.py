"""Roles, and what they imply."""

from typing import Any

import msgspec

from cumulet.core.db import Duplicate, Tx
from cumulet.core.errors import BadRequest, Forbidden
from cumulet.identity.records import Role
from cumulet.identity.roles import RoleGraph
from cumulet.identity.service.projects import need_domain
from cumulet.identity.service.realm import Realm, immutable, merged, missing, split_extra, taken
from cumulet.identity.store import access, rows

__all__ = ["Roles"]

_KNOWN = frozenset({"name", "domain_id", "description", "options"})
ADMIN = "admin"


class Roles:
    """Part of the identity service."""

    def __init__(self, realm: Realm) -> None:
        self._realm = realm

    def graph(self) -> RoleGraph:
        with self._realm.db.read() as tx:
            return self._realm.graph(tx)

    def create(self, given: dict[str, Any]) -> Role:
        ours, extra = split_extra(given, _KNOWN)
        role = Role(
            id=self._realm.ids.hex(),
            name=ours["name"],
            domain_id=ours.get("domain_id") or "",
            description=ours.get("description"),
            options=merged({}, ours.get("options")),
            extra=extra,
        )
        try:
            with self._realm.write() as tx:
                if role.domain_id:
                    need_domain(tx, role.domain_id)
                rows.add(tx, role)
        except Duplicate:
            raise taken("role", role.name, role.domain_id) from None
        return role

    def update(self, role_id: str, given: dict[str, Any]) -> Role:
        ours, extra = split_extra(given, _KNOWN)
        try:
            with self._realm.write() as tx:
                old = self._realm.need(tx, Role, role_id)
                immutable("role", old, ours)
                if "domain_id" in ours and (ours["domain_id"] or "") != old.domain_id:
                    msg = "Update of `domain_id` is not allowed."
                    raise BadRequest(msg)
                changes: dict[str, Any] = {"extra": {**old.extra, **extra}}
                for name in ("name", "description"):
                    if name in ours:
                        changes[name] = ours[name]
                if "options" in ours:
                    changes["options"] = merged(old.options, ours["options"])
                rows.change(tx, Role, role_id, **changes)
        except Duplicate:
            raise taken("role", ours["name"], old.domain_id) from None
        return msgspec.structs.replace(old, **changes)

    def delete(self, role_id: str) -> None:
        with self._realm.write() as tx:
            immutable("role", self._realm.need(tx, Role, role_id))
            access.remove_implication(tx, prior_id=role_id)
            access.remove_implication(tx, implied_id=role_id)
            access.withdraw(tx, role_id=role_id)
            rows.remove(tx, Role, id=role_id)

    def imply(self, prior_id: str, implied_id: str) -> tuple[Role, Role]:
        """Raises Forbidden where it must not be: admin is never implied, a role of all never implies a domain's own."""
        with self._realm.write() as tx:
            prior, implied = self._both(tx, prior_id, implied_id)
            if implied.name == ADMIN and not implied.domain_id:
                msg = f"Role {implied_id} cannot be an implied role."
                raise Forbidden(msg)
            if implied.domain_id and not prior.domain_id:
                msg = f"Global role {prior_id} cannot imply a domain-specific role {implied_id}."
                raise Forbidden(msg)
            if self._realm.graph(tx).would_loop(prior_id, implied_id):
                msg = f"Role {prior_id} cannot imply {implied_id}: the implications would go in a circle."
                raise Forbidden(msg)
            access.add_implication(tx, prior_id, implied_id)
        return prior, implied

    def implied(self, prior_id: str, implied_id: str) -> tuple[Role, Role]:
        """The two roles of a rule.  Raises NotFound where there is no such rule."""
        with self._realm.db.read() as tx:
            prior, implied = self._both(tx, prior_id, implied_id)
            if (prior_id, implied_id) not in access.implications(tx):
                raise _no_rule(prior_id, implied_id)
        return prior, implied

    def unimply(self, prior_id: str, implied_id: str) -> None:
        with self._realm.write() as tx:
            self._both(tx, prior_id, implied_id)
            if not access.remove_implication(tx, prior_id=prior_id, implied_id=implied_id):
                raise _no_rule(prior_id, implied_id)

    def _both(self, tx: Tx, prior_id: str, implied_id: str) -> tuple[Role, Role]:
        return self._realm.need(tx, Role, prior_id), self._realm.need(tx, Role, implied_id)


def _no_rule(prior_id: str, implied_id: str) -> Exception:
    return missing("implied role", f"{prior_id} implies {implied_id}")
