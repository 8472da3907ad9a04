"""/types: kinds of volumes, their extra specs, who may use them, and the projects' defaults."""

from typing import Any

from cumulet.core.errors import BadRequest, NotFound
from cumulet.core.truth import NO, YES
from cumulet.core.web import Action, Call, Delete, Get, Post, Put, Response
from cumulet.volume.api import listing
from cumulet.volume.api.caller import caller, service
from cumulet.volume.api.schemas import FLAG, wrapped
from cumulet.volume.records import VolumeType
from cumulet.volume.store import types
from cumulet.volume.tables import TYPES as T

__all__ = ["ROUTES", "type_document"]

_SORTABLE = {
    "id": "id",
    "name": "name",
    "created_at": "created_at",
    "is_public": "is_public",
    "description": "description",
}
#: what users without rights over types may see of extra specs
_VISIBLE = ("RESKEY:availability_zones", "multiattach", "replication_enabled")
_SPECS = "volume_extension:types_extra_specs"
_ACCESS = "volume_extension:volume_type_access"


def type_document(call: Call, kind: VolumeType) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": kind.id,
        "name": kind.name,
        "is_public": kind.is_public,
        "description": kind.description,
        "os-volume-type-access:is_public": kind.is_public,
        "extra_specs": _specs(call, kind),
    }
    if call.allowed("volume_extension:access_types_qos_specs_id"):
        shown["qos_specs_id"] = kind.qos_specs_id
    return shown


def _specs(call: Call, kind: VolumeType) -> dict[str, str]:
    if call.allowed(f"{_SPECS}:read_sensitive"):
        return kind.extra_specs
    return {key: value for key, value in kind.extra_specs.items() if key in _VISIBLE}


def _sees(call: Call) -> str | None:
    return caller(call).sees


def list_types(call: Call) -> Any:
    page = listing.page_of(call, _SORTABLE)
    sees = _sees(call)
    where = types.usable_by(sees)
    public = (call.one("is_public") or "").lower()
    if sees is None and public in YES | NO:
        where.append(T.c.is_public == (public in YES))
    elif sees is None and public != "none":
        where += types.usable_by(call.context.project_id or "")
    wanted = listing.mapping(call.one("extra_specs")) if call.version >= (3, 52) else {}
    with service(call).db.read() as tx:
        shown = types.page(tx, where, page)
    more, shown = len(shown) > page.limit, shown[: page.limit]
    fit = [kind for kind in shown if wanted.items() <= _specs(call, kind).items()]
    return {
        "volume_types": [type_document(call, kind) for kind in fit],
        **listing.links_to_next(call, "volume_type", "/types", shown, more=more),
    }


def show_type(call: Call, id: str) -> Any:
    parts = service(call)
    if id == "default":
        with parts.db.read() as tx:
            return {"volume_type": type_document(call, parts.volumes.default_type(tx, call.context.project_id or ""))}
    return {"volume_type": type_document(call, parts.types.get(id, project_id=_sees(call)))}


def create_type(call: Call) -> Any:
    body = call.body["volume_type"]
    if not body["name"].strip():
        raise BadRequest("Volume type name can not be empty.")
    kind = service(call).types.create(
        name=body["name"].strip(),
        description=body.get("description"),
        is_public=listing.is_true(body.get("os-volume-type-access:is_public", True)),
        extra_specs=body.get("extra_specs") or {},
        project_id=call.context.project_id,
    )
    shown = type_document(call, kind)
    shown.pop("qos_specs_id", None)
    return {"volume_type": shown}


def update_type(call: Call, id: str) -> Any:
    body = call.body["volume_type"]
    values: dict[str, Any] = {}
    if body.get("name") is not None:
        if not body["name"].strip():
            raise BadRequest("Volume type name can not be empty.")
        values["name"] = body["name"].strip()
    if body.get("description") is not None:
        values["description"] = body["description"]
    if body.get("is_public") is not None:
        values["is_public"] = listing.is_true(body["is_public"])
    if not values:
        raise BadRequest("Specify volume type name, description, is_public or a combination thereof.")
    shown = type_document(call, service(call).types.update(id, **values))
    return {"volume_type": {key: shown[key] for key in ("id", "name", "is_public", "description", "extra_specs")}}


def delete_type(call: Call, id: str) -> Response:
    service(call).types.delete(id)
    return Response(202)


# --- extra specs ---------------------------------------------------------------------------------------------------


def list_specs(call: Call, id: str) -> Any:
    return {"extra_specs": _specs(call, service(call).types.get(id, project_id=_sees(call)))}


def add_specs(call: Call, id: str) -> Any:
    specs = call.body["extra_specs"]
    service(call).types.change_specs(id, specs)
    return {"extra_specs": specs}


def show_spec(call: Call, id: str, key: str) -> Any:
    specs = _specs(call, service(call).types.get(id, project_id=_sees(call)))
    if key not in specs:
        raise NotFound(f"Volume Type {id} has no extra specs with key {key}.")
    return {key: specs[key]}


def put_spec(call: Call, id: str, key: str) -> Any:
    if key not in call.body or len(call.body) != 1:
        raise BadRequest("Request body and URI mismatch")
    service(call).types.change_specs(id, call.body)
    return call.body


def delete_spec(call: Call, id: str, key: str) -> Response:
    service(call).types.change_specs(id, {key: None})
    return Response(202)


# --- access --------------------------------------------------------------------------------------------------------


def list_access(call: Call, id: str) -> Any:
    projects = service(call).types.projects_of(id)
    return {"volume_type_access": [{"volume_type_id": id, "project_id": project} for project in projects]}


def add_access(call: Call, id: str) -> Response:
    service(call).types.add_access(id, call.body["project"])
    return Response(202)


def remove_access(call: Call, id: str) -> Response:
    service(call).types.remove_access(id, call.body["project"])
    return Response(202)


# --- defaults of projects ------------------------------------------------------------------------------------------


def list_defaults(call: Call) -> Any:
    rows = service(call).types.defaults()
    return {"default_types": [{"project_id": row["project_id"], "volume_type_id": row["type_id"]} for row in rows]}


def show_default(call: Call, project_id: str) -> Any:
    type_id = service(call).types.default_of(project_id)
    return {"default_type": {"project_id": project_id, "volume_type_id": type_id}}


def put_default(call: Call, project_id: str) -> Any:
    type_id = service(call).types.set_default(project_id, call.body["default_type"]["volume_type"])
    return {"default_type": {"project_id": project_id, "volume_type_id": type_id}}


def delete_default(call: Call, project_id: str) -> Response:
    service(call).types.unset_default(project_id)
    return Response(204)


_SPECS_BODY = {
    "type": "object",
    "patternProperties": {r"^[a-zA-Z0-9\-_:. ]{1,255}$": {"type": "string", "maxLength": 255}},
    "additionalProperties": False,
    "minProperties": 1,
}
_NAME = {"type": "string", "minLength": 1, "maxLength": 255}
_TEXT = {"type": ["string", "null"], "minLength": 0, "maxLength": 255}
_CREATE = wrapped(
    "volume_type",
    {
        "type": "object",
        "properties": {
            "name": _NAME,
            "description": _TEXT,
            "extra_specs": {**_SPECS_BODY, "type": ["object", "null"], "minProperties": 0},
            "os-volume-type-access:is_public": FLAG,
        },
        "required": ["name"],
        "additionalProperties": False,
    },
)
_UPDATE = wrapped(
    "volume_type",
    {
        "type": "object",
        "properties": {
            "name": {"type": ["string", "null"], "minLength": 0, "maxLength": 255},
            "description": _TEXT,
            "is_public": {"anyOf": [FLAG, {"type": "null"}]},
        },
        "additionalProperties": False,
    },
)
_PROJECT = {
    "type": "object",
    "properties": {"project": {"type": "string", "minLength": 1, "maxLength": 36}},
    "required": ["project"],
    "additionalProperties": False,
}
_DEFAULT = wrapped(
    "default_type",
    {
        "type": "object",
        "properties": {"volume_type": _NAME},
        "required": ["volume_type"],
        "additionalProperties": False,
    },
)

ROUTES = [
    Get("/v3/types", list_types, may="volume_extension:type_get_all"),
    Post("/v3/types", create_type, may="volume_extension:type_create", takes=_CREATE, status=200),
    Get("/v3/types/{id}", show_type, may="volume_extension:type_get"),
    Put("/v3/types/{id}", update_type, may="volume_extension:type_update", takes=_UPDATE),
    Delete("/v3/types/{id}", delete_type, may="volume_extension:type_delete"),
    Get("/v3/types/{id}/extra_specs", list_specs, may=f"{_SPECS}:index"),
    Post(
        "/v3/types/{id}/extra_specs",
        add_specs,
        may=f"{_SPECS}:create",
        takes=wrapped("extra_specs", _SPECS_BODY),
        status=200,
    ),
    Get("/v3/types/{id}/extra_specs/{key}", show_spec, may=f"{_SPECS}:show"),
    Put("/v3/types/{id}/extra_specs/{key}", put_spec, may=f"{_SPECS}:update", takes=_SPECS_BODY),
    Delete("/v3/types/{id}/extra_specs/{key}", delete_spec, may=f"{_SPECS}:delete"),
    Get("/v3/types/{id}/os-volume-type-access", list_access, may=f"{_ACCESS}:get_all_for_type"),
    Action(
        "/v3/types/{id}/action", "addProjectAccess", add_access, may=f"{_ACCESS}:add_project_access", takes=_PROJECT
    ),
    Action(
        "/v3/types/{id}/action",
        "removeProjectAccess",
        remove_access,
        may=f"{_ACCESS}:remove_project_access",
        takes=_PROJECT,
    ),
    Get("/v3/default-types", list_defaults, may="volume_extension:default_get_all", since=(3, 62)),
    Get("/v3/default-types/{project_id}", show_default, may="volume_extension:default_get", since=(3, 62)),
    Put(
        "/v3/default-types/{project_id}",
        put_default,
        may="volume_extension:default_set_or_update",
        takes=_DEFAULT,
        since=(3, 62),
    ),
    Delete("/v3/default-types/{project_id}", delete_default, may="volume_extension:default_unset", since=(3, 62)),
]
