"""What identity takes and shows: attributes with their schemas.

Unknown attributes are kept with most records (`extra`), as the reference keeps them; `show` puts them back.
"""

from typing import Any

from cumulet.core.web import ALL, CREATE, SHOW, WRITE, Call, Field, Resource

__all__ = [
    "APPLICATION_CREDENTIAL",
    "AUTH",
    "CONSUMER",
    "CREDENTIAL",
    "DOMAIN",
    "DOMAIN_OPTIONS",
    "EC2_KEYS",
    "ENDPOINT",
    "ENDPOINT_GROUP",
    "GROUP",
    "LIMIT",
    "LIMITS",
    "PASSWORD",
    "POLICY",
    "PROJECT",
    "REGION",
    "REGISTERED_LIMIT",
    "REGISTERED_LIMITS",
    "ROLE",
    "SERVICE",
    "TAGS",
    "TRUST",
    "USER",
    "show",
    "stamp",
]

Schema = dict[str, Any]


def stamp(time: str | None) -> str | None:
    """A stored time as identity shows it."""
    return None if time is None else f"{time}Z"


TEXT: Schema = {"type": "string", "maxLength": 65_535}
TEXT_OR_NULL: Schema = {"type": ["string", "null"], "maxLength": 65_535}
NAME_64: Schema = {"type": "string", "minLength": 1, "maxLength": 64, "pattern": r"\S"}
NAME: Schema = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"\S"}
ID: Schema = {"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[a-zA-Z0-9-]+$"}
ID_OR_NULL: Schema = {**ID, "type": ["string", "null"]}
REGION_ID: Schema = {"type": ["string", "null"], "maxLength": 255}
BOOLEAN: Schema = {"type": "boolean"}
URL: Schema = {"type": "string", "maxLength": 225, "pattern": "^[a-zA-Z0-9+.-]+:.+"}
TAG: Schema = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[^,/]*$"}
TAGS_LIST: Schema = {"type": "array", "items": TAG, "maxItems": 80, "uniqueItems": True}
COUNT: Schema = {"type": "integer", "minimum": -1, "maximum": 2_147_483_647}
OPTIONS: Schema = {
    "type": "object",
    "properties": {"immutable": {"type": ["boolean", "null"]}},
    "additionalProperties": False,
}
_FLAG_OR_NULL: Schema = {"type": ["boolean", "null"]}
USER_OPTIONS: Schema = {
    "type": "object",
    "properties": {
        "ignore_change_password_upon_first_use": _FLAG_OR_NULL,
        "ignore_password_expiry": _FLAG_OR_NULL,
        "ignore_lockout_failure_attempts": _FLAG_OR_NULL,
        "ignore_user_inactivity": _FLAG_OR_NULL,
        "lock_password": _FLAG_OR_NULL,
        "multi_factor_auth_enabled": _FLAG_OR_NULL,
        "multi_factor_auth_rules": {"type": ["array", "null"], "items": {"type": "array", "items": {"type": "string"}}},
        "immutable": _FLAG_OR_NULL,
    },
    "additionalProperties": False,
}


def _none(name: str) -> Any:
    """Shows an empty text, which stands for none in the tables, as null."""
    return lambda record, _call: getattr(record, name) or None


def _parent(record: Any, _call: Any) -> str | None:
    return record.parent_id or None


def show(call: Call, resource: Resource, record: Any, **more: Any) -> dict[str, Any]:
    """A record's document: what was kept for the client, then what identity knows, then `more`."""
    return {**(getattr(record, "extra", None) or {}), **resource.view(record, call), **more}


DOMAIN = Resource(
    "domain",
    {
        "id": Field(on=SHOW),
        "name": Field(NAME_64, required=True),
        "description": Field(TEXT_OR_NULL),
        "enabled": Field(BOOLEAN),
        "tags": Field(TAGS_LIST),
        "options": Field(OPTIONS),
        "explicit_domain_id": Field({**ID, "pattern": "^[0-9a-f]{32}$"}, on=CREATE),
    },
    extra=True,
)

PROJECT = Resource(
    "project",
    {
        "id": Field(on=SHOW),
        "name": Field(NAME_64, required=True),
        "domain_id": Field(ID_OR_NULL, read=_none("domain_id")),
        "description": Field(TEXT_OR_NULL),
        "enabled": Field(BOOLEAN),
        "parent_id": Field(ID_OR_NULL, read=_parent),
        "is_domain": Field(BOOLEAN),
        "tags": Field(TAGS_LIST),
        "options": Field(OPTIONS),
    },
    extra=True,
)

TAGS: Schema = {"type": "object", "properties": {"tags": TAGS_LIST}, "required": ["tags"]}

USER = Resource(
    "user",
    {
        "id": Field(on=SHOW),
        "name": Field(NAME, required=True),
        "domain_id": Field(ID),
        "enabled": Field(BOOLEAN),
        "default_project_id": Field(ID_OR_NULL, on=WRITE),
        "password": Field({"type": ["string", "null"], "maxLength": 4096}, on=WRITE),
        "password_expires_at": Field(on=SHOW, read=lambda user, _call: stamp(user.password_expires_at)),
        "options": Field(USER_OPTIONS),
        "description": Field(TEXT_OR_NULL, on=WRITE),
    },
    extra=True,
)

#: the body of a user's own change of password
PASSWORD: Schema = {
    "type": "object",
    "properties": {
        "user": {
            "type": "object",
            "properties": {
                "original_password": {"type": "string", "maxLength": 4096},
                "password": {"type": "string", "minLength": 1, "maxLength": 4096},
            },
            "required": ["original_password", "password"],
        }
    },
    "required": ["user"],
}

GROUP = Resource(
    "group",
    {
        "id": Field(on=SHOW),
        "name": Field(NAME_64, required=True),
        "domain_id": Field(ID),
        "description": Field(TEXT_OR_NULL),
    },
    extra=True,
)

ROLE = Resource(
    "role",
    {
        "id": Field(on=SHOW),
        "name": Field(NAME, required=True),
        "domain_id": Field(ID_OR_NULL, read=_none("domain_id")),
        "description": Field(TEXT_OR_NULL),
        "options": Field(OPTIONS),
    },
    extra=True,
)

REGION = Resource(
    "region",
    {
        "id": Field({"type": "string", "minLength": 1, "maxLength": 255}),
        "description": Field(TEXT_OR_NULL),
        "parent_region_id": Field(REGION_ID),
    },
    extra=True,
)

SERVICE = Resource(
    "service",
    {
        "id": Field(on=SHOW),
        "type": Field(NAME, required=True),
        "name": Field({**TEXT, "maxLength": 255}),
        "enabled": Field(BOOLEAN),
    },
    extra=True,
)

ENDPOINT = Resource(
    "endpoint",
    {
        "id": Field(on=SHOW),
        "service_id": Field(ID, required=True),
        "interface": Field({"enum": ["public", "internal", "admin"]}, required=True),
        "url": Field(URL, on=WRITE, required=True),
        "region_id": Field(REGION_ID),
        "region": Field(REGION_ID, read=lambda endpoint, _call: endpoint.region_id),
        "enabled": Field(BOOLEAN),
    },
    extra=True,
)

ENDPOINT_GROUP = Resource(
    "endpoint_group",
    {
        "id": Field(on=SHOW),
        "name": Field(NAME, required=True),
        "description": Field(TEXT_OR_NULL),
        "filters": Field(
            {
                "type": "object",
                "properties": {
                    name: {"type": ["string", "boolean"]}
                    for name in ("service_id", "region_id", "interface", "enabled")
                },
                "additionalProperties": False,
            },
            required=True,
        ),
    },
)

_ACCESS_RULE: Schema = {
    "type": "object",
    "properties": {
        "id": ID,
        "service": {"type": "string", "minLength": 1, "maxLength": 64},
        "path": {"type": "string", "maxLength": 225, "pattern": "^/"},
        "method": {"enum": ["DELETE", "GET", "HEAD", "PATCH", "POST", "PUT"]},
    },
    "additionalProperties": False,
    "anyOf": [{"required": ["id"]}, {"required": ["service", "path", "method"]}],
}
_ROLES: Schema = {
    "type": "array",
    "maxItems": 100,
    "items": {
        "type": "object",
        "properties": {"id": TEXT, "name": TEXT},
        "anyOf": [{"required": ["id"]}, {"required": ["name"]}],
    },
}

APPLICATION_CREDENTIAL = Resource(
    "application_credential",
    {
        "id": Field(on=SHOW),
        "name": Field(NAME, required=True),
        "description": Field(TEXT_OR_NULL),
        "secret": Field({"type": ["string", "null"], "minLength": 1, "maxLength": 4096}, on=CREATE),
        "project_id": Field(TEXT),
        "user_id": Field(on=SHOW),
        "roles": Field(_ROLES, on=CREATE),
        "expires_at": Field({"type": ["string", "null"], "maxLength": 64}),
        "unrestricted": Field({"type": ["boolean", "null"]}),
        "access_rules": Field({"type": "array", "items": _ACCESS_RULE, "maxItems": 100}, on=CREATE),
    },
    extra=True,
)

TRUST = Resource(
    "trust",
    {
        "id": Field(on=SHOW),
        "trustor_user_id": Field(ID, required=True),
        "trustee_user_id": Field(ID, required=True),
        "impersonation": Field(BOOLEAN, required=True),
        "project_id": Field(ID_OR_NULL),
        "remaining_uses": Field({"type": ["integer", "null"], "minimum": 1}),
        "expires_at": Field(
            {"type": ["string", "null"], "maxLength": 64}, read=lambda trust, _call: stamp(trust.expires_at)
        ),
        "deleted_at": Field(on=SHOW),
        "redelegation_count": Field({"type": ["integer", "null"], "minimum": 0}),
        "redelegated_trust_id": Field(on=SHOW),
        "allow_redelegation": Field({"type": ["boolean", "null"]}, on=CREATE),
        "roles": Field(_ROLES, on=CREATE),
    },
    extra=True,
)

CREDENTIAL = Resource(
    "credential",
    {
        "id": Field(on=SHOW),
        "user_id": Field(ID, required=True),
        "project_id": Field(ID_OR_NULL),
        "type": Field(NAME, required=True),
        "blob": Field(TEXT, on=WRITE, required=True),
    },
    extra=True,
)

EC2_KEYS: Schema = {"type": "object", "properties": {"tenant_id": ID}, "required": ["tenant_id"]}

POLICY = Resource(
    "policy",
    {"id": Field(on=SHOW), "type": Field(NAME, required=True), "blob": Field(TEXT, required=True)},
    plural="policies",
    extra=True,
)

CONSUMER = Resource("consumer", {"id": Field(on=SHOW), "description": Field(TEXT_OR_NULL)}, extra=True)

_REGISTERED: dict[str, Field] = {
    "id": Field(on=SHOW),
    "service_id": Field(ID, required=True),
    "region_id": Field(REGION_ID, read=_none("region_id")),
    "resource_name": Field(NAME, required=True),
    "default_limit": Field(COUNT, required=True),
    "description": Field(TEXT_OR_NULL),
}
REGISTERED_LIMIT = Resource("registered_limit", _REGISTERED)

_LIMIT: dict[str, Field] = {
    "id": Field(on=SHOW),
    "project_id": Field(ID_OR_NULL, on=CREATE | SHOW, read=_none("project_id")),
    "domain_id": Field(ID_OR_NULL, on=CREATE | SHOW, read=_none("domain_id")),
    "service_id": Field(ID, on=CREATE, required=True),
    "region_id": Field(REGION_ID, on=CREATE),
    "resource_name": Field(NAME, on=CREATE, required=True),
    "resource_limit": Field(COUNT, on=ALL, required=True),
    "description": Field(TEXT_OR_NULL),
}
LIMIT = Resource("limit", _LIMIT)


def _many(resource: Resource) -> Schema:
    """The body that creates several at once."""
    one = Resource(resource.name, dict(resource.fields), envelope=False).schema(CREATE, (0, 0))
    return {
        "type": "object",
        "properties": {resource.plural: {"type": "array", "items": one, "minItems": 1, "maxItems": 1000}},
        "required": [resource.plural],
        "additionalProperties": False,
    }


REGISTERED_LIMITS = _many(REGISTERED_LIMIT)
LIMITS = _many(LIMIT)

#: group → option → value; which exist is the service's to say
DOMAIN_OPTIONS: Schema = {
    "type": "object",
    "properties": {"config": {"type": "object", "minProperties": 1, "maxProperties": 16}},
    "required": ["config"],
    "additionalProperties": False,
}

_REFERENCE: Schema = {"type": "object", "properties": {"id": TEXT, "name": TEXT}}
_OWNED: Schema = {"type": "object", "properties": {"id": TEXT, "name": TEXT, "domain": _REFERENCE}}
_USER: Schema = {"type": "object", "properties": {**_OWNED["properties"], "password": TEXT}}

#: the body of POST /v3/auth/tokens
AUTH: Schema = {
    "type": "object",
    "properties": {
        "auth": {
            "type": "object",
            "properties": {
                "identity": {
                    "type": "object",
                    "properties": {
                        "methods": {"type": "array", "items": TEXT, "maxItems": 8},
                        "password": {"type": "object", "properties": {"user": _USER}},
                        "token": {"type": "object", "properties": {"id": TEXT}, "required": ["id"]},
                        "application_credential": {
                            "type": "object",
                            "properties": {"id": TEXT, "name": TEXT, "secret": TEXT, "user": _OWNED},
                        },
                    },
                    "required": ["methods"],
                },
                "scope": {
                    "type": ["object", "string"],
                    "properties": {
                        "project": _OWNED,
                        "domain": _REFERENCE,
                        "OS-TRUST:trust": {"type": "object", "properties": {"id": TEXT}},
                        "system": {"type": "object", "properties": {"all": BOOLEAN}},
                    },
                },
            },
            "required": ["identity"],
        }
    },
    "required": ["auth"],
}
