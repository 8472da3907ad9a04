"""A route is a row: method, path, handler, who may, from when, what it takes and gives.

    ROUTES = [
        Post("/servers", create_server, may="os_compute_api:servers:create", takes=SERVER, status=202),
        Get("/servers/{id}", show_server, may="os_compute_api:servers:show"),
        Action("/servers/{id}/action", "os-start", start_server, may="os_compute_api:servers:start", status=202),
        Get("/servers/{id}/topology", show_topology, may="compute:server:topology:index", since=(2, 78)),
    ]

Dispatch, 404, 405, 406, validation and the first authorisation come from the row; a row without `may` cannot be made.  `may` is a
policy name, ANYONE (any valid token) or PUBLIC (no token at all).  A handler that must judge by the object found calls
`call.authorize(...)` again with the object's owner.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import jsonschema_rs
import msgspec

from cumulet.core.errors import BadRequest, CloudError, MethodNotAllowed, NotFound
from cumulet.core.web.resource import CREATE, UPDATE, Resource, check
from cumulet.core.web.versions import Version

__all__ = ["ANYONE", "PUBLIC", "Action", "Delete", "Get", "Head", "Patch", "Post", "Put", "Route", "Router"]

PUBLIC = "PUBLIC"
ANYONE = "ANYONE"

_FIRST: Version = (0, 0)
_LAST: Version = (99, 999)

BodyKind = Literal["json", "stream", "raw", "none"]


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One row.  See the module's docstring; `body`: json (default for POST, PUT, PATCH), stream (read while it arrives), raw (bytes
    in `call.body`), none.  `query`: JSON schema of the query (each value a list of strings), or None for anything.
    `operation`: which fields of `takes` apply.  `media`: content types accepted for a body.  `again(call, ids)`: makes this row's
    request one that may be repeated with an `Idempotency-Key` (core.keys): the answer, from the objects that its first coming made.
    `look`: a GET that reads a few rows by their keys, waits for nothing and writes nothing: where the databases are files it is
    answered in the loop of the sockets, beside the dispatcher's requests."""

    method: str
    path: str
    handler: Callable[..., Any]
    may: str
    since: Version = _FIRST
    until: Version = _LAST
    takes: Resource | Mapping[str, Any] | None = None
    operation: int = CREATE
    query: Mapping[str, Any] | None = None
    status: int = 200
    body: BodyKind = "none"
    action: str | None = None
    media: tuple[str, ...] = ("application/json",)
    #: largest body in bytes, when it differs from the application's
    body_max: int | None = None
    again: Callable[[Any, list[str]], Any] | None = None
    look: bool = False


def Get(path: str, handler: Callable[..., Any], *, may: str, **more: Any) -> Route:  # noqa: N802 - reads as a row
    return Route(method="GET", path=path, handler=handler, may=may, **more)


def Head(path: str, handler: Callable[..., Any], *, may: str, **more: Any) -> Route:  # noqa: N802 - reads as a row
    return Route(method="HEAD", path=path, handler=handler, may=may, **more)


def Post(path: str, handler: Callable[..., Any], *, may: str, **more: Any) -> Route:  # noqa: N802 - reads as a row
    return Route(method="POST", path=path, handler=handler, may=may, **{"body": "json", "status": 201, **more})


def Put(path: str, handler: Callable[..., Any], *, may: str, **more: Any) -> Route:  # noqa: N802 - reads as a row
    return Route(method="PUT", path=path, handler=handler, may=may, **{"body": "json", "operation": UPDATE, **more})


def Patch(path: str, handler: Callable[..., Any], *, may: str, **more: Any) -> Route:  # noqa: N802 - reads as a row
    return Route(method="PATCH", path=path, handler=handler, may=may, **{"body": "json", "operation": UPDATE, **more})


def Delete(path: str, handler: Callable[..., Any], *, may: str, **more: Any) -> Route:  # noqa: N802 - reads as a row
    return Route(method="DELETE", path=path, handler=handler, may=may, **{"status": 204, **more})


def Action(path: str, name: str, handler: Callable[..., Any], *, may: str, **more: Any) -> Route:  # noqa: N802 - reads as a row
    """A POST chosen by the one key of its body: {"os-start": null}.  The handler's `call.body` is that key's value; `takes` is the
    schema of that value."""
    return Route(
        method="POST", path=path, handler=handler, may=may, action=name, **{"body": "json", "status": 202, **more}
    )


def _parts(path: str) -> list[str]:
    trimmed = path.strip("/")
    return trimmed.split("/") if trimmed else []


class _Node:
    """A step of the path tree: fixed words first, then a parameter."""

    __slots__ = ("param", "param_name", "rows", "words")

    def __init__(self) -> None:
        self.words: dict[str, _Node] = {}
        self.param: _Node | None = None
        self.rows: dict[str, list[tuple[Route, tuple[str, ...]]]] = {}


class Router:
    """Finds the row of a request."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._root = _Node()
        self.routes = list(routes)
        self._validators: dict[int, Any] = {}
        for route in self.routes:
            node, names = self._root, []
            for part in route.path.strip("/").split("/") if route.path.strip("/") else []:
                match = re.fullmatch(r"\{(\w+)\}", part)
                if match:
                    names.append(match[1])
                    node.param = node.param or _Node()
                    node = node.param
                else:
                    node = node.words.setdefault(part, _Node())
            node.rows.setdefault(route.method, []).append((route, tuple(names)))

    def _find(self, node: _Node, parts: list[str], at: int, values: list[str]) -> list[tuple[_Node, list[str]]]:
        if at == len(parts):
            return [(node, values)] if node.rows else []
        found = []
        word = node.words.get(parts[at])
        if word is not None:
            found += self._find(word, parts, at + 1, values)
        if node.param is not None and parts[at]:
            found += self._find(node.param, parts, at + 1, [*values, parts[at]])
        return found

    def looks(self, path: str) -> bool:
        """Whether a GET of this path is a look, in whichever version."""
        rows = [row for node, _ in self._find(self._root, _parts(path), 0, []) for row, _ in node.rows.get("GET", ())]
        return bool(rows) and all(row.look for row in rows)

    def match(
        self, method: str, path: str, version: Version, action: Callable[[], str | None]
    ) -> tuple[Route, dict[str, str]]:
        """The row and its path values.  Raises NotFound, MethodNotAllowed (with `Allow`), BadRequest (unknown action)."""
        nodes = self._find(self._root, _parts(path), 0, [])
        if not nodes:
            raise NotFound
        allowed: set[str] = set()
        for node, values in nodes:
            rows = node.rows.get(method)
            if rows is None and method == "HEAD":
                rows = node.rows.get("GET")
            if rows is None:
                allowed |= set(node.rows)
                continue
            live = [(route, names) for route, names in rows if route.since <= version <= route.until]
            if not live:
                continue
            if live[0][0].action is not None:
                name = action()
                for route, names in live:
                    if route.action == name:
                        return route, dict(zip(names, values, strict=True))
                msg = f"There is no such action: {name}" if name else "Malformed request body"
                raise BadRequest(msg)
            route, names = live[0]
            return route, dict(zip(names, values, strict=True))
        if allowed:
            error: CloudError = MethodNotAllowed()
            error.headers["Allow"] = ", ".join(sorted(allowed))
            raise error
        raise NotFound

    def validate_body(self, route: Route, body: Any, version: Version) -> Any:
        if route.takes is None:
            return body
        if isinstance(route.takes, Resource):
            return route.takes.validate(body, route.operation, version)
        check(self._compiled(id(route.takes), route.takes), body)
        return body

    def validate_query(self, route: Route, query: list[tuple[str, str]]) -> dict[str, list[str]]:
        values: dict[str, list[str]] = {}
        for key, value in query:
            values.setdefault(key, []).append(value)
        if route.query is not None:
            check(self._compiled(id(route.query), route.query), values)
        return values

    def _compiled(self, key: int, schema: Mapping[str, Any]) -> Any:
        validator = self._validators.get(key)
        if validator is None:
            validator = self._validators[key] = jsonschema_rs.validator_for(dict(schema), validate_formats=True)
        return validator
