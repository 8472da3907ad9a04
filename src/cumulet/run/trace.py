"""`cumulet trace SERVER`: the nineteen steps of a launch with start, duration and detail, as a waterfall, live while it runs.

Reads the public API only (server actions and their events), as any client could.
"""

import sys
import threading
from pathlib import Path
from typing import Any, Self

import httpx
import yaml
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cumulet.core.clock import SystemClock
from cumulet.dashboard.trace import Line, Trace, waterfall

__all__ = ["ApiSession", "cloud_entry", "find_server", "log_in", "print_trace"]

BAR = 28
FOLLOW_S = 0.1
VERSION = {"OpenStack-API-Version": "compute 2.96"}


def cloud_entry(name: str | None, state: Path) -> dict[str, Any]:
    """An entry of a clouds.yaml: the state directory's own, or the user's by name."""
    own = state / "clouds.yaml"
    home = Path.home() / ".config" / "openstack" / "clouds.yaml"
    for path, wanted in ((own, name or "cumulet-admin"), (home, name or "cumulet")):
        try:
            clouds = yaml.safe_load(path.read_text())["clouds"]
        except (OSError, PermissionError):
            continue
        if wanted in clouds:
            entry: dict[str, Any] = clouds[wanted]
            return entry
    msg = f"no cloud {name or 'cumulet'} in {own} or {home}: does the cloud run?"
    raise SystemExit(msg)


def log_in(http: httpx.Client, entry: dict[str, Any]) -> str:
    """A token for an entry of a clouds.yaml.  Raises httpx.HTTPError."""
    auth = entry["auth"]
    user = {"name": auth["username"], "domain": {"name": auth["user_domain_name"]}, "password": auth["password"]}
    project = {"name": auth["project_name"], "domain": {"name": auth["project_domain_name"]}}
    body = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": {"project": project}}}
    answer = http.post(f"{auth['auth_url']}/auth/tokens", json=body)
    answer.raise_for_status()
    return str(answer.headers["X-Subject-Token"])


class ApiSession:
    """A logged-in client of one cloud.  A context manager that gives its connection back."""

    def __init__(self, entry: dict[str, Any]) -> None:
        self._base = entry["auth"]["auth_url"].removesuffix("/identity/v3")
        self._http = httpx.Client(timeout=30)
        try:
            self._http.headers["X-Auth-Token"] = log_in(self._http, entry)
        except httpx.TransportError as error:
            raise SystemExit(f"the cloud at {self._base} does not answer: {error}") from None

    def post(self, path: str, body: Any) -> Any:
        """What is answered.  May take as long as it takes."""
        answer = self._http.post(f"{self._base}{path}", json=body, timeout=None)
        answer.raise_for_status()
        return answer.json()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str, **query: str) -> Any:
        """A document of the compute API, or None for 404."""
        answer = self._http.get(f"{self._base}{path}", params=query, headers=VERSION)
        if answer.status_code == 404:
            return None
        answer.raise_for_status()
        return answer.json()


def find_server(api: ApiSession, name: str) -> str:
    found = api.get(f"/compute/v2.1/servers/{name}")
    if found is not None:
        return str(found["server"]["id"])
    for tenants in ("", "1"):
        query = {"name": f"^{name}$", **({"all_tenants": tenants} if tenants else {})}
        try:
            matches = [s for s in api.get("/compute/v2.1/servers", **query)["servers"] if s["name"] == name]
        except httpx.HTTPStatusError:
            continue
        if len(matches) == 1:
            return str(matches[0]["id"])
        if matches:
            raise SystemExit(f"{len(matches)} servers are called {name}: use an id")
    raise SystemExit(f"no server {name}")


def _events(api: ApiSession, server_id: str) -> list[dict[str, Any]]:
    """The events of the create action."""
    actions = api.get(f"/compute/v2.1/servers/{server_id}/os-instance-actions") or {"instanceActions": []}
    create = next((action for action in actions["instanceActions"] if action["action"] == "create"), None)
    if create is None:
        return []
    shown = api.get(f"/compute/v2.1/servers/{server_id}/os-instance-actions/{create['request_id']}")["instanceAction"]
    events: list[dict[str, Any]] = shown["events"]
    return events


def _table(name: str, trace: Trace) -> Table:
    """The waterfall."""
    table = Table(
        title=f"launch of {name}: {trace.total_ms or 0.0:.1f} ms", title_justify="left", box=None, pad_edge=False
    )
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("step", no_wrap=True)
    table.add_column("start ms", justify="right", no_wrap=True)
    table.add_column("took ms", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("detail", overflow="fold")
    for line in trace.lines:
        step = f"{line.row.who}: {line.row.name}"
        if line.start_ms is None:
            reason = "identity's record is not kept" if line.state == "before" else line.detail or line.state
            table.add_row(str(line.row.n), step, "", "", "", Text(reason, style="dim"))
            continue
        took = "…" if line.took_ms is None else f"{line.took_ms:.1f}"
        table.add_row(str(line.row.n), step, f"{line.start_ms:.1f}", took, _bar(line), Text(line.detail))
    return table


def _bar(line: Line) -> Text:
    if line.state == "before":
        return Text("before", style="dim")
    before = min(BAR - 1, int(line.left / 100 * BAR))
    length = max(1, round(line.width / 100 * BAR))
    return Text(" " * before + "━" * min(length, BAR - before), style="red" if line.state == "failed" else "cyan")


def print_trace(server: str, *, cloud: str | None, state: Path, follow: bool) -> int:
    """Print, following a launch that still runs.  Exit status 1 when the launch failed."""
    api = ApiSession(cloud_entry(cloud, state))
    server_id = find_server(api, server)
    console = Console(width=160 if not sys.stdout.isatty() else None)
    wait, clock = threading.Event(), SystemClock()

    def look() -> tuple[Table, bool, bool]:
        events = _events(api, server_id)
        status = (api.get(f"/compute/v2.1/servers/{server_id}") or {"server": {"status": "DELETED"}})["server"][
            "status"
        ]
        trace = waterfall(events, running=status == "BUILD", now=clock.now())
        return _table(server, trace), status != "BUILD", status == "ERROR"

    table, ended, failed = look()
    if ended or not follow or not sys.stdout.isatty():
        console.print(table)
        return int(failed)
    with Live(table, console=console, refresh_per_second=10) as live:
        while not ended:
            wait.wait(FOLLOW_S)
            table, ended, failed = look()
            live.update(table)
    return int(failed)
