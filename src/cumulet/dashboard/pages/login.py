"""Logging in and out."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from cumulet.core.context import Secret
from cumulet.core.ids import Ids
from cumulet.dashboard.client import IDENTITY, Api, LoggedOut, Refused
from cumulet.dashboard.forms import Form, read_form, same_origin
from cumulet.dashboard.sessions import Session, Sessions, Signer
from cumulet.dashboard.visit import Renderer

__all__ = ["Door"]

WRONG = "User, password or project is wrong."


@dataclass(frozen=True)
class Door:
    """Where a browser comes in.  A login form carries a mark as well: else another site could log a browser in as somebody else."""

    http: httpx.AsyncClient
    sessions: Sessions
    signer: Signer
    ids: Ids
    renderer: Renderer
    base_url: str

    @property
    def cookie(self) -> str:
        """The session cookie's name, with the port in it: browsers hand cookies to every port of a host, and clouds stand side by side."""
        return f"cumulet-{urlsplit(self.base_url).port or 80}"

    def turned_away(self, request: Request) -> Response:
        """To whoever has no session: the login page, or for a piece of a page only the status."""
        if request.headers.get("x-fragment"):
            return Response(status_code=401)
        answer = RedirectResponse("/login", 303)
        if self.cookie in request.cookies:
            answer.delete_cookie(self.cookie, httponly=True, samesite="strict")
        return answer

    async def show(self, request: Request) -> Response:
        if self.sessions.find(request.cookies.get(self.cookie)) is not None:
            return RedirectResponse("/servers", 303)
        return self._page(request)

    async def log_in(self, request: Request) -> Response:
        form = await read_form(request)
        nonce = self.signer.read("login", request.cookies.get(f"{self.cookie}-login", ""))
        if not same_origin(request) or nonce is None or not self.signer.made(form.text("mark"), "login form", nonce):
            return self._page(request, form, status=403, message="This form is too old. Please send it once more.")
        try:
            session = await self._open(form)
        except Refused as refused:
            wrong = refused.status in {400, 401, 403, 404}
            return self._page(
                request, form, status=401 if wrong else refused.status, message=WRONG if wrong else refused.message
            )
        old = self.sessions.find(request.cookies.get(self.cookie))
        if old is not None:
            self.sessions.close(old)
        answer = RedirectResponse("/servers", 303)
        self._set(request, answer, self.cookie, self.sessions.cookie(session))
        answer.delete_cookie(f"{self.cookie}-login", httponly=True, samesite="strict")
        return answer

    async def log_out(self, request: Request) -> Response:
        """Forgets the session and has its token revoked."""
        form = await read_form(request)
        session = self.sessions.find(request.cookies.get(self.cookie))
        if session is None:
            return self.turned_away(request)
        if not same_origin(request) or not self.signer.made(form.text("mark"), "form", session.name):
            raise Refused(403, "This form is not from a page of your session.")
        self.sessions.close(session)
        try:
            headers = {"X-Subject-Token": session.token.reveal()}
            await Api(self.http, session.token).send("DELETE", f"{IDENTITY}/auth/tokens", headers=headers)
        except (Refused, LoggedOut):
            pass  # it ends by itself; nobody but this session had it
        return self.turned_away(request)

    def _page(self, request: Request, form: Form | None = None, *, status: int = 200, message: str = "") -> Response:
        form = form or Form({})
        nonce = self.ids.secret()
        values = {name: form.text(name) for name in ("user", "project", "domain")}
        answer = self.renderer.page(
            "login.html", status=status, message=message, values=values, mark=self.signer.mark("login form", nonce)
        )
        self._set(request, answer, f"{self.cookie}-login", self.signer.sign("login", nonce))
        return answer

    @staticmethod
    def _set(request: Request, answer: Response, name: str, value: str) -> None:
        answer.set_cookie(name, value, httponly=True, samesite="strict", secure=request.url.scheme == "https", path="/")

    async def _open(self, form: Form) -> Session:
        """Ask identity for a token: for the project named, else the user's default one, else the first the user may enter."""
        domain = {"name": form.text("domain") or "Default"}
        user = {"name": form.text("user"), "domain": domain, "password": form.raw("password")}
        identity: dict[str, Any] = {"methods": ["password"], "password": {"user": user}}
        project = form.text("project")
        auth: dict[str, Any] = {"identity": identity}
        if project:
            auth["scope"] = {"project": {"name": project, "domain": domain}}
        token, document = await self._issue(auth)
        if "project" not in document:
            found = (await Api(self.http, Secret(token)).get(f"{IDENTITY}/auth/projects"))["projects"]
            if not found:
                raise Refused(403, WRONG)
            again = {"methods": ["token"], "token": {"id": token}}
            token, document = await self._issue({"identity": again, "scope": {"project": {"id": found[0]["id"]}}})
        return self.sessions.open(
            Secret(token),
            audit_id=document["audit_ids"][0],
            user_id=document["user"]["id"],
            user_name=document["user"]["name"],
            project_name=document["project"]["name"],
            expires_at=document["expires_at"],
        )

    async def _issue(self, auth: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        answer = await Api(self.http, None).send("POST", f"{IDENTITY}/auth/tokens", body={"auth": auth})
        document: dict[str, Any] = answer.json()["token"]
        return answer.headers["X-Subject-Token"], document
