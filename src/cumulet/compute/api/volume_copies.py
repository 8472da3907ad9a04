"""Copies of attached volumes: asked for by the volume service, which cannot read a disk that a guest has open.

The reference's `os-assisted-volume-snapshots` is for the same need, and its rules judge here too.  It is not the same thing: there the
guest goes on in a new file and the old one is the snapshot; here the guest's disk stays where it is, and the new file is the copy.
"""

from typing import Any

from cumulet.compute.api.subject import owned, service_of
from cumulet.core.saga import Saga
from cumulet.core.web import Call, Delete, Get, Put, Response, Route

__all__ = ["ROUTES"]

_P = "os_compute_api:os-assisted-volume-snapshots:"
_PATH = "/v2.1/servers/{id}/volume-copies/{copy_id}"
_ID: dict[str, Any] = {"type": "string", "pattern": "^[0-9A-Za-z][0-9A-Za-z-]{0,63}$"}
_COPY: dict[str, Any] = {
    "type": "object",
    "properties": {
        "copy": {
            "type": "object",
            "properties": {
                "volume_id": _ID,
                # a name beside the volume's own file, never a path
                "file": {"type": "string", "pattern": "^[0-9A-Za-z][0-9A-Za-z.-]{0,250}$"},
            },
            "required": ["volume_id", "file"],
            "additionalProperties": False,
        }
    },
    "required": ["copy"],
    "additionalProperties": False,
}


def _shown(saga: Saga, copy_id: str) -> dict[str, Any]:
    status = "copying" if saga.live else "done" if saga.state == "done" else "failed"
    failure = saga.failure if status == "failed" else None
    shown = {"id": copy_id, "status": status, "message": failure.message if failure is not None else ""}
    return {"copy": {**shown, "volume_id": saga.input["volume_id"]}}


def begin_copy(call: Call, id: str, copy_id: str) -> Response:
    server = owned(call, id, f"{_P}create")
    asked = call.body["copy"]
    saga = service_of(call).volume_copies.begin(
        call.context, server, copy_id, volume_id=asked["volume_id"], file=asked["file"]
    )
    return Response(202, _shown(saga, copy_id))


def show_copy(call: Call, id: str, copy_id: str) -> Any:
    server = owned(call, id, f"{_P}create", deleted=True)
    return _shown(service_of(call).volume_copies.get(server, copy_id), copy_id)


def end_copy(call: Call, id: str, copy_id: str) -> Response:
    server = owned(call, id, f"{_P}delete", deleted=True)
    service_of(call).volume_copies.end(call.context, server, copy_id)
    return Response(202)


ROUTES: list[Route] = [
    Put(_PATH, begin_copy, may=f"{_P}create", takes=_COPY, status=202),
    Get(_PATH, show_copy, may=f"{_P}create"),
    Delete(_PATH, end_copy, may=f"{_P}delete", status=202),
]
