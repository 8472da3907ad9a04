"""The console's proxy: a one-time token opens one connection from a browser to one server's screen.

    GET  /console/?token=T     noVNC's page, told where the websocket is
    WS   /console/websockify?token=T

The token is bound to a server and its host, is used up by the first websocket, and must come with a page of this origin: a page of
another site cannot use a token that it has seen (cross-site websocket hijacking).
"""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect

from cumulet.compute.door import ComputeHost
from cumulet.core.errors import CloudError

__all__ = ["NOVNC", "console_application"]

#: where Debian's package puts noVNC
NOVNC = Path("/usr/share/novnc")
CHUNK = 64 << 10

_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Console</title>
<style>html,body{margin:0;height:100%;background:#202020;color:#ddd;font-family:sans-serif}#screen{height:100%}#note{padding:1em}</style>
<script type="module" src="/console/page.js"></script></head>
<body><div id="note">Connecting…</div><div id="screen"></div></body></html>
"""
_SCRIPT = """import RFB from '/console/novnc/core/rfb.js';
const token = new URLSearchParams(location.search).get('token') || '';
const scheme = location.protocol === 'https:' ? 'wss' : 'ws';
const note = document.getElementById('note');
const rfb = new RFB(document.getElementById('screen'), `${scheme}://${location.host}/console/websockify?token=${encodeURIComponent(token)}`);
rfb.scaleViewport = true;
rfb.addEventListener('connect', () => { note.remove(); document.title = 'Console: connected'; });
rfb.addEventListener('desktopname', (event) => { document.title = 'Console: ' + event.detail.name; });
rfb.addEventListener('disconnect', () => { document.title = 'Console: closed'; document.body.replaceChildren('Connection closed.'); });
"""
_WITHOUT = "<!DOCTYPE html><title>Console</title><p>noVNC is not installed on this host (Debian package novnc).</p>"
_POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self' ws: wss:; frame-ancestors 'self'"


def console_application(validate: Callable[[str], tuple[str, str]], *, host: Callable[[str], ComputeHost]) -> Any:
    """ASGI application for /console.

    validate(token) uses the token up and gives (server id, host); raises CloudError for one that is unknown, old or used.
    """
    novnc = NOVNC.is_dir()

    async def page(_request: Request) -> Response:
        headers = {"Content-Security-Policy": _POLICY, "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}
        return HTMLResponse(_PAGE if novnc else _WITHOUT, headers=headers)

    async def script(_request: Request) -> Response:
        return Response(_SCRIPT, media_type="text/javascript", headers={"Cache-Control": "no-store"})

    async def websockify(websocket: WebSocket) -> None:
        if not _same_origin(websocket):
            await websocket.close(code=4403)
            return
        token = (parse_qs(websocket.url.query).get("token") or [""])[0]
        try:
            server_id, host_name = await asyncio.to_thread(validate, token)
            address = await asyncio.to_thread(host(host_name).vnc_address, server_id)
            reader, writer = await asyncio.open_connection(*address)
        except (CloudError, OSError):
            await websocket.close(code=4404)
            return
        protocols = websocket.scope.get("subprotocols") or []
        await websocket.accept(subprotocol="binary" if "binary" in protocols else None)
        try:
            await _join(websocket, reader, writer)
        finally:
            writer.close()

    routes = [
        Route("/console/", page),
        Route("/console/page.js", script),
        WebSocketRoute("/console/websockify", websockify),
    ]
    if novnc:
        routes.append(Mount("/console/novnc", StaticFiles(directory=NOVNC)))
    return Starlette(routes=routes)


def _same_origin(websocket: WebSocket) -> bool:
    """The page that opens the socket is one of ours.  Clients that are no browsers send no Origin, and hold the token anyway."""
    origin = websocket.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == websocket.headers.get("host")


async def _join(websocket: WebSocket, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy both ways until either side ends."""

    async def to_guest() -> None:
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            data = message.get("bytes") or (message.get("text") or "").encode()
            writer.write(data)
            await writer.drain()

    async def to_browser() -> None:
        while data := await reader.read(CHUNK):
            await websocket.send_bytes(data)

    tasks = {asyncio.create_task(to_guest()), asyncio.create_task(to_browser())}
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # closed by the other side already
            await websocket.close()
