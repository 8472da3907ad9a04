"""Keypairs in the database: a user's own, by name."""

import msgspec
from sqlalchemy import bindparam, delete, func, select

from cumulet.compute.tables import KEYPAIRS as K
from cumulet.core.db import Tx

__all__ = ["Keypair", "add", "count", "get", "next_id", "page", "remove"]


class Keypair(msgspec.Struct, frozen=True, kw_only=True):
    """A keypair's public half."""

    user_id: str
    name: str
    id: int
    type: str
    fingerprint: str
    public_key: str
    created_at: str


_ONE = select(K).where(K.c.user_id == bindparam("user_id"), K.c.name == bindparam("name"))


def get(tx: Tx, user_id: str, name: str) -> Keypair | None:
    row = tx.one(_ONE, user_id=user_id, name=name)
    return None if row is None else msgspec.convert(row, Keypair)


def page(tx: Tx, user_id: str, *, marker: str | None = None, limit: int = 1000) -> list[Keypair]:
    statement = select(K).where(K.c.user_id == user_id)
    if marker is not None:
        statement = statement.where(K.c.name > marker)
    return [msgspec.convert(row, Keypair) for row in tx.all(statement.order_by(K.c.name).limit(limit))]


def count(tx: Tx, user_id: str) -> int:
    return int(tx.value(select(func.count()).select_from(K).where(K.c.user_id == user_id)))


def next_id(tx: Tx) -> int:
    return int(tx.value(select(func.coalesce(func.max(K.c.id), 0))) or 0) + 1


def add(tx: Tx, keypair: Keypair) -> None:
    """Raises Duplicate when the user has one of that name."""
    tx.insert(K, msgspec.structs.asdict(keypair))


def remove(tx: Tx, user_id: str, name: str) -> bool:
    return tx.run(delete(K).where(K.c.user_id == user_id, K.c.name == name)) == 1
