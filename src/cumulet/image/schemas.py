"""The schema documents that clients read to learn an image's attributes."""

from typing import Any

from cumulet.core.web import ANYONE, Call, Get
from cumulet.core.web.resource import Resource
from cumulet.image.resources import IMAGE, MEMBER

__all__ = ["ROUTES"]

_LOCATIONS = {
    "direct_url": {"type": "string", "readOnly": True},
    "locations": {
        "type": "array",
        "readOnly": True,
        "items": {"type": "object", "properties": {"url": {"type": "string"}, "metadata": {"type": "object"}}},
    },
}
_IMAGE_LINKS = [
    {"rel": "self", "href": "{self}"},
    {"rel": "enclosure", "href": "{file}"},
    {"rel": "describedby", "href": "{schema}"},
]


def _properties(resource: Resource) -> dict[str, Any]:
    return {name: dict(field.schema) for name, field in resource.fields}


def _page_of(name: str, plural: str, item: dict[str, Any]) -> dict[str, Any]:
    link = {"type": "string"}
    return {
        "name": plural,
        "properties": {
            plural: {"type": "array", "items": item},
            "first": link,
            "next": link,
            "schema": link,
        },
        "links": [
            {"rel": "first", "href": "{first}"},
            {"rel": "next", "href": "{next}"},
            {"rel": "describedby", "href": "{schema}"},
        ]
        if name == "image"
        else [{"rel": "describedby", "href": "{schema}"}],
    }


_IMAGE = {
    "name": "image",
    "properties": {**_properties(IMAGE), **_LOCATIONS},
    "additionalProperties": {"type": "string"},
    "links": _IMAGE_LINKS,
}
_MEMBER = {"name": "member", "properties": _properties(MEMBER)}


def image_schema(call: Call) -> dict[str, Any]:  # noqa: ARG001 - the same for everybody
    return _IMAGE


def images_schema(call: Call) -> dict[str, Any]:  # noqa: ARG001 - as above
    return _page_of("image", "images", _IMAGE)


def member_schema(call: Call) -> dict[str, Any]:  # noqa: ARG001 - as above
    return _MEMBER


def members_schema(call: Call) -> dict[str, Any]:  # noqa: ARG001 - as above
    return _page_of("member", "members", _MEMBER)


ROUTES = [
    Get("/v2/schemas/image", image_schema, may=ANYONE),
    Get("/v2/schemas/images", images_schema, may=ANYONE),
    Get("/v2/schemas/member", member_schema, may=ANYONE),
    Get("/v2/schemas/members", members_schema, may=ANYONE),
]
