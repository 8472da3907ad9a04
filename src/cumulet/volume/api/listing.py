"""What a list's query asks for, and the answer's links to its next page."""

import json
from ast import literal_eval
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from sqlalchemy import Boolean, ColumnElement, Integer, Table, or_

from cumulet.core.clock import parse
from cumulet.core.errors import BadRequest
from cumulet.core.truth import NO, YES
from cumulet.core.web import Call
from cumulet.volume.store.pages import Page

__all__ = ["LIMIT_MAX", "answer", "conditions", "flag", "is_true", "mapping", "page_of", "public_path"]

LIMIT_MAX = 1000

_TIMES = {"gt": "__gt__", "gte": "__ge__", "eq": "__eq__", "neq": "__ne__", "lt": "__lt__", "lte": "__le__"}


def is_true(value: Any) -> bool:
    """A flag of a body, in any of the words that its schema takes; nothing is no."""
    return str(value).lower() in YES


def flag(call: Call, name: str, *, default: bool = False) -> bool:
    text = call.one(name)
    if text is None or text == "":
        return default
    if text.lower() in YES:
        return True
    if text.lower() in NO:
        return False
    raise BadRequest(f"Invalid value '{text}' for {name}")


def page_of(call: Call, sortable: Mapping[str, str], *, default: str = "created_at") -> Page:
    """sortable: the API's words for columns.  Raises BadRequest."""
    return Page(
        keys=_keys(call, sortable, default),
        limit=min(_number(call, "limit", LIMIT_MAX), LIMIT_MAX),
        offset=_number(call, "offset", 0),
        marker=call.one("marker") or None,
    )


def _number(call: Call, name: str, default: int) -> int:
    text = call.one(name)
    if text is None:
        return default
    if not text.isdecimal() or len(text) > 9:
        raise BadRequest(
            f"{name} param must be an integer" if not text.startswith("-") else f"{name} param must be positive"
        )
    return int(text)


def _keys(call: Call, sortable: Mapping[str, str], default: str) -> tuple[tuple[str, bool], ...]:
    """`sort=name:asc,size`, or `sort_key` and `sort_dir`; descending unless said."""
    pairs: list[tuple[str, str]] = []
    if (text := call.one("sort")) is not None:
        if call.one("sort_key") is not None or call.one("sort_dir") is not None:
            raise BadRequest(
                "The 'sort_key' and 'sort_dir' parameters are deprecated and cannot be used with the 'sort' parameter."
            )
        for part in text.split(","):
            key, _, direction = part.strip().partition(":")
            pairs.append((key, direction or "desc"))
    else:
        pairs.append((call.one("sort_key") or default, call.one("sort_dir") or "desc"))
    keys: dict[str, bool] = {}
    for key, direction in pairs:
        if direction not in {"asc", "desc"}:
            raise BadRequest(f"Invalid sort direction: {direction}")
        column = sortable.get(key)
        if column is None:
            raise BadRequest(f"Invalid sort key: {key}")
        keys[column] = direction == "desc"
    last = next(reversed(keys.values()))
    if default in sortable:
        keys.setdefault(sortable[default], last)
    keys.setdefault("id", last)
    return tuple(keys.items())


def mapping(text: str | None) -> dict[str, str]:
    """A dictionary in a query: JSON, or as Python writes it."""
    if not text:
        return {}
    try:
        value = json.loads(text)
    except ValueError:
        try:
            value = literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            raise BadRequest(f"Could not evaluate value {text}, assuming string") from None
    if not isinstance(value, dict):
        raise BadRequest(f"{text} is not a mapping")
    return {str(key): str(part) for key, part in value.items()}


def conditions(call: Call, table: Table, filters: Mapping[str, str]) -> list[ColumnElement[bool]]:
    """Filters by column; `name~` and the like (part of a text) since 3.31; times since 3.60."""
    where: list[ColumnElement[bool]] = []
    for key, values in call.query.items():
        like = key.endswith("~") and call.version >= (3, 31)
        column_name = filters.get(key.removesuffix("~") if like else key)
        if column_name is None or not values:
            continue
        column, text = table.c[column_name], values[-1]
        if like:
            where.append(column.contains(text, autoescape=True))
        elif isinstance(column.type, Boolean):
            if text.lower() not in YES | NO:
                raise BadRequest(f"Invalid value '{text}' for {key}")
            where.append(column == (text.lower() in YES))
        elif isinstance(column.type, Integer):
            where.append(column == int(text) if text.isdecimal() and len(text) < 10 else column == -1)
        elif key in {"created_at", "updated_at"}:
            where += _times(column, text)
        else:
            where.append(or_(*[column == value for value in values]) if len(values) > 1 else column == text)
    return where


def _times(column: Any, text: str) -> list[ColumnElement[bool]]:
    where = []
    for part in text.split(","):
        word, _, stamp = part.partition(":")
        compare = _TIMES.get(word)
        try:
            at = parse(stamp if compare else part).isoformat(timespec="microseconds")
        except ValueError:
            raise BadRequest(f"Invalid filter value: {text}") from None
        where.append(getattr(column, compare or "__eq__")(at))
    return where


def public_path(call: Call, path: str) -> str:
    """A link below /v3, with the project in it when the request had it."""
    project = call.request.headers.get("x-project-of-path")
    return call.url(f"/v3/{project}{path}" if project else f"/v3{path}")


def answer(
    call: Call, name: str, path: str, page: Page, found: Sequence[Any], show: Callable[..., Any]
) -> dict[str, Any]:
    """A page of things, each shown by show(call, thing), with the link to the next page where there is one.

    found: one more than the page holds says that there is one.
    """
    shown = found[: page.limit]
    return {
        name: [show(call, thing) for thing in shown],
        **links_to_next(call, name, path, shown, more=len(found) > page.limit),
    }


def links_to_next(call: Call, name: str, path: str, shown: Sequence[Any], *, more: bool) -> dict[str, Any]:
    """`NAME_links` with the link to the next page, or nothing."""
    if not more or not shown:
        return {}
    query = [(key, value) for key, values in call.query.items() for value in values if key not in {"marker", "offset"}]
    query.append(("marker", shown[-1].id))
    return {f"{name}_links": [{"rel": "next", "href": f"{public_path(call, path)}?{urlencode(query)}"}]}
