"""Routes for an image's bytes: upload, download, stage, import."""

import re
from collections.abc import Generator, Iterable
from typing import Any

from cumulet.core.errors import BadRequest, Forbidden, NotFound, RangeNotSatisfiable, UnsupportedMediaType
from cumulet.core.web import Call, Get, Post, Put, Response
from cumulet.core.web.http import FileBody
from cumulet.core.work import Slow
from cumulet.image.files import ImageSizeLimit
from cumulet.image.records import ACTIVE, DEACTIVATED, Task
from cumulet.image.resources import IMPORT, STORE, TASK
from cumulet.image.sight import seen

__all__ = ["IMPORT_METHODS", "ROUTES"]

IMPORT_METHODS = ("glance-direct",)

_STREAM = "application/octet-stream"
_RANGE = re.compile(r"^bytes=(\d*)-(\d*)$")


def _chunks(call: Call) -> Iterable[bytes]:
    """The body as it arrives.  Raises UnsupportedMediaType for what is not sent as plain bytes."""
    media = call.request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != _STREAM:
        raise UnsupportedMediaType(f"Unsupported Content-Type: image data is sent as {_STREAM}.")
    length = call.request.headers.get("content-length", "")
    limit = call.service.config.size_max
    if length.isdigit() and int(length) > limit:
        raise ImageSizeLimit(limit=limit)
    return call.request.stream.chunks() if call.request.stream is not None else [call.request.body]


def upload(call: Call, id: str) -> Generator[Slow, Any, Response]:
    chunks = _chunks(call)
    sight = seen(call, id)
    call.authorize("upload_image", **sight.target)
    yield from call.service.upload(sight.image, chunks)
    return Response(204)


def stage(call: Call, id: str) -> Generator[Slow, Any, Response]:
    chunks = _chunks(call)
    sight = seen(call, id)
    call.authorize("modify_image", **sight.target)
    yield from call.service.stage(sight.image, chunks)
    return Response(204)


def download(call: Call, id: str) -> Response:
    """All of the bytes, or one range of them; 204 where there are none yet."""
    sight = seen(call, id)
    image = sight.image
    call.authorize("download_image", **sight.target)
    if image.status == DEACTIVATED and not call.context.is_admin:
        raise Forbidden("The requested image has been deactivated. Image data download is forbidden.")
    if image.status not in {ACTIVE, DEACTIVATED} or image.size is None:
        return Response(204)
    path = call.service.files.path(image.id)
    if not path.exists():
        raise NotFound(f"The data of image {image.id} could not be found.")
    headers = {"Content-Type": _STREAM, "Accept-Ranges": "bytes"}
    wanted = call.request.headers.get("range")
    if wanted is None:
        if image.checksum:
            headers["Content-MD5"] = image.checksum
        return Response(200, FileBody(path, 0, image.size), headers)
    first, last = _range(wanted, image.size)
    headers["Content-Range"] = f"bytes {first}-{last}/{image.size}"
    return Response(206, FileBody(path, first, last - first + 1), headers)


def _range(text: str, size: int) -> tuple[int, int]:
    """First and last byte of `bytes=A-B`, `bytes=A-` or `bytes=-N`.  Raises RangeNotSatisfiable."""
    match = _RANGE.match(text.strip())
    outside = RangeNotSatisfiable(f"Invalid range {text!r} for an image of {size} bytes.")
    outside.headers["Content-Range"] = f"bytes */{size}"
    if match is None or not any(match.groups()):
        raise outside
    start, end = match.groups()
    if not start:
        first, last = max(0, size - int(end)), size - 1
    else:
        first, last = int(start), min(int(end), size - 1) if end else size - 1
    if first > last:
        raise outside
    return first, last


def import_image(call: Call, id: str) -> Generator[Slow, Any, Response]:
    """The import is done when the answer is given; clients that poll find it so at their first look."""
    sight = seen(call, id)
    call.authorize("modify_image", **sight.target)
    method = call.body["method"]["name"]
    if method not in IMPORT_METHODS:
        raise BadRequest(f"Unknown import method name '{method}'.")
    stores = call.body.get("stores", [])
    if stores and call.body.get("all_stores"):
        raise BadRequest("stores parameter and all_stores parameter can't be provided together.")
    for name in stores:
        if name != STORE:
            raise BadRequest(f"Unknown store: {name}")
    task = call.service.new_task(
        sight.image, user_id=call.context.user_id, request_id=call.context.request_id, request=call.body
    )
    yield from call.service.import_staged(sight.image, task)
    return Response(202)


def list_tasks(call: Call, id: str) -> dict[str, Any]:
    sight = seen(call, id)
    call.authorize("get_task", **sight.target)
    tasks: list[Task] = call.service.tasks(sight.image)
    return {"tasks": [TASK.view(task, call) for task in tasks]}


def import_info(call: Call) -> dict[str, Any]:  # noqa: ARG001 - the same for everybody
    return {
        "import-methods": {"description": "Import methods available.", "type": "array", "value": list(IMPORT_METHODS)}
    }


def stores_info(call: Call) -> dict[str, Any]:  # noqa: ARG001 - the same for everybody
    return {"stores": [{"id": STORE, "description": "Files of this host", "default": "true"}]}


ROUTES = [
    Put("/v2/images/{id}/file", upload, may="upload_image", body="stream", status=204),
    Get("/v2/images/{id}/file", download, may="download_image"),
    Put("/v2/images/{id}/stage", stage, may="modify_image", body="stream", status=204),
    Post("/v2/images/{id}/import", import_image, may="modify_image", takes=IMPORT, status=202),
    Get("/v2/images/{id}/tasks", list_tasks, may="get_task"),
    Get("/v2/info/import", import_info, may="get_images"),
    Get("/v2/info/stores", stores_info, may="stores_info"),
]
