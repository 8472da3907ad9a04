"""What identity remembers, as frozen structs: the rows of `tables.py`, field by field."""

from typing import Any

import msgspec

__all__ = [
    "SYSTEM",
    "AccessRule",
    "ApplicationCredential",
    "Assignment",
    "Consumer",
    "Credential",
    "Endpoint",
    "EndpointGroup",
    "Group",
    "Issue",
    "Limit",
    "PolicyDocument",
    "Project",
    "Region",
    "RegisteredLimit",
    "Role",
    "Service",
    "Trust",
    "User",
]

#: the target of assignments on the system as a whole
SYSTEM = "system"


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """A project or, with `is_domain`, a domain (whose `domain_id` and `parent_id` are empty)."""

    id: str
    name: str
    domain_id: str
    parent_id: str
    is_domain: bool
    enabled: bool
    description: str
    tags: list[str]
    options: dict[str, Any]
    extra: dict[str, Any]

    @property
    def owner_id(self) -> str:
        """The domain it belongs to: itself, for a domain."""
        return self.id if self.is_domain else self.domain_id


class User(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    name: str
    domain_id: str
    enabled: bool
    default_project_id: str | None
    password_hash: str | None
    password_expires_at: str | None
    tokens_since: str
    created_at: str
    options: dict[str, Any]
    extra: dict[str, Any]

    def __repr__(self) -> str:  # the hash stays out of logs
        return f"User({self.id})"


class Group(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    name: str
    domain_id: str
    description: str
    extra: dict[str, Any]


class Role(msgspec.Struct, frozen=True, kw_only=True):
    """A role; `domain_id` is empty for one that every domain may use."""

    id: str
    name: str
    domain_id: str
    description: str | None
    options: dict[str, Any]
    extra: dict[str, Any]


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """`actor` ("user", "group") holds a role on `target` ("project", "domain", "system"), or on what lies below it
    (`inherited`).
    """

    actor: str
    actor_id: str
    target: str
    target_id: str
    role_id: str
    inherited: bool


class Region(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    description: str
    parent_region_id: str | None
    extra: dict[str, Any]


class Service(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    type: str
    name: str
    enabled: bool
    extra: dict[str, Any]


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """`url` may hold `$(public_url)s`, `$(project_id)s` and the like."""

    id: str
    service_id: str
    region_id: str | None
    interface: str
    url: str
    enabled: bool
    extra: dict[str, Any]


class ApplicationCredential(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    name: str
    user_id: str
    project_id: str
    description: str | None
    secret_hash: str
    role_ids: list[str]
    #: None: no rules, everything is allowed
    access_rule_ids: list[str] | None
    unrestricted: bool
    expires_at: str | None
    created_at: str

    def __repr__(self) -> str:  # the hash stays out of logs
        return f"ApplicationCredential({self.id})"


class AccessRule(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    user_id: str
    service: str
    path: str
    method: str


class Trust(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    trustor_user_id: str
    trustee_user_id: str
    project_id: str | None
    impersonation: bool
    role_ids: list[str]
    remaining_uses: int | None
    expires_at: str | None
    deleted_at: str | None
    redelegated_trust_id: str | None
    redelegation_count: int
    created_at: str


class Issue(msgspec.Struct, frozen=True, kw_only=True):
    """When a token was asked for and when it was answered, with which methods."""

    audit_id: str
    user_id: str
    methods: list[str]
    started: str
    finished: str


class Credential(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    user_id: str
    project_id: str | None
    type: str
    #: encrypted
    blob: str
    extra: dict[str, Any]

    def __repr__(self) -> str:
        return f"Credential({self.id})"


class PolicyDocument(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    type: str
    blob: str
    extra: dict[str, Any]


class RegisteredLimit(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    service_id: str
    region_id: str
    resource_name: str
    default_limit: int
    description: str | None


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    registered_limit_id: str
    project_id: str
    domain_id: str
    resource_limit: int
    description: str | None


class EndpointGroup(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    name: str
    description: str | None
    filters: dict[str, Any]


class Consumer(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    description: str | None
    secret_hash: str
    extra: dict[str, Any]
