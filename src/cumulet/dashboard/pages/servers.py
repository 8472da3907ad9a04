"""The list of servers, and what can be done to one with a button."""

from typing import Any

from starlette.responses import Response

from cumulet.dashboard.client import COMPUTE, Refused
from cumulet.dashboard.visit import Visit

__all__ = ["ACTIONS", "act", "actions_of", "address_rows", "busy", "list_servers", "table"]

PAGE_SIZE = 50
MARKER_MAX = 36
#: by the button's name: what is sent, what is told, and the statuses in which the button is shown
ACTIONS: dict[str, tuple[dict[str, Any] | None, str, frozenset[str]]] = {
    "start": ({"os-start": None}, "Starting the server.", frozenset({"SHUTOFF"})),
    "stop": ({"os-stop": None}, "Stopping the server.", frozenset({"ACTIVE"})),
    "reboot": ({"reboot": {"type": "SOFT"}}, "Rebooting the server.", frozenset({"ACTIVE"})),
    "hard reboot": ({"reboot": {"type": "HARD"}}, "Resetting the server.", frozenset({"ACTIVE", "SHUTOFF"})),
    "delete": (None, "Deleting the server.", frozenset()),
}


def busy(server: dict[str, Any]) -> bool:
    """Whether something is being done to it."""
    return server["OS-EXT-STS:task_state"] is not None or server["status"] == "BUILD"


def actions_of(server: dict[str, Any]) -> list[str]:
    """The buttons that make sense now, but for the one that deletes, which always does."""
    if busy(server):
        return []
    return [name for name, (_, _, statuses) in ACTIONS.items() if server["status"] in statuses]


def address_rows(server: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(network, address, fixed or floating), in the order of the API."""
    return [
        (network, entry["addr"], entry["OS-EXT-IPS:type"])
        for network, entries in server["addresses"].items()
        for entry in entries
    ]


async def _page(visit: Visit) -> dict[str, Any]:
    marker = visit.request.query_params.get("marker", "")[:MARKER_MAX]
    query = {"limit": str(PAGE_SIZE)} | ({"marker": marker} if marker else {})
    found = await visit.api.get(f"{COMPUTE}/servers/detail", **query)
    servers = found["servers"]
    rows = [(server, address_rows(server), actions_of(server)) for server in servers]
    return {
        "rows": rows,
        "live": any(busy(server) for server in servers),
        "marker": marker,
        "following": servers[-1]["id"] if found.get("servers_links") else "",
    }


async def list_servers(visit: Visit) -> Response:
    return visit.page("servers.html", here="servers", **await _page(visit))


async def table(visit: Visit) -> Response:
    """The list alone, for a page that is open."""
    return visit.fragment("servers_table.html", **await _page(visit))


async def act(visit: Visit) -> Response:
    name = visit.form.text("action")
    if name not in ACTIONS:
        raise Refused(400, "There is no such action.")
    body, told, _ = ACTIONS[name]
    path = f"{COMPUTE}/servers/{visit.id}"
    if body is None:
        await visit.api.delete(path)
        return visit.go("/servers", told)
    await visit.api.post(f"{path}/action", body)
    return visit.go("/servers" if visit.form.text("from") == "list" else f"/servers/{visit.id}", told)
