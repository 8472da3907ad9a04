"""Networks, and a form that makes one that servers can use at once: with a subnet, and a way out."""

import asyncio
import contextlib
from typing import Any

from starlette.responses import Response

from cumulet.dashboard.client import NETWORK, LoggedOut, Refused
from cumulet.dashboard.forms import Form
from cumulet.dashboard.visit import Visit

__all__ = ["create", "list_networks"]


async def list_networks(visit: Visit) -> Response:
    return await _page(visit)


async def create(visit: Visit) -> Response:
    """All of it or nothing: what was made before a refusal is deleted again."""
    made: list[str] = []
    try:
        await _make(visit, visit.form, made)
    except Refused as refused:
        for path in reversed(made):
            with contextlib.suppress(Refused, LoggedOut):  # the first refusal is the one to tell
                await visit.api.delete(path)
        return await _page(visit, status=refused.status, message=refused.message)
    return visit.go("/networks", f"Created network {visit.form.text('name')}.")


async def _make(visit: Visit, form: Form, made: list[str]) -> None:
    """made: the paths of what there is so far."""
    name = form.text("name")
    outer = form.text("outer")
    network = await _post(visit, made, "networks", {"network": {"name": name}})
    wanted = {"network_id": network["id"], "name": name, "ip_version": 6 if ":" in form.text("cidr") else 4}
    subnet = await _post(visit, made, "subnets", {"subnet": {**wanted, "cidr": form.text("cidr")}})
    if outer:
        gateway = {"name": f"{name}-router"[:255], "external_gateway_info": {"network_id": outer}}
        router = await _post(visit, made, "routers", {"router": gateway})
        path = f"{NETWORK}/routers/{router['id']}"
        await visit.api.put(f"{path}/add_router_interface", {"subnet_id": subnet["id"]})


async def _post(visit: Visit, made: list[str], plural: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = await visit.api.post(f"{NETWORK}/{plural}", body)
    found: dict[str, Any] = next(iter(answer.values()))
    made.append(f"{NETWORK}/{plural}/{found['id']}")
    return found


async def _page(visit: Visit, *, status: int = 200, message: str = "") -> Response:
    networks, subnets, routers = await asyncio.gather(
        visit.api.get(f"{NETWORK}/networks"), visit.api.get(f"{NETWORK}/subnets"), visit.api.get(f"{NETWORK}/routers")
    )
    cidrs: dict[str, list[str]] = {}
    for subnet in subnets["subnets"]:
        cidrs.setdefault(subnet["network_id"], []).append(subnet["cidr"])
    names = {network["id"]: network["name"] for network in networks["networks"]}
    outward = [
        (router, names.get((router.get("external_gateway_info") or {}).get("network_id", ""), ""))
        for router in routers["routers"]
    ]
    return visit.page(
        "networks.html",
        status=status,
        here="networks",
        networks=[(network, cidrs.get(network["id"], [])) for network in networks["networks"]],
        outer=[network for network in networks["networks"] if network.get("router:external")],
        routers=outward,
        form=visit.form,
        message=message,
    )
