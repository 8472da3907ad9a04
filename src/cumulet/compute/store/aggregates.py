"""Host aggregates in the database."""

import msgspec
from sqlalchemy import bindparam, func, select, update

from cumulet.compute.tables import AGGREGATES as A
from cumulet.core.db import Tx

__all__ = ["Aggregate", "add", "all_live", "get", "next_id", "put", "remove"]


class Aggregate(msgspec.Struct, frozen=True, kw_only=True):
    """Hosts with something in common."""

    id: int
    uuid: str
    name: str
    hosts: list[str]
    metadata: dict[str, str]
    created_at: str
    updated_at: str | None
    deleted: bool

    @property
    def zone(self) -> str | None:
        """The availability zone that the aggregate makes of its hosts."""
        return self.metadata.get("availability_zone")


_ONE = select(A).where(A.c.id == bindparam("aggregate_id"), A.c.deleted.is_(False))
_ALL = select(A).where(A.c.deleted.is_(False)).order_by(A.c.id)


def all_live(tx: Tx) -> list[Aggregate]:
    return [msgspec.convert(row, Aggregate) for row in tx.all(_ALL)]


def get(tx: Tx, aggregate_id: int) -> Aggregate | None:
    row = tx.one(_ONE, aggregate_id=aggregate_id)
    return None if row is None else msgspec.convert(row, Aggregate)


def next_id(tx: Tx) -> int:
    return int(tx.value(select(func.coalesce(func.max(A.c.id), 0))) or 0) + 1


def add(tx: Tx, aggregate: Aggregate) -> None:
    tx.insert(A, msgspec.structs.asdict(aggregate))


def put(tx: Tx, aggregate: Aggregate) -> None:
    values = msgspec.structs.asdict(aggregate)
    del values["id"]
    tx.run(update(A).where(A.c.id == aggregate.id).values(**values))


def remove(tx: Tx, aggregate_id: int) -> None:
    """Its row stays, so that its number is never given again."""
    tx.run(update(A).where(A.c.id == aggregate_id).values(deleted=True))
