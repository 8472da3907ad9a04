"""`cumulet status`: whether the cloud of a state directory runs, and what is in it."""

from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from cumulet.run.trace import ApiSession, cloud_entry

__all__ = ["print_status"]


def print_status(state: Path) -> int:
    """Exit status 1 when the cloud does not answer."""
    console = Console()
    entry = cloud_entry("cumulet-admin", state)
    base = entry["auth"]["auth_url"].removesuffix("/identity/v3")
    try:
        health = httpx.get(f"{base}/healthz", timeout=5).json()
    except (httpx.TransportError, ValueError):
        console.print(f"{base}: does not answer")
        return 1
    api = ApiSession(entry)
    console.print(f"{base}: {health['status']}, hypervisor {health['hypervisor']}")
    servers = api.get("/compute/v2.1/servers/detail", all_tenants="1")["servers"]
    by_status: dict[str, int] = {}
    for server in servers:
        by_status[server["status"]] = by_status.get(server["status"], 0) + 1
    console.print(f"servers: {len(servers)}" + "".join(f", {n} {status}" for status, n in sorted(by_status.items())))
    for service in api.get("/compute/v2.1/os-services")["services"]:
        console.print(f"{service['binary']} on {service['host']}: {service['state']}, {service['status']}")
    _print_inside(console, api.get("/cumulet/overview"))
    return 0


def _print_inside(console: Console, inside: dict[str, Any]) -> None:
    """What the check in the background found, and what is under way."""
    leaks = inside["leaks"]
    when = f", looked at {inside['looked_at'][11:19]}" if inside["looked_at"] else ""
    silent = f", did not answer: {', '.join(inside['missing'])}" if inside["missing"] else ""
    number = "not known yet" if leaks is None else str(len(leaks))
    console.print(f"without an owner: {number}{when}{silent}")
    for leak in leaks or []:
        console.print(f"  {leak['kind']} {leak['id']} {leak['detail']}".rstrip())
    under_way = ", ".join(f"{one['number']} {one['flow']} {one['state']}" for one in inside["sagas"])
    console.print(f"under way: {under_way or 'nothing'}")
    if inside["cured"]:
        console.print(f"past their deadline and mended since the start: {inside['cured']}")
