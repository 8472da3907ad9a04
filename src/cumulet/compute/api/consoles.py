"""Looking at a guest: the end of its serial console, and a URL that opens its screen once."""

import re
from collections.abc import Generator
from typing import Any

from cumulet.compute import states
from cumulet.compute.api.subject import owned, service_of
from cumulet.compute.records import Server
from cumulet.core.errors import BadRequest, Conflict
from cumulet.core.web import Action, Call, Post, Resource, Route
from cumulet.core.web.resource import Field
from cumulet.core.work import Slow

__all__ = ["ROUTES"]

_P = "os_compute_api:"
PATH = "/v2.1/servers/{id}/action"
OUTPUT: dict[str, Any] = {
    "type": "object",
    "properties": {"length": {"type": ["integer", "string", "null"], "pattern": "^-?[0-9]+$", "minimum": -1}},
    "additionalProperties": False,
}
VNC: dict[str, Any] = {
    "type": "object",
    "properties": {"type": {"enum": ["novnc", "xvpvnc"]}},
    "required": ["type"],
    "additionalProperties": False,
}
REMOTE = Resource(
    "remote_console",
    {
        "protocol": Field({"enum": ["vnc", "spice", "rdp", "serial", "mks"]}, required=True),
        "type": Field({"enum": ["novnc", "xvpvnc", "spice-html5", "rdp-html5", "serial", "webmks"]}, required=True),
    },
)


def console_output(call: Call, id: str) -> Generator[Slow, Any, Any]:
    server = owned(call, id, f"{_P}os-console-output")
    length = call.body.get("length")
    lines = None if length in (None, "", "-1", -1) else int(length)
    host = _host(server)
    text: str = yield Slow("calls", service_of(call).host(host).console_output, (server.id, lines))
    # what JSON clients cannot take is dropped: the guest may print anything
    return {"output": re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", "", text)}


def _host(server: Server) -> str:
    if server.host is None or server.vm_state == states.BUILDING:
        raise Conflict(f"Instance {server.id} is not ready")
    return server.host


def _url(call: Call, server: Server, console_type: str) -> str:
    """The console's page, with a token in it."""
    service = service_of(call)
    states.allowed("get_console", server.id, server.vm_state, None)
    _host(server)
    token = service.consoles.issue(server, console_type)
    front = re.sub(r"/compute$", "", call.request.base_url)
    return f"{front}{service.config.console_path}/?token={token}"


def vnc_console(call: Call, id: str) -> Any:
    server = owned(call, id, f"{_P}os-remote-consoles")
    if call.body["type"] != "novnc":
        raise BadRequest(f"Unavailable console type {call.body['type']}.")
    return {"console": {"type": "novnc", "url": _url(call, server, "novnc")}}


def remote_console(call: Call, id: str) -> Any:
    server = owned(call, id, f"{_P}os-remote-consoles")
    protocol, kind = call.body["protocol"], call.body["type"]
    if (protocol, kind) != ("vnc", "novnc"):
        raise BadRequest(f"Unavailable console type {kind}.")
    return {"remote_console": {"protocol": protocol, "type": kind, "url": _url(call, server, kind)}}


ROUTES: list[Route] = [
    Action(PATH, "os-getConsoleOutput", console_output, may=f"{_P}os-console-output", takes=OUTPUT, status=200),
    Action(PATH, "os-getVNCConsole", vnc_console, may=f"{_P}os-remote-consoles", takes=VNC, status=200, until=(2, 5)),
    Post(
        "/v2.1/servers/{id}/remote-consoles",
        remote_console,
        may=f"{_P}os-remote-consoles",
        takes=REMOTE,
        status=200,
        since=(2, 6),
    ),
]
