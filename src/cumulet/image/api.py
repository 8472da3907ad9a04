"""The image service on the web: version documents, images, tags; bytes are in `data_api`, members in `members_api`."""

from collections.abc import Generator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from cumulet.core.clock import Clock
from cumulet.core.errors import BadRequest, Forbidden, NotFound, UnsupportedMediaType
from cumulet.core.ids import Ids
from cumulet.core.keys import Keys
from cumulet.core.policy import Policy
from cumulet.core.web import ANYONE, PUBLIC, App, Call, Delete, Get, Patch, Post, Put, Response, Route
from cumulet.core.web.app import Authenticate
from cumulet.core.web.envelope import image_error
from cumulet.core.web.http import Request
from cumulet.core.work import Slow
from cumulet.image import data_api, members_api, schemas
from cumulet.image.changes import PATCH_MEDIA, changes_of, operations_of, split_attributes
from cumulet.image.listing import listing_of
from cumulet.image.policy import RULES
from cumulet.image.records import Image
from cumulet.image.resources import IMAGE, STORE
from cumulet.image.service import ImageService
from cumulet.image.sight import seen, viewer_of
from cumulet.image.tables import KEYS

__all__ = ["ROUTES", "application"]

#: the API's minor versions, all of one shape: 2.0 … 2.16
_NEWEST_MINOR = 16
_TAG_MAX = 255


def _versions(call: Call) -> dict[str, Any]:
    links = [{"rel": "self", "href": call.url("/v2/")}]
    return {
        "versions": [
            {"id": f"v2.{minor}", "status": "CURRENT" if minor == _NEWEST_MINOR else "SUPPORTED", "links": links}
            for minor in range(_NEWEST_MINOR, -1, -1)
        ]
    }


def choose_version(call: Call) -> Response:
    """300, as the reference answers: the client chooses."""
    return Response(300, _versions(call))


def list_versions(call: Call) -> dict[str, Any]:
    return _versions(call)


def _view(call: Call, image: Image) -> dict[str, Any]:
    """An image as the caller may see it: where its bytes lie is told to services only."""
    view = {**image.properties, **IMAGE.view(image, call)}
    location = call.service.location(image)
    if location is not None and call.allowed("get_image_location", project_id=image.owner):
        view["direct_url"] = location
        view["locations"] = [{"url": location, "metadata": {"store": STORE}}]
    return view


def _require_visibility(call: Call, visibility: str | None, owner: str | None) -> None:
    """Not everybody may show an image to everybody."""
    if visibility == "public":
        call.authorize("publicize_image", project_id=owner)
    elif visibility == "community":
        call.authorize("communitize_image", project_id=owner)


def list_images(call: Call) -> dict[str, Any]:
    listing = listing_of(call.query)
    images, more = call.service.page(viewer_of(call), listing)
    kept = [(key, value) for key, values in call.query.items() for value in values if key != "marker"]
    answer = {
        "images": [_view(call, image) for image in images],
        "first": "/v2/images" + (f"?{urlencode(kept)}" if kept else ""),
        "schema": "/v2/schemas/images",
    }
    if more and images:
        answer["next"] = "/v2/images?" + urlencode([*kept, ("marker", images[-1].id)])
    return answer


def show_image(call: Call, id: str) -> dict[str, Any]:
    sight = seen(call, id)
    call.authorize("get_image", **sight.target)
    return _view(call, sight.image)


def create_image(call: Call) -> Response:
    attributes, properties = split_attributes(call.body)
    owner = attributes.pop("owner", None) or call.context.project_id
    if not call.context.is_admin and (owner is None or owner != call.context.project_id):
        raise Forbidden(f"You are not permitted to create images owned by '{owner}'.")
    call.authorize("add_image", project_id=owner)
    _require_visibility(call, attributes.get("visibility"), owner)
    return _created(call, call.service.create(attributes, properties, owner=owner, key=call.key))


def create_image_again(call: Call, ids: list[str]) -> Response:
    """The answer for a request that has made its image before."""
    return _created(call, seen(call, ids[0]).image)


def _created(call: Call, new: Image) -> Response:
    headers = {
        "Location": call.url(f"/v2/images/{new.id}"),
        "OpenStack-image-import-methods": ",".join(data_api.IMPORT_METHODS),
        "OpenStack-image-store-ids": STORE,
    }
    return Response(201, _view(call, new), headers)


def update_image(call: Call, id: str) -> dict[str, Any]:
    if call.request.json is None and "content-type" not in call.request.headers:
        error = UnsupportedMediaType()
        error.headers["Accept-Patch"] = ", ".join(PATCH_MEDIA)
        raise error
    sight = seen(call, id)
    image = sight.image
    call.authorize("modify_image", **sight.target)
    changes = changes_of(image, operations_of(call.body))
    owner = changes.columns.get("owner", image.owner)
    if owner != image.owner and not call.context.is_admin:
        raise Forbidden("Only an admin may change an image's owner.")
    if changes.columns.get("visibility") != image.visibility:
        _require_visibility(call, changes.columns.get("visibility"), owner)
    return _view(call, call.service.update(image, changes))


def delete_image(call: Call, id: str) -> Generator[Slow, Any, Response]:
    sight = seen(call, id)
    call.authorize("delete_image", **sight.target)
    yield from call.service.delete(sight.image)
    return Response(204)


def deactivate_image(call: Call, id: str) -> Response:
    sight = seen(call, id)
    call.authorize("deactivate", **sight.target)
    call.service.set_active(sight.image, active=False)
    return Response(204)


def reactivate_image(call: Call, id: str) -> Response:
    sight = seen(call, id)
    call.authorize("reactivate", **sight.target)
    call.service.set_active(sight.image, active=True)
    return Response(204)


def add_tag(call: Call, id: str, tag: str) -> Response:
    if len(tag) > _TAG_MAX:
        raise BadRequest(f"Image tag value is too long: at most {_TAG_MAX} characters.")
    sight = seen(call, id)
    call.authorize("modify_image", **sight.target)
    call.service.add_tag(sight.image, tag)
    return Response(204)


def remove_tag(call: Call, id: str, tag: str) -> Response:
    sight = seen(call, id)
    call.authorize("modify_image", **sight.target)
    call.service.remove_tag(sight.image, tag)
    return Response(204)


ROUTES: list[Route] = [
    Get("/", choose_version, may=PUBLIC),
    Get("/versions", list_versions, may=PUBLIC),
    Get("/v2", list_versions, may=PUBLIC),
    Get("/v2/images", list_images, may="get_images"),
    Post("/v2/images", create_image, may="add_image", takes=IMAGE, again=create_image_again),
    # judged by the image alone: a public one is seen without a project
    Get("/v2/images/{id}", show_image, may=ANYONE, look=True),
    Patch("/v2/images/{id}", update_image, may="modify_image", media=PATCH_MEDIA),
    Delete("/v2/images/{id}", delete_image, may="delete_image"),
    Post("/v2/images/{id}/actions/deactivate", deactivate_image, may="deactivate", status=204),
    Post("/v2/images/{id}/actions/reactivate", reactivate_image, may="reactivate", status=204),
    Put("/v2/images/{id}/tags/{tag}", add_tag, may="modify_image", body="none", status=204),
    Delete("/v2/images/{id}/tags/{tag}", remove_tag, may="modify_image"),
    *data_api.ROUTES,
    *members_api.ROUTES,
    *schemas.ROUTES,
]


def _refuse_odd_paths(request: Request) -> None:
    """`/v2/images/` is an image without a name, not the list."""
    if request.path.startswith("/v2/images/") and request.path.endswith("/"):
        raise NotFound


def application(
    service: ImageService,
    *,
    authenticate: Authenticate,
    clock: Clock,
    ids: Ids,
    policy_overrides: Path | None = None,
) -> App:
    """The image service on the web."""
    return App(
        "image",
        ROUTES,
        service=service,
        policy=Policy(RULES, overrides=policy_overrides),
        authenticate=authenticate,
        clock=clock,
        ids=ids,
        error=image_error,
        rewrite=_refuse_odd_paths,
        keys=Keys(service.db, KEYS, clock),
    )
