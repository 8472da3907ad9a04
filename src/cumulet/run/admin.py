"""What the operator's commands ask of a running cloud: admins only, not part of any OpenStack API."""

from typing import TYPE_CHECKING, Any

import msgspec

from cumulet.core.policy import Policy, Rule
from cumulet.core.web import App, Call, Get
from cumulet.core.web.envelope import compute_error
from cumulet.core.work import Slow
from cumulet.run.leaks import find_leaks

if TYPE_CHECKING:
    from collections.abc import Generator

    from cumulet.run.services import Services

__all__ = ["admin_application"]

RULES = [Rule("cumulet:check", "role:admin")]


def check(call: Call) -> "Generator[Slow, Any, Any]":
    """Everything without an owner."""
    leaks = yield Slow("calls", find_leaks, (call.service,))
    return {"leaks": [msgspec.to_builtins(leak) for leak in leaks]}


def admin_application(services: "Services") -> App:
    """Mounted at /cumulet."""
    return App(
        "cumulet",
        [Get("/check", check, may="cumulet:check")],
        service=services,
        policy=Policy(RULES),
        authenticate=services.authenticate,
        clock=services.clock,
        ids=services.ids,
        error=compute_error,
    )
