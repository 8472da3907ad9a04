"""What an attribute of a network resource is, and what follows from it: the bodies it may stand in, its default, who may set and see
it, how it is filtered and shown.

`core.web.Resource` has fields, schemas and versions.  The network API has no versions and differs in everything else: one request may
create many (`{"ports": [{…}, {…}]}`), single attributes have policy rules of their own (`create_port:mac_address`), values come in
several spellings, and every attribute filters and sorts.  Hence a declaration of its own.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from cumulet.core.web import CREATE, SHOW, UPDATE
from cumulet.network import errors
from cumulet.network.values import Take, Unfit, boolean, integer, project, text

__all__ = ["ABSENT", "CREATED", "READ", "WRITTEN", "Attribute", "Needed", "NetworkResource"]

#: on create, update and show; on create and show; on show only
WRITTEN = CREATE | UPDATE | SHOW
CREATED = CREATE | SHOW
READ = SHOW


class _Absent:
    """No default: an attribute that is not given is not there."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Any = _Absent()


def Needed(take: Take, **more: Any) -> Attribute:  # noqa: N802 - reads as a row
    return Attribute(take=take, required=True, **more)


class Attribute(msgspec.Struct, frozen=True, kw_only=True):
    """One attribute."""

    #: CREATE, UPDATE and SHOW added up
    on: int = WRITTEN
    take: Take = text()
    #: in a create request that does not give it
    default: Any = ABSENT
    required: bool = False
    #: has its own policy rules, `create_NAME:ATTRIBUTE` and `update_NAME:ATTRIBUTE`
    guarded: bool = False
    #: the policy rule that one must pass to see it
    seen_by: str | None = None
    #: how a filter's text is read; None: cannot be filtered
    filter: Take | None = text(65_535)
    sorts: bool = True
    #: the record's attribute, where it is named otherwise
    source: str = ""
    read: Callable[[Any], Any] | None = None


STANDARD: dict[str, Attribute] = {
    "created_at": Attribute(on=READ, read=lambda r: r.created_at[:19] + "Z"),
    "updated_at": Attribute(on=READ, read=lambda r: r.updated_at[:19] + "Z"),
    "revision_number": Attribute(on=READ, filter=integer()),
}
IDENTITY: dict[str, Attribute] = {
    "id": Attribute(on=READ),
    "name": Attribute(take=text(), default=""),
    "description": Attribute(take=text(), default=""),
    "project_id": Attribute(on=CREATED, take=project),
    "tenant_id": Attribute(on=CREATED, take=project, source="project_id", sorts=False),
}
TAGS: dict[str, Attribute] = {"tags": Attribute(on=READ, filter=None, sorts=False)}

#: filters understood by the store: of every resource with times, of every tagged one
TIME_FILTERS = frozenset({"changed_since"})
TAG_FILTERS = frozenset({"tags", "tags-any", "not-tags", "not-tags-any"})
_NOT_FILTERS = frozenset({"fields", "limit", "marker", "page_reverse", "sort_key", "sort_dir"})


class NetworkResource:
    """A kind of thing: its names and attributes."""

    def __init__(
        self,
        name: str,
        attributes: Mapping[str, Attribute],
        *,
        collection: str | None = None,
        extra_filters: Iterable[str] = (),
        tagged: bool = True,
    ) -> None:
        self.name = name
        self.collection = collection or f"{name}s"
        #: in paths
        self.path = self.collection.replace("_", "-")
        self.attributes = {**attributes, **TAGS} if tagged and "tags" not in attributes else dict(attributes)
        self.extra_filters = (
            frozenset(extra_filters)
            | (TAG_FILTERS if tagged else frozenset())
            | (TIME_FILTERS if "updated_at" in self.attributes else frozenset())
        )
        self.tagged = tagged
        self.guarded = frozenset(key for key, a in self.attributes.items() if a.guarded)
        #: attribute → rule, of what not everybody sees
        self.veiled = {key: a.seen_by for key, a in self.attributes.items() if a.seen_by}
        self._plans: dict[Any, _Plan] = {}

    # Requests

    def bodies(self, body: Any) -> tuple[list[dict[str, Any]], bool]:
        """The checked items of a create request, and whether they came as a list."""
        if isinstance(body, dict) and len(body) == 1:
            if isinstance(body.get(self.name), dict):
                return [self._created(body[self.name])], False
            items = body.get(self.collection)
            if isinstance(items, list) and items and all(isinstance(item, dict) for item in items):
                # a list may hold each item in an envelope of its own
                return [
                    self._created(i[self.name] if set(i) == {self.name} and isinstance(i[self.name], dict) else i)
                    for i in items
                ], True
        msg = f"Unable to find '{self.name}' in request body" if body else "Body contains invalid data"
        raise errors.HTTPBadRequest(msg)

    def changes(self, body: Any) -> dict[str, Any]:
        """The checked attributes of an update request."""
        if not isinstance(body, dict) or not isinstance(body.get(self.name), dict) or len(body) != 1:
            msg = f"Unable to find '{self.name}' in request body"
            raise errors.HTTPBadRequest(msg)
        given = body[self.name]
        self._known(given)
        for key in given:
            if not self.attributes[key].on & UPDATE:
                msg = f"Cannot update read-only attribute {key}"
                raise errors.HTTPBadRequest(msg)
        return {key: self._taken(key, value) for key, value in given.items()}

    def _created(self, given: Mapping[str, Any]) -> dict[str, Any]:
        self._known(given)
        wanted: dict[str, Any] = {}
        for key, attribute in self.attributes.items():
            if key in given:
                if not attribute.on & CREATE:
                    msg = f"Attribute '{key}' not allowed in POST"
                    raise errors.HTTPBadRequest(msg)
                wanted[key] = self._taken(key, given[key])
            elif attribute.required:
                msg = f"Failed to parse request. Required attribute '{key}' not specified"
                raise errors.HTTPBadRequest(msg)
            elif attribute.on & CREATE and attribute.default is not ABSENT:
                default = attribute.default
                wanted[key] = (
                    list(default)
                    if isinstance(default, list)
                    else dict(default)
                    if isinstance(default, dict)
                    else default
                )
        tenant = wanted.pop("tenant_id", None)
        if tenant is not None and wanted.setdefault("project_id", tenant) != tenant:
            msg = "'project_id' and 'tenant_id' do not match"
            raise errors.HTTPBadRequest(msg)
        return wanted

    def _known(self, given: Mapping[str, Any]) -> None:
        unknown = [key for key in given if key not in self.attributes]
        if unknown:
            msg = f"Unrecognized attribute(s) '{', '.join(unknown)}'"
            raise errors.HTTPBadRequest(msg)

    def _taken(self, key: str, value: Any) -> Any:
        try:
            return self.attributes[key].take(value)
        except Unfit as unfit:
            raise errors.HTTPBadRequest(attribute=key, reason=str(unfit)) from None

    def asked(self, wanted: Mapping[str, Any]) -> list[str]:
        """The guarded attributes of a create request that say something else than the default."""
        return [
            key
            for key in sorted(self.guarded)
            if key in wanted and wanted[key] is not None and wanted[key] != self.attributes[key].default
        ]

    # Lists

    def filters(self, query: Mapping[str, list[str]]) -> dict[str, list[Any]]:
        """The filters of a list request, by the record's attribute; unknown ones are refused."""
        found: dict[str, list[Any]] = {}
        wrong = []
        for key, values in query.items():
            if key in _NOT_FILTERS:
                continue
            attribute = self.attributes.get(key)
            if key in self.extra_filters:
                found[key] = list(values)
            elif attribute is None or attribute.filter is None:
                wrong.append(key)
            else:
                column = attribute.source or key.replace(":", "_")
                try:
                    taken = [attribute.filter(value) for value in values]
                except Unfit as unfit:
                    raise errors.HTTPBadRequest(attribute=key, reason=str(unfit)) from None
                if found.setdefault(column, taken) != taken:
                    msg = "Both tenant_id and project_id passed as filters."
                    raise errors.HTTPBadRequest(msg)
        if wrong:
            msg = f"{sorted(wrong)} are invalid attributes for filtering"
            raise errors.HTTPBadRequest(msg)
        return found

    def sorts(self, keys: list[str], directions: list[str]) -> list[tuple[str, bool]]:
        """(record attribute, ascending) of `sort_key` and `sort_dir`."""
        if directions and len(keys) != len(directions):
            msg = "The number of sort_keys and sort_dirs must be same"
            raise errors.HTTPBadRequest(msg)
        order: list[tuple[str, bool]] = []
        for index, key in enumerate(keys):
            attribute = self.attributes.get("project_id" if key == "tenant_id" else key)
            if attribute is None or not attribute.sorts or (attribute.read is not None and key not in STANDARD):
                msg = f"{key} is invalid attribute for sort_key"
                raise errors.HTTPBadRequest(msg)
            direction = directions[index] if directions else "asc"
            if direction not in {"asc", "desc"}:
                msg = f"{direction} is invalid value for sort_dirs, valid value is 'asc' and 'desc'"
                raise errors.HTTPBadRequest(msg)
            order.append((attribute.source or key.replace(":", "_"), direction == "asc"))
        return order

    # Answers

    def view(self, records: Iterable[Any], hidden: frozenset[str], fields: frozenset[str]) -> list[dict[str, Any]]:
        """Records as an answer shows them, without `hidden`, and with `fields` only where any are named."""
        key = (hidden, fields)
        plan = self._plans.get(key)
        if plan is None:
            plan = _Plan(self.attributes, hidden, fields)
            if len(self._plans) < 256:
                self._plans[key] = plan
        return [plan.show(record) for record in records]


class _Plan:
    """How to turn a record into its answer: what can be copied in one go, and what must be worked out."""

    __slots__ = ("_get", "_names", "_single", "_worked")

    def __init__(self, attributes: Mapping[str, Attribute], hidden: frozenset[str], fields: frozenset[str]) -> None:
        shown = {k: a for k, a in attributes.items() if a.on & SHOW and k not in hidden and (not fields or k in fields)}
        copied = {k: a.source or k.replace(":", "_") for k, a in shown.items() if a.read is None}
        self._names = tuple(copied)
        self._single = len(copied) == 1
        self._get = operator.attrgetter(*copied.values()) if copied else None
        self._worked = tuple((k, a.read) for k, a in shown.items() if a.read is not None)

    def show(self, record: Any) -> dict[str, Any]:
        view: dict[str, Any] = {}
        if self._get is not None:
            values = self._get(record)
            view = {self._names[0]: values} if self._single else dict(zip(self._names, values, strict=True))
        for key, read in self._worked:
            view[key] = read(record)
        return view


def flag(**more: Any) -> Attribute:
    """A boolean attribute."""
    return Attribute(take=boolean, filter=boolean, **more)
