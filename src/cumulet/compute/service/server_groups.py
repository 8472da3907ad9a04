"""Groups of servers that are to be together or apart."""

from collections.abc import Mapping
from typing import Any

from cumulet.compute.service.quotas import Quotas
from cumulet.compute.store import groups
from cumulet.compute.store.groups import ServerGroup
from cumulet.core.clock import Clock
from cumulet.core.context import Context
from cumulet.core.db import Database
from cumulet.core.errors import Forbidden, NotFound
from cumulet.core.ids import Ids

__all__ = ["ServerGroups"]


class ServerGroups:
    """What can be done to them."""

    def __init__(self, db: Database, *, quotas: Quotas, clock: Clock, ids: Ids) -> None:
        self._db = db
        self._quotas = quotas
        self._clock = clock
        self._ids = ids

    def page(self, project_id: str | None, *, limit: int, offset: int) -> list[tuple[ServerGroup, list[str]]]:
        """Groups with their members."""
        with self._db.read() as tx:
            found = groups.page(tx, project_id=project_id, limit=limit, offset=offset)
            members = groups.members_of(tx, [one.id for one in found])
        return [(one, members[one.id]) for one in found]

    def get(self, group_id: str, *, project_id: str | None) -> tuple[ServerGroup, list[str]]:
        with self._db.read() as tx:
            found = groups.get(tx, group_id, project_id=project_id)
            members = list(groups.members(tx, group_id)) if found else []
        if found is None:
            raise NotFound(f"Instance group {group_id} could not be found.")
        return found, members

    def create(self, context: Context, name: str, policy: str, rules: Mapping[str, Any]) -> ServerGroup:
        project_id = context.project_id or ""
        group = ServerGroup(
            id=self._ids.uuid(),
            project_id=project_id,
            user_id=context.user_id,
            name=name,
            policy=policy,
            rules=dict(rules),
            created_at=self._clock.now(),
        )
        with self._db.write() as tx:
            limit = self._quotas.limit(tx, "server_groups", project_id, context.user_id)
            if 0 <= limit <= groups.count(tx, project_id):
                raise Forbidden("Quota exceeded, too many server groups.")
            groups.add(tx, group)
        return group

    def delete(self, group_id: str) -> None:
        with self._db.write() as tx:
            groups.remove(tx, group_id)
