"""Server groups: servers that are to be together or apart."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import bindparam, delete, func, select

from cumulet.compute.tables import SERVER_GROUPS as G
from cumulet.compute.tables import SERVERS as S
from cumulet.core.db import Tx

__all__ = ["ServerGroup", "add", "count", "get", "members", "members_of", "page", "remove"]


class ServerGroup(msgspec.Struct, frozen=True, kw_only=True):
    """A group.  rules: {"max_server_per_host": n} for anti-affinity."""

    id: str
    project_id: str
    user_id: str
    name: str
    policy: str
    rules: dict[str, Any]
    created_at: str


_ONE = select(G).where(G.c.id == bindparam("group_id"))


def get(tx: Tx, group_id: str | None, *, project_id: str | None = None) -> ServerGroup | None:
    row = tx.one(_ONE, group_id=group_id)
    if row is None or (project_id is not None and row["project_id"] != project_id):
        return None
    return msgspec.convert(row, ServerGroup)


def members(tx: Tx, group_id: str | None) -> dict[str, str | None]:
    """The group's servers and their hosts."""
    rows = tx.all(select(S.c.id, S.c.host).where(S.c.group_id == group_id, S.c.deleted.is_(False)))
    return {row["id"]: row["host"] for row in rows}


def members_of(tx: Tx, group_ids: Sequence[str]) -> dict[str, list[str]]:
    """The servers of several groups, in one query."""
    found: dict[str, list[str]] = {group_id: [] for group_id in group_ids}
    if group_ids:
        statement = select(S.c.id, S.c.group_id).where(S.c.group_id.in_(list(group_ids)), S.c.deleted.is_(False))
        for row in tx.all(statement.order_by(S.c.created_at)):
            found[row["group_id"]].append(row["id"])
    return found


def page(tx: Tx, *, project_id: str | None, limit: int, offset: int) -> list[ServerGroup]:
    statement = select(G).order_by(G.c.created_at, G.c.id).limit(limit).offset(offset)
    if project_id is not None:
        statement = statement.where(G.c.project_id == project_id)
    return [msgspec.convert(row, ServerGroup) for row in tx.all(statement)]


def count(tx: Tx, project_id: str, user_id: str | None = None) -> int:
    statement = select(func.count()).select_from(G).where(G.c.project_id == project_id)
    if user_id is not None:
        statement = statement.where(G.c.user_id == user_id)
    return int(tx.value(statement))


def add(tx: Tx, group: ServerGroup) -> None:
    tx.insert(G, msgspec.structs.asdict(group))


def remove(tx: Tx, group_id: str) -> bool:
    return tx.run(delete(G).where(G.c.id == group_id)) == 1
