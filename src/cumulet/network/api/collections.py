"""Lists, shows, creations, changes and deletions: the same for every kind of thing, so they are written once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import urlencode

from cumulet.core.errors import NotFound
from cumulet.core.web import ANYONE, Call, Delete, Get, Post, Put, Response, Route
from cumulet.network import errors
from cumulet.network.api import access
from cumulet.network.attributes import NetworkResource
from cumulet.network.records import Viewer
from cumulet.network.store.listing import Search

__all__ = ["Collection", "Part", "if_match", "search"]

_REVISION = re.compile(r"^revision_number=(\d{1,9})$")


class Part(Protocol):
    """What a part of the service offers for its kind of thing."""

    def get(self, viewer: Viewer, id: str, /) -> Any: ...
    def lists(self, search: Search, /) -> Sequence[Any]: ...
    def target(self, record: Any, viewer: Viewer, /) -> dict[str, Any]:
        """What policy judges a thing by."""

    def create_target(self, viewer: Viewer, wanted: Mapping[str, Any], /) -> dict[str, Any]:
        """Likewise, of a thing that is not there yet."""

    def create(self, viewer: Viewer, wanted: Sequence[Mapping[str, Any]], /, **key: Any) -> Sequence[Any]:
        """key: of a request that may be repeated, where the collection is `keyed`."""

    def update(self, viewer: Viewer, id: str, changes: Mapping[str, Any], revision: int | None, /) -> Any: ...
    def delete(self, viewer: Viewer, id: str, revision: int | None, /) -> None: ...


def search(call: Call, resource: NetworkResource, who: Viewer) -> Search:
    """A list request: filters, order, page."""
    query = call.query
    return Search(
        viewer=who,
        filters=resource.filters(query),
        sorts=resource.sorts(query.get("sort_key", []), query.get("sort_dir", [])),
        limit=_limit(call),
        marker=call.one("marker"),
        reverse=(call.one("page_reverse") or "").lower() == "true",
    )


def _limit(call: Call) -> int:
    largest: int = call.service.config.page_max
    text = call.one("limit")
    if text is None:
        return largest
    if not re.fullmatch(r"\d{1,9}", text):
        msg = f"Limit must be an integer 0 or greater and not '{text}'"
        raise errors.HTTPBadRequest(msg)
    # 0 is no limit of the caller's
    return min(int(text) or largest, largest)


def if_match(call: Call) -> int | None:
    """The revision that a change is meant for."""
    text = call.request.headers.get("if-match")
    if text is None:
        return None
    match = _REVISION.match(text.strip())
    if match is None:
        msg = f"Invalid value for If-Match: {text}"
        raise errors.HTTPBadRequest(msg)
    return int(match[1])


def fields(call: Call) -> frozenset[str]:
    return frozenset(field for field in call.query.get("fields", []) if field)


class Collection:
    """The five routes of one kind of thing.

    part: its name on the service.  opened: verbs whose rule looks at something the route does not know yet (the owner of the network
    or of the group), so that the handler alone can judge.  keyed: whether the part's `create` takes the key of a request that may be
    repeated.
    """

    def __init__(
        self,
        resource: NetworkResource,
        part: str,
        *,
        opened: frozenset[str] = frozenset(),
        verbs: str = "lscud",
        keyed: bool = False,
    ) -> None:
        self.resource = resource
        self._part = part
        self._opened = opened
        self._verbs = verbs
        self._keyed = keyed
        self._path = f"/v2.0/{resource.path}"

    def part(self, call: Call) -> Part:
        part: Part = getattr(call.service, self._part)
        return part

    def routes(self) -> list[Route]:
        one = f"{self._path}/{{id}}"
        rows = {
            "l": Get(self._path, self.index, may=self._may("get")),
            "s": Get(one, self.show, may=self._may("get")),
            "c": Post(
                self._path,
                self.create,
                may=self._may("create"),
                again=self.create_again if self._keyed else None,
            ),
            "u": Put(one, self.update, may=self._may("update")),
            "d": Delete(one, self.delete, may=self._may("delete")),
        }
        return [rows[verb] for verb in self._verbs]

    def _may(self, verb: str) -> str:
        return ANYONE if verb in self._opened else f"{verb}_{self.resource.name}"

    # Handlers

    def index(self, call: Call) -> object:
        who = access.viewer(call)
        asked = search(call, self.resource, who)
        records = self.part(call).lists(asked)
        answer: dict[str, Any] = {
            self.resource.collection: self.resource.view(records, access.hidden(call, self.resource), fields(call))
        }
        links = self._links(call, asked, records)
        if links:
            answer[f"{self.resource.collection}_links"] = links
        return answer

    def _links(self, call: Call, asked: Search, records: Sequence[Any]) -> list[dict[str, str]]:
        """The way to the next and the previous page, where there may be one; of an empty page, back without a marker."""
        paged = "limit" in call.query
        full = asked.limit is not None and len(records) >= asked.limit
        if not paged and not full:
            return []
        links = []
        if full or asked.reverse:
            links.append(self._link(call, "next", records[-1].id if records else None))
        if paged and (full or not asked.reverse):
            links.append(self._link(call, "previous", records[0].id if records else None))
        return links

    def _link(self, call: Call, rel: str, marker: str | None) -> dict[str, str]:
        pairs = [(k, v) for k, values in call.query.items() for v in values if k not in {"marker", "page_reverse"}]
        if marker is not None:
            pairs.append(("marker", marker))
        if rel == "previous":
            pairs.append(("page_reverse", "True"))
        return {"rel": rel, "href": f"{call.url(self._path)}?{urlencode(pairs)}"}

    def show(self, call: Call, id: str) -> object:
        who, part = access.viewer(call), self.part(call)
        record = part.get(who, id)
        self._judge(call, "get", part.target(record, who), id)
        return self._one(call, record)

    def create(self, call: Call) -> object:
        resource, who, part = self.resource, access.viewer(call), self.part(call)
        wanted, many = resource.bodies(call.body)
        if len(wanted) > call.service.config.bulk_max:
            msg = f"Too many {resource.collection} in one request, at most {call.service.config.bulk_max}"
            raise errors.HTTPBadRequest(msg)
        targets: dict[Any, dict[str, Any]] = {}
        for one in wanted:
            access.owned_by(call, who, one)
            # things on one network or in one group are judged by it once
            key = tuple(
                str(one.get(k))
                for k in ("project_id", "network_id", "security_group_id", "device_owner", "target_tenant")
            )
            if key not in targets:
                targets[key] = part.create_target(who, one)
                access.require(call, f"create_{resource.name}", targets[key])
            access.may_set(call, "create", resource, resource.asked(one), one, targets[key])
        records = part.create(who, wanted, key=call.key) if call.key is not None else part.create(who, wanted)
        return self._created(call, records, many=many)

    def create_again(self, call: Call, ids: list[str]) -> object:
        """The answer for a request that has made its things before."""
        who, part = access.viewer(call), self.part(call)
        return self._created(call, [part.get(who, id) for id in ids], many=self.resource.bodies(call.body)[1])

    def _created(self, call: Call, records: Sequence[Any], *, many: bool) -> dict[str, Any]:
        if not many:
            return self._one(call, records[0])
        resource = self.resource
        return {resource.collection: resource.view(records, access.hidden(call, resource), fields(call))}

    def update(self, call: Call, id: str) -> object:
        resource, who, part = self.resource, access.viewer(call), self.part(call)
        changes = resource.changes(call.body)
        target = part.target(part.get(who, id), who)
        self._judge(call, "update", target, id)
        changed = getattr(part, "change_target", None)
        if changed is not None:
            target |= changed(changes)
        access.may_set(call, "update", resource, [key for key in changes if key in resource.guarded], changes, target)
        return self._one(call, part.update(who, id, changes, if_match(call)))

    def delete(self, call: Call, id: str) -> object:
        who, part = access.viewer(call), self.part(call)
        self._judge(call, "delete", part.target(part.get(who, id), who), id)
        part.delete(who, id, if_match(call))
        return Response(204)

    def _judge(self, call: Call, verb: str, target: Mapping[str, Any], id: str) -> None:
        """Allowed; or refused; or, for who may not see it, not there."""
        rule = f"{verb}_{self.resource.name}"
        if call.allowed(rule, **target):
            return
        if verb != "get" and call.allowed(f"get_{self.resource.name}", **target):
            raise errors.PolicyNotAuthorized(rule=rule)
        msg = f"The resource {id} could not be found."
        raise NotFound(msg)

    def _one(self, call: Call, record: Any) -> dict[str, Any]:
        return {self.resource.name: self.resource.view([record], access.hidden(call, self.resource), fields(call))[0]}
