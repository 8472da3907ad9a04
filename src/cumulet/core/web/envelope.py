"""How each API wraps an error.  One function per family; an application names its own."""

import html
from typing import Any

from cumulet.core.errors import CloudError
from cumulet.core.web.http import Request, Response

__all__ = ["compute_error", "identity_error", "image_error", "network_error", "placement_error"]


def compute_error(error: CloudError, request: Request) -> Response:  # noqa: ARG001 - one signature for all
    """{"itemNotFound": {"code": 404, "message": …}}: compute and volume."""
    body: dict[str, Any] = {"code": error.status, "message": error.message}
    return Response(error.status, {error.code: body}, dict(error.headers))


def identity_error(error: CloudError, request: Request) -> Response:  # noqa: ARG001 - one signature for all
    """{"error": {"code": 404, "title": "Not Found", "message": …}}."""
    body = {"code": error.status, "title": error.title, "message": error.message}
    return Response(error.status, {"error": body}, dict(error.headers))


def network_error(error: CloudError, request: Request) -> Response:  # noqa: ARG001 - one signature for all
    """{"NeutronError": {"type": "NetworkNotFound", "message": …, "detail": ""}}."""
    body = {"type": error.kind, "message": error.message, "detail": ""}
    return Response(error.status, {"NeutronError": body}, dict(error.headers))


def image_error(error: CloudError, request: Request) -> Response:
    """A small page, or JSON for who asks for it."""
    status = f"{error.status} {error.title}"
    if "application/json" in request.headers.get("accept", ""):
        body: Any = {"code": status, "title": error.title, "message": error.message}
        return Response(error.status, body, dict(error.headers))
    text = f"<html><head><title>{status}</title></head><body><h1>{status}</h1>{html.escape(error.message)}<br /><br /></body></html>"
    return Response(error.status, text, {"Content-Type": "text/html; charset=UTF-8", **error.headers})


def placement_error(error: CloudError, request: Request) -> Response:
    """{"errors": [{"status": 409, "title": …, "detail": …, "request_id": …, "code": …}]}."""
    body = {
        "status": error.status,
        "title": error.title,
        "detail": error.message,
        "request_id": request.headers.get("x-openstack-request-id", ""),
        "code": error.fields.get("code", "placement.undefined_code"),
    }
    return Response(error.status, {"errors": [body]}, dict(error.headers))
