"""Records by their columns: get, find, add, change, remove, for every kind of record alike.

Filters are keyword arguments: a value, None, or a collection for IN.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Table, delete, func, select, update

from cumulet.core.db import Tx
from cumulet.identity import records, tables

__all__ = ["add", "change", "count", "find", "get", "remove"]

#: values in one IN: SQLite binds at most 32,766
IN_MAX = 5000

T = TypeVar("T", bound=msgspec.Struct)

_TABLES: Mapping[type[Any], Table] = {
    records.AccessRule: tables.ACCESS_RULE,
    records.ApplicationCredential: tables.APPLICATION_CREDENTIAL,
    records.Assignment: tables.ASSIGNMENT,
    records.Consumer: tables.CONSUMER,
    records.Credential: tables.CREDENTIAL,
    records.Endpoint: tables.ENDPOINT,
    records.EndpointGroup: tables.ENDPOINT_GROUP,
    records.Group: tables.GROUP,
    records.Issue: tables.ISSUE,
    records.Limit: tables.LIMIT,
    records.PolicyDocument: tables.POLICY,
    records.Project: tables.PROJECT,
    records.Region: tables.REGION,
    records.RegisteredLimit: tables.REGISTERED_LIMIT,
    records.Role: tables.ROLE,
    records.Service: tables.SERVICE,
    records.Trust: tables.TRUST,
    records.User: tables.USER,
}


def get(tx: Tx, kind: type[T], id: str) -> T | None:
    table = _TABLES[kind]
    row = tx.one(select(table).where(table.c.id == id))
    return None if row is None else kind(**row)


def find(tx: Tx, kind: type[T], *, limit: int | None = None, after: str | None = None, **where: Any) -> list[T]:
    """Every record that matches, by id.  after: only ids above it; limit: at most so many."""
    table = _TABLES[kind]
    found: list[T] = []
    for clause in _clauses(table, where):
        statement = select(table).where(*clause)
        if after is not None:
            statement = statement.where(table.c.id > after)
        if "id" in table.c:
            statement = statement.order_by(table.c.id)
        if limit is not None:
            statement = statement.limit(limit)
        found += [kind(**row) for row in tx.all(statement)]
    return found if limit is None else found[:limit]


def count(tx: Tx, kind: type[Any], **where: Any) -> int:
    table = _TABLES[kind]
    return sum(
        int(tx.value(select(func.count()).select_from(table).where(*clause))) for clause in _clauses(table, where)
    )


def add(tx: Tx, record: msgspec.Struct) -> None:
    """Raises Duplicate."""
    tx.insert(_TABLES[type(record)], {name: getattr(record, name) for name in record.__struct_fields__})


def change(tx: Tx, kind: type[Any], id: str, **values: Any) -> int:
    """How many rows were changed: 0 when the record is gone."""
    table = _TABLES[kind]
    return tx.run(update(table).where(table.c.id == id).values(**values)) if values else 1


def remove(tx: Tx, kind: type[Any], **where: Any) -> int:
    table = _TABLES[kind]
    return sum(tx.run(delete(table).where(*clause)) for clause in _clauses(table, where))


def _clauses(table: Table, where: Mapping[str, Any]) -> Iterator[list[Any]]:
    """The filters as clauses; more than one set of them when a collection is long."""
    fixed: list[Any] = []
    long: tuple[str, list[Any]] | None = None
    for name, value in where.items():
        column = table.c[name]
        if value is None:
            fixed.append(column.is_(None))
        elif isinstance(value, Collection) and not isinstance(value, str):
            values = sorted(value)
            if len(values) > IN_MAX and long is None:
                long = (name, values)
            else:
                fixed.append(column.in_(values))
        else:
            fixed.append(column == value)
    if long is None:
        yield fixed
        return
    name, values = long
    for start in range(0, len(values), IN_MAX):
        yield [*fixed, table.c[name].in_(values[start : start + IN_MAX])]
