"""What other services may know of identity: who a token's holder is, a token of their own, names, and when a token
was issued.

    validator = TokenValidator(door, clock, local=service.validate)   # an `Authenticate` for core.web.App
    token     = door.token()                                          # this service's own, kept until near its end

The one implementation speaks the public API.  `TokenValidator` has a fast path for the process that identity itself
lives in: the service's own `validate`, which costs a microsecond for a token it has seen, and never answers from
before the last change.
"""

import threading
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from cumulet.core.clock import Clock, seconds_between
from cumulet.core.context import AccessRule, Context, Secret
from cumulet.core.errors import Forbidden, NotFound, Unauthorized
from cumulet.core.web.client import Client, Credentials, Served, path

__all__ = ["IdentityDoor", "IdentityRest", "Named", "ServiceUser", "TokenIssue", "TokenValidator"]

#: a token this near its end is not used for a new call
RENEW_BEFORE_S = 300
#: how long another process takes a validated token for valid without asking again
REMEMBER_S = 10
REMEMBERED_MAX = 4_000


class ServiceUser(msgspec.Struct, frozen=True, kw_only=True):
    """What a service logs in with."""

    name: str
    secret: Secret
    project_name: str = "service"
    domain_id: str = "default"


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """A project or a user, by name."""

    id: str
    name: str
    domain_id: str
    enabled: bool


class TokenIssue(msgspec.Struct, frozen=True, kw_only=True):
    """Identity's record of a token's issue: when the request arrived, when it was answered (core.clock text), by
    which methods.
    """

    started: str
    finished: str
    methods: tuple[str, ...]


class IdentityDoor(Protocol):
    """Identity, to another service."""

    def validate(self, token: str, *, allow_expired: bool = False) -> Context:
        """Whom a token stands for.  Raises Unauthorized."""

    def token(self) -> str:
        """A token of this service's own user, good for at least some minutes."""

    def project(self, project_id: str) -> Named | None:
        """A project, or None where there is none."""

    def user(self, user_id: str) -> Named | None:
        """A user, or None where there is none."""

    def token_issue(self, audit_id: str) -> TokenIssue | None:
        """When and how the token with this audit id was issued; None when the record is no longer kept."""


class IdentityRest:
    """The door, by the public API; calls are made as the service's own user."""

    def __init__(self, client: Client, *, user: ServiceUser, clock: Clock) -> None:
        self._client = client
        self._user = user
        self._clock = clock
        self._lock = threading.Lock()
        self._token = ""
        self._expires_at = ""

    def validate(self, token: str, *, allow_expired: bool = False) -> Context:
        context, _ = self.validate_timed(token, allow_expired=allow_expired)
        return context

    def validate_timed(self, token: str, *, allow_expired: bool = False) -> tuple[Context, Served]:
        """The same, with how long identity took."""
        query = {"nocatalog": "", **({"allow_expired": "1"} if allow_expired else {})}
        try:
            document, served = self._call(
                "/v3/auth/tokens",
                query=query,
                headers={"x-subject-token": token, "openstack-identity-access-rules": "1.0"},
            )
        except NotFound:
            raise Unauthorized from None
        return _context(document["token"]), served

    def token(self) -> str:
        with self._lock:
            if not self._expires_at or seconds_between(self._clock.now(), self._expires_at) < RENEW_BEFORE_S:
                self._log_in()
            return self._token

    def credentials(self, *, request_id: str = "") -> Credentials:
        """This service's own credentials for a call of a third service."""
        return Credentials(token=self.token(), request_id=request_id)

    def project(self, project_id: str) -> Named | None:
        return self._named("projects", project_id, "project")

    def user(self, user_id: str) -> Named | None:
        return self._named("users", user_id, "user")

    def token_issue(self, audit_id: str) -> TokenIssue | None:
        try:
            document, _ = self._call(path("v3", "auth", "token_issues", audit_id))
        except NotFound:
            return None
        issue = document["token_issue"]
        return TokenIssue(started=issue["started_at"], finished=issue["finished_at"], methods=tuple(issue["methods"]))

    def _named(self, plural: str, id: str, key: str) -> Named | None:
        try:
            document, _ = self._call(path("v3", plural, id))
        except NotFound:
            return None
        thing = document[key]
        return Named(id=thing["id"], name=thing["name"], domain_id=thing["domain_id"] or "", enabled=thing["enabled"])

    def _call(self, where: str, **more: Any) -> tuple[Any, Served]:
        """A call as the service user; once more with a new token when the kept one is refused (identity was set up
        anew).
        """
        used = self.token()
        try:
            return self._client.timed("GET", where, Credentials(token=used), **more)
        except Unauthorized:
            with self._lock:
                if self._token == used:
                    self._log_in()
                used = self._token
            return self._client.timed("GET", where, Credentials(token=used), **more)

    def _log_in(self) -> None:
        user = self._user
        domain = {"id": user.domain_id}
        secret = {"name": user.name, "domain": domain, "password": user.secret.reveal()}
        auth = {
            "identity": {"methods": ["password"], "password": {"user": secret}},
            "scope": {"project": {"name": user.project_name, "domain": domain}},
        }
        response = self._client.send("POST", "/v3/auth/tokens", None, json={"auth": auth}, query={"nocatalog": ""})
        document = _document(response.body)
        self._token = {name.lower(): value for name, value in response.headers.items()}["x-subject-token"]
        self._expires_at = document["token"]["expires_at"]


class _Remembered(msgspec.Struct, frozen=True):
    context: Context
    #: monotonic
    until: float


class TokenValidator:
    """The `Authenticate` of every service's application.

    local: identity's own `validate`, where it lives in this process; without it each token is asked for at the door,
    and remembered for REMEMBER_S.  A service token lets the user's token be expired: long work ends for a user who
    has been gone for an hour.
    """

    def __init__(
        self,
        door: IdentityDoor | None,
        clock: Clock,
        *,
        local: Callable[..., Context] | None = None,
        window_s: int = 172_800,
    ) -> None:
        self._door = door
        self._clock = clock
        self._local = local
        self._window_s = window_s
        self._remembered: dict[tuple[str, bool], _Remembered] = {}

    def __call__(self, token: str, service_token: str | None) -> Context:
        """The caller of a request.  Raises Unauthorized."""
        if service_token is None:
            return self._validate(token, late=False)
        service = self._validate(service_token, late=False)
        trusted = "service" in service.roles
        context = self._validate(token, late=trusted)
        return msgspec.structs.replace(context, service_roles=service.roles)

    def _validate(self, token: str, *, late: bool) -> Context:
        try:
            if self._local is not None:
                return self._local(token, window_s=self._window_s if late else 0)
            return self._ask(token, late=late)
        except Forbidden:
            raise Unauthorized from None

    def _ask(self, token: str, *, late: bool) -> Context:
        if self._door is None:
            raise Unauthorized
        now = self._clock.monotonic()
        kept = self._remembered.get((token, late))
        if kept is not None and now < kept.until and (late or (kept.context.expires_at or "") > self._clock.now()):
            return kept.context
        context = self._door.validate(token, allow_expired=late)
        if len(self._remembered) >= REMEMBERED_MAX:
            self._remembered.clear()
        self._remembered[token, late] = _Remembered(context, now + REMEMBER_S)
        return context


def _document(body: Any) -> Any:
    return msgspec.json.decode(body) if isinstance(body, bytes) else body


def _context(token: dict[str, Any]) -> Context:
    project = token.get("project")
    domain = token.get("domain")
    user = token["user"]
    credential = token.get("application_credential") or {}
    rules = credential.get("access_rules")
    return Context(
        user_id=user["id"],
        user_name=user["name"],
        user_domain_id=user["domain"]["id"],
        project_id=project["id"] if project else None,
        project_name=project["name"] if project else None,
        project_domain_id=project["domain"]["id"] if project else None,
        domain_id=domain["id"] if domain else None,
        system_scope="all" if token.get("system", {}).get("all") else None,
        roles=frozenset(role["name"] for role in token.get("roles", ())),
        audit_ids=tuple(token["audit_ids"]),
        expires_at=token["expires_at"].removesuffix("Z"),
        application_credential_id=credential.get("id"),
        access_rules=None if rules is None else tuple(AccessRule(r["service"], r["method"], r["path"]) for r in rules),
    )
