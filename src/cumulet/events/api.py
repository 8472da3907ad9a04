"""GET /events: the stream, as server-sent events.

    GET /events?since=N[&object_id=ID][&all_projects=1|&project_id=P]      X-Auth-Token: …      [Last-Event-ID: N]

A message is `id: NUMBER` and `data: {"number", "at", "kind", "id", "project_id", "change", "data"}`; one with an id alone tells how far
the stream has come.  Without `since` the stream begins now.  A project sees what belongs to it, and what others share with it or with all.
"""

from typing import TYPE_CHECKING

from cumulet.core.clock import Clock
from cumulet.core.errors import BadRequest, Forbidden, Gone, Unauthorized
from cumulet.core.ids import Ids
from cumulet.core.policy import Policy, Rule
from cumulet.core.web import App, Call, Get
from cumulet.core.web.app import Authenticate
from cumulet.core.web.envelope import compute_error
from cumulet.core.web.http import Response
from cumulet.events.readers import Readers, Stream
from cumulet.events.records import Wanted

if TYPE_CHECKING:
    from cumulet.core.context import Context

__all__ = ["RULES", "application"]

OWN, ALL = "cumulet:events", "cumulet:events:all_projects"

RULES = [Rule(OWN, "role:admin or role:reader"), Rule(ALL, "role:admin")]

_HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_NUMBER_MAX = (1 << 63) - 1
_KEYS = frozenset({"since", "object_id", "all_projects", "project_id"})
_FLAGS = {"1": True, "true": True, "0": False, "false": False}


class Events:
    """What the handler needs beside the call."""

    def __init__(self, readers: Readers, authenticate: Authenticate, policy: Policy) -> None:
        self.readers = readers
        self.authenticate = authenticate
        self.policy = policy


def watch(call: Call) -> Response:
    """The stream from a number on, or from now."""
    events: Events = call.service
    if unknown := call.query.keys() - _KEYS:
        raise BadRequest(f"Unknown query parameter: {min(unknown)}")
    rule, wanted = _wanted(call)
    since = _since(call, events)
    token, service_token = call.context.token or "", call.request.headers.get("x-service-token")
    own = call.context.project_id

    def still() -> bool:
        try:
            context: Context = events.authenticate(token, service_token)
        except Unauthorized:
            return False
        return context.project_id == own and events.policy.allows(rule, context, {"project_id": own})

    return Response(200, Stream(events.readers, wanted, since, still=still), dict(_HEADERS))


def _wanted(call: Call) -> tuple[str, Wanted]:
    """The rule that allows it, and what is to be read.  Raises BadRequest, Forbidden."""
    object_id = call.one("object_id")
    flag = _FLAGS.get((call.one("all_projects") or "0").lower())
    if flag is None:
        msg = "all_projects must be 0 or 1."
        raise BadRequest(msg)
    project_id = call.one("project_id")
    own = call.context.project_id
    if flag:
        call.authorize(ALL)
        return ALL, Wanted(project_id=project_id, object_id=object_id)
    if own is None:
        msg = "The event stream is that of a project: the token must be scoped to one."
        raise Forbidden(msg)
    if project_id not in {None, own}:
        msg = "The events of another project are shown with all_projects=1 only."
        raise Forbidden(msg)
    return OWN, Wanted(project_id=own, object_id=object_id)


def _since(call: Call, events: Events) -> int | None:
    """The number to go on after; a client that comes back says it in the header.  Raises BadRequest, Gone."""
    text = call.request.headers.get("last-event-id") or call.one("since")
    if text is None or not text:
        return None
    if not (text.isascii() and text.isdigit()) or int(text) > _NUMBER_MAX:
        raise BadRequest(f"Not the number of an event: {text[:40]}")
    since, relay = int(text), events.readers.relay
    oldest, last = relay.oldest, relay.last
    if since < oldest - 1:
        msg = (
            f"Events up to {oldest - 1} are no longer kept, so those after {since} would not all be here. "
            f"Read the state anew and go on from {last}."
        )
        raise Gone(msg)
    if since > last:
        msg = f"There is no event {since} yet, the last is {last}: this is not the stream that the number is from. "
        raise Gone(msg + f"Read the state anew and go on from {last}.")
    return since


def application(readers: Readers, *, authenticate: Authenticate, clock: Clock, ids: Ids) -> App:
    """Mounted at /events."""
    policy = Policy(RULES)
    return App(
        "events",
        [Get("/", watch, may=OWN)],
        service=Events(readers, authenticate, policy),
        policy=policy,
        authenticate=authenticate,
        clock=clock,
        ids=ids,
        error=compute_error,
    )
