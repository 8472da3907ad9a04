"""What every HTTP test of one service needs: callers with roles, and a client that calls the application without a socket."""

import json as jsonlib
from typing import Any

from cumulet.core.context import Context
from cumulet.core.errors import Unauthorized
from cumulet.core.web import App, Request

PROJECT = "11111111111111111111111111111111"
OTHER_PROJECT = "22222222222222222222222222222222"

CALLERS = {
    "admin": Context(
        user_id="a" * 32,
        user_name="admin",
        project_id="9" * 32,
        project_name="admin",
        roles=frozenset({"admin", "manager", "member", "reader"}),
    ),
    "member": Context(
        user_id="b" * 32,
        user_name="demo",
        project_id=PROJECT,
        project_name="demo",
        roles=frozenset({"member", "reader"}),
    ),
    "reader": Context(
        user_id="c" * 32, user_name="looker", project_id=PROJECT, project_name="demo", roles=frozenset({"reader"})
    ),
    "other": Context(
        user_id="d" * 32,
        user_name="stranger",
        project_id=OTHER_PROJECT,
        project_name="other",
        roles=frozenset({"member", "reader"}),
    ),
    "service": Context(
        user_id="e" * 32,
        user_name="nova",
        project_id="8" * 32,
        project_name="service",
        roles=frozenset({"admin", "manager", "member", "reader", "service"}),
    ),
}


def authenticate(token: str, service_token: str | None) -> Context:
    """Tokens are the callers' names; a service token is "service"."""
    if token not in CALLERS:
        raise Unauthorized
    context = CALLERS[token]
    if service_token == "service":
        import msgspec

        return msgspec.structs.replace(context, service_roles=frozenset({"service", "admin"}))
    return context


class Answer:
    """A response as a client sees it."""

    def __init__(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.status = status
        self.headers = {k.lower(): v for k, v in headers.items()}
        self.content = content

    @property
    def json(self) -> Any:
        return jsonlib.loads(self.content)


class ApiClient:
    """Calls an application as one caller; bodies cross as bytes, as over a socket."""

    def __init__(
        self,
        app: App,
        token: str | None = "member",
        version: str | None = None,
        base_url: str = "http://cloud.test/service",
    ) -> None:
        self.app, self.token, self.version, self.base_url = app, token, version, base_url

    def __call__(
        self,
        method: str,
        path: str,
        json: Any = None,
        *,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        version: str | None = None,
        token: str | None = None,
    ) -> Answer:
        sent = dict(headers or {})
        if token or self.token:
            sent.setdefault("x-auth-token", token or self.token or "")
        if version or self.version:
            sent["openstack-api-version"] = version or self.version or ""
        content = body if body is not None else (b"" if json is None else jsonlib.dumps(json).encode())
        if content and "content-type" not in sent:
            sent["content-type"] = "application/json"
        path, _, query = path.partition("?")
        response = self.app.handle(
            Request(method, path, query=query, headers=sent, body=content, base_url=self.base_url)
        )
        return Answer(
            response.status, response.headers, response.content() if not hasattr(response.body, "path") else b""
        )

    def get(self, path: str, **more: Any) -> Answer:
        return self("GET", path, **more)

    def post(self, path: str, json: Any = None, **more: Any) -> Answer:
        return self("POST", path, json, **more)

    def put(self, path: str, json: Any = None, **more: Any) -> Answer:
        return self("PUT", path, json, **more)

    def patch(self, path: str, json: Any = None, **more: Any) -> Answer:
        return self("PATCH", path, json, **more)

    def delete(self, path: str, **more: Any) -> Answer:
        return self("DELETE", path, **more)
