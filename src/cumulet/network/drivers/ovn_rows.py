"""Rows of an OVSDB database inside one transaction: find, insert, change only what differs.

A verb's work is a function of `Rows`.  It reads the library's copy of the database, where rows inserted earlier in
the same transaction are found as well, and writes through it; nothing leaves the process before the transaction is
committed.  So a verb may be run again from the start when the database says that it was overtaken.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from cumulet.network.drivers.driver import CLOUD_KEY

__all__ = ["Row", "Rows", "index_by_external_id", "index_by_name"]

#: a row of the untyped library: its columns are attributes
Row = Any


def index_by_name(idl: Any, table: str) -> None:
    idl.tables[table].rows.index_create("name").add_column("name")


def index_by_external_id(idl: Any, table: str, key: str) -> None:
    index = idl.tables[table].rows.index_create(key)
    index.add_column("external_ids", key=lambda entry: entry.external_ids.get(key, ""))


class Rows:
    """The database as one transaction sees and changes it."""

    def __init__(self, idl: Any, txn: Any, cloud: str) -> None:
        self._tables = idl.tables
        self._txn = txn
        self.cloud = cloud

    def all(self, table: str) -> Iterator[Row]:
        rows = self._tables[table].rows
        return iter([rows[key] for key in rows])

    def ours(self, table: str) -> Iterator[Row]:
        return (row for row in self.all(table) if row.external_ids.get(CLOUD_KEY) == self.cloud)

    def named(self, table: str, name: str) -> Row | None:
        rows = self._tables[table].rows
        entry = rows.IndexEntry(name=name)
        return next(rows.indexes["name"].irange(entry, entry), None)

    def with_external_id(self, table: str, key: str, value: str) -> list[Row]:
        """Rows of a table that has an index by that key."""
        rows = self._tables[table].rows
        entry = rows.IndexEntry(external_ids={key: value})
        return list(rows.indexes[key].irange(entry, entry))

    def insert(self, table: str, *, external_ids: dict[str, str] | None = None, **columns: Any) -> Row:
        """A new row, marked as this cloud's."""
        row = self._txn.insert(self._tables[table])
        # Indexed columns first: a row without them cannot be taken back when the transaction is given up.
        if "name" in columns:
            row.name = columns.pop("name")
        row.external_ids = {**(external_ids or {}), CLOUD_KEY: self.cloud}
        for column, value in columns.items():
            setattr(row, column, value)
        return row

    def change(self, row: Row, *, external_ids: dict[str, str] | None = None, **columns: Any) -> None:
        """Set columns whose value differs, so that a repeated verb sends nothing.  Sets are compared without order.

        A row of a table that is indexed by an external id must keep its `external_ids`: the library's index loses track
        of it otherwise.  Such a row is replaced.
        """
        if external_ids is not None:
            columns["external_ids"] = {**external_ids, CLOUD_KEY: self.cloud}
        for column, value in columns.items():
            if not hasattr(row, column) or not _same(getattr(row, column), value):
                setattr(row, column, value)

    def equal(self, row: Row, *, external_ids: dict[str, str], **columns: Any) -> bool:
        columns["external_ids"] = {**external_ids, CLOUD_KEY: self.cloud}
        return all(_same(getattr(row, column), value) for column, value in columns.items())

    def ensure_named(self, table: str, name: str, **columns: Any) -> Row:
        row = self.named(table, name)
        if row is None:
            return self.insert(table, name=name, **columns)
        self.change(row, **columns)
        return row

    def members(self, row: Row, column: str) -> list[Row]:
        """A set of references as it was before this transaction; a new row's is empty."""
        return list(getattr(row, column, ()))

    def add(self, row: Row, column: str, value: Row) -> None:
        """Put a row into a set of references, by a mutation: what else is in the set is neither read nor sent."""
        row.addvalue(column, value)

    def take(self, row: Row, column: str, value: Row) -> None:
        """Take a row out of a set of references."""
        row.delvalue(column, value)

    def ask_server(self) -> None:
        """Let the transaction go to the server although it changes nothing."""
        self._txn.add_op({"op": "comment", "comment": "alive?"})

    def drop_child(self, parent: Row | None, column: str, child: Row) -> None:
        """Remove a row that lives only as long as its parent names it."""
        if parent is not None:
            self.take(parent, column, child)
        child.delete()


def _same(old: Any, new: Any) -> bool:
    if isinstance(old, list):
        wanted = new if isinstance(new, Iterable) and not isinstance(new, str) else [new]
        return sorted(map(_key, old)) == sorted(map(_key, wanted))
    return bool(old == new)


def _key(value: Any) -> str:
    return str(value.uuid) if hasattr(value, "uuid") else str(value)
