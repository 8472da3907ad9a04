"""One service's application: what happens to a request, in order.

request id → identity headers stripped → version → row → body limits and media type → token → validation → policy → handler →
response.  `App.handle` is a plain function of a request: the edge calls it for a socket, a door calls it for a neighbour.
A handler may be a generator that yields slow pieces (core.work); `handle` then drives it on the spot, `begin` hands it to a worker.
"""

import re
from collections.abc import Callable, Generator, Iterable, Sequence
from inspect import isgeneratorfunction
from typing import Any, Protocol
from urllib.parse import unquote

import msgspec
import structlog

from cumulet.core.clock import Clock
from cumulet.core.context import Context
from cumulet.core.db import Commit, deferring
from cumulet.core.errors import (
    BadRequest,
    CloudError,
    Conflict,
    NotFound,
    PayloadTooLarge,
    ServerFault,
    Unauthorized,
    Unavailable,
    UnsupportedMediaType,
)
from cumulet.core.ids import Ids
from cumulet.core.keys import WAIT_S, Key, Keys
from cumulet.core.policy import Policy
from cumulet.core.web.http import AGAIN, FileBody, Request, Response
from cumulet.core.web.route import ANYONE, PUBLIC, Route, Router
from cumulet.core.web.versions import Microversions, Version
from cumulet.core.work import After, Slow, TimedOutError, drive

__all__ = ["App", "Authenticate", "Call"]

log = structlog.get_logger()

BODY_MAX = 1 << 20
#: the pool that waits for the disk
SYNCS = "syncs"
PATH_MAX = 8 << 10

_REQUEST_ID = re.compile(r"^req-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")
#: headers by which an outer middleware could claim an identity: never believed, always dropped
_IDENTITY = re.compile(
    r"^x-(?!auth-token$|service-token$|subject-token$)(user|project|tenant|role|domain|service|identity|is-admin|system|auth)"
)
_decode = msgspec.json.Decoder().decode
#: no name, text or id has it, and not every database takes it
NUL = "\0"


NUL_WORDS = "Invalid input: the NUL character is not allowed."


def _refuse_nul(request: Request) -> None:
    """Of all but the body, which is read later."""
    if NUL in request.path or "%00" in request.path or any(NUL in key or NUL in text for key, text in request.query):
        raise BadRequest(NUL_WORDS)


def _holds_nul(value: Any) -> bool:
    """Whether any text of a document, keys included, has a NUL."""
    if isinstance(value, str):
        return NUL in value
    if isinstance(value, dict):
        return any(NUL in key or _holds_nul(item) for key, item in value.items())
    return isinstance(value, list) and any(map(_holds_nul, value))


class Authenticate(Protocol):
    """Turns the tokens of a request into a caller.  Raises Unauthorized."""

    def __call__(self, token: str, service_token: str | None) -> Context: ...


class Call:
    """A request that is allowed so far: what a handler is given."""

    __slots__ = (
        "_app",
        "allowed_at",
        "authenticated",
        "body",
        "context",
        "key",
        "query",
        "request",
        "route",
        "service",
        "version",
    )

    def __init__(self, app: "App", request: Request, route: Route, context: Context, version: Version) -> None:
        self._app = app
        self.request = request
        self.route = route
        self.context = context
        self.version = version
        #: the service that the application belongs to
        self.service: Any = app.service
        self.body: Any = None
        #: when the token's validation began and ended, and when the policy had let the request through (core.clock text)
        self.authenticated: tuple[str, str] = ("", "")
        self.allowed_at = ""
        #: to be kept in the transaction that makes what is asked for; None when the request has none
        self.key: Key | None = None
        #: each key's values in order
        self.query: dict[str, list[str]] = {}

    def one(self, key: str, default: str | None = None) -> str | None:
        """The last value of a query key."""
        values = self.query.get(key)
        return values[-1] if values else default

    def authorize(self, rule: str, **target: Any) -> None:
        """Raise Forbidden unless the caller may, judged by the object's owner (`project_id`, `user_id`, …)."""
        self._app.policy.enforce(rule, self.context, target)

    def allowed(self, rule: str, **target: Any) -> bool:
        return self._app.policy.allows(rule, self.context, target)

    def url(self, path: str) -> str:
        """An absolute link to a path of this application."""
        return self.request.base_url + path


class App:
    """A service on the web.

    name: for logs; error: the envelope; versions: the microversion range, or None; keys: of the rows that have `again`;
    checks: functions (call, response) run on every answer, as the test mode's schema oracle.
    """

    def __init__(
        self,
        name: str,
        routes: Iterable[Route],
        *,
        service: Any,
        policy: Policy,
        authenticate: Authenticate,
        clock: Clock,
        ids: Ids,
        error: Callable[[CloudError, Request], Response],
        versions: Microversions | None = None,
        body_max: int = BODY_MAX,
        rewrite: Callable[[Request], None] | None = None,
        keys: Keys | None = None,
        checks: Iterable[Callable[[Call, Response], None]] = (),
    ) -> None:
        self.name = name
        self.service = service
        self.policy = policy
        self.router = Router(routes)
        self.versions = versions
        self.keys = keys
        self._authenticate = authenticate
        self._clock = clock
        self._ids = ids
        self._error = error
        self._body_max = body_max
        self._rewrite = rewrite
        self.checks = list(checks)
        #: raises what requests from outside are to fail with, in a cloud with faults on demand
        self.strike: Callable[[App, Call], None] | None = None
        for route in self.router.routes:
            if route.may not in {PUBLIC, ANYONE}:
                policy.require(route.may)
            if route.again is not None and keys is None:
                msg = f"{route.method} {route.path} may be repeated, and {name} keeps no keys"
                raise LookupError(msg)
            if route.look and (route.method != "GET" or isgeneratorfunction(route.handler)):
                msg = f"{route.method} {route.path} is no look: it may wait or write"
                raise LookupError(msg)

    def handle(self, request: Request) -> Response:
        """Answer on the caller's stack."""
        result = self.begin(request)
        response: Response = result if isinstance(result, Response) else drive(result)
        for act in response.then:
            act()
        return response

    def begin(self, request: Request) -> "Response | Generator[Slow, Any, Response]":
        """Answer at once, or a generator of slow pieces that ends in the answer.  The caller runs `then` of the answer."""
        if not request.arrived:
            request.arrived = self._clock.now()
        self._identify(request)
        version: Version = self.versions.lowest if self.versions else (0, 0)
        try:
            if self.versions:
                version = self.versions.asked(request.headers)
            _refuse_nul(request)
            if self._rewrite:
                self._rewrite(request)
            call, values = self._call(request, version)
            if self.strike is not None and request.outside:
                self.strike(self, call)
            key = request.headers.get(AGAIN) if call.route.again is not None else None
            if key is not None:
                return self._finish_later(self._once(call, values, key), call)
            with deferring() as commits:
                result = call.route.handler(call, **values)
            if isinstance(result, Generator):
                return self._finish_later(result, call)
            if commits:
                return self._finish_later(self._when_durable(result, commits), call, then=commits)
            return self._finish(result, call)
        except Exception as error:  # noqa: BLE001 - every failure becomes an answer; what is not ours is logged with its trace
            return self._fail(error, request, version)

    @staticmethod
    def _when_durable(value: Any, commits: list[Commit]) -> Generator[Slow, Any, Any]:
        """A handler's answer, once no loss of power can take back what it promises: the dispatcher does not wait for the disk."""
        for commit in commits:
            if commit.sync is not None:
                try:
                    yield Slow(SYNCS, commit.sync, stays=True)
                except Unavailable:  # too many wait: here, then, as what is committed must be told
                    commit.sync()
        return value

    def _identify(self, request: Request) -> None:
        headers = request.headers
        for name in [name for name in headers if _IDENTITY.match(name)]:
            del headers[name]
        given = headers.get("x-openstack-request-id", "")
        headers["x-openstack-request-id"] = given if _REQUEST_ID.match(given) else self._ids.request_id()

    def _call(self, request: Request, version: Version) -> tuple[Call, dict[str, str]]:
        """Everything up to the handler."""
        if len(request.path) > PATH_MAX:
            msg = "The request path is too long."
            raise BadRequest(msg)
        document: list[Any] = []

        def body() -> Any:
            if not document:
                document.append(self._document(request))
            return document[0]

        def action() -> str | None:
            value = body()
            return next(iter(value)) if isinstance(value, dict) and len(value) == 1 else None

        context: Context | None = None
        asked = self._clock.now()
        token = request.headers.get("x-auth-token")
        if token:
            # before the row is chosen, so that a stranger learns nothing of which paths or actions exist
            try:
                context = self._authenticated(request, token)
            except Unauthorized:
                # what is open to all stays open to who brings a token that has expired, to get a new one
                if not self._public(request, version):
                    raise
        answered = self._clock.now()
        try:
            route, values = self.router.match(request.method, request.path, version, action)
        except CloudError:
            if context is None and not self._public(request, version):
                raise Unauthorized from None
            raise
        if route.may != PUBLIC and context is None:
            raise Unauthorized
        if context is None:
            context = Context(user_id="", request_id=request.headers["x-openstack-request-id"], arrived=request.arrived)
        call = Call(self, request, route, context, version)
        call.authenticated = (asked, answered)
        call.query = self.router.validate_query(route, request.query)
        if route.may not in {PUBLIC, ANYONE}:
            self.policy.enforce_route(route.may, context)
            call.allowed_at = self._clock.now()
        if route.body == "json":
            self._limit(request, route)
            value = body()
            if route.action is not None:
                value = value[route.action]
            call.body = self.router.validate_body(route, value, version)
        elif route.body == "raw":
            self._limit(request, route)
            call.body = request.body
        return call, {name: unquote(value) for name, value in values.items()}

    def _once(self, call: Call, values: dict[str, str], text: str) -> Generator[Any, Any, Any]:
        """A request with an `Idempotency-Key`: its handler's answer, or that of the twin that was first."""
        keys = self.keys
        assert keys is not None  # noqa: S101 - looked at when the application was made
        key = keys.read(call.context, call.route.path, text, call.body)
        while (other := keys.begin(key)) is not None:
            try:
                yield After(other, WAIT_S)
            except TimedOutError:
                raise Conflict("A request with this Idempotency-Key is still under way. Try again later.") from None
        try:
            ids = keys.made(key)
            if ids is None:
                call.key = key
                try:
                    value = call.route.handler(call, **values)
                    return (yield from value) if isinstance(value, Generator) else value
                except CloudError:
                    # refused because a twin in another process was first, and has what this one asks for
                    ids = keys.made(key)
                    if ids is None:
                        raise
            return self._again(call, ids)
        finally:
            keys.end(key)

    @staticmethod
    def _again(call: Call, ids: list[str]) -> Response:
        assert call.route.again is not None  # noqa: S101 - only such rows come here
        try:
            value = call.route.again(call, ids)
        except NotFound as error:
            msg = "What was made with this Idempotency-Key is gone. Use a new key for a new request."
            raise Conflict(msg, detail=error.message) from None
        response = value if isinstance(value, Response) else Response(call.route.status, value)
        response.headers["Idempotent-Replayed"] = "true"
        return response

    def _public(self, request: Request, version: Version) -> bool:
        """Whether a path is open to all, so that a wrong method on it is 405 and not 401."""
        for route in self.router.routes:
            if route.may == PUBLIC and route.path.strip("/") == request.path.strip("/"):
                return route.since <= version <= route.until
        return False

    def _authenticated(self, request: Request, token: str) -> Context:
        context = self._authenticate(token, request.headers.get("x-service-token"))
        # a service that acts for an application credential's holder is not bound by the rules the credential keeps to
        rules = None if "service" in context.service_roles else context.access_rules
        if rules is not None and not any(rule.permits(self.name, request.method, request.path) for rule in rules):
            raise Unauthorized
        return msgspec.structs.replace(
            context, request_id=request.headers["x-openstack-request-id"], arrived=request.arrived, token=token
        )

    def _limit(self, request: Request, route: Route) -> None:
        media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if request.body and route.body == "json" and media and media not in route.media:
            msg = f"Unsupported Content-Type {media}"
            raise UnsupportedMediaType(msg)
        if len(request.body) > (route.body_max or self._body_max):
            raise PayloadTooLarge

    def _document(self, request: Request) -> Any:
        if request.json is not None:
            return request.json
        if len(request.body) > self._body_max:
            raise PayloadTooLarge
        if not request.body:
            return None
        try:
            document = _decode(request.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            msg = "Malformed request body: the JSON cannot be read."
            raise BadRequest(msg, detail=str(error)) from None
        # an escape is the only way for it into JSON; what looks like one may be a backslash before "u0000"
        if b"\\u0000" in request.body and _holds_nul(document):
            raise BadRequest(NUL_WORDS)
        return document

    def _finish_later(
        self, result: Generator[Slow, Any, Any], call: Call, *, then: Sequence[Commit] = ()
    ) -> Generator[Slow, Any, Response]:
        try:
            value = yield from result
            response = self._finish(value, call)
        except Exception as error:  # noqa: BLE001 - as in begin
            response = self._fail(error, call.request, call.version)
        response.then += [commit.announce for commit in then]
        return response

    def _finish(self, value: Any, call: Call) -> Response:
        response = value if isinstance(value, Response) else Response(call.route.status, value)
        for check in self.checks:
            check(call, response)
        return self._sign(response, call.request, call.version)

    def _sign(self, response: Response, request: Request, version: Version) -> Response:
        headers = response.headers
        request_id = request.headers["x-openstack-request-id"]
        headers.setdefault("x-openstack-request-id", request_id)
        if self.versions:
            for name, text in self.versions.answer(version).items():
                headers.setdefault(name, text)
            if self.versions.legacy:
                headers.setdefault("x-compute-request-id", request_id)
        if response.body is not None and not isinstance(response.body, FileBody):
            if isinstance(response.body, bytes):
                headers.setdefault("Content-Type", "application/octet-stream")
            elif isinstance(response.body, str):
                headers.setdefault("Content-Type", "text/plain; charset=UTF-8")
            else:
                headers.setdefault("Content-Type", "application/json")
        return response

    def _fail(self, error: Exception, request: Request, version: Version) -> Response:
        if not isinstance(error, CloudError):
            log.error("request failed", service=self.name, method=request.method, path=request.path, exc_info=error)
            error = ServerFault(detail=repr(error))
        elif error.status >= 500:
            log.error(
                "request failed",
                service=self.name,
                method=request.method,
                path=request.path,
                detail=error.detail,
                exc_info=error,
            )
        response = self._error(error, request)
        if error.status == 401:
            response.headers.setdefault("WWW-Authenticate", f'Keystone uri="{self.identity_url(request)}"')
        return self._sign(response, request, version)

    @staticmethod
    def identity_url(request: Request) -> str:
        scheme, _, rest = request.base_url.partition("://")
        return f"{scheme}://{rest.partition('/')[0]}/identity"
