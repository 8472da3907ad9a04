"""What the operator's commands ask of a running cloud: admins only, not part of any OpenStack API."""

from typing import TYPE_CHECKING, Any

import msgspec

from cumulet.compute.api.scheduling import view
from cumulet.compute.store import decisions, servers
from cumulet.core.errors import BadRequest, NotFound
from cumulet.core.policy import Policy, Rule
from cumulet.core.web import App, Call, Get, Post
from cumulet.core.web.envelope import compute_error
from cumulet.core.work import Slow
from cumulet.run.leak_watch import overview
from cumulet.run.leaks import find_leaks
from cumulet.run.repair import repair

if TYPE_CHECKING:
    from collections.abc import Generator

    from cumulet.run.services import Services

__all__ = ["admin_application"]

RULES = [Rule(f"cumulet:{name}", "role:admin") for name in ("check", "why", "fit")]

ASKED = ("flavor", "image", "zone", "project")


def check(call: Call) -> "Generator[Slow, Any, Any]":
    """Everything without an owner."""
    leaks = yield Slow("calls", find_leaks, (call.service,))
    return {"leaks": [msgspec.to_builtins(leak) for leak in leaks]}


def why(call: Call, id: str) -> Any:
    """What the scheduler decided for a server, and why, with the hosts' names."""
    with call.service.compute_db.read() as tx:
        server = servers.get(tx, id, deleted=True)
        kept = decisions.of_server(tx, id)
    if server is None:
        raise NotFound(f"Instance {id} could not be found.")
    return {"scheduling": [view(one, hosts=True) for one in kept]}


def fit(call: Call) -> "Generator[Slow, Any, Any]":
    """Where a server of a flavor (id) would go, and how many would fit; nothing is launched."""
    asked = {name: call.one(name) or None for name in ASKED}
    if asked["flavor"] is None or set(call.query) - set(ASKED):
        raise BadRequest(f"Ask by flavor, and optionally by {', '.join(ASKED[1:])}: ids, and the zone's name.")
    services: Services = call.service

    def ask() -> Any:
        found = services.fitting.what_fits(
            services.nova.credentials(request_id=call.context.request_id),
            flavor_id=asked["flavor"] or "",
            image_id=asked["image"],
            zone=asked["zone"],
            project_id=asked["project"],
        )
        return msgspec.to_builtins(found)

    return {"fit": (yield Slow("calls", ask))}


def mend(call: Call) -> "Generator[Slow, Any, Any]":
    """Take away what has no owner, as far as it can be named; then look again."""
    told = yield Slow("calls", repair, (call.service,))
    leaks = yield Slow("calls", find_leaks, (call.service,))
    return {"repaired": told, "leaks": [msgspec.to_builtins(leak) for leak in leaks]}


def inside(call: Call) -> Any:
    """What goes on by itself, in numbers."""
    return overview(call.service)


def admin_application(services: "Services") -> App:
    """Mounted at /cumulet."""
    return App(
        "cumulet",
        [
            Get("/check", check, may="cumulet:check"),
            Get("/why/{id}", why, may="cumulet:why"),
            Get("/fit", fit, may="cumulet:fit"),
            Post("/repair", mend, may="cumulet:check", status=200),
            Get("/overview", inside, may="cumulet:check"),
        ],
        service=services,
        policy=Policy(RULES),
        authenticate=services.authenticate,
        clock=services.clock,
        ids=services.ids,
        error=compute_error,
    )
