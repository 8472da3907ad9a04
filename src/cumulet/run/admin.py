"""What the operator's commands ask of a running cloud: admins only, not part of any OpenStack API."""

from typing import TYPE_CHECKING, Any

import msgspec

from cumulet.core.policy import Policy, Rule
from cumulet.core.web import App, Call, Get, Post
from cumulet.core.web.envelope import compute_error
from cumulet.core.work import Slow
from cumulet.run.leaks import find_leaks
from cumulet.run.repair import repair
from cumulet.run.watch import overview

if TYPE_CHECKING:
    from collections.abc import Generator

    from cumulet.run.services import Services

__all__ = ["admin_application"]

RULES = [Rule("cumulet:check", "role:admin")]


def check(call: Call) -> "Generator[Slow, Any, Any]":
    """Everything without an owner."""
    leaks = yield Slow("calls", find_leaks, (call.service,))
    return {"leaks": [msgspec.to_builtins(leak) for leak in leaks]}


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
