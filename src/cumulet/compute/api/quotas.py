"""Limits and quotas: what a project may have, as it and as the operator see it."""

from collections.abc import Mapping
from typing import Any

from cumulet.compute.api.subject import known_query, service_of
from cumulet.compute.store.quotas import DEFAULT_CLASS
from cumulet.compute.truth import BOOLEAN, TRUE
from cumulet.core.errors import BadRequest, Forbidden
from cumulet.core.web import ANYONE, UPDATE, Call, Delete, Field, Get, Put, Resource, Route
from cumulet.core.web.versions import Version

__all__ = ["ROUTES"]

_P = "os_compute_api:"
#: the network service's own since 2.36; shown as unlimited before
NETWORK = ("fixed_ips", "floating_ips", "security_groups", "security_group_rules")
#: files in a launch request are gone since 2.57
FILES = ("injected_files", "injected_file_content_bytes", "injected_file_path_bytes")
CORE = ("instances", "cores", "ram", "metadata_items", "key_pairs")
GROUPS = ("server_groups", "server_group_members")

LIMIT: dict[str, Any] = {"type": ["integer", "string"], "pattern": "^-?[0-9]+$", "minimum": -1, "maximum": 0x7FFFFFFF}


def _names(version: Version) -> tuple[str, ...]:
    """What a quota set shows in a version."""
    names: tuple[str, ...] = (*CORE, *GROUPS)
    if version < (2, 57):
        names += FILES
    if version < (2, 36):
        names += NETWORK
    return names


def _class_names(version: Version) -> tuple[str, ...]:
    """What a class of quotas shows: groups came, and the network's went, at 2.50 only."""
    if version >= (2, 57):
        return (*CORE, *GROUPS)
    return (*CORE, *FILES, *GROUPS) if version >= (2, 50) else (*CORE, *FILES, *NETWORK)


def _fields(*, classes: bool) -> dict[str, Field | list[Field]]:
    shown: dict[str, Field | list[Field]] = {name: Field(LIMIT, on=UPDATE) for name in CORE}
    shown |= {name: Field(LIMIT, on=UPDATE, since=(2, 50) if classes else (0, 0)) for name in GROUPS}
    shown |= {name: Field(LIMIT, on=UPDATE, until=(2, 56)) for name in FILES}
    shown |= {name: Field(LIMIT, on=UPDATE, until=(2, 49) if classes else (2, 35)) for name in NETWORK}
    if not classes:
        shown["force"] = Field(BOOLEAN, on=UPDATE)
        shown["tenant_id"] = Field({"type": "string"}, on=UPDATE)
    return shown


QUOTA_SET = Resource("quota_set", _fields(classes=False))
QUOTA_CLASS = Resource("quota_class_set", _fields(classes=True))


def _wanted(body: Mapping[str, Any]) -> dict[str, int]:
    """The limits in a body.  Limits of the network's things are not ours: those it names are accepted and left to that service."""
    limits = {name: int(value) for name, value in body.items() if name not in {"force", "tenant_id"}}
    if any(value < -1 for value in limits.values()):
        raise BadRequest("Quota limit must be -1 or greater.")
    return {name: value for name, value in limits.items() if name not in NETWORK}


def _set(limits: Mapping[str, int], names: tuple[str, ...]) -> dict[str, int]:
    return {name: limits.get(name, -1) for name in names}


def show_quotas(call: Call, id: str) -> Any:
    known_query(call, ("user_id",))
    call.authorize(f"{_P}os-quota-sets:show", project_id=id)
    limits = service_of(call).quotas.of_project(id, call.one("user_id") or "")
    return {"quota_set": {"id": id, **_set(limits, _names(call.version))}}


def show_quotas_detail(call: Call, id: str) -> Any:
    known_query(call, ("user_id",))
    call.authorize(f"{_P}os-quota-sets:detail", project_id=id)
    used = service_of(call).quotas.usage(id, call.one("user_id") or "")
    shown: dict[str, Any] = {}
    for name in _names(call.version):
        entry = used.get(name)
        shown[name] = {"limit": entry.limit if entry else -1, "in_use": entry.in_use if entry else 0, "reserved": 0}
    return {"quota_set": {"id": id, **shown}}


def show_defaults(call: Call, id: str) -> Any:
    return {"quota_set": {"id": id, **_set(service_of(call).quotas.of_class(), _names(call.version))}}


def update_quotas(call: Call, id: str) -> Any:
    known_query(call, ("user_id",))
    service = service_of(call)
    if service.identity.project(id) is None:
        raise BadRequest(f"Project ID {id} is not a valid project.")
    force = call.body.get("force", False) in TRUE
    limits = service.quotas.update(id, call.one("user_id") or "", _wanted(call.body), force=force)
    return {"quota_set": _set(limits, _names(call.version))}


def delete_quotas(call: Call, id: str) -> None:
    known_query(call, ("user_id",))
    service_of(call).quotas.reset(id, call.one("user_id"))


def show_class(call: Call, id: str) -> Any:
    return {"quota_class_set": {"id": id, **_set(service_of(call).quotas.of_class(), _class_names(call.version))}}


def update_class(call: Call, id: str) -> Any:
    """Every project is of the class "default": no other one has limits."""
    if id != "default":
        raise BadRequest(f"There is no quota class {id}: every project is of the class default.")
    quotas = service_of(call).quotas
    quotas.update(DEFAULT_CLASS, "", _wanted(call.body), force=True)
    return {"quota_class_set": _set(quotas.of_class(), _class_names(call.version))}


def show_limits(call: Call) -> Any:
    known_query(call, ("tenant_id", "reserved"))
    project = call.context.project_id or ""
    other = call.one("tenant_id")
    if other and other != project:
        if not call.allowed(f"{_P}limits:other_project", project_id=other):
            raise Forbidden(f"Policy doesn't allow {_P}limits:other_project to be performed.")
        project = other
    used = service_of(call).quotas.usage(project)
    limit = {name: entry.limit for name, entry in used.items()}
    shown = {
        "maxTotalInstances": limit["instances"],
        "maxTotalCores": limit["cores"],
        "maxTotalRAMSize": limit["ram"],
        "maxTotalKeypairs": limit["key_pairs"],
        "maxServerMeta": limit["metadata_items"],
        "maxServerGroups": limit["server_groups"],
        "maxServerGroupMembers": limit["server_group_members"],
        "totalInstancesUsed": used["instances"].in_use,
        "totalCoresUsed": used["cores"].in_use,
        "totalRAMUsed": used["ram"].in_use,
        "totalServerGroupsUsed": used["server_groups"].in_use,
    }
    if call.version < (2, 57):
        shown |= {"maxPersonality": limit["injected_files"], "maxPersonalitySize": limit["injected_file_content_bytes"]}
    if call.version < (2, 39):
        shown["maxImageMeta"] = limit["metadata_items"]
    if call.version < (2, 36):
        unlimited = ("maxSecurityGroups", "maxSecurityGroupRules", "maxTotalFloatingIps")
        shown |= {**dict.fromkeys(unlimited, -1), "totalFloatingIpsUsed": 0, "totalSecurityGroupsUsed": 0}
    return {"limits": {"rate": [], "absolute": shown}}


_Q = "/v2.1/os-quota-sets/{id}"

ROUTES: list[Route] = [
    Get("/v2.1/limits", show_limits, may=f"{_P}limits"),
    Get(_Q, show_quotas, may=ANYONE),
    Get(_Q + "/detail", show_quotas_detail, may=ANYONE),
    Get(_Q + "/defaults", show_defaults, may=f"{_P}os-quota-sets:defaults"),
    Put(_Q, update_quotas, may=f"{_P}os-quota-sets:update", takes=QUOTA_SET),
    Delete(_Q, delete_quotas, may=f"{_P}os-quota-sets:delete", status=202),
    Get("/v2.1/os-quota-class-sets/{id}", show_class, may=f"{_P}os-quota-class-sets:show"),
    Put("/v2.1/os-quota-class-sets/{id}", update_class, may=f"{_P}os-quota-class-sets:update", takes=QUOTA_CLASS),
]
