"""The tables of identity.

A domain is a project with `is_domain`; what has no owner domain holds the empty text there, so that unique keys hold
on both engines (two NULLs are never equal).  `extra` keeps attributes that a client gave and identity does not know.
"""

from sqlalchemy import Boolean, Column, Index, Integer, MetaData, String, Table, Text, UniqueConstraint

from cumulet.core.db import Json, Watched, add_outbox

__all__ = ["METADATA"]

METADATA = MetaData()

_ID = String(64)
_NAME = String(255)
_TIME = String(32)

#: one row: raised in the same transaction as any change that could make a validated token less, or more, than it was
REVISION = Table(
    "revision", METADATA, Column("id", Integer, primary_key=True), Column("value", Integer, nullable=False)
)

PROJECT = Table(
    "project",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("name", String(64), nullable=False),
    Column("domain_id", _ID, nullable=False),
    Column("parent_id", _ID, nullable=False),
    Column("is_domain", Boolean, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("description", Text, nullable=False),
    Column("tags", Json, nullable=False),
    Column("options", Json, nullable=False),
    Column("extra", Json, nullable=False),
    UniqueConstraint("domain_id", "name", name="uq_project_domain_name"),
    Index("ix_project_parent", "parent_id"),
    Index("ix_project_name", "name"),
)

USER = Table(
    "user",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("name", _NAME, nullable=False),
    Column("domain_id", _ID, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("default_project_id", _ID),
    Column("password_hash", String(255)),
    Column("password_expires_at", _TIME),
    #: tokens issued up to here are void
    Column("tokens_since", _TIME, nullable=False),
    Column("created_at", _TIME, nullable=False),
    Column("options", Json, nullable=False),
    Column("extra", Json, nullable=False),
    UniqueConstraint("domain_id", "name", name="uq_user_domain_name"),
    Index("ix_user_name", "name"),
)

GROUP = Table(
    "group",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("name", String(64), nullable=False),
    Column("domain_id", _ID, nullable=False),
    Column("description", Text, nullable=False),
    Column("extra", Json, nullable=False),
    UniqueConstraint("domain_id", "name", name="uq_group_domain_name"),
)

MEMBERSHIP = Table(
    "membership",
    METADATA,
    Column("user_id", _ID, primary_key=True),
    Column("group_id", _ID, primary_key=True),
    Index("ix_membership_group", "group_id"),
)

ROLE = Table(
    "role",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("name", _NAME, nullable=False),
    Column("domain_id", _ID, nullable=False),
    Column("description", Text),
    Column("options", Json, nullable=False),
    Column("extra", Json, nullable=False),
    UniqueConstraint("domain_id", "name", name="uq_role_domain_name"),
)

IMPLICATION = Table(
    "implication",
    METADATA,
    Column("prior_id", _ID, primary_key=True),
    Column("implied_id", _ID, primary_key=True),
)

ASSIGNMENT = Table(
    "assignment",
    METADATA,
    Column("actor_id", _ID, primary_key=True),
    Column("target_id", _ID, primary_key=True),
    Column("role_id", _ID, primary_key=True),
    Column("inherited", Boolean, primary_key=True),
    #: "user" or "group"
    Column("actor", String(8), nullable=False),
    #: "project", "domain" or "system"; a domain and the project that acts as it are two targets
    Column("target", String(8), primary_key=True),
    Index("ix_assignment_target", "target_id"),
    Index("ix_assignment_role", "role_id"),
)

REGION = Table(
    "region",
    METADATA,
    Column("id", _NAME, primary_key=True),
    Column("description", Text, nullable=False),
    Column("parent_region_id", _NAME),
    Column("extra", Json, nullable=False),
    Index("ix_region_parent", "parent_region_id"),
)

SERVICE = Table(
    "service",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("type", _NAME, nullable=False),
    Column("name", _NAME, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("extra", Json, nullable=False),
    Index("ix_service_type", "type"),
)

ENDPOINT = Table(
    "endpoint",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("service_id", _ID, nullable=False),
    Column("region_id", _NAME),
    Column("interface", String(8), nullable=False),
    Column("url", Text, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("extra", Json, nullable=False),
    Index("ix_endpoint_service", "service_id"),
    Index("ix_endpoint_region", "region_id"),
)

APPLICATION_CREDENTIAL = Table(
    "application_credential",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("name", _NAME, nullable=False),
    Column("user_id", _ID, nullable=False),
    Column("project_id", _ID, nullable=False),
    Column("description", Text),
    Column("secret_hash", String(80), nullable=False),
    Column("role_ids", Json, nullable=False),
    Column("access_rule_ids", Json),
    Column("unrestricted", Boolean, nullable=False),
    Column("expires_at", _TIME),
    Column("created_at", _TIME, nullable=False),
    UniqueConstraint("user_id", "name", name="uq_application_credential_user_name"),
    Index("ix_application_credential_project", "project_id"),
)

ACCESS_RULE = Table(
    "access_rule",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("user_id", _ID, nullable=False),
    Column("service", _NAME, nullable=False),
    Column("path", Text, nullable=False),
    Column("method", String(16), nullable=False),
    Index("ix_access_rule_user", "user_id"),
)

TRUST = Table(
    "trust",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("trustor_user_id", _ID, nullable=False),
    Column("trustee_user_id", _ID, nullable=False),
    Column("project_id", _ID),
    Column("impersonation", Boolean, nullable=False),
    Column("role_ids", Json, nullable=False),
    Column("remaining_uses", Integer),
    Column("expires_at", _TIME),
    Column("deleted_at", _TIME),
    Column("redelegated_trust_id", _ID),
    Column("redelegation_count", Integer, nullable=False),
    Column("created_at", _TIME, nullable=False),
    Index("ix_trust_trustor", "trustor_user_id"),
    Index("ix_trust_trustee", "trustee_user_id"),
    Index("ix_trust_project", "project_id"),
)

REVOCATION = Table(
    "revocation",
    METADATA,
    Column("audit_id", _ID, primary_key=True),
    Column("expires_at", _TIME, nullable=False),
    Index("ix_revocation_expires", "expires_at"),
)

ISSUE = Table(
    "issue",
    METADATA,
    Column("audit_id", _ID, primary_key=True),
    Column("user_id", _ID, nullable=False),
    Column("methods", Json, nullable=False),
    Column("started", _TIME, nullable=False),
    Column("finished", _TIME, nullable=False),
    Index("ix_issue_started", "started"),
)

CREDENTIAL = Table(
    "credential",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("user_id", _ID, nullable=False),
    Column("project_id", _ID),
    Column("type", _NAME, nullable=False),
    #: Fernet-encrypted
    Column("blob", Text, nullable=False),
    Column("extra", Json, nullable=False),
    Index("ix_credential_user", "user_id"),
    Index("ix_credential_project", "project_id"),
)

POLICY = Table(
    "policy",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("type", _NAME, nullable=False),
    Column("blob", Text, nullable=False),
    Column("extra", Json, nullable=False),
)

REGISTERED_LIMIT = Table(
    "registered_limit",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("service_id", _ID, nullable=False),
    #: empty text for every region
    Column("region_id", _NAME, nullable=False),
    Column("resource_name", _NAME, nullable=False),
    Column("default_limit", Integer, nullable=False),
    Column("description", Text),
    UniqueConstraint("service_id", "region_id", "resource_name", name="uq_registered_limit"),
)

LIMIT = Table(
    "limit",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("registered_limit_id", _ID, nullable=False),
    #: exactly one of the two is not empty
    Column("project_id", _ID, nullable=False),
    Column("domain_id", _ID, nullable=False),
    Column("resource_limit", Integer, nullable=False),
    Column("description", Text),
    UniqueConstraint("registered_limit_id", "project_id", "domain_id", name="uq_limit"),
    Index("ix_limit_project", "project_id"),
    Index("ix_limit_domain", "domain_id"),
)

DOMAIN_OPTION = Table(
    "domain_option",
    METADATA,
    Column("domain_id", _ID, primary_key=True),
    Column("group", _NAME, primary_key=True),
    Column("option", _NAME, primary_key=True),
    Column("value", Json, nullable=False),
)

ENDPOINT_GROUP = Table(
    "endpoint_group",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("name", _NAME, nullable=False),
    Column("description", Text),
    Column("filters", Json, nullable=False),
)

#: which projects see which endpoints: kind "endpoint" or "group"
ENDPOINT_FILTER = Table(
    "endpoint_filter",
    METADATA,
    Column("project_id", _ID, primary_key=True),
    Column("kind", String(8), primary_key=True),
    Column("thing_id", _ID, primary_key=True),
    Index("ix_endpoint_filter_thing", "thing_id"),
)

CONSUMER = Table(
    "consumer",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("description", Text),
    Column("secret_hash", String(80), nullable=False),
    Column("extra", Json, nullable=False),
)

add_outbox(
    METADATA,
    Watched(table=PROJECT, kind="project", project="id", shows=("name", "enabled"), also=("description", "tags")),
)
