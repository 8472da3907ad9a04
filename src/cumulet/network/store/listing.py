"""Lists: who sees what, filters on every column, sorting, and pages by marker; one query each.

A page goes on after its marker by comparing the sort columns (`(a, id) > (marker's a, id)`), so that things created meanwhile neither
repeat nor hide others, as they would by offset.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Table, and_, exists, false, func, or_, select

from cumulet.core.clock import parse
from cumulet.core.db.database import Tx
from cumulet.network import errors
from cumulet.network.records import ACCESS_SHARED, Viewer
from cumulet.network.tables import rbac_policies, tags

__all__ = ["Search", "Special", "count", "rows", "shared_with"]

Condition = ColumnElement[bool]
#: how a filter that is no column becomes a condition
Special = Callable[[list[str]], Condition]


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """A list request."""

    viewer: Viewer
    filters: dict[str, list[Any]] = {}
    #: (column, ascending)
    sorts: list[tuple[str, bool]] = []
    limit: int | None = None
    marker: str | None = None
    reverse: bool = False


def shared_with(table: Table, object_type: str, viewer: Viewer, *actions: str) -> Condition:
    """Rows that an RBAC policy shows to a project or to all."""
    policy = rbac_policies.c
    return table.c.id.in_(
        select(policy.object_id).where(
            policy.object_type == object_type,
            policy.target_project.in_([viewer.project_id or "", "*"]),
            policy.action.in_(actions or (ACCESS_SHARED,)),
        )
    )


def rows(
    tx: Tx, table: Table, search: Search, visible: Condition | None, special: Mapping[str, Special] | None = None
) -> list[dict[str, Any]]:
    """The rows of a list request, in order.  `visible` is left out for who sees all."""
    conditions = _conditions(table, search, visible, special or {})
    order = _order(table, search.sorts)
    if search.reverse:
        order = [(column, not ascending) for column, ascending in order]
    if search.marker is not None:
        conditions.append(_after(tx, table, order, search.marker))
    query = select(table).where(*conditions).order_by(*(c.asc() if ascending else c.desc() for c, ascending in order))
    if search.limit is not None:
        query = query.limit(search.limit)
    found = tx.all(query)
    return found[::-1] if search.reverse else found


def count(tx: Tx, table: Table, *conditions: Condition) -> int:
    return int(tx.value(select(func.count()).select_from(table).where(*conditions)) or 0)


def _conditions(
    table: Table, search: Search, visible: Condition | None, special: Mapping[str, Special]
) -> list[Condition]:
    conditions: list[Condition] = []
    if visible is not None and not search.viewer.sees_all:
        conditions.append(visible)
    for key, values in search.filters.items():
        if key in special:
            conditions.append(special[key](values))
        elif key in _TAGGED:
            conditions.append(_TAGGED[key](table, values))
        elif key == "changed_since":
            conditions.append(table.c.updated_at >= _since(values[-1]))
        elif key in {"created_at", "updated_at"}:
            # shown to the second, kept to the microsecond
            conditions.append(or_(*(table.c[key].like(_second(value) + "%") for value in values)))
        elif len(values) == 1:
            conditions.append(table.c[key] == values[0])
        else:
            conditions.append(table.c[key].in_(values) if values else false())
    return conditions


def _since(value: str) -> str:
    try:
        return parse(value).replace(tzinfo=None).isoformat(timespec="microseconds")
    except ValueError:
        raise errors.InvalidInput(reason=f"Invalid input for changed_since: {value} is not a time") from None


def _second(value: str) -> str:
    return value.removesuffix("Z").replace("%", "").replace("_", "")


def _order(table: Table, sorts: list[tuple[str, bool]]) -> list[tuple[Any, bool]]:
    """The columns to sort by; the id comes last, so that the order is total."""
    if not sorts and "created_at" in table.c:
        sorts = [("created_at", True)]
    order: list[tuple[Any, bool]] = []
    for name, ascending in sorts:
        column: Any = table.c[name]
        if column.nullable:
            # NULL compares with nothing: a page could not go on after it
            column = func.coalesce(column, "" if column.type.python_type is str else -1)
        order.append((column, ascending))
    if "id" not in {name for name, _ in sorts}:
        order.append((table.c.id, True))
    return order


def _after(tx: Tx, table: Table, order: list[tuple[Any, bool]], marker: str) -> Condition:
    row = tx.one(
        select(*(column.label(f"k{index}") for index, (column, _) in enumerate(order))).where(table.c.id == marker)
    )
    if row is None:
        msg = f"The marker {marker} is not there."
        raise errors.HTTPBadRequest(msg)
    values = list(row.values())
    steps: list[Condition] = []
    for index, (column, ascending) in enumerate(order):
        equal = [order[before][0] == values[before] for before in range(index)]
        steps.append(and_(*equal, column > values[index] if ascending else column < values[index]))
    return or_(*steps)


def _words(values: list[str]) -> list[str]:
    return [word for value in values for word in value.split(",") if word]


def _all_tags(table: Table, values: list[str]) -> Condition:
    return and_(*(_has(table, [word]) for word in _words(values)))


def _any_tag(table: Table, values: list[str]) -> Condition:
    return _has(table, _words(values))


def _has(table: Table, words: list[str]) -> Condition:
    return exists(select(tags.c.tag).where(tags.c.resource_id == table.c.id, tags.c.tag.in_(words)))


_TAGGED: dict[str, Callable[[Table, list[str]], Condition]] = {
    "tags": _all_tags,
    "tags-any": _any_tag,
    "not-tags": lambda table, values: ~_all_tags(table, values),
    "not-tags-any": lambda table, values: ~_any_tag(table, values),
}
