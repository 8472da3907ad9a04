"""Quotas: what a project may have, and what it has."""

from collections.abc import Mapping

import msgspec

from cumulet.compute.store import groups, quotas, usages
from cumulet.core.db import Database, Tx
from cumulet.core.errors import BadRequest

__all__ = ["Quotas", "Used"]


class Used(msgspec.Struct, frozen=True):
    """A limit and what of it is in use."""

    limit: int
    in_use: int


class Quotas:
    """Limits by resource: the operator's default, the class "default", a project's own, a user's own; the last one set counts."""

    def __init__(self, db: Database, defaults: Mapping[str, int]) -> None:
        self._db = db
        self._defaults = dict(defaults)

    def limits(self, tx: Tx, project_id: str, user_id: str = "") -> dict[str, int]:
        """All limits, -1 for none.  Takes the caller's transaction, so that a launch counts and writes in one."""
        found = {**self._defaults, **quotas.of(tx, quotas.DEFAULT_CLASS), **quotas.of(tx, project_id)}
        return {**found, **quotas.of(tx, project_id, user_id)} if user_id else found

    def limit(self, tx: Tx, resource: str, project_id: str, user_id: str = "") -> int:
        return self.limits(tx, project_id, user_id)[resource]

    def of_project(self, project_id: str, user_id: str = "") -> dict[str, int]:
        with self._db.read() as tx:
            return self.limits(tx, project_id, user_id)

    def of_class(self) -> dict[str, int]:
        """The defaults for every project."""
        with self._db.read() as tx:
            return {**self._defaults, **quotas.of(tx, quotas.DEFAULT_CLASS)}

    def usage(self, project_id: str, user_id: str = "") -> dict[str, Used]:
        """Limits with what is in use.  Keypairs are a user's, and groups' members a group's: they count as none here."""
        with self._db.read() as tx:
            limits = self.limits(tx, project_id, user_id)
            held = usages.of_project(tx, project_id, user_id or None)
            held["server_groups"] = groups.count(tx, project_id, user_id or None)
        return {name: Used(limit, held.get(name, 0)) for name, limit in limits.items()}

    def update(self, project_id: str, user_id: str, wanted: Mapping[str, int], *, force: bool) -> dict[str, int]:
        """Set limits; one below what is in use is refused unless forced."""
        used = {} if force or project_id == quotas.DEFAULT_CLASS else self.usage(project_id, user_id)
        for name, limit in wanted.items():
            if limit >= 0 and name in used and limit < used[name].in_use:
                raise BadRequest(
                    f"Quota limit {limit} for {name} must be greater than or equal to already used and reserved {used[name].in_use}."
                )
        with self._db.write() as tx:
            for name, limit in wanted.items():
                quotas.put(tx, project_id, user_id, name, limit)
            return self.limits(tx, project_id, user_id)

    def reset(self, project_id: str, user_id: str | None) -> None:
        with self._db.write() as tx:
            quotas.clear(tx, project_id, user_id)
