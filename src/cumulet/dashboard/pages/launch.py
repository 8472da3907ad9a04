"""The form that launches a server."""

import asyncio
import base64
from typing import Any

from starlette.responses import Response

from cumulet.dashboard.client import COMPUTE, IMAGE, NETWORK, Refused
from cumulet.dashboard.forms import Form
from cumulet.dashboard.visit import Visit

__all__ = ["form", "launch"]

CHOICES_MAX = "500"


async def form(visit: Visit) -> Response:
    return await _page(visit, visit.form)


async def launch(visit: Visit) -> Response:
    """One POST /servers; what the API refuses is told over the form, which keeps what was entered."""
    try:
        answer = await visit.api.post(f"{COMPUTE}/servers", {"server": _request(visit.form)})
    except Refused as refused:
        return await _page(visit, visit.form, status=refused.status, message=refused.message)
    server_id: str = answer["server"]["id"]
    visit.session.launched.append(server_id)
    return visit.go(f"/servers/{server_id}")


def _request(form: Form) -> dict[str, Any]:
    """The API's words for what the form says.  The API judges them."""
    server: dict[str, Any] = {"name": form.text("name"), "flavorRef": form.text("flavor")}
    networks = form.many("network")
    server["networks"] = [{"uuid": network} for network in networks] or "none"
    if form.text("volume_size"):
        device = {
            "boot_index": 0,
            "source_type": "image",
            "uuid": form.text("image"),
            "destination_type": "volume",
            "volume_size": form.text("volume_size"),
            "delete_on_termination": bool(form.text("volume_goes")),
        }
        server["block_device_mapping_v2"] = [device]
    else:
        server["imageRef"] = form.text("image")
    if groups := form.many("group"):
        server["security_groups"] = [{"name": group} for group in groups]
    if key := form.raw("key"):
        server["key_name"] = key
    if user_data := form.raw("user_data"):
        # browsers send CRLF; a script's first line would not survive it
        server["user_data"] = base64.b64encode(user_data.replace("\r\n", "\n").encode()).decode()
    return server


async def _page(visit: Visit, form: Form, *, status: int = 200, message: str = "") -> Response:
    images, flavors, networks, groups, keys = await asyncio.gather(
        visit.api.get(f"{IMAGE}/images", limit=CHOICES_MAX, status="active", sort="name:asc"),
        visit.api.get(f"{COMPUTE}/flavors/detail", sort_key="memory_mb", sort_dir="asc", limit=CHOICES_MAX),
        visit.api.get(f"{NETWORK}/networks"),
        visit.api.get(f"{NETWORK}/security-groups"),
        visit.api.get(f"{COMPUTE}/os-keypairs"),
    )
    # servers get their ports on inner networks; the outer one is reached by routers and floating addresses
    inner = [one for one in networks["networks"] if not one.get("router:external") or one.get("shared")]
    # a fresh form leads to a server that can be reached; one that comes back is left as it was
    chosen = form.many("network") if message else [one["id"] for one in inner[:1]]
    return visit.page(
        "launch.html",
        status=status,
        here="launch",
        message=message,
        form=form,
        images=images["images"],
        flavors=flavors["flavors"],
        networks=inner,
        chosen_networks=chosen,
        groups=groups["security_groups"],
        chosen_groups=form.many("group") if message else ["default"],
        keys=[one["keypair"] for one in keys["keypairs"]],
    )
