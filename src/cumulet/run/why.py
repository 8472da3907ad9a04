"""`cumulet why SERVER`: where the scheduler put a server, and why; `cumulet why --flavor F`: where one would go, and how many would fit.

Reads the public API and, for what would fit, the operator's endpoint.  Whether hosts are named is decided by the cloud, by who asks.
"""

from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
import httpx

from cumulet.run.trace import ApiSession, cloud_entry, find_server

__all__ = ["print_fit", "print_why"]


def print_why(server: str, *, cloud: str | None, state: Path, as_owner: bool) -> int:
    """The server's decisions, newest first; exit status 1 when the newest found no host."""
    with ApiSession(cloud_entry(cloud, state)) as api:
        answer = api.get(f"/compute/v2.1/servers/{find_server(api, server)}/scheduling")
    found: list[dict[str, Any]] = answer["scheduling"] if answer is not None else []
    for one in found:
        where = f"on {one['host']}" if one.get("host") and not as_owner else "placed" if one["found"] else "no host"
        click.echo(f"{one['action']} of {server} at {one['decided_at']}: {where}")
        click.echo(f"  asked for: {_asked(one['flavor'], one['resources'], one['availability_zone'])}")
        click.echo(f"  {one['words']}")
        if not as_owner and "refused" in one:
            _hosts(one, chosen=one["host"])
    if not found:
        click.echo(f"nothing is kept of {server}: the scheduler has not decided yet")
    return int(not found or not found[0]["found"])


def print_fit(
    flavor: str, *, image: str | None, zone: str | None, project: str | None, cloud: str | None, state: Path
) -> int:
    """What would fit; exit status 1 when nothing would.  Flavor, image and project by name or id."""
    with ApiSession(cloud_entry(cloud, state)) as api:
        query = _question(api, flavor, image=image, zone=zone, project=project)
        try:
            answer = api.get("/cumulet/fit", **query)
        except httpx.HTTPStatusError as error:
            raise SystemExit(_words(error)) from None
    if answer is None:
        raise SystemExit(f"no flavor {flavor}" + (f" for project {project}" if project else ""))
    return _print_fit(answer["fit"])


def _question(
    api: ApiSession, flavor: str, *, image: str | None, zone: str | None, project: str | None
) -> dict[str, str]:
    """By ids, as the operator's endpoint is asked."""
    flavors = api.get("/compute/v2.1/flavors/detail", is_public="None")["flavors"]
    query = {"flavor": _one("flavor", flavor, flavors)}
    if zone:
        query["zone"] = zone
    if image:
        by_id = api.get(f"/image/v2/images/{quote(image, safe='')}")
        query["image"] = _one("image", image, [by_id] if by_id else api.get("/image/v2/images", name=image)["images"])
    if project:
        by_id = api.get(f"/identity/v3/projects/{quote(project, safe='')}")
        there = [by_id["project"]] if by_id else api.get("/identity/v3/projects", name=project)["projects"]
        query["project"] = _one("project", project, there)
    return query


def _print_fit(fit: dict[str, Any]) -> int:
    decision = fit["decision"]
    click.echo(f"asked for: {_asked(decision['flavor'], decision['resources'], decision['zone'])}")
    click.echo(f"would fit: {fit['fits']}, on {decision['fitting']} of {decision['considered']} hosts")
    if fit["quota"] is not None:
        click.echo(f"the project's quota lets in: {fit['quota']}")
    if decision["host"]:
        click.echo(f"the next would go to: {decision['host']}")
    _hosts(decision, chosen=decision["host"], rooms=fit["rooms"])
    return int(fit["fits"] == 0 or fit["quota"] == 0)


def _hosts(one: dict[str, Any], *, chosen: str | None, rooms: dict[str, int] | None = None) -> None:
    """Every host that is named: weights of those that fit, reasons of the others."""
    for host in one["weighed"]:
        parts = ", ".join(f"{name} {value:.2f}" for name, value in host["by"].items())
        room = f"  room for {rooms[host['host']]}" if rooms is not None and host["host"] in rooms else ""
        mark = "*" if host["host"] == chosen else " "
        click.echo(f"  {mark} {host['host']}  weight {host['weight']:.2f} ({parts}){room}")
    for refusal in one["refused"]:
        click.echo(f"  - {refusal['host']}  {refusal['by']}: {refusal['reason']}")
    left = sum(one["reasons"].values()) - len(one["refused"])
    if left > 0:
        counts = ", ".join(f"{name} {count}" for name, count in one["reasons"].items())
        click.echo(f"  … and {left} more refusals; hosts by reason: {counts}")


def _asked(flavor: str, resources: dict[str, int], zone: str | None) -> str:
    amounts = ", ".join(f"{name} {amount}" for name, amount in resources.items())
    return f"{flavor} ({amounts})" + (f" in zone {zone}" if zone else "")


def _one(kind: str, name: str, there: list[dict[str, Any]]) -> str:
    """The id of what is called so, or has that id."""
    ids = {one["id"] for one in there if name == one["id"]} or {one["id"] for one in there if name == one["name"]}
    if len(ids) != 1:
        raise SystemExit(f"{len(ids)} {kind}s are called {name}: use an id" if ids else f"no {kind} {name}")
    return str(ids.pop())


def _words(error: httpx.HTTPStatusError) -> str:
    """The message of a refusal."""
    try:
        return str(next(iter(error.response.json().values()))["message"])
    except (ValueError, LookupError, TypeError):
        return str(error)
