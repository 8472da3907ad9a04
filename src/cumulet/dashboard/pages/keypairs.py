"""The user's key pairs."""

from typing import Any

from starlette.responses import Response

from cumulet.dashboard.client import COMPUTE, Refused, segment
from cumulet.dashboard.visit import Visit

__all__ = ["add", "delete", "list_keypairs"]

#: the last version in which the cloud makes a key for whoever brings none
MAKES_KEYS = "compute 2.91"


async def list_keypairs(visit: Visit) -> Response:
    return await _page(visit)


async def add(visit: Visit) -> Response:
    """Import the public key given, or have a pair made and show its private half, once."""
    keypair: dict[str, Any] = {"name": visit.form.text("name"), "type": "ssh"}
    if visit.form.text("way") == "import":
        keypair["public_key"] = visit.form.text("public_key")
    try:
        answer = await visit.api.post(f"{COMPUTE}/os-keypairs", {"keypair": keypair}, version=MAKES_KEYS)
    except Refused as refused:
        return await _page(visit, status=refused.status, message=refused.message)
    made = answer["keypair"]
    if "private_key" in made:
        return visit.page("keypair_made.html", here="keypairs", keypair=made)
    return visit.go("/keypairs", f"Imported {made['name']}.")


async def delete(visit: Visit) -> Response:
    name = visit.form.raw("name")
    await visit.api.delete(f"{COMPUTE}/os-keypairs/{segment(name)}")
    return visit.go("/keypairs", f"Deleted {name}.")


async def _page(visit: Visit, *, status: int = 200, message: str = "") -> Response:
    found = (await visit.api.get(f"{COMPUTE}/os-keypairs"))["keypairs"]
    keypairs = [one["keypair"] for one in found]
    return visit.page(
        "keypairs.html", status=status, here="keypairs", keypairs=keypairs, form=visit.form, message=message
    )
