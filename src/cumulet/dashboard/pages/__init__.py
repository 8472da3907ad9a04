"""All pages, as one table, and what surrounds each of them."""

import importlib.resources
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import httpx
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cumulet.core.clock import Clock
from cumulet.core.ids import Ids
from cumulet.dashboard.client import Api, LoggedOut, Refused
from cumulet.dashboard.forms import Form, read_form, same_origin
from cumulet.dashboard.pages import catalog, keypairs, launch, networks, server, servers
from cumulet.dashboard.pages.login import Door
from cumulet.dashboard.sessions import Sessions, Signer
from cumulet.dashboard.visit import Renderer, Visit

__all__ = ["site"]

API_TIMEOUT_S = 30.0
CONNECTIONS_MAX = 32
STATIC_AGE_S = 300

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; frame-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # not `no-referrer`: a browser would then send `Origin: null` with our own forms
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
STATIC = {"style.css": "text/css", "live.js": "text/javascript", "icon.svg": "image/svg+xml"}
ENDPOINTS = {
    "identity": "/identity/v3",
    "compute": "/compute/v2.1",
    "image": "/image",
    "network": "/network",
    "block-storage": "/volume/v3",
    "placement": "/placement",
}


class Page(NamedTuple):
    """One row: path, handler, method."""

    path: str
    handler: Callable[[Visit], Awaitable[Response]]
    method: str = "GET"


PAGES = (
    Page("/servers", servers.list_servers),
    Page("/servers", launch.launch, "POST"),
    Page("/servers/table", servers.table),
    Page("/servers/new", launch.form),
    Page("/servers/{id:uuid}", server.show),
    Page("/servers/{id:uuid}/live", server.live),
    Page("/servers/{id:uuid}/action", servers.act, "POST"),
    Page("/servers/{id:uuid}/console", server.console, "POST"),
    Page("/servers/{id:uuid}/floating-ips", server.associate, "POST"),
    Page("/servers/{id:uuid}/floating-ips/release", server.release, "POST"),
    Page("/keypairs", keypairs.list_keypairs),
    Page("/keypairs", keypairs.add, "POST"),
    Page("/keypairs/delete", keypairs.delete, "POST"),
    Page("/images", catalog.list_images),
    Page("/volumes", catalog.list_volumes),
    Page("/networks", networks.list_networks),
    Page("/networks", networks.create, "POST"),
)


def site(*, base_url: str, clock: Clock, ids: Ids, transport: httpx.AsyncBaseTransport | None) -> ASGIApp:
    """The whole application, with its sessions."""
    signer = Signer(ids)
    sessions = Sessions(clock=clock, ids=ids, signer=signer)
    renderer = Renderer()
    http = httpx.AsyncClient(
        base_url=base_url,
        transport=transport,
        timeout=API_TIMEOUT_S,
        limits=httpx.Limits(max_connections=CONNECTIONS_MAX),
        follow_redirects=False,
        trust_env=False,  # the API is this cloud's own: never through somebody's proxy
    )
    door = Door(http=http, sessions=sessions, signer=signer, ids=ids, renderer=renderer, base_url=base_url)

    def guarded(page: Page) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            session = sessions.find(request.cookies.get(door.cookie))
            if session is None:
                return door.turned_away(request)
            mark = sessions.form_mark(session)
            form = Form({})
            if page.method == "POST":
                form = await read_form(request)
                if not same_origin(request) or not signer.made(form.text("mark"), "form", session.name):
                    raise Refused(
                        403,
                        "This form is not from a page of your session. Go back, reload the page, and send it again.",
                    )
            api = Api(http, session.token)
            visit = Visit(request, session, api, form, mark, renderer, clock, base_url)
            try:
                return await page.handler(visit)
            except LoggedOut:
                sessions.close(session)
                return door.turned_away(request)
            except Refused as refused:
                return visit.page("error.html", status=refused.status, code=refused.status, message=refused.message)

        return endpoint

    async def first(request: Request) -> Response:
        if _wants_json(request):
            return JSONResponse(_index(request))
        return RedirectResponse("/servers" if sessions.find(request.cookies.get(door.cookie)) else "/login", 303)

    async def refused(request: Request, error: Exception) -> Response:
        """What went wrong outside a session, and every path that is none."""
        code, message = 500, "Something went wrong."
        if isinstance(error, HTTPException):
            code, message = error.status_code, "There is no such page." if error.status_code == 404 else error.detail
        elif isinstance(error, Refused):
            code, message = error.status, error.message
        if "text/html" not in request.headers.get("accept", ""):
            return JSONResponse({"error": {"code": code, "message": message}}, code)
        return renderer.page("error.html", status=code, code=code, message=message)

    routes = [
        Route("/", first),
        Route("/login", door.show),
        Route("/login", door.log_in, methods=["POST"]),
        Route("/logout", door.log_out, methods=["POST"]),
        *(Route(f"/static/{name}", _static(name, media)) for name, media in STATIC.items()),
        # asked for beside documents that name no icon
        Route("/favicon.ico", _static("icon.svg", STATIC["icon.svg"])),
        *(Route(page.path, guarded(page), methods=[page.method]) for page in PAGES),
    ]
    return _Headers(Starlette(routes=routes, exception_handlers={HTTPException: refused, Refused: refused}))


def _wants_json(request: Request) -> bool:
    accept = request.headers.get("accept", "")
    return "application/json" in accept and "text/html" not in accept


def _index(request: Request) -> dict[str, Any]:
    base = str(request.base_url).rstrip("/")
    return {
        "name": "cumulet",
        "endpoints": [{"type": kind, "url": base + path} for kind, path in ENDPOINTS.items()],
        "health": base + "/healthz",
        "dashboard": base + "/login",
    }


def _static(name: str, media: str) -> Callable[[Request], Awaitable[Response]]:
    content = importlib.resources.files("cumulet.dashboard").joinpath("static", name).read_bytes()
    headers = {"Cache-Control": f"max-age={STATIC_AGE_S}"}

    async def endpoint(_request: Request) -> Response:
        return Response(content, media_type=media, headers=headers)

    return endpoint


class _Headers:
    """Puts the headers on every answer."""

    def __init__(self, inner: ASGIApp) -> None:
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def signed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._inner(scope, receive, signed)
