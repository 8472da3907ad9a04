"""What can be done to a server: POST /servers/{id}/action with one key that names it.

Power, image, flavor, lock, snapshot.  Each handler judges by the server's owner, waits its turn, and begins a flow.
"""

import re
import secrets
from collections.abc import Generator
from typing import Any

from cumulet.compute.api.server_schemas import METADATA_SCHEMA, NAME, REBUILD
from cumulet.compute.api.server_view import detail
from cumulet.compute.api.subject import owned, service_of, settled
from cumulet.compute.records import Server
from cumulet.compute.service.server_images import volume_backed
from cumulet.core.errors import BadRequest, Conflict
from cumulet.core.saga import Flow
from cumulet.core.web import Action, Call, Response, Route
from cumulet.core.work import After
from cumulet.flows import power
from cumulet.flows.power import PowerRequest

__all__ = ["ROUTES"]

_P = "os_compute_api:"
PATH = "/v2.1/servers/{id}/action"
Handler = Generator[After, Any, Any]

NULL: dict[str, Any] = {"type": ["null", "object", "string"]}
REBOOT: dict[str, Any] = {
    "type": "object",
    "properties": {"type": {"type": "string", "enum": ["HARD", "Hard", "hard", "SOFT", "Soft", "soft"]}},
    "required": ["type"],
    "additionalProperties": False,
}
RESIZE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "flavorRef": {"type": ["string", "integer"], "minLength": 1},
        "OS-DCF:diskConfig": {"enum": ["AUTO", "MANUAL"]},
    },
    "required": ["flavorRef"],
    "additionalProperties": False,
}
CREATE_IMAGE: dict[str, Any] = {
    "type": "object",
    "properties": {"name": NAME, "metadata": METADATA_SCHEMA},
    "required": ["name"],
    "additionalProperties": False,
}
RESET_STATE: dict[str, Any] = {
    "type": "object",
    "properties": {"state": {"enum": ["active", "error"]}},
    "required": ["state"],
    "additionalProperties": False,
}
LOCK: dict[str, Any] = {
    "type": ["object", "null"],
    "properties": {"locked_reason": {"type": "string", "minLength": 1, "maxLength": 255}},
    "additionalProperties": False,
}
PASSWORD: dict[str, Any] = {
    "type": "object",
    "properties": {"adminPass": {"type": "string"}},
    "required": ["adminPass"],
    "additionalProperties": False,
}


def _power(name: str, flow: Flow, action: str, rule: str, *, takes: dict[str, Any] | None = None) -> Route:
    """The row of an action that is one power flow."""

    def act(call: Call, id: str) -> Handler:
        server = yield from settled(call, id, rule)
        service_of(call).flows.begin(call.context, server, action, flow, PowerRequest())
        return Response(202)

    return Action(PATH, name, act, may=rule, takes=takes)


def reboot(call: Call, id: str) -> Handler:
    server = yield from settled(call, id, f"{_P}servers:reboot")
    hard = call.body["type"].upper() == "HARD"
    action = "reboot_hard" if hard else "reboot"
    service_of(call).flows.begin(call.context, server, action, power.REBOOT, PowerRequest(hard=hard))


def rebuild(call: Call, id: str) -> Handler:
    service = service_of(call)
    server = yield from settled(call, id, f"{_P}servers:rebuild")
    body = dict(call.body)
    rebuilt = service.changes.rebuild(call.context, service.credentials(call.context), server, body)
    # shown once and kept nowhere
    shown = {**detail(call, rebuilt, after="rebuild"), "adminPass": body.get("adminPass") or secrets.token_urlsafe(12)}
    return Response(202, {"server": shown}, {"Location": call.url(f"/v2.1/servers/{server.id}")})


def resize(call: Call, id: str) -> Handler:
    server = yield from settled(call, id, f"{_P}servers:resize")
    body = call.body
    service_of(call).changes.resize(call.context, server, str(body["flavorRef"]), body.get("OS-DCF:diskConfig"))


def confirm_resize(call: Call, id: str) -> Handler:
    server = yield from settled(call, id, f"{_P}servers:confirm_resize")
    service_of(call).changes.confirm_resize(call.context, server)


def revert_resize(call: Call, id: str) -> Handler:
    server = yield from settled(call, id, f"{_P}servers:revert_resize")
    service_of(call).changes.revert_resize(call.context, server)


def create_image(call: Call, id: str) -> Handler:
    service = service_of(call)
    server = yield from settled(call, id, f"{_P}servers:create_image")
    body = call.body
    if volume_backed(server):
        call.authorize(f"{_P}servers:create_image:allow_volume_backed", project_id=server.project_id)
    image_id = service.images.create(
        call.context, service.credentials(call.context), server, body["name"], body.get("metadata") or {}
    )
    if call.version >= (2, 45):
        return Response(202, {"image_id": image_id})
    front = re.sub(r"/compute$", "", call.request.base_url)
    return Response(202, None, {"Location": f"{front}/image/v2/images/{image_id}"})


def force_delete(call: Call, id: str) -> None:
    server = owned(call, id, f"{_P}os-deferred-delete:force")
    service_of(call).flows.delete(call.context, server)


def lock(call: Call, id: str) -> None:
    server = owned(call, id, f"{_P}os-lock-server:lock")
    body = call.body or {}
    if body and call.version < (2, 73):
        raise BadRequest("Invalid input for field/attribute lock. The lock action takes no parameters in this version.")
    service_of(call).changes.lock(call.context, server, body.get("locked_reason"))


def unlock(call: Call, id: str) -> None:
    server = owned(call, id, f"{_P}os-lock-server:unlock")
    if server.locked_by == "admin":
        call.authorize(f"{_P}os-lock-server:unlock:unlock_override", project_id=server.project_id)
    service_of(call).changes.unlock(server)


def reset_state(call: Call, id: str) -> None:
    server = owned(call, id, f"{_P}os-admin-actions:reset_state")
    service_of(call).changes.reset_state(server, call.body["state"])


def change_password(call: Call, id: str) -> None:
    """Setting a password from outside takes an agent inside the guest, which these hypervisors do not talk to."""
    owned(call, id, f"{_P}os-admin-password")
    raise Conflict("QEMU guest agent is not enabled")


# --- security groups -----------------------------------------------------------------------------------------------------------------

GROUP: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string", "minLength": 1, "maxLength": 255}},
    "required": ["name"],
    "additionalProperties": False,
}


def add_group(call: Call, id: str) -> None:
    _groups(call, owned(call, id, f"{_P}os-security-groups:add"), add=True)


def remove_group(call: Call, id: str) -> None:
    _groups(call, owned(call, id, f"{_P}os-security-groups:remove"), add=False)


def _groups(call: Call, server: Server, *, add: bool) -> None:
    service = service_of(call)
    service.security_groups.change(service.credentials(call.context), server, call.body["name"], add=add)


ROUTES: list[Route] = [
    _power("os-start", power.START, "start", f"{_P}servers:start"),
    _power("os-stop", power.STOP, "stop", f"{_P}servers:stop"),
    Action(PATH, "reboot", reboot, may=f"{_P}servers:reboot", takes=REBOOT),
    _power("pause", power.PAUSE, "pause", f"{_P}os-pause-server:pause", takes=NULL),
    _power("unpause", power.UNPAUSE, "unpause", f"{_P}os-pause-server:unpause", takes=NULL),
    _power("suspend", power.SUSPEND, "suspend", f"{_P}os-suspend-server:suspend", takes=NULL),
    _power("resume", power.RESUME, "resume", f"{_P}os-suspend-server:resume", takes=NULL),
    Action(PATH, "rebuild", rebuild, may=f"{_P}servers:rebuild", takes=REBUILD),
    Action(PATH, "resize", resize, may=f"{_P}servers:resize", takes=RESIZE),
    Action(PATH, "confirmResize", confirm_resize, may=f"{_P}servers:confirm_resize", takes=NULL, status=204),
    Action(PATH, "revertResize", revert_resize, may=f"{_P}servers:revert_resize", takes=NULL),
    Action(PATH, "createImage", create_image, may=f"{_P}servers:create_image", takes=CREATE_IMAGE),
    Action(PATH, "forceDelete", force_delete, may=f"{_P}os-deferred-delete:force"),
    Action(PATH, "lock", lock, may=f"{_P}os-lock-server:lock", takes=LOCK),
    Action(PATH, "unlock", unlock, may=f"{_P}os-lock-server:unlock", takes=NULL),
    Action(PATH, "os-resetState", reset_state, may=f"{_P}os-admin-actions:reset_state", takes=RESET_STATE),
    Action(PATH, "changePassword", change_password, may=f"{_P}os-admin-password", takes=PASSWORD),
    Action(PATH, "addSecurityGroup", add_group, may=f"{_P}os-security-groups:add", takes=GROUP),
    Action(PATH, "removeSecurityGroup", remove_group, may=f"{_P}os-security-groups:remove", takes=GROUP),
]
