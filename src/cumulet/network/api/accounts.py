"""Quotas, tags, prefixes of subnet pools, and the addresses that networks have left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Table

from cumulet.core.web import ANYONE, Call, Delete, Get, Put, Response, Route
from cumulet.network import errors, tables
from cumulet.network.api import access
from cumulet.network.api.collections import Part
from cumulet.network.store.listing import Search
from cumulet.network.values import Unfit, family, list_of, network, text

__all__ = ["ROUTES"]

Handler = Callable[..., object]


# Quotas


def list_quotas(call: Call) -> object:
    access.require(call, "get_quota", {"project_id": ""})
    return {"quotas": call.service.accounts.quota_list()}


def _may_read(call: Call, id: str) -> None:
    """One's own are everybody's to read; those of others are judged."""
    if id != call.context.project_id:
        access.require(call, "get_quota", {"project_id": id})


def show_quota(call: Call, id: str) -> object:
    _may_read(call, id)
    return {"quota": call.service.accounts.quotas(id)}


def show_quota_defaults(call: Call, id: str) -> object:
    _may_read(call, id)
    return {"quota": call.service.accounts.default_quotas()}


def show_quota_details(call: Call, id: str) -> object:
    _may_read(call, id)
    return {"quota": call.service.accounts.quota_details(id)}


def show_quota_project(call: Call) -> object:
    word = call.request.path.rstrip("/").rpartition("/")[2]
    if call.context.project_id is None:
        msg = "Project-id was missing from quota request."
        raise errors.HTTPBadRequest(msg)
    return {word: {f"{word}_id": call.context.project_id}}


def update_quota(call: Call, id: str) -> object:
    body = call.body
    if not isinstance(body, dict) or not isinstance(body.get("quota"), dict):
        msg = "Unable to find 'quota' in request body"
        raise errors.HTTPBadRequest(msg)
    wanted = {
        key: value
        for key, value in body["quota"].items()
        if key not in {"tenant_id", "project_id", "force", "check_limit"}
    }
    if body["quota"].get("check_limit"):
        call.service.accounts.check_limits(id, wanted)
    return {"quota": call.service.accounts.set_quotas(id, wanted)}


def delete_quota(call: Call, id: str) -> object:
    call.service.accounts.reset_quotas(id)
    return Response(204)


# Tags

#: path → (part of the service, name in policy rules, table)
TAGGED: dict[str, tuple[str, str, Table]] = {
    "networks": ("networks", "network", tables.networks),
    "subnets": ("subnets", "subnet", tables.subnets),
    "ports": ("ports", "port", tables.ports),
    "routers": ("routers", "router", tables.routers),
    "floatingips": ("floating_ips", "floatingip", tables.floating_ips),
    "security-groups": ("security_groups", "security_group", tables.security_groups),
    "subnetpools": ("subnetpools", "subnetpool", tables.subnetpools),
}


def _tag(value: Any) -> str:
    """A tag as a request names it."""
    try:
        word: str = text()(value)
    except Unfit as unfit:
        raise errors.InvalidInput(reason=str(unfit)) from None
    if not word or "," in word:
        raise errors.InvalidInput(reason=f"'{word}' is not a valid tag")
    return word


def _tagged(call: Call, path: str, verb: str, id: str) -> Any:
    """The thing with the tags, once the caller may do that with them."""
    part_name, name, _ = TAGGED[path]
    part: Part = getattr(call.service, part_name)
    who = access.viewer(call)
    record = part.get(who, id)
    access.require(call, f"{verb}_{name}:tags", part.target(record, who))
    return record


def _tag_routes(path: str) -> list[Route]:
    table = TAGGED[path][2]

    def list_tags(call: Call, id: str) -> object:
        return {"tags": _tagged(call, path, "get", id).tags}

    def show_tag(call: Call, id: str, tag: str) -> object:
        if _tag(tag) not in _tagged(call, path, "get", id).tags:
            raise errors.TagNotFound(tag=tag)
        return Response(204)

    def replace_tags(call: Call, id: str) -> object:
        record = _tagged(call, path, "update", id)
        body = call.body
        if not isinstance(body, dict) or "tags" not in body:
            raise errors.InvalidInput(reason="Invalid tags body")
        if not isinstance(body["tags"], list) or len(set(map(str, body["tags"]))) != len(body["tags"]):
            raise errors.InvalidInput(reason=f"'{body['tags']}' is not a list of unique strings")
        return {"tags": call.service.accounts.set_tags(table, record.id, [_tag(tag) for tag in body["tags"]])}

    def add_tag(call: Call, id: str, tag: str) -> object:
        record = _tagged(call, path, "update", id)
        if _tag(tag) not in record.tags:
            call.service.accounts.set_tags(table, record.id, [*record.tags, tag])
        return Response(201)

    def remove_tag(call: Call, id: str, tag: str) -> object:
        record = _tagged(call, path, "delete", id)
        if _tag(tag) not in record.tags:
            raise errors.TagNotFound(tag=tag)
        call.service.accounts.set_tags(table, record.id, [word for word in record.tags if word != tag])
        return Response(204)

    def remove_tags(call: Call, id: str) -> object:
        record = _tagged(call, path, "delete", id)
        call.service.accounts.set_tags(table, record.id, [])
        return Response(204)

    every, one = f"/v2.0/{path}/{{id}}/tags", f"/v2.0/{path}/{{id}}/tags/{{tag}}"
    # the thing itself says who may: its owner, or the owner of its network
    return [
        Get(every, list_tags, may=ANYONE),
        Put(every, replace_tags, may=ANYONE),
        Delete(every, remove_tags, may=ANYONE),
        Get(one, show_tag, may=ANYONE),
        Put(one, add_tag, may=ANYONE, body="none", status=201),
        Delete(one, remove_tag, may=ANYONE),
    ]


# Prefixes


def _prefixes(call: Call, rule: str, id: str) -> tuple[Any, list[str]]:
    who = access.viewer(call)
    pool = call.service.subnetpools.get(who, id)
    access.require(call, rule, call.service.subnetpools.target(pool, who))
    if not isinstance(call.body, dict) or "prefixes" not in call.body:
        raise errors.bad("subnetpools", "prefixes must be given")
    try:
        return who, list_of(network)(call.body["prefixes"])
    except Unfit as unfit:
        raise errors.HTTPBadRequest(attribute="prefixes", reason=str(unfit)) from None


def add_prefixes(call: Call, id: str) -> object:
    who, prefixes = _prefixes(call, "add_prefixes", id)
    return {"prefixes": call.service.subnetpools.add_prefixes(who, id, prefixes)}


def remove_prefixes(call: Call, id: str) -> object:
    who, prefixes = _prefixes(call, "remove_prefixes", id)
    return {"prefixes": call.service.subnetpools.remove_prefixes(who, id, prefixes)}


# Addresses left

_AVAILABILITY_FILTERS = {
    "network_id": "id",
    "network_name": "name",
    "tenant_id": "project_id",
    "project_id": "project_id",
}


def list_availability(call: Call) -> object:
    filters: dict[str, list[Any]] = {}
    for key, values in call.query.items():
        if key == "ip_version":
            try:
                filters[key] = [family(value) for value in values]
            except Unfit as unfit:
                raise errors.HTTPBadRequest(attribute=key, reason=str(unfit)) from None
        elif key in _AVAILABILITY_FILTERS:
            filters[_AVAILABILITY_FILTERS[key]] = list(values)
        elif key != "fields":
            msg = f"['{key}'] are invalid attributes for filtering"
            raise errors.HTTPBadRequest(msg)
    found = call.service.accounts.availability(Search(viewer=access.viewer(call), filters=filters))
    return {"network_ip_availabilities": found}


def show_availability(call: Call, id: str) -> object:
    return {"network_ip_availability": call.service.accounts.availability_of(access.viewer(call), id)}


ROUTES: list[Route] = [
    Get("/v2.0/quotas", list_quotas, may=ANYONE),
    Get("/v2.0/quotas/tenant", show_quota_project, may=ANYONE),
    Get("/v2.0/quotas/project", show_quota_project, may=ANYONE),
    Get("/v2.0/quotas/{id}", show_quota, may=ANYONE),
    Get("/v2.0/quotas/{id}/default", show_quota_defaults, may=ANYONE),
    Get("/v2.0/quotas/{id}/details", show_quota_details, may=ANYONE),
    Put("/v2.0/quotas/{id}", update_quota, may="update_quota"),
    Delete("/v2.0/quotas/{id}", delete_quota, may="delete_quota"),
    *(route for path in TAGGED for route in _tag_routes(path)),
    Put("/v2.0/subnetpools/{id}/add_prefixes", add_prefixes, may="add_prefixes"),
    Put("/v2.0/subnetpools/{id}/remove_prefixes", remove_prefixes, may="remove_prefixes"),
    Get("/v2.0/network-ip-availabilities", list_availability, may="get_network_ip_availability"),
    Get("/v2.0/network-ip-availabilities/{id}", show_availability, may="get_network_ip_availability"),
]
