"""One server: what it is, how its launch went, what it prints, its screen, its floating addresses."""

import asyncio
from typing import Any
from urllib.parse import urlsplit

from starlette.responses import Response

from cumulet.dashboard.client import COMPUTE, IDENTITY, NETWORK, Refused, segment
from cumulet.dashboard.pages.servers import actions_of, address_rows, busy
from cumulet.dashboard.trace import waterfall
from cumulet.dashboard.visit import Visit

__all__ = ["associate", "console", "live", "release", "show"]

CONSOLE_LINES = 60
CONSOLE_CHARS_MAX = 64 << 10


async def show(visit: Visit) -> Response:
    server, output, addresses = await asyncio.gather(_live(visit), _output(visit), _floating(visit))
    return visit.page("server.html", here="servers", output=output, floating=addresses, **server)


async def live(visit: Visit) -> Response:
    """The part that changes while the server is busy, for a page that is open."""
    return visit.fragment("server_live.html", **await _live(visit))


async def _live(visit: Visit) -> dict[str, Any]:
    found, actions, decided = await asyncio.gather(
        visit.api.get(f"{COMPUTE}/servers/{visit.id}"),
        visit.api.get(f"{COMPUTE}/servers/{visit.id}/os-instance-actions"),
        _decided(visit),
    )
    server, log = found["server"], actions["instanceActions"]
    create = next((action for action in reversed(log) if action["action"] == "create"), None)
    trace = None
    if create is not None:
        shown, issue = await asyncio.gather(
            visit.api.get(f"{COMPUTE}/servers/{visit.id}/os-instance-actions/{segment(create['request_id'])}"),
            _issue(visit),
        )
        events = shown["instanceAction"].get("events") or []
        trace = waterfall(events, running=server["status"] == "BUILD", now=visit.clock.now(), issue=issue)
    return {
        "server": server,
        "addresses": address_rows(server),
        "actions": actions_of(server),
        "log": log,
        "trace": trace,
        "decided": decided,
        "live": busy(server),
    }


async def _decided(visit: Visit) -> list[dict[str, Any]]:
    """What the scheduler decided, newest first, in words for the owner."""
    try:
        answer = await visit.api.get(f"{COMPUTE}/servers/{visit.id}/scheduling")
    except Refused:
        return []  # the page is worth showing without it
    decided: list[dict[str, Any]] = answer["scheduling"]
    return decided


async def _issue(visit: Visit) -> dict[str, Any] | None:
    """Identity's record of this session's token, where the server was launched with it."""
    if visit.id not in visit.session.launched:
        return None
    try:
        answer = await visit.api.get(f"{IDENTITY}/auth/token_issues/{segment(visit.session.audit_id)}")
    except Refused:
        return None  # the trace is worth showing without it
    issue: dict[str, Any] = answer["token_issue"]
    return issue


async def _output(visit: Visit) -> str:
    """The end of the serial console.  Written by the guest: text and nothing else."""
    try:
        answer = await visit.api.post(
            f"{COMPUTE}/servers/{visit.id}/action", {"os-getConsoleOutput": {"length": CONSOLE_LINES}}
        )
    except Refused as refused:
        return f"({refused.message})"
    output: str = answer["output"] or ""
    return output[-CONSOLE_CHARS_MAX:]


async def console(visit: Visit) -> Response:
    """A page around the server's screen.  The URL works once, so it is made when it is asked for."""
    wanted = {"remote_console": {"protocol": "vnc", "type": "novnc"}}
    found, answer = await asyncio.gather(
        visit.api.get(f"{COMPUTE}/servers/{visit.id}"),
        visit.api.post(f"{COMPUTE}/servers/{visit.id}/remote-consoles", wanted),
    )
    url: str = answer["remote_console"]["url"]
    # as this browser reaches us, which may be by another name than ours for ourselves
    here = url.removeprefix(visit.base_url)
    framed = here.startswith("/") and not here.startswith("//")
    if not framed and urlsplit(url).scheme not in {"http", "https"}:
        raise Refused(502, "The console's address is none that a browser should open.")
    return visit.page("console.html", here="servers", server=found["server"], url=here, framed=framed)


async def _floating(visit: Visit) -> dict[str, Any]:
    """The server's ports, the floating addresses on them, those that are free, and the networks that could give one."""
    try:
        ports, addresses, networks = await asyncio.gather(
            visit.api.get(f"{NETWORK}/ports", device_id=visit.id),
            visit.api.get(f"{NETWORK}/floatingips"),
            visit.api.get(f"{NETWORK}/networks", **{"router:external": "true"}),
        )
    except Refused as refused:
        return {"ports": [], "held": [], "free": [], "networks": [], "refused": refused.message}
    own = {port["id"] for port in ports["ports"]}
    return {
        "ports": ports["ports"],
        "held": [one for one in addresses["floatingips"] if one["port_id"] in own],
        "free": [one for one in addresses["floatingips"] if one["port_id"] is None],
        "networks": networks["networks"],
        "refused": "",
    }


async def associate(visit: Visit) -> Response:
    """Lead a floating address to one of the server's ports: one that is free, or a new one of the network named."""
    port_id = visit.form.id("port")
    kind, _, _ = visit.form.text("address").partition(":")
    chosen = visit.form.text("address").partition(":")[2]
    if kind == "free":
        answer = await visit.api.put(f"{NETWORK}/floatingips/{segment(chosen)}", {"floatingip": {"port_id": port_id}})
    elif kind == "new":
        wanted = {"floating_network_id": chosen, "port_id": port_id}
        answer = await visit.api.post(f"{NETWORK}/floatingips", {"floatingip": wanted})
    else:
        raise Refused(400, "Choose a floating address.")
    return visit.go(f"/servers/{visit.id}", f"{answer['floatingip']['floating_ip_address']} leads to this server.")


async def release(visit: Visit) -> Response:
    """Take a floating address off the server; it stays the project's."""
    path = f"{NETWORK}/floatingips/{visit.form.id('floating_ip')}"
    await visit.api.put(path, {"floatingip": {"port_id": None}})
    return visit.go(f"/servers/{visit.id}", "The floating address is free again.")
