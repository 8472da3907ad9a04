"""A user's keypairs."""

from typing import Any

from cumulet.compute.api.subject import known_query, limit_of, next_link, service_of
from cumulet.compute.store import keypairs
from cumulet.compute.store.keypairs import Keypair
from cumulet.core.clock import iso_seconds
from cumulet.core.errors import BadRequest
from cumulet.core.web import Call, Delete, Field, Get, Post, Resource, Response, Route

__all__ = ["ROUTES"]

_P = "os_compute_api:os-keypairs:"
NAME: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": 255}
PUBLIC_KEY: dict[str, Any] = {"type": "string"}

NEW_KEYPAIR = Resource(
    "keypair",
    {
        "name": Field(NAME, required=True),
        "public_key": [Field(PUBLIC_KEY, until=(2, 91)), Field(PUBLIC_KEY, since=(2, 92), required=True)],
        # the reference's other kind, certificates for Windows guests, is not built
        "type": Field({"enum": ["ssh"]}, since=(2, 2)),
        "user_id": Field({"type": "string", "minLength": 1, "maxLength": 255}, since=(2, 10)),
    },
)


def _user(call: Call, rule: str) -> str:
    """Whose keypairs: the caller's, or, from 2.10 on, those of the user that an admin names."""
    asked = call.one("user_id") if call.version >= (2, 10) else None
    user_id = asked or call.context.user_id
    call.authorize(_P + rule, user_id=user_id)
    return user_id


def _brief(call: Call, keypair: Keypair) -> dict[str, Any]:
    shown: dict[str, Any] = {"name": keypair.name, "public_key": keypair.public_key, "fingerprint": keypair.fingerprint}
    if call.version >= (2, 2):
        shown["type"] = keypair.type
    return shown


def list_keypairs(call: Call) -> Any:
    known = (
        ("user_id", "limit", "marker") if call.version >= (2, 35) else ("user_id",) if call.version >= (2, 10) else ()
    )
    known_query(call, known)
    user_id = _user(call, "index")
    paged = call.version >= (2, 35)
    limit = limit_of(call) if paged else 1000
    marker = call.one("marker") if paged else None
    with service_of(call).db.read() as tx:
        if marker is not None and keypairs.get(tx, user_id, marker) is None:
            raise BadRequest(f"marker [{marker}] not found")
        found = keypairs.page(tx, user_id, marker=marker, limit=limit)
    shown: dict[str, Any] = {"keypairs": [{"keypair": _brief(call, one)} for one in found]}
    if paged and call.one("limit") and len(found) == limit:
        shown["keypairs_links"] = next_link(call, found[-1].name)
    return shown


def create_keypair(call: Call) -> Any:
    body, context = call.body, call.context
    user_id = body.get("user_id") or context.user_id
    call.authorize(f"{_P}create", user_id=user_id)
    keypair, private = service_of(call).keypairs.create(
        user_id,
        context.project_id or "",
        body["name"],
        public_key=body.get("public_key"),
        newer_names=call.version >= (2, 92),
    )
    shown = {**_brief(call, keypair), "user_id": user_id}
    if private is not None:
        shown["private_key"] = private.reveal()
    return Response(201 if call.version >= (2, 2) else 200, {"keypair": shown})


def show_keypair(call: Call, name: str) -> Any:
    known_query(call, ("user_id",) if call.version >= (2, 10) else ())
    keypair = service_of(call).keypairs.get(_user(call, "show"), name)
    more = {
        "user_id": keypair.user_id,
        "id": keypair.id,
        "created_at": iso_seconds(keypair.created_at),
        "updated_at": None,
        "deleted": False,
        "deleted_at": None,
    }
    return {"keypair": {**_brief(call, keypair), **more}}


def delete_keypair(call: Call, name: str) -> Response:
    known_query(call, ("user_id",) if call.version >= (2, 10) else ())
    service_of(call).keypairs.delete(_user(call, "delete"), name)
    return Response(204 if call.version >= (2, 2) else 202)


ROUTES: list[Route] = [
    Get("/v2.1/os-keypairs", list_keypairs, may=f"{_P}index"),
    Post("/v2.1/os-keypairs", create_keypair, may=f"{_P}create", takes=NEW_KEYPAIR),
    Get("/v2.1/os-keypairs/{name}", show_keypair, may=f"{_P}show"),
    Delete("/v2.1/os-keypairs/{name}", delete_keypair, may=f"{_P}delete"),
]
