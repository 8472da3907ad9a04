"""A dashboard over a public API that a test makes up: what it answers, and what it was asked."""

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any

import httpx

from cumulet.core.ids import SeededIds
from cumulet.dashboard.application import dashboard_application

BASE = "http://127.0.0.1:8780"
SERVER = "6d3f1f1e-0000-4000-8000-000000000001"
NETWORK = "6d3f1f1e-0000-4000-8000-000000000002"
IMAGE = "6d3f1f1e-0000-4000-8000-000000000003"
PORT = "6d3f1f1e-0000-4000-8000-000000000004"
PUBLIC = "6d3f1f1e-0000-4000-8000-000000000005"
FLOATING = "6d3f1f1e-0000-4000-8000-000000000006"
HOSTILE = "<script>alert('x')</script>\"&"
TOKEN = "gAAAA-the-token"

Answer = tuple[int, Any] | tuple[int, Any, dict[str, str]]


class FakeClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> str:
        hours, rest = divmod(int(self.seconds), 3600)
        return f"2026-01-{1 + hours // 24:02d}T{hours % 24:02d}:{rest // 60:02d}:{rest % 60:02d}.000000"

    def epoch(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        return self.seconds


def token(**changes: Any) -> dict[str, Any]:
    """Identity's words about a token."""
    document = {
        "user": {"id": "u1", "name": "demo", "domain": {"id": "default", "name": "Default"}},
        "project": {"id": "p1", "name": "demo", "domain": {"id": "default", "name": "Default"}},
        "expires_at": "2026-01-20T00:00:00.000000Z",
        "issued_at": "2026-01-01T00:00:00.000000Z",
        "audit_ids": ["audit-1"],
    }
    return {"token": {name: value for name, value in {**document, **changes}.items() if value is not None}}


def server(**changes: Any) -> dict[str, Any]:
    """A server as compute shows it at 2.96."""
    return {
        "id": SERVER,
        "name": HOSTILE,
        "status": "ACTIVE",
        "OS-EXT-STS:task_state": None,
        "addresses": {HOSTILE: [{"addr": "10.0.0.5", "version": 4, "OS-EXT-IPS:type": "fixed"}]},
        "flavor": {"original_name": "m1.nano", "vcpus": 1, "ram": 128, "disk": 1},
        "image": {"id": IMAGE},
        "key_name": HOSTILE,
        "security_groups": [{"name": "default"}],
        "os-extended-volumes:volumes_attached": [],
        "created": "2026-01-01T00:00:00Z",
        **changes,
    }


def event(name: str, start_ms: int, took_ms: int | None, result: str | None = "Success") -> dict[str, Any]:
    """An event of the create action."""

    def at(ms: int) -> str:
        return f"2026-01-01T00:00:{ms // 1000:02d}.{ms % 1000:03d}000"

    finish = None if took_ms is None else at(start_ms + took_ms)
    return {"event": name, "start_time": at(start_ms), "finish_time": finish, "result": result}


class Browser:
    """Keeps cookies, follows nothing by itself."""

    def __init__(self, application: Any) -> None:
        self._loop = asyncio.Runner()
        self._client = httpx.AsyncClient(
            transport=httpx.ASGITransport(application), base_url="http://testserver", headers={"accept": "text/html"}
        )

    @property
    def cookies(self) -> httpx.Cookies:
        return self._client.cookies

    def over_tls(self) -> None:
        self._client.base_url = httpx.URL("https://testserver")

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self._loop.run(self._client.get(path, **more))

    def post(self, path: str, **more: Any) -> httpx.Response:
        return self._loop.run(self._client.post(path, **more))

    def close(self) -> None:
        self._loop.run(self._client.aclose())
        self._loop.close()


class DashboardCloud:
    """A browser (`web`), the dashboard, and the API's answers by method and path."""

    def __init__(self, *, seed: int = 7) -> None:
        self.asked: list[httpx.Request] = []
        self.clock = FakeClock()
        self.answers: dict[tuple[str, str], Answer | Callable[[httpx.Request], Answer]] = {
            ("POST", "/identity/v3/auth/tokens"): (201, token(), {"X-Subject-Token": TOKEN}),
            ("DELETE", "/identity/v3/auth/tokens"): (204, None),
            ("GET", "/compute/v2.1/servers/detail"): (200, {"servers": [server()]}),
            ("GET", f"/compute/v2.1/servers/{SERVER}"): (200, {"server": server()}),
            ("GET", f"/compute/v2.1/servers/{SERVER}/os-instance-actions"): (
                200,
                {
                    "instanceActions": [
                        {
                            "action": "create",
                            "request_id": "req-1",
                            "start_time": "2026-01-01T00:00:00",
                            "message": None,
                        }
                    ]
                },
            ),
            ("GET", f"/compute/v2.1/servers/{SERVER}/os-instance-actions/req-1"): (
                200,
                {"instanceAction": {"events": [event("request", 0, 1), event("start_domain", 40, 10)]}},
            ),
            ("POST", f"/compute/v2.1/servers/{SERVER}/action"): (200, {"output": HOSTILE}),
            ("GET", "/compute/v2.1/flavors/detail"): (
                200,
                {"flavors": [{"id": "1", "name": "m1.nano", "vcpus": 1, "ram": 128, "disk": 1}]},
            ),
            ("GET", "/compute/v2.1/os-keypairs"): (
                200,
                {"keypairs": [{"keypair": {"name": HOSTILE, "fingerprint": "aa:bb"}}]},
            ),
            ("GET", "/image/v2/images"): (
                200,
                {
                    "images": [
                        {
                            "id": IMAGE,
                            "name": HOSTILE,
                            "status": "active",
                            "disk_format": "qcow2",
                            "size": 2048,
                            "visibility": "public",
                        }
                    ]
                },
            ),
            ("GET", "/network/v2.0/networks"): (
                200,
                {
                    "networks": [
                        {"id": NETWORK, "name": HOSTILE, "status": "ACTIVE", "router:external": False, "shared": False},
                        {"id": PUBLIC, "name": "public", "status": "ACTIVE", "router:external": True, "shared": False},
                    ]
                },
            ),
            ("GET", "/network/v2.0/subnets"): (200, {"subnets": [{"network_id": NETWORK, "cidr": "10.0.0.0/24"}]}),
            ("GET", "/network/v2.0/routers"): (
                200,
                {
                    "routers": [
                        {
                            "id": PORT,
                            "name": HOSTILE,
                            "status": "ACTIVE",
                            "external_gateway_info": {"network_id": PUBLIC},
                        }
                    ]
                },
            ),
            ("GET", "/network/v2.0/security-groups"): (200, {"security_groups": [{"id": PORT, "name": "default"}]}),
            ("GET", "/network/v2.0/ports"): (
                200,
                {"ports": [{"id": PORT, "fixed_ips": [{"ip_address": "10.0.0.5"}]}]},
            ),
            ("GET", "/network/v2.0/floatingips"): (200, {"floatingips": []}),
            ("GET", "/volume/v3/volumes/detail"): (
                200,
                {
                    "volumes": [
                        {
                            "id": PORT,
                            "name": HOSTILE,
                            "status": "in-use",
                            "size": 1,
                            "volume_type": "local",
                            "attachments": [{"server_id": SERVER, "device": "/dev/vda"}],
                            "created_at": "2026-01-01T00:00:00.000000",
                        }
                    ]
                },
            ),
        }
        self.application = dashboard_application(
            base_url=BASE, clock=self.clock, ids=SeededIds(seed), transport=httpx.MockTransport(self._answer)
        )
        self.web = Browser(self.application)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self.answers.get((request.method, request.url.path), (404, {"itemNotFound": {"message": "none"}}))
        status, body, *headers = answer(request) if callable(answer) else answer
        return httpx.Response(status, json=body, headers=headers[0] if headers else None)

    def body(self, method: str, path: str) -> Any:
        """What the API was last sent at a path."""
        found = [one for one in self.asked if (one.method, one.url.path) == (method, path)]
        assert found, f"nobody asked {method} {path}"
        return json.loads(found[-1].content)

    def log_in(self, **fields: str) -> httpx.Response:
        """Through the login page, as a browser."""
        form = {"user": "demo", "password": "secret", "project": "demo", "mark": self.mark("/login"), **fields}
        return self.web.post("/login", data=form)

    def mark(self, path: str = "/keypairs") -> str:
        """The mark in a page's forms."""
        found = re.search(r'name="mark" value="([0-9a-f]{64})"', self.web.get(path).text)
        assert found is not None
        return found[1]

    def send(self, path: str, **fields: Any) -> httpx.Response:
        """A form of the session's own."""
        return self.web.post(path, data={"mark": self.mark(), **fields})
