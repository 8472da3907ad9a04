"""What a list's query asks for: filters, order, page.

Any key that is not an attribute filters by the free property of that name.
"""

import csv
import datetime
import operator
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, and_, asc, desc, false, func, or_

from cumulet.core.errors import BadRequest
from cumulet.image import store
from cumulet.image.records import MEMBER_STATUSES, STATUSES, VISIBILITIES, Image
from cumulet.image.tables import IMAGES as I

__all__ = ["LIMIT_DEFAULT", "LIMIT_MAX", "Listing", "listing_of"]

LIMIT_DEFAULT = 25
LIMIT_MAX = 1000

_PAGING = frozenset({"limit", "marker", "sort_key", "sort_dir", "sort"})
_SORTABLE = frozenset(
    {
        "name",
        "status",
        "visibility",
        "owner",
        "container_format",
        "disk_format",
        "size",
        "id",
        "min_disk",
        "min_ram",
        "checksum",
        "protected",
        "created_at",
        "updated_at",
    }
)
#: what a missing value is ordered as, so that the order is the same on every engine and a page can go on from it
_MISSING: Mapping[str, Any] = {
    "name": "",
    "owner": "",
    "container_format": "",
    "disk_format": "",
    "checksum": "",
    "size": -1,
}
_WITH_LISTS = frozenset({"id", "name", "status", "container_format", "disk_format"})
_TEXTS = frozenset({"owner", "checksum", "os_hash_value"})
_NUMBERS = frozenset({"size", "virtual_size", "min_disk", "min_ram"})
_FLAGS = frozenset({"protected", "os_hidden"})
_TIMES = frozenset({"created_at", "updated_at"})
_NUMBER_MAX = (1 << 63) - 1

_COMPARISONS: Mapping[str, Callable[[Any, Any], Any]] = {
    "eq": operator.eq,
    "neq": operator.ne,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
_TRUE, _FALSE = frozenset({"true", "1", "yes", "on"}), frozenset({"false", "0", "no", "off"})


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """One page of a list.  keys: attribute and whether it descends; always ends in a unique one."""

    where: list[Any]
    keys: list[tuple[str, bool]]
    limit: int
    marker: str | None
    visibility: str | None
    #: None: any membership
    member_status: str | None

    @property
    def order(self) -> list[Any]:
        return [desc(_ordered(key)) if down else asc(_ordered(key)) for key, down in self.keys]

    def after(self, marker: Image) -> ColumnElement[bool]:
        """What comes after the marker in this order."""
        steps: list[ColumnElement[bool]] = []
        equal: list[ColumnElement[bool]] = []
        for key, down in self.keys:
            value = getattr(marker, key)
            value = _MISSING[key] if value is None else value
            beyond = _ordered(key) < value if down else _ordered(key) > value
            steps.append(and_(*equal, beyond))
            equal.append(_ordered(key) == value)
        return or_(*steps)


def _ordered(key: str) -> ColumnElement[Any]:
    column = I.c[key]
    return func.coalesce(column, _MISSING[key]) if key in _MISSING else column


def listing_of(query: Mapping[str, list[str]]) -> Listing:
    """Read a query (each key's values in order).  Raises BadRequest."""
    one = {key: values[-1] for key, values in query.items()}
    visibility = one.get("visibility")
    if visibility not in {None, "all", *VISIBILITIES}:
        raise BadRequest(f"Invalid visibility value: {visibility}")
    member_status = one.get("member_status", "accepted")
    if member_status not in {"all", *MEMBER_STATUSES}:
        raise BadRequest(
            f"Cannot use this member_status: {member_status}. It must be one of: all, {', '.join(MEMBER_STATUSES)}"
        )
    where = [] if "os_hidden" in one else [I.c.os_hidden == false()]
    for key, values in query.items():
        if key not in _PAGING and key not in {"visibility", "member_status"}:
            where += [_filter(key, value) for value in (values if key == "tag" else values[-1:])]
    return Listing(
        where=where,
        keys=_keys(query),
        limit=_limit(one.get("limit")),
        marker=one.get("marker"),
        visibility=visibility,
        member_status=None if member_status == "all" else member_status,
    )


def _limit(text: str | None) -> int:
    if text is None:
        return LIMIT_DEFAULT
    return min(_number("limit", text), LIMIT_MAX)


def _keys(query: Mapping[str, list[str]]) -> list[tuple[str, bool]]:
    """`sort=name:asc,size`, or `sort_key=…&sort_dir=…` repeated; not both."""
    if "sort" in query and ("sort_key" in query or "sort_dir" in query):
        raise BadRequest("Old and new sorting syntax cannot be combined")
    if "sort" in query:
        pairs = [part.strip().partition(":")[::2] for part in ",".join(query["sort"]).split(",")]
        names, directions = [name for name, _ in pairs], [direction or "desc" for _, direction in pairs]
    else:
        names, directions = query.get("sort_key", []), query.get("sort_dir", [])
        if len(directions) > 1 and len(directions) != len(names):
            raise BadRequest("Number of sort dirs does not match the number of sort keys")
    for direction in directions:
        if direction not in {"asc", "desc"}:
            raise BadRequest(f"Invalid sort direction: {direction}")
    for name in names:
        if name not in _SORTABLE:
            raise BadRequest(f"Invalid sort key: {name}")
    last = directions[-1] if directions else "desc"
    every = [*(directions if len(directions) == len(names) else [last] * len(names))]
    keys = dict(zip(names, every, strict=True))
    for name in ("created_at", "id"):
        keys.setdefault(name, last)
    return [(name, direction == "desc") for name, direction in keys.items()]


def _filter(key: str, value: str) -> ColumnElement[bool]:
    if key == "tag":
        return store.with_tag(value)
    if key in _WITH_LISTS:
        return I.c[key].in_(_words(key, value))
    if key in _TEXTS:
        return I.c[key] == value
    if key in _NUMBERS:
        return I.c[key] == _number(key, value)
    if key in {"size_min", "size_max"}:
        limit = _number(key, value)
        return I.c.size >= limit if key == "size_min" else I.c.size <= limit
    if key in _FLAGS:
        return I.c[key] == _flag(key, value)
    if key in _TIMES:
        return _time(key, value)
    return store.with_property(key, value)


def _words(key: str, value: str) -> list[str]:
    """One word, or `in:one,two,"with, comma"`."""
    words = [value]
    if value.startswith("in:"):
        rest = value.removeprefix("in:")
        try:
            words = next(csv.reader([rest], strict=True)) if rest else []
        except csv.Error:
            raise BadRequest(f"Invalid filter value {value}: the quotes do not match.") from None
    if key == "status":
        for word in words:
            if word not in STATUSES:
                raise BadRequest(f"Bad value for query parameter: status: {word}")
    return words


def _number(key: str, value: str) -> int:
    if not value.isascii() or not value.isdigit() or int(value) > _NUMBER_MAX:
        raise BadRequest(f"Bad value for query parameter {key}: {value}")
    return int(value)


def _flag(key: str, value: str) -> bool:
    word = value.lower()
    if word not in _TRUE | _FALSE:
        raise BadRequest(f"Bad value for query parameter {key}: {value}")
    return word in _TRUE


def _time(key: str, value: str) -> ColumnElement[bool]:
    """`2026-01-31T12:00:00Z` or `gte:2026-01-31T12:00:00Z`; judged to the second, as times are shown."""
    name, colon, rest = value.partition(":")
    compare = _COMPARISONS.get(name) if colon else None
    text = rest if compare else value
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise BadRequest(f"Bad value for query parameter {key}: {value}") from None
    if moment.tzinfo is not None:
        moment = moment.astimezone(datetime.UTC).replace(tzinfo=None)
    shown = func.substr(I.c[key], 1, 19)
    result: ColumnElement[bool] = (compare or operator.eq)(shown, moment.isoformat(timespec="seconds"))
    return result
