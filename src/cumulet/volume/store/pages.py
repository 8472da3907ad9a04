"""A page of a list: order, marker, limit, offset; the same for every kind of thing."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Select, Table, and_, asc, desc, func, or_, select

from cumulet.core.db import Tx
from cumulet.core.errors import BadRequest

__all__ = ["Page", "count", "rows_of"]

#: what a missing value is ordered as, so that the order is the same on every engine and a page can go on from it
MISSING = ""


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """keys: column names and whether they descend; the last one is unique."""

    keys: tuple[tuple[str, bool], ...]
    limit: int
    offset: int = 0
    marker: str | None = None


def rows_of(tx: Tx, table: Table, where: Sequence[ColumnElement[bool]], page: Page) -> list[dict[str, Any]]:
    """The page's rows and one more where there are more.  Raises BadRequest when the marker is not there."""
    conditions = list(where)
    if page.marker is not None:
        at = tx.one(select(table).where(table.c.id == page.marker))
        if at is None:
            raise BadRequest(f"marker [{page.marker}] not found")
        conditions.append(_after(table, page, at))
    order = [desc(_ordered(table, key)) if down else asc(_ordered(table, key)) for key, down in page.keys]
    statement: Select[Any] = select(table).where(*conditions).order_by(*order).limit(page.limit + 1)
    if page.offset:
        statement = statement.offset(page.offset)
    return tx.all(statement)


def count(tx: Tx, table: Table, where: Sequence[ColumnElement[bool]]) -> int:
    return int(tx.value(select(func.count()).select_from(table).where(*where)) or 0)


def _after(table: Table, page: Page, at: dict[str, Any]) -> ColumnElement[bool]:
    steps: list[ColumnElement[bool]] = []
    equal: list[ColumnElement[bool]] = []
    for key, down in page.keys:
        column = _ordered(table, key)
        value = MISSING if at[key] is None else at[key]
        steps.append(and_(*equal, column < value if down else column > value))
        equal.append(column == value)
    return or_(*steps)


def _ordered(table: Table, key: str) -> ColumnElement[Any]:
    column = table.c[key]
    return func.coalesce(column, MISSING) if column.nullable else column
