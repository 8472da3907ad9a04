"""Why a server is where it is: not part of the reference's API.  Its owner reads safe words, an admin the hosts by name."""

from typing import Any

import msgspec

from cumulet.compute.api.subject import known_query, owned, service_of
from cumulet.compute.scheduler.decision import words
from cumulet.compute.store import decisions
from cumulet.compute.store.decisions import KeptDecision
from cumulet.core.clock import iso_seconds
from cumulet.core.web import Call, Get, Route

__all__ = ["ROUTES", "view"]

_P = "cumulet:servers:scheduling"


def view(kept: KeptDecision, *, hosts: bool) -> dict[str, Any]:
    """hosts: whether hosts may be named."""
    decision = kept.decision
    shown: dict[str, Any] = {
        "action": kept.action,
        "request_id": kept.request_id,
        "decided_at": iso_seconds(kept.decided_at),
        "flavor": decision.flavor,
        "resources": decision.resources,
        "availability_zone": decision.zone,
        "found": decision.host is not None,
        "considered": decision.considered,
        "fitting": decision.fitting,
        "reasons": decision.reasons,
        "words": words(decision),
    }
    if hosts:
        shown |= {
            "host": decision.host,
            "weighed": msgspec.to_builtins(decision.weighed),
            "refused": msgspec.to_builtins(decision.refused),
        }
    return shown


def list_decisions(call: Call, id: str) -> Any:
    """Newest first: the launch's, and one for each resize."""
    known_query(call)
    server = owned(call, id, _P, deleted=True)
    with service_of(call).db.read() as tx:
        kept = decisions.of_server(tx, server.id)
    hosts = call.allowed(f"{_P}:hosts", project_id=server.project_id)
    return {"scheduling": [view(one, hosts=hosts) for one in kept]}


ROUTES: list[Route] = [Get("/v2.1/servers/{id}/scheduling", list_decisions, may=_P)]
