"""The server that a request names, and the small things that every list of the compute API shares: query, limit, marker, links."""

import datetime
import re
from collections.abc import Generator, Sequence
from typing import Any
from urllib.parse import urlencode

from cumulet.compute.records import Server
from cumulet.compute.service.compute import ComputeService
from cumulet.compute.service.devices import DEVICE_WORK, DEVICE_WORK_TIMEOUT_S
from cumulet.core.errors import BadRequest
from cumulet.core.web import Call
from cumulet.core.web.versions import Version
from cumulet.core.work import After

__all__ = [
    "PAGE_MAX",
    "STRICT",
    "known_query",
    "limit_of",
    "links",
    "moment",
    "next_link",
    "owned",
    "service_of",
    "settled",
]

PAGE_MAX = 1000
#: from this version on a query key that nobody knows is refused
STRICT: Version = (2, 75)


def service_of(call: Call) -> ComputeService:
    service: ComputeService = call.service
    return service


def owned(call: Call, server_id: str, rule: str, *, deleted: bool = False) -> Server:
    """The server that the path names, judged by its owner.  Raises NotFound, Forbidden."""
    server = service_of(call).server(call, server_id, deleted=deleted)
    call.authorize(rule, project_id=server.project_id, user_id=server.user_id)
    return server


def settled(call: Call, server_id: str, rule: str) -> Generator[After, Any, Server]:
    """Like `owned`, once the server's NICs and volumes are no longer being plugged: the reference does that beside other actions,
    here it takes its turn, so whoever comes next waits a moment instead of being refused."""
    server = owned(call, server_id, rule)
    if server.task_state not in DEVICE_WORK:
        return server
    devices = service_of(call).devices
    for saga_id in devices.device_work(server):
        yield from devices.wait_for(saga_id, DEVICE_WORK_TIMEOUT_S)
    # as it is now: the work may have ended between the first look and the second
    return owned(call, server_id, rule)


def moment(text: str, key: str) -> str:
    """A time in a query, as stored times are written."""
    try:
        found = datetime.datetime.fromisoformat(text.replace(" ", "+"))
    except ValueError:
        raise BadRequest(
            f"Invalid input for query parameters {key}. Value: {text}. '{text}' is not a 'date-time'"
        ) from None
    if found.tzinfo is not None:
        found = found.astimezone(datetime.UTC).replace(tzinfo=None)
    return found.isoformat(timespec="microseconds")


def known_query(call: Call, names: Sequence[str] = (), *, since: Version = STRICT) -> None:
    """Refuse query keys that are not among `names`, from `since` on."""
    unknown = sorted(set(call.query) - set(names))
    if unknown and call.version >= since:
        raise BadRequest(f"Additional properties are not allowed ({', '.join(map(repr, unknown))} were unexpected)")


def limit_of(call: Call) -> int:
    """The page's size: `limit`, at most PAGE_MAX; 0 means the most.  The first value counts, and all must be numbers."""
    for text in call.query.get("limit", ()):
        if not re.fullmatch(r"[0-9]+", text):
            raise BadRequest(
                f"Invalid input for query parameters limit. Value: {text}. '{text}' does not match '^[0-9]*$'"
            )
    first = call.one("limit")
    return min(int(first) or PAGE_MAX, PAGE_MAX) if first is not None else PAGE_MAX


def next_link(call: Call, marker: str) -> list[dict[str, str]]:
    """The link to the page after `marker`."""
    pairs = [(key, value) for key, values in call.query.items() for value in values if key != "marker"]
    return [{"rel": "next", "href": f"{call.url(call.request.path)}?{urlencode([*pairs, ('marker', marker)])}"}]


def links(call: Call, kind: str, id_: str) -> list[dict[str, Any]]:
    """The two links every resource shows."""
    return [
        {"rel": "self", "href": call.url(f"/v2.1/{kind}/{id_}")},
        {"rel": "bookmark", "href": f"{call.request.base_url}/{kind}/{id_}"},
    ]
