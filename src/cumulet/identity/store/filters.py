"""Which projects are limited to which endpoints."""

from sqlalchemy import delete, select

from cumulet.core.db import Tx
from cumulet.identity.tables import ENDPOINT_FILTER

__all__ = ["add", "associations", "remove"]


def associations(tx: Tx, **where: str) -> list[tuple[str, str, str]]:
    """(project, kind, thing) of each association; kind is "endpoint" or "group"."""
    statement = select(ENDPOINT_FILTER).where(*(ENDPOINT_FILTER.c[name] == value for name, value in where.items()))
    return [(row["project_id"], row["kind"], row["thing_id"]) for row in tx.all(statement)]


def add(tx: Tx, project_id: str, kind: str, thing_id: str) -> None:
    key = {"project_id": project_id, "kind": kind, "thing_id": thing_id}
    tx.upsert(ENDPOINT_FILTER, key, tuple(key))


def remove(tx: Tx, **where: str) -> int:
    return tx.run(delete(ENDPOINT_FILTER).where(*(ENDPOINT_FILTER.c[name] == value for name, value in where.items())))
