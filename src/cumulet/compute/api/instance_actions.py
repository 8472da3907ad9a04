"""What was done to a server, and how it went: the sagas' own log in the API's words.

An action is a saga, an event one of its steps or a message on its way between them.
"""

from typing import Any

from cumulet.compute.api.subject import known_query, limit_of, moment, next_link, owned, service_of
from cumulet.compute.records import Server, host_id
from cumulet.compute.service.compute import ComputeService
from cumulet.core.clock import iso_seconds
from cumulet.core.errors import BadRequest, NotFound
from cumulet.core.saga import Saga
from cumulet.core.saga.journal import StepRow
from cumulet.core.web import Call, Get, Route
from cumulet.launch.flow import LAUNCH, ROWS

__all__ = ["ROUTES"]

_P = "os_compute_api:os-instance-actions:"
#: the places in the log that are no hosts
PLACES = frozenset({"client", "api", "scheduler", "conductor"})


def _action(call: Call, server: Server, saga: Saga) -> dict[str, Any]:
    flow = service_of(call).flows.coordinator.flows.get(saga.flow)
    shown: dict[str, Any] = {
        "action": flow.action if flow is not None else saga.flow,
        "instance_uuid": server.id,
        "request_id": saga.request_id,
        "user_id": saga.context.user_id,
        "project_id": saga.project_id,
        "start_time": iso_seconds(saga.requested_at),
        "message": "Error" if saga.failure is not None and saga.state != "done" else None,
    }
    if call.version >= (2, 58):
        shown["updated_at"] = iso_seconds(saga.finished_at or saga.started_at)
    return shown


def list_actions(call: Call, id: str) -> Any:
    paged = call.version >= (2, 58)
    names = ["limit", "marker", "changes-since"] if paged else []
    known_query(call, [*names, "changes-before"] if call.version >= (2, 66) else names, since=(2, 58))
    server = owned(call, id, f"{_P}list", deleted=call.version >= (2, 21))
    sagas = list(service_of(call).flows.sagas_of(server.id))
    if not paged:
        return {"instanceActions": [_action(call, server, saga) for saga in sagas]}
    if since := call.one("changes-since"):
        first = moment(since, "changes-since")
        sagas = [saga for saga in sagas if (saga.finished_at or saga.started_at) >= first]
    if call.version >= (2, 66) and (before := call.one("changes-before")):
        last = moment(before, "changes-before")
        sagas = [saga for saga in sagas if (saga.finished_at or saga.started_at) <= last]
    limit, marker = limit_of(call), call.one("marker")
    if marker:
        places = [at for at, saga in enumerate(sagas) if saga.request_id == marker]
        if not places:
            raise BadRequest(f"marker [{marker}] not found")
        sagas = sagas[places[-1] + 1 :]
    shown: dict[str, Any] = {"instanceActions": [_action(call, server, saga) for saga in sagas[:limit]]}
    if len(sagas) > limit:
        shown["links"] = next_link(call, sagas[limit - 1].request_id)
    return shown


def show_action(call: Call, id: str, request_id: str) -> Any:
    server = owned(call, id, f"{_P}show", deleted=call.version >= (2, 21))
    service = service_of(call)
    found = [saga for saga in service.flows.sagas_of(server.id) if saga.request_id == request_id]
    if not found:
        raise NotFound(f"Action for request_id {request_id} on instance {id} not found")
    shown = _action(call, server, found[0])
    trusted = call.allowed(f"{_P}events", project_id=server.project_id)
    if trusted or call.version >= (2, 51):
        with service.db.read() as tx:
            steps = [step for saga in found for step in service.flows.coordinator.journal.log(tx, saga.id)]
        steps = [*_token_issue(service, found[0]), *steps]
        shown["events"] = [_event(call, server, step, trusted=trusted) for step in steps if step.started_at is not None]
    return {"instanceAction": shown}


def _token_issue(service: ComputeService, saga: Saga) -> list[StepRow]:
    """Rows 1 and 2 of a launch: identity's own record of its token's issue, as long as that is kept."""
    if saga.flow != LAUNCH.name or not saga.context.audit_ids:
        return []
    issue = service.identity.token_issue(saga.context.audit_ids[0])
    if issue is None:
        return []
    methods = ", ".join(issue.methods)
    return [
        StepRow(
            saga_id=saga.id,
            name=row.name,
            row=row.n,
            state="note",
            host=None,
            started_at=issue.started,
            finished_at=finished,
            undo_started_at=None,
            undo_finished_at=None,
            attempts=0,
            output=None,
            detail=detail,
            failure=None,
        )
        for row, finished, detail in (
            (ROWS[0], issue.started, f"by {methods}"),
            (ROWS[1], issue.finished, "a token with the catalogue"),
        )
    ]


def _event(call: Call, server: Server, step: StepRow, *, trusted: bool) -> dict[str, Any]:
    """trusted: whether the caller may see the operator's side of it."""
    failed = step.failure is not None or step.state in {"failed", "undoing", "undone"}
    ended = step.finished_at is not None or step.state in {"done", "skipped"}
    shown: dict[str, Any] = {
        "event": step.name,
        "start_time": iso_seconds(step.started_at),
        "finish_time": iso_seconds(step.finished_at),
        "result": "Error" if failed else "Success" if ended else None,
    }
    host = step.host if step.host not in PLACES else None
    if call.version >= (2, 62):
        shown["hostId"] = host_id(host, server.project_id)
        if trusted and host is not None:
            shown["host"] = host
    if trusted:
        shown["traceback"] = (step.failure.detail or step.failure.message) if step.failure is not None else None
    if call.version >= (2, 84) and call.allowed(f"{_P}events:details", project_id=server.project_id):
        shown["details"] = step.failure.message if step.failure is not None else step.detail or None
    return shown


ROUTES: list[Route] = [
    Get("/v2.1/servers/{id}/os-instance-actions", list_actions, may=f"{_P}list"),
    Get("/v2.1/servers/{id}/os-instance-actions/{request_id}", show_action, may=f"{_P}show"),
]
