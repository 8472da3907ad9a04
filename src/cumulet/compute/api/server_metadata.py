"""A server's metadata and its tags."""

import re
from typing import Any

from cumulet.compute.api.server_schemas import METADATA_SCHEMA, TAG
from cumulet.compute.api.subject import owned, service_of
from cumulet.core.errors import BadRequest, NotFound
from cumulet.core.web import Call, Delete, Get, Post, Put, Response, Route

__all__ = ["ROUTES"]

_P = "os_compute_api:"
METADATA: dict[str, Any] = {
    "type": "object",
    "properties": {"metadata": METADATA_SCHEMA},
    "required": ["metadata"],
    "additionalProperties": False,
}
META: dict[str, Any] = {
    "type": "object",
    "properties": {"meta": {**METADATA_SCHEMA, "minProperties": 1, "maxProperties": 1}},
    "required": ["meta"],
    "additionalProperties": False,
}
TAGS: dict[str, Any] = {
    "type": "object",
    "properties": {"tags": {"type": "array", "items": TAG, "maxItems": 50, "uniqueItems": True}},
    "required": ["tags"],
    "additionalProperties": False,
}


def list_metadata(call: Call, id: str) -> Any:
    return {"metadata": owned(call, id, f"{_P}server-metadata:index").metadata}


def add_metadata(call: Call, id: str) -> Any:
    server = owned(call, id, f"{_P}server-metadata:create")
    new = call.body["metadata"]
    return {"metadata": service_of(call).changes.set_metadata(call.context, server, lambda old: {**old, **new})}


def replace_metadata(call: Call, id: str) -> Any:
    server = owned(call, id, f"{_P}server-metadata:update_all")
    new = call.body["metadata"]
    return {"metadata": service_of(call).changes.set_metadata(call.context, server, lambda _: dict(new))}


def show_meta(call: Call, id: str, key: str) -> Any:
    metadata = owned(call, id, f"{_P}server-metadata:show").metadata
    if key not in metadata:
        raise NotFound("Metadata item was not found")
    return {"meta": {key: metadata[key]}}


def set_meta(call: Call, id: str, key: str) -> Any:
    server = owned(call, id, f"{_P}server-metadata:update")
    meta = call.body["meta"]
    if key not in meta:
        raise BadRequest("Request body and URI mismatch")
    service_of(call).changes.set_metadata(call.context, server, lambda old: {**old, **meta})
    return {"meta": meta}


def delete_meta(call: Call, id: str, key: str) -> None:
    server = owned(call, id, f"{_P}server-metadata:delete")
    if key not in server.metadata:
        raise NotFound("Metadata item was not found")
    service_of(call).changes.set_metadata(call.context, server, lambda old: {k: v for k, v in old.items() if k != key})


# --- tags ----------------------------------------------------------------------------------------------------------------------------


def list_tags(call: Call, id: str) -> Any:
    return {"tags": owned(call, id, f"{_P}os-server-tags:index").tags}


def replace_tags(call: Call, id: str) -> Any:
    server = owned(call, id, f"{_P}os-server-tags:update_all")
    new = call.body["tags"]
    return {"tags": service_of(call).changes.set_tags(server, lambda _: list(new))}


def show_tag(call: Call, id: str, tag: str) -> Response:
    server = owned(call, id, f"{_P}os-server-tags:show")
    if tag not in server.tags:
        raise NotFound(f"Server {id} has no tag '{tag}'")
    return Response(204)


def add_tag(call: Call, id: str, tag: str) -> Response:
    server = owned(call, id, f"{_P}os-server-tags:update")
    if len(tag) > TAG["maxLength"] or not re.fullmatch(TAG["pattern"], tag):
        raise BadRequest(f"Invalid tag '{tag}': it has more than 60 characters, a comma, or a slash.")
    if tag in server.tags:
        return Response(204)
    service_of(call).changes.set_tags(server, lambda old: old if tag in old else [*old, tag])
    return Response(201, None, {"Location": call.url(f"/v2.1/servers/{id}/tags/{tag}")})


def delete_tag(call: Call, id: str, tag: str) -> None:
    server = owned(call, id, f"{_P}os-server-tags:delete")
    if tag not in server.tags:
        raise NotFound(f"Server {id} has no tag '{tag}'")
    service_of(call).changes.set_tags(server, lambda old: [one for one in old if one != tag])


def delete_tags(call: Call, id: str) -> None:
    service_of(call).changes.set_tags(owned(call, id, f"{_P}os-server-tags:delete_all"), lambda _: [])


_M, _T = "/v2.1/servers/{id}/metadata", "/v2.1/servers/{id}/tags"

ROUTES: list[Route] = [
    Get(_M, list_metadata, may=f"{_P}server-metadata:index"),
    Post(_M, add_metadata, may=f"{_P}server-metadata:create", takes=METADATA, status=200),
    Put(_M, replace_metadata, may=f"{_P}server-metadata:update_all", takes=METADATA),
    Get(_M + "/{key}", show_meta, may=f"{_P}server-metadata:show"),
    Put(_M + "/{key}", set_meta, may=f"{_P}server-metadata:update", takes=META),
    Delete(_M + "/{key}", delete_meta, may=f"{_P}server-metadata:delete"),
    Get(_T, list_tags, may=f"{_P}os-server-tags:index", since=(2, 26)),
    Put(_T, replace_tags, may=f"{_P}os-server-tags:update_all", takes=TAGS, since=(2, 26)),
    Delete(_T, delete_tags, may=f"{_P}os-server-tags:delete_all", since=(2, 26)),
    Get(_T + "/{tag}", show_tag, may=f"{_P}os-server-tags:show", since=(2, 26), status=204),
    Put(_T + "/{tag}", add_tag, may=f"{_P}os-server-tags:update", since=(2, 26), body="none"),
    Delete(_T + "/{tag}", delete_tag, may=f"{_P}os-server-tags:delete", since=(2, 26)),
]
