"""/admin/faults: what an admin lets go wrong, in a cloud that was started with --faults; in any other there is no such path."""

from typing import TYPE_CHECKING, Any

import msgspec

from cumulet.core.errors import BadRequest
from cumulet.core.faults import KINDS, Faults
from cumulet.core.policy import Policy, Rule
from cumulet.core.web import App, Call, Delete, Get, Post, Response
from cumulet.core.web.envelope import compute_error
from cumulet.run.faulty import check_names

if TYPE_CHECKING:
    from cumulet.run.services import Services

__all__ = ["faults_application"]

#: an end is looked at a little after it
EXPIRY_SLACK_S = 0.01

RULES = [Rule("cumulet:faults", "role:admin")]


def faults_application(services: "Services", faults: Faults | None) -> App:
    """Mounted at /admin."""

    def add(call: Call) -> Any:
        body = call.body
        asked = body.get("fault") if isinstance(body, dict) else None
        if not isinstance(asked, dict):
            raise BadRequest("The body must be {'fault': {'kind': ...}}.")
        assert faults is not None  # noqa: S101 - else there is no such row
        check_names(asked, services)
        fault = faults.add(asked)
        if fault.duration is not None:  # whatever it held down is let go when it is over
            services.worker("conductor").after(fault.duration + EXPIRY_SLACK_S, faults.expire)
        return {"fault": msgspec.to_builtins(fault)}

    def index(_: Call) -> Any:
        assert faults is not None  # noqa: S101 - as above
        kinds = {name: {"what": kind.what, "takes": sorted(kind.params)} for name, kind in KINDS.items()}
        return {"faults": [msgspec.to_builtins(fault) for fault in faults.list()], "kinds": kinds}

    def remove(_: Call, id: str) -> Response:
        assert faults is not None  # noqa: S101 - as above
        faults.remove(id)
        return Response(204)

    rows = [
        Post("/faults", add, may="cumulet:faults"),
        Get("/faults", index, may="cumulet:faults"),
        Delete("/faults/{id}", remove, may="cumulet:faults"),
    ]
    return App(
        "admin",
        rows if faults is not None else [],
        service=services,
        policy=Policy(RULES),
        authenticate=services.authenticate,
        clock=services.clock,
        ids=services.ids,
        error=compute_error,
    )
