"""Limits that somebody set: a project's, a user's in it, or the default class's."""

from sqlalchemy import bindparam, delete, select

from cumulet.compute.tables import QUOTAS as Q
from cumulet.core.db import Tx

__all__ = ["DEFAULT_CLASS", "clear", "of", "put"]

#: the row key under which the limits of the class "default" stand
DEFAULT_CLASS = "class:default"

_OF = select(Q.c.resource, Q.c.limit).where(
    Q.c.project_id == bindparam("project_id"), Q.c.user_id == bindparam("user_id")
)


def of(tx: Tx, project_id: str, user_id: str = "") -> dict[str, int]:
    """What was set for a project, or for a user in it."""
    return {row["resource"]: row["limit"] for row in tx.all(_OF, project_id=project_id, user_id=user_id)}


def put(tx: Tx, project_id: str, user_id: str, resource: str, limit: int) -> None:
    row = {"project_id": project_id, "user_id": user_id, "resource": resource, "limit": limit}
    tx.upsert(Q, row, ["project_id", "user_id", "resource"])


def clear(tx: Tx, project_id: str, user_id: str | None = None) -> None:
    """Back to the defaults; without `user_id` for the project and all its users."""
    statement = delete(Q).where(Q.c.project_id == project_id)
    if user_id is not None:
        statement = statement.where(Q.c.user_id == user_id)
    tx.run(statement)
