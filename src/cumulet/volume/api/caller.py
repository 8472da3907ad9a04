"""Who asks and for which project: the token's, and the one that may stand in the path (/v3/{project_id}/…)."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from cumulet.core.errors import BadRequest, NotFound
from cumulet.core.web import PUBLIC, Call, Request, Route
from cumulet.volume.service.means import Caller
from cumulet.volume.service.service import VolumeService

__all__ = ["caller", "in_project", "path_rewriter", "service"]

#: set by the rewriting below only: whatever a client sends under it is dropped before
_URL_PROJECT = "x-project-of-path"


def service(call: Call) -> VolumeService:
    found: VolumeService = call.service
    return found


def caller(call: Call) -> Caller:
    """A service may act for the project that it names; admins and services see all projects."""
    context = call.context
    named = call.request.headers.get(_URL_PROJECT)
    sees_all = context.is_admin or "service" in context.roles
    project = named if named is not None and "service" in context.roles else context.project_id
    return Caller(context=context, project_id=project or "", sees=None if sees_all else context.project_id or "")


def path_rewriter(routes: Iterable[Route]) -> Callable[[Request], None]:
    """/v3/{project_id}/volumes becomes /v3/volumes."""
    words = {parts[1] for route in routes if len(parts := route.path.strip("/").split("/")) > 1}

    def rewrite(request: Request) -> None:
        parts = request.path.lstrip("/").split("/")
        if len(parts) > 2 and not parts[-1]:
            raise NotFound  # "volumes/" is a volume without an id
        if len(parts) > 2 and parts[0] == "v3" and parts[1] not in words:
            request.headers[_URL_PROJECT] = parts[1]
            request.path = "/" + "/".join([parts[0], *parts[2:]])

    return rewrite


def in_project(route: Route) -> Route:
    """The row, refusing a path that names another project than the token's."""
    if route.may == PUBLIC:
        return route
    again = None if route.again is None else _checked(route.again)
    return msgspec.structs.replace(route, handler=_checked(route.handler), again=again)


def _checked(handler: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(handler)
    def checked(call: Call, *given: Any, **values: str) -> Any:
        named = call.request.headers.get(_URL_PROJECT)
        if named is not None and named != call.context.project_id and "service" not in call.context.roles:
            raise BadRequest("Malformed request url")
        return handler(call, *given, **values)

    return checked
