"""Which versions of the API there are: the documents at its root and at each version, for everybody."""

from typing import Any

from cumulet.core.web import PUBLIC, Call, Get, Route
from cumulet.core.web.versions import Microversions

__all__ = ["MICROVERSIONS", "ROUTES"]

MICROVERSIONS = Microversions("compute", (2, 1), (2, 96), legacy="X-OpenStack-Nova-API-Version")


def _old(call: Call) -> dict[str, Any]:
    """The old path, which answers as 2.1 does and knows no microversions."""
    return {
        "id": "v2.0",
        "status": "SUPPORTED",
        "version": "",
        "min_version": "",
        "updated": "2011-01-21T11:33:21Z",
        "links": [{"rel": "self", "href": call.url("/v2/")}],
    }


def _current(call: Call) -> dict[str, Any]:
    return {
        "id": "v2.1",
        "status": "CURRENT",
        "version": MICROVERSIONS.text(MICROVERSIONS.highest),
        "min_version": MICROVERSIONS.text(MICROVERSIONS.lowest),
        "updated": "2013-07-23T11:33:21Z",
        "links": [{"rel": "self", "href": call.url("/v2.1/")}],
    }


def _alone(version: dict[str, Any]) -> dict[str, Any]:
    """A version's own document: with its documentation and its media type."""
    described = {"rel": "describedby", "type": "text/html", "href": "http://docs.openstack.org/"}
    number = version["id"].removeprefix("v").removesuffix(".0")
    media = {"base": "application/json", "type": f"application/vnd.openstack.compute+json;version={number}"}
    return {"version": {**version, "links": [*version["links"], described], "media-types": [media]}}


def list_versions(call: Call) -> Any:
    return {"versions": [_old(call), _current(call)]}


def show_current(call: Call) -> Any:
    return _alone(_current(call))


def show_old(call: Call) -> Any:
    return _alone(_old(call))


ROUTES: list[Route] = [
    Get("/", list_versions, may=PUBLIC),
    Get("/v2", show_old, may=PUBLIC),
    Get("/v2.1", show_current, may=PUBLIC),
]
