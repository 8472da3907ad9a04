"""Documents of one and of many: links, filters, pages.

A list is filtered by its known attributes in the database, by `name__contains` and its kin here, and ends at `limit`
(at most the configured page) with a `next` link.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import urlencode

import msgspec

from cumulet.core.errors import BadRequest
from cumulet.core.web import Call

__all__ = ["collected", "flag", "in_own_domain", "links", "page", "where"]

T = TypeVar("T", bound=msgspec.Struct)

_COMPARE: Mapping[str, Callable[[str, str], bool]] = {
    "contains": lambda value, part: part in value,
    "startswith": lambda value, part: value.startswith(part),
    "endswith": lambda value, part: value.endswith(part),
}


def links(call: Call, path: str) -> dict[str, str]:
    return {"self": call.url(path)}


def flag(call: Call, name: str) -> bool | None:
    """A yes or no in the query, in the reference's words: everything but 0, false, no and off is yes."""
    value = call.one(name)
    return None if value is None else value.lower() not in {"0", "false", "no", "off", "n", "f"}


def where(call: Call, *texts: str, flags: Sequence[str] = (), empty: Sequence[str] = ()) -> dict[str, Any]:
    """The query's filters by attribute.  texts: compared as they are; flags: yes or no; empty: may be given empty,
    for none.
    """
    chosen: dict[str, Any] = {}
    for name in texts:
        value = call.one(name)
        if value is not None and (value or name in empty):
            chosen[name] = value
    for name in flags:
        given = flag(call, name)
        if given is not None:
            chosen[name] = given
    return chosen


def in_own_domain(call: Call, chosen: dict[str, Any]) -> dict[str, Any]:
    """The filters, kept within the domain that the caller's token is scoped to, if it is to one."""
    own = call.context.domain_id
    if own is None:
        return chosen
    if chosen.get("domain_id", own) != own:
        return {**chosen, "id": ()}
    return {**chosen, "domain_id": own}


def page(
    call: Call,
    plural: str,
    kind: type[T],
    show: Callable[[Call, T], dict[str, Any]],
    *,
    keep: Callable[[T], bool] | None = None,
    path: str | None = None,
    **chosen: Any,
) -> dict[str, Any]:
    """A list of records, by id.  keep: what the database cannot decide."""
    limit = _limit(call)
    matches = _matcher(call)
    after = call.one("marker")
    found: list[T] = []
    batch_max = limit + 1 if keep is None and matches is None else max(limit + 1, 500)
    while len(found) <= limit:
        batch = call.service.realm.find(kind, limit=batch_max, after=after, **chosen)
        found += [record for record in batch if (keep is None or keep(record)) and (matches is None or matches(record))]
        if len(batch) < batch_max:
            break
        after = batch[-1].id
    return _document(call, plural, found, limit, show, path)


def collected(
    call: Call,
    plural: str,
    records: Iterable[Any],
    show: Callable[[Call, Any], dict[str, Any]],
    *,
    path: str | None = None,
) -> dict[str, Any]:
    """A list of records that are all at hand."""
    matches = _matcher(call)
    after = call.one("marker")
    found = [r for r in records if (matches is None or matches(r)) and (after is None or getattr(r, "id", "") > after)]
    return _document(call, plural, found, _limit(call), show, path)


def _document(
    call: Call,
    plural: str,
    found: Sequence[Any],
    limit: int,
    show: Callable[[Call, Any], dict[str, Any]],
    path: str | None,
) -> dict[str, Any]:
    here = path or call.request.path
    more = len(found) > limit
    shown = list(found[:limit])
    following = None
    if more and shown:
        query = [(key, value) for key, value in call.request.query if key not in {"marker", "limit"}]
        following = call.url(f"{here}?{urlencode([*query, ('limit', limit), ('marker', shown[-1].id)])}")
    document: dict[str, Any] = {
        plural: [show(call, record) for record in shown],
        "links": {"self": call.url(here), "next": following, "previous": None},
    }
    if more:
        document["truncated"] = True
    return document


def _limit(call: Call) -> int:
    maximum: int = call.service.config.page_max
    text = call.one("limit")
    if text is None or text == "":
        return maximum
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        msg = f"Invalid input for field 'limit': {text[:32]!r} is not a number."
        raise BadRequest(msg)
    return min(int(text), maximum) or maximum


def _matcher(call: Call) -> Callable[[Any], bool] | None:
    """The inexact filters of a query (`name__icontains=web`), as one test; None without any."""
    tests: list[tuple[str, str, bool, Callable[[str, str], bool]]] = []
    for key, values in call.query.items():
        name, dash, how = key.partition("__")
        fold = how.startswith("i")
        compare = _COMPARE.get(how[1:] if fold else how)
        if dash and compare is not None:
            tests.append((name, values[-1], fold, compare))
    if not tests:
        return None

    def matches(record: Any) -> bool:
        for name, part, fold, compare in tests:
            value = getattr(record, name, None)
            if not isinstance(value, str):
                value = str(getattr(record, "extra", {}).get(name, ""))
            if not (compare(value.lower(), part.lower()) if fold else compare(value, part)):
                return False
        return True

    return matches
