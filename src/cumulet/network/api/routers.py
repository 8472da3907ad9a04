"""Router actions: interfaces and single routes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cumulet.core.web import Call, Put, Route
from cumulet.network import errors
from cumulet.network.api import access
from cumulet.network.resources import ROUTER
from cumulet.network.values import Unfit, host_routes, uuid

__all__ = ["ROUTES"]


def _interface(body: Any) -> dict[str, str | None]:
    """`{"subnet_id": …}` or `{"port_id": …}`."""
    if not isinstance(body, dict) or not (body.get("subnet_id") or body.get("port_id")):
        raise errors.bad("router", "Either subnet_id or port_id must be specified")
    given: dict[str, str | None] = {"subnet_id": None, "port_id": None}
    for key in given:
        if body.get(key) is not None:
            try:
                given[key] = uuid(body[key])
            except Unfit as unfit:
                raise errors.HTTPBadRequest(attribute=key, reason=str(unfit)) from None
    return given


def _judge(call: Call, rule: str, id: str) -> Any:
    who = access.viewer(call)
    router = call.service.routers.get(who, id)
    access.require(call, rule, call.service.routers.target(router, who))
    return who


def add_interface(call: Call, id: str) -> object:
    who = _judge(call, "add_router_interface", id)
    given = _interface(call.body)
    if given["subnet_id"] and given["port_id"]:
        raise errors.bad("router", "Cannot specify both subnet-id and port-id")
    return call.service.routers.add_interface(who, id, **given)


def remove_interface(call: Call, id: str) -> object:
    who = _judge(call, "remove_router_interface", id)
    return call.service.routers.remove_interface(who, id, **_interface(call.body))


def _routes(body: Any) -> list[dict[str, str]]:
    router = body.get("router") if isinstance(body, dict) else None
    if not isinstance(router, Mapping) or "routes" not in router:
        msg = "Unable to find 'router' with its 'routes' in request body"
        raise errors.HTTPBadRequest(msg)
    try:
        return host_routes(router["routes"])
    except Unfit as unfit:
        raise errors.HTTPBadRequest(attribute="routes", reason=str(unfit)) from None


def add_extraroutes(call: Call, id: str) -> object:
    who = _judge(call, "add_extraroutes", id)
    router = call.service.routers.change_routes(who, id, add=_routes(call.body))
    return {"router": ROUTER.view([router], access.hidden(call, ROUTER), frozenset())[0]}


def remove_extraroutes(call: Call, id: str) -> object:
    who = _judge(call, "remove_extraroutes", id)
    router = call.service.routers.change_routes(who, id, remove=_routes(call.body))
    return {"router": ROUTER.view([router], access.hidden(call, ROUTER), frozenset())[0]}


ROUTES: list[Route] = [
    Put("/v2.0/routers/{id}/add_router_interface", add_interface, may="add_router_interface"),
    Put("/v2.0/routers/{id}/remove_router_interface", remove_interface, may="remove_router_interface"),
    Put("/v2.0/routers/{id}/add_extraroutes", add_extraroutes, may="add_extraroutes"),
    Put("/v2.0/routers/{id}/remove_extraroutes", remove_extraroutes, may="remove_extraroutes"),
]
