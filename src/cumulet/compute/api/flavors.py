"""Flavors: list, show, and for admins make, describe, remove, share, and give extra specs."""

import re
from typing import Any

from cumulet.compute.api.server_schemas import NAME
from cumulet.compute.api.subject import known_query, limit_of, links, next_link, service_of
from cumulet.compute.store import flavors
from cumulet.compute.store.flavors import SORT_KEYS, Flavor
from cumulet.compute.truth import BOOLEAN, TRUE
from cumulet.core.errors import BadRequest, NotFound
from cumulet.core.truth import NO, YES
from cumulet.core.web import (
    ANYONE,
    CREATE,
    UPDATE,
    Action,
    Call,
    Delete,
    Field,
    Get,
    Post,
    Put,
    Resource,
    Response,
    Route,
)

__all__ = ["ROUTES"]

_P = "os_compute_api:"
INT_MAX = 0x7FFFFFFF
ID: dict[str, Any] = {
    "oneOf": [
        {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^(?! )[a-zA-Z0-9. _-]+(?<! )$"},
        {"type": "number", "maximum": INT_MAX},
        {"type": "null"},
    ]
}
SPEC_KEY = r"^[a-zA-Z0-9\-_:. ]{1,255}$"
SPEC_VALUE: dict[str, Any] = {"type": ["string", "number"], "maxLength": 255}


def _count(low: int) -> dict[str, Any]:
    """A whole number, also as text."""
    return {"type": ["integer", "string"], "pattern": "^[0-9]+$", "minLength": 1, "minimum": low, "maximum": INT_MAX}


NEW_FLAVOR = Resource(
    "flavor",
    {
        "name": Field(NAME, required=True),
        "id": Field(ID),
        "ram": Field(_count(1), required=True),
        "vcpus": Field(_count(1), required=True),
        "disk": Field(_count(0), required=True),
        "OS-FLV-EXT-DATA:ephemeral": Field(_count(0)),
        "swap": Field(_count(0)),
        "rxtx_factor": Field(
            {
                "type": ["number", "string"],
                "pattern": r"^[0-9]+(\.[0-9]+)?$",
                "exclusiveMinimum": 0,
                "maximum": 3.40282e38,
            }
        ),
        "os-flavor-access:is_public": Field(BOOLEAN),
        "description": Field({"type": ["string", "null"], "maxLength": 65535}, since=(2, 55)),
    },
)
FLAVOR_UPDATE = Resource(
    "flavor", {"description": Field({"type": ["string", "null"], "maxLength": 65535}, on=CREATE, required=True)}
)
SPECS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "extra_specs": {
            "type": "object",
            "patternProperties": {SPEC_KEY: SPEC_VALUE},
            "additionalProperties": False,
        }
    },
    "required": ["extra_specs"],
    "additionalProperties": False,
}
SPEC: dict[str, Any] = {
    "type": "object",
    "patternProperties": {SPEC_KEY: SPEC_VALUE},
    "minProperties": 1,
    "maxProperties": 1,
    "additionalProperties": False,
}
TENANT: dict[str, Any] = {
    "type": "object",
    "properties": {"tenant": {"type": "string", "minLength": 1, "maxLength": 255}},
    "required": ["tenant"],
    "additionalProperties": False,
}


def _brief(call: Call, flavor: Flavor) -> dict[str, Any]:
    shown: dict[str, Any] = {"id": flavor.id, "name": flavor.name, "links": links(call, "flavors", flavor.id)}
    if call.version >= (2, 55):
        shown["description"] = flavor.description
    return shown


def _detail(call: Call, flavor: Flavor) -> dict[str, Any]:
    shown = {
        **_brief(call, flavor),
        "ram": flavor.ram_mb,
        "disk": flavor.disk_gb,
        "vcpus": flavor.vcpus,
        "swap": flavor.swap_mb if flavor.swap_mb or call.version >= (2, 75) else "",
        "OS-FLV-EXT-DATA:ephemeral": flavor.ephemeral_gb,
        "OS-FLV-DISABLED:disabled": flavor.disabled,
        "os-flavor-access:is_public": flavor.is_public,
        "rxtx_factor": flavor.rxtx_factor,
    }
    if call.version >= (2, 61) and call.allowed(f"{_P}os-flavor-extra-specs:index", project_id=call.context.project_id):
        shown["extra_specs"] = flavor.extra_specs
    return shown


def _mine(call: Call) -> str | None:
    """Whose private flavors show: everybody's to an admin."""
    return None if call.context.is_admin else call.context.project_id or ""


def list_flavors(call: Call) -> Any:
    return _list(call, detailed=False)


def list_flavors_detail(call: Call) -> Any:
    return _list(call, detailed=True)


def _list(call: Call, *, detailed: bool) -> dict[str, Any]:
    known_query(call, ("limit", "marker", "is_public", "minRam", "minDisk", "sort_key", "sort_dir"))
    project_id, is_public = _visible(call)
    sort_key = call.one("sort_key") or "flavorid"
    if sort_key not in SORT_KEYS:
        raise BadRequest(f"Sort key {sort_key} is not valid")
    direction = call.one("sort_dir") or "asc"
    if direction not in {"asc", "desc"}:
        raise BadRequest(f"Sort direction {direction} is not valid")
    limit, marker_id = limit_of(call), call.one("marker")
    least = {key: _least(call, key) for key in ("minRam", "minDisk")}
    with service_of(call).db.read() as tx:
        marker = flavors.get(tx, marker_id) if marker_id else None
        if marker_id and marker is None:
            raise BadRequest(f"marker [{marker_id}] not found")
        found = flavors.page(
            tx,
            project_id=project_id,
            is_public=is_public,
            min_ram=least["minRam"],
            min_disk=least["minDisk"],
            sort_key=sort_key,
            descending=direction == "desc",
            marker=marker,
            limit=limit,
        )
    shown: dict[str, Any] = {"flavors": [_detail(call, one) if detailed else _brief(call, one) for one in found]}
    if call.one("limit") and len(found) == limit:
        shown["flavors_links"] = next_link(call, found[-1].id)
    return shown


def _visible(call: Call) -> tuple[str | None, bool | None]:
    """(whose private flavors, which of the two kinds): only an admin may choose."""
    context = call.context
    wanted = (call.one("is_public") or "").lower()
    if not context.is_admin or wanted in YES or not wanted:
        return context.project_id or "", None
    if wanted == "none":
        return None, None
    if wanted in NO:
        return None, False
    raise BadRequest(f"Invalid is_public filter [{wanted}]")


def _least(call: Call, key: str) -> int:
    text = call.one(key)
    if text is None:
        return 0
    if not re.fullmatch(r"-?[0-9]+", text):
        raise BadRequest(f"Invalid {key} filter [{text}]")
    return int(text)


def show_flavor(call: Call, id: str) -> Any:
    return {"flavor": _detail(call, service_of(call).flavors.get(id, project_id=_mine(call)))}


def create_flavor(call: Call) -> Any:
    body = call.body
    id_ = body.get("id")
    flavor = service_of(call).flavors.create(
        id=None if id_ in (None, "auto") else str(id_),
        name=body["name"],
        vcpus=int(body["vcpus"]),
        ram_mb=int(body["ram"]),
        disk_gb=int(body["disk"]),
        ephemeral_gb=int(body.get("OS-FLV-EXT-DATA:ephemeral", 0)),
        swap_mb=int(body.get("swap", 0)),
        rxtx_factor=float(body.get("rxtx_factor", 1.0)),
        is_public=body.get("os-flavor-access:is_public", True) in TRUE,
        description=body.get("description"),
    )
    return {"flavor": _detail(call, flavor)}


def update_flavor(call: Call, id: str) -> Any:
    return {"flavor": _detail(call, service_of(call).flavors.describe(id, call.body["description"]))}


def delete_flavor(call: Call, id: str) -> None:
    service_of(call).flavors.delete(id)


# --- access --------------------------------------------------------------------------------------------------------------------------


def _access(flavor_id: str, projects: list[str]) -> dict[str, Any]:
    return {"flavor_access": [{"flavor_id": flavor_id, "tenant_id": project} for project in projects]}


def list_access(call: Call, id: str) -> Any:
    return _access(id, service_of(call).flavors.projects(id))


def add_access(call: Call, id: str) -> Any:
    return _access(id, service_of(call).flavors.share(id, _project(call)))


def remove_access(call: Call, id: str) -> Any:
    return _access(id, service_of(call).flavors.unshare(id, _project(call)))


def _project(call: Call) -> str:
    project_id: str = call.body["tenant"]
    if service_of(call).identity.project(project_id) is None:
        raise BadRequest(f"Project ID {project_id} is not a valid project.")
    return project_id


# --- extra specs ---------------------------------------------------------------------------------------------------------------------


def list_specs(call: Call, id: str) -> Any:
    return {"extra_specs": service_of(call).flavors.get(id, project_id=_mine(call)).extra_specs}


def show_spec(call: Call, id: str, key: str) -> Any:
    specs = service_of(call).flavors.get(id, project_id=_mine(call)).extra_specs
    if key not in specs:
        raise NotFound(f"Flavor {id} has no extra specs with key {key}.")
    return {key: specs[key]}


def create_specs(call: Call, id: str) -> Any:
    specs = {key: str(value) for key, value in call.body["extra_specs"].items()}
    service_of(call).flavors.set_specs(id, specs)
    return {"extra_specs": specs}


def update_spec(call: Call, id: str, key: str) -> Any:
    if key not in call.body:
        raise BadRequest("Request body and URI mismatch")
    value = str(call.body[key])
    service_of(call).flavors.set_specs(id, {key: value})
    return {key: value}


def delete_spec(call: Call, id: str, key: str) -> Response:
    service_of(call).flavors.drop_spec(id, key)
    return Response(200)


ROUTES: list[Route] = [
    Get("/v2.1/flavors", list_flavors, may=ANYONE),
    Get("/v2.1/flavors/detail", list_flavors_detail, may=ANYONE),
    Get("/v2.1/flavors/{id}", show_flavor, may=ANYONE),
    Post("/v2.1/flavors", create_flavor, may=f"{_P}os-flavor-manage:create", takes=NEW_FLAVOR, status=200),
    Put(
        "/v2.1/flavors/{id}",
        update_flavor,
        may=f"{_P}os-flavor-manage:update",
        takes=FLAVOR_UPDATE,
        operation=CREATE,
        since=(2, 55),
    ),
    Delete("/v2.1/flavors/{id}", delete_flavor, may=f"{_P}os-flavor-manage:delete", status=202),
    Get("/v2.1/flavors/{id}/os-flavor-access", list_access, may=f"{_P}os-flavor-access"),
    Action(
        "/v2.1/flavors/{id}/action",
        "addTenantAccess",
        add_access,
        may=f"{_P}os-flavor-access:add_tenant_access",
        takes=TENANT,
        status=200,
    ),
    Action(
        "/v2.1/flavors/{id}/action",
        "removeTenantAccess",
        remove_access,
        may=f"{_P}os-flavor-access:remove_tenant_access",
        takes=TENANT,
        status=200,
    ),
    Get("/v2.1/flavors/{id}/os-extra_specs", list_specs, may=f"{_P}os-flavor-extra-specs:index"),
    Get("/v2.1/flavors/{id}/os-extra_specs/{key}", show_spec, may=f"{_P}os-flavor-extra-specs:show"),
    Post(
        "/v2.1/flavors/{id}/os-extra_specs",
        create_specs,
        may=f"{_P}os-flavor-extra-specs:create",
        takes=SPECS,
        status=200,
    ),
    Put(
        "/v2.1/flavors/{id}/os-extra_specs/{key}",
        update_spec,
        may=f"{_P}os-flavor-extra-specs:update",
        takes=SPEC,
        operation=UPDATE,
    ),
    Delete("/v2.1/flavors/{id}/os-extra_specs/{key}", delete_spec, may=f"{_P}os-flavor-extra-specs:delete", status=200),
]
