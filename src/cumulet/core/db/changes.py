"""What changed, by number: a log beside a service's tables, for readers that keep a copy of their own and bring it up to date.

A change is noted in the transaction that makes it.  A service has one writer at a time, so numbers are given in the order of the commits
and a reader that has seen number n has seen all up to n.  It learns which keys changed, never how: it reads their rows as they are now.
"""

import itertools
from collections.abc import Iterable

import msgspec
from sqlalchemy import BigInteger, Column, Integer, MetaData, String, Table, bindparam, delete, func, insert, select

from cumulet.core.db.database import Tx

__all__ = ["ChangeLog", "Changes"]

#: so many changes are kept; a reader that is further behind reads everything
KEPT = 10_000
#: the oldest go so many at a time
DROPPED = 100


class Changes(msgspec.Struct, frozen=True):
    """Up to which number this is; the keys that changed since another one, or None when that is too long ago."""

    number: int
    keys: tuple[str, ...] | None


class ChangeLog:
    """The log of one kind of thing.  Every method takes the caller's transaction."""

    def __init__(self, metadata: MetaData, name: str, *, kept: int = KEPT) -> None:
        number = BigInteger().with_variant(Integer, "sqlite")
        self.table = Table(
            name, metadata, Column("number", number, primary_key=True), Column("key", String(255), nullable=False)
        )
        self._kept = kept
        self._noted = itertools.count(1)
        n = self.table.c.number
        self._newest = select(func.coalesce(func.max(n), 0))
        self._oldest = select(func.min(n))
        self._after = select(self.table).where(n > bindparam("after")).order_by(n)
        self._note = insert(self.table).values(key=bindparam("noted")).returning(n)
        self._drop = delete(self.table).where(n <= bindparam("last"))

    def note(self, tx: Tx, keys: Iterable[str]) -> int:
        """These have changed; the last one's number, 0 of none."""
        number = 0
        for key in keys:
            (number,) = tx.values(self._note, noted=key)
            if next(self._noted) % DROPPED == 0:
                tx.run(self._drop, last=number - self._kept)
        return number

    def newest(self, tx: Tx) -> int:
        """The number of the last change; whoever reads everything in the same transaction, or later, has seen it."""
        return int(tx.value(self._newest))

    def since(self, tx: Tx, number: int) -> Changes:
        rows = tx.all(self._after, after=number)
        if not rows:
            return Changes(number, ())
        newest = int(rows[-1]["number"])
        # a number may be missing, as a transaction that was rolled back took it along; what was dropped is missing at the beginning
        if rows[0]["number"] > number + 1 and int(tx.value(self._oldest)) > number + 1:
            return Changes(newest, None)
        return Changes(newest, tuple(dict.fromkeys(row["key"] for row in rows)))
