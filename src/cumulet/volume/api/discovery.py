"""Version documents: open to all."""

from typing import Any

from cumulet.core.web import PUBLIC, Call, Get, Microversions, Response

__all__ = ["ROUTES", "VERSIONS"]

VERSIONS = Microversions("volume", (3, 0), (3, 70))


def _versions(call: Call) -> dict[str, Any]:
    version = {
        "id": "v3.0",
        "status": "CURRENT",
        "version": VERSIONS.text(VERSIONS.highest),
        "min_version": VERSIONS.text(VERSIONS.lowest),
        "updated": "2023-08-31T00:00:00Z",
        "links": [
            {"rel": "describedby", "type": "text/html", "href": "https://docs.openstack.org/"},
            {"rel": "self", "href": call.url("/v3/")},
        ],
        "media-types": [{"base": "application/json", "type": "application/vnd.openstack.volume+json;version=3"}],
    }
    return {"versions": [version]}


def list_versions(call: Call) -> Response:
    """300, as the reference answers: the client chooses."""
    return Response(300, _versions(call))


def show_version(call: Call) -> dict[str, Any]:
    return _versions(call)


ROUTES = [
    Get("/", list_versions, may=PUBLIC),
    Get("/v3", show_version, may=PUBLIC),
]
