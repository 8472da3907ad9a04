"""Version documents: open to all."""

from typing import Any

from cumulet.core.web import PUBLIC, Call, Get, Response

__all__ = ["ROUTES"]


def _version(call: Call) -> dict[str, Any]:
    return {
        "id": "v3.14",
        "status": "stable",
        "updated": "2020-04-07T00:00:00Z",
        "links": [{"rel": "self", "href": call.url("/v3/")}],
        "media-types": [{"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}],
    }


def list_versions(call: Call) -> Response:
    """300, as the reference answers: the client chooses."""
    return Response(300, {"versions": {"values": [_version(call)]}}, {"Location": call.url("/v3/")})


def show_version(call: Call) -> dict[str, Any]:
    return {"version": _version(call)}


ROUTES = [
    Get("/", list_versions, may=PUBLIC),
    Get("/v3", show_version, may=PUBLIC),
]
