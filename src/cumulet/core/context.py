"""Who asks: the facts of a validated token, as every service sees them."""

import functools
import re
from typing import Any

import msgspec

__all__ = ["AccessRule", "Context", "Secret"]


class Secret:
    """Text that does not print.  `reveal()` is the only way to it, so that a log line, a repr or a traceback never shows it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "Secret(***)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


#: the catalogue's types of a service, where they are not its name here
_TYPES = {"volume": frozenset({"volume", "volumev3", "block-storage"})}


class AccessRule(msgspec.Struct, frozen=True):
    """What an application credential may be used for: a service's type, a method, a path (`*`, `{name}`: a segment; `**`: any)."""

    service: str
    method: str
    path: str

    def permits(self, service: str, method: str, path: str) -> bool:
        """Whether a request is of this kind.  service: the application's name; path: below its mount."""
        if self.method != method or self.service not in _TYPES.get(service, frozenset({service})):
            return False
        return _pattern(self.path).fullmatch(path) is not None


@functools.lru_cache(maxsize=4096)
def _pattern(path: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*|\*|\{[^/{}]*\})", path)
    return re.compile(
        "".join(".+" if p == "**" else "[^/]+" if p == "*" or p.startswith("{") else re.escape(p) for p in parts)
    )


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """A caller.  `token` is carried in memory only: it is dropped wherever a context is stored (`without_token`)."""

    user_id: str
    user_name: str = ""
    user_domain_id: str = "default"
    project_id: str | None = None
    project_name: str | None = None
    project_domain_id: str | None = None
    #: set when the token is scoped to a domain
    domain_id: str | None = None
    #: "all" when the token is scoped to the system
    system_scope: str | None = None
    roles: frozenset[str] = frozenset()
    #: roles of the X-Service-Token, where one came with the request
    service_roles: frozenset[str] = frozenset()
    audit_ids: tuple[str, ...] = ()
    expires_at: str | None = None
    request_id: str = ""
    #: when the request arrived (core.clock text)
    arrived: str = ""
    application_credential_id: str | None = None
    #: what the application credential may be used for; None: everything
    access_rules: tuple[AccessRule, ...] | None = None
    token: str | None = None

    def __repr__(self) -> str:  # a token must never reach a log
        return f"Context(user={self.user_id}, project={self.project_id}, roles={sorted(self.roles)}, request={self.request_id})"

    @property
    def is_admin(self) -> bool:
        return "admin" in self.roles

    def without_token(self) -> "Context":
        return msgspec.structs.replace(self, token=None)

    def credentials(self) -> dict[str, Any]:
        """The caller as the policy engine wants it."""
        return {
            "user_id": self.user_id,
            "user_domain_id": self.user_domain_id,
            "project_id": self.project_id,
            "tenant_id": self.project_id,
            "project_domain_id": self.project_domain_id,
            "domain_id": self.domain_id,
            "system_scope": self.system_scope,
            "roles": sorted(self.roles),
            "service_roles": sorted(self.service_roles),
            "is_admin": self.is_admin,
        }
