"""Placement's routes."""

import re
from pathlib import Path
from typing import Any

from cumulet.core.clock import Clock
from cumulet.core.errors import BadRequest, Conflict, NotFound
from cumulet.core.ids import Ids
from cumulet.core.policy import Policy
from cumulet.core.web import PUBLIC, App, Call, Delete, Get, Microversions, Post, Put, Response, Route
from cumulet.core.web.app import Authenticate
from cumulet.core.web.envelope import placement_error
from cumulet.placement import store
from cumulet.placement.policy import RULES
from cumulet.placement.records import CHANGE, InventoryRow, Provider
from cumulet.placement.resources import (
    AGGREGATES,
    ALLOCATIONS,
    INVENTORIES,
    INVENTORY,
    NEW_CLASS,
    PROVIDER,
    TRAITS,
    UUID,
)
from cumulet.placement.service import STANDARD_CLASSES, STANDARD_TRAITS, Claim, PlacementService
from cumulet.placement.tables import PROVIDERS

__all__ = ["ROUTES", "application"]

VERSIONS = Microversions("placement", (1, 0), (1, 39))

_CLASS = re.compile(r"^[A-Z0-9_]{1,255}$")
_CUSTOM = re.compile(r"^CUSTOM_[A-Z0-9_]{1,248}$")


def _service(call: Call) -> PlacementService:
    service: PlacementService = call.service
    return service


def root(call: Call) -> Any:  # noqa: ARG001 - a handler's signature
    version = {
        "id": "v1.0",
        "max_version": "1.39",
        "min_version": "1.0",
        "status": "CURRENT",
        "links": [{"rel": "self", "href": ""}],
    }
    return {"versions": [version]}


# --- providers -----------------------------------------------------------------------------------------------------------------------


def _provider(call: Call, provider: Provider) -> dict[str, Any]:
    base = f"/placement/resource_providers/{provider.id}"
    rels = ["inventories", "usages", "aggregates", "traits", "allocations"]
    shown: dict[str, Any] = {
        "uuid": provider.id,
        "name": provider.name,
        "generation": provider.generation,
        "links": [{"rel": "self", "href": base}, *({"rel": rel, "href": f"{base}/{rel}"} for rel in rels)],
    }
    if call.version >= (1, 14):
        shown["parent_provider_uuid"] = provider.parent_id
        shown["root_provider_uuid"] = provider.root_id
    return shown


def list_providers(call: Call) -> Any:
    where = []
    if name := call.one("name"):
        where.append(PROVIDERS.c.name == name)
    if uuid := call.one("uuid"):
        where.append(PROVIDERS.c.id == uuid)
    if tree := call.one("in_tree"):
        where.append(PROVIDERS.c.root_id == tree)
    with _service(call).db.read() as tx:
        found = store.providers(tx, where)
        if resources := call.one("resources"):
            wanted = _resources(resources)
            rows = store.inventories(tx)
            found = [
                p
                for p in found
                if all(any(r.resource_class == n and r.takes(a) for r in rows.get(p.id, ())) for n, a in wanted.items())
            ]
    required, forbidden = _required(call)
    found = [p for p in found if required <= set(p.traits) and not forbidden & set(p.traits)]
    if members := _members(call):
        found = [p for p in found if members & set(p.aggregates)]
    return {"resource_providers": [_provider(call, provider) for provider in found]}


def create_provider(call: Call) -> Response:
    body = call.body
    made = _service(call).create_provider(body["name"], body.get("uuid"), body.get("parent_provider_uuid"))
    headers = {"Location": f"{call.request.base_url}/resource_providers/{made.id}"}
    if call.version >= (1, 20):
        return Response(200, _provider(call, made), headers)
    return Response(201, None, headers)


def show_provider(call: Call, uuid: str) -> Any:
    with _service(call).db.read() as tx:
        return _provider(call, _service(call).provider(tx, uuid))


def update_provider(call: Call, uuid: str) -> Any:
    body = call.body
    changed = _service(call).update_provider(
        uuid, body["name"], body.get("parent_provider_uuid"), parent_given="parent_provider_uuid" in body
    )
    return _provider(call, changed)


def delete_provider(call: Call, uuid: str) -> None:
    _service(call).delete_provider(uuid)


# --- inventories ---------------------------------------------------------------------------------------------------------------------


def _inventory(row: InventoryRow) -> dict[str, Any]:
    return {
        "total": row.total,
        "reserved": row.reserved,
        "min_unit": row.min_unit,
        "max_unit": row.max_unit,
        "step_size": row.step_size,
        "allocation_ratio": row.allocation_ratio,
    }


def _inventories(call: Call, provider: Provider) -> dict[str, Any]:
    with _service(call).db.read() as tx:
        rows = store.inventory(tx, provider.id)
    return {
        "inventories": {row.resource_class: _inventory(row) for row in rows},
        "resource_provider_generation": provider.generation,
    }


def show_inventories(call: Call, uuid: str) -> Any:
    with _service(call).db.read() as tx:
        provider = _service(call).provider(tx, uuid)
    return _inventories(call, provider)


def set_inventories(call: Call, uuid: str) -> Any:
    body = call.body
    return _inventories(
        call, _service(call).set_inventories(uuid, body["resource_provider_generation"], body["inventories"])
    )


def clear_inventories(call: Call, uuid: str) -> None:
    _service(call).set_inventories(uuid, None, {})


def create_inventory(call: Call, uuid: str) -> Any:
    name = call.body.get("resource_class")
    if not name:
        raise BadRequest("JSON does not validate: 'resource_class' is a required property")
    generation = call.body.get("resource_provider_generation")
    provider = _service(call).set_inventory(uuid, name, call.body, generation=generation, create=True)
    return show_inventory(call, uuid, name) | {"resource_provider_generation": provider.generation}


def show_inventory(call: Call, uuid: str, name: str) -> dict[str, Any]:
    with _service(call).db.read() as tx:
        provider = _service(call).provider(tx, uuid)
        row = next((row for row in store.inventory(tx, uuid) if row.resource_class == name), None)
    if row is None:
        raise NotFound(f"No inventory of class {name} for {uuid}")
    return _inventory(row) | {"resource_provider_generation": provider.generation}


def update_inventory(call: Call, uuid: str, name: str) -> Any:
    generation = call.body.get("resource_provider_generation")
    _service(call).set_inventory(uuid, name, call.body, generation=generation, create=False)
    return show_inventory(call, uuid, name)


def delete_inventory(call: Call, uuid: str, name: str) -> None:
    _service(call).delete_inventory(uuid, name)


def provider_usages(call: Call, uuid: str) -> Any:
    with _service(call).db.read() as tx:
        provider = _service(call).provider(tx, uuid)
        rows = store.inventory(tx, uuid)
    return {
        "resource_provider_generation": provider.generation,
        "usages": {row.resource_class: row.used for row in rows},
    }


def provider_allocations(call: Call, uuid: str) -> Any:
    with _service(call).db.read() as tx:
        provider = _service(call).provider(tx, uuid)
        found: dict[str, dict[str, Any]] = {}
        for row in store.allocations_on(tx, uuid):
            found.setdefault(row.consumer_id, {"resources": {}})["resources"][row.resource_class] = row.used
        if call.version >= (1, 28):
            for consumer_id, entry in found.items():
                consumer = store.consumer(tx, consumer_id)
                entry["consumer_generation"] = consumer.generation if consumer else None
    return {"allocations": found, "resource_provider_generation": provider.generation}


def show_traits(call: Call, uuid: str) -> Any:
    with _service(call).db.read() as tx:
        provider = _service(call).provider(tx, uuid)
    return {"traits": provider.traits, "resource_provider_generation": provider.generation}


def set_traits(call: Call, uuid: str) -> Any:
    changed = _service(call).set_traits(uuid, call.body["resource_provider_generation"], call.body["traits"])
    return {"traits": changed.traits, "resource_provider_generation": changed.generation}


def clear_traits(call: Call, uuid: str) -> None:
    _service(call).set_traits(uuid, None, [])


def show_aggregates(call: Call, uuid: str) -> Any:
    with _service(call).db.read() as tx:
        provider = _service(call).provider(tx, uuid)
    return _aggregates(call, provider)


def _aggregates(call: Call, provider: Provider) -> dict[str, Any]:
    shown: dict[str, Any] = {"aggregates": provider.aggregates}
    if call.version >= (1, 19):
        shown["resource_provider_generation"] = provider.generation
    return shown


def set_aggregates(call: Call, uuid: str) -> Any:
    body = call.body
    if isinstance(body, list):
        return _aggregates(call, _service(call).set_aggregates(uuid, None, body))
    return _aggregates(
        call, _service(call).set_aggregates(uuid, body["resource_provider_generation"], body["aggregates"])
    )


# --- traits and classes --------------------------------------------------------------------------------------------------------------


def list_traits(call: Call) -> Any:
    with _service(call).db.read() as tx:
        names = sorted(STANDARD_TRAITS | set(store.names(tx, "traits")))
        if call.one("associated") is not None:
            used = {trait for provider in store.providers(tx) for trait in provider.traits}
            wanted = (call.one("associated") or "").lower() in {"true", "1"}
            names = [name for name in names if (name in used) == wanted]
    if (pattern := call.one("name")) is not None:
        kind, _, value = pattern.partition(":")
        if kind == "startswith":
            names = [name for name in names if name.startswith(value)]
        elif kind == "in":
            names = [name for name in names if name in value.split(",")]
        else:
            raise BadRequest(
                "Badly formatted name parameter. Expected name query string parameter in form: ?name=[in|startswith]:[name1,name2|prefix]."
            )
    return {"traits": names}


def show_trait(call: Call, name: str) -> None:
    with _service(call).db.read() as tx:
        if name not in STANDARD_TRAITS and name not in store.names(tx, "traits"):
            raise NotFound(f"No such trait(s): {name}.")


def put_trait(call: Call, name: str) -> Response:
    if not _CUSTOM.match(name):
        raise BadRequest(
            "The trait is invalid. A valid trait must be no longer than 255 characters, start with the prefix "
            '"CUSTOM_" and use following characters: "A"-"Z", "0"-"9" and "_"'
        )
    with _service(call).db.write() as tx:
        made = store.add_name(tx, "traits", name)
    return Response(201 if made else 204, None, {"Location": f"{call.request.base_url}/traits/{name}"})


def delete_trait(call: Call, name: str) -> None:
    if name in STANDARD_TRAITS:
        raise BadRequest(f"Cannot delete standard trait {name}")
    with _service(call).db.write() as tx:
        if any(name in provider.traits for provider in store.providers(tx)):
            raise Conflict(f"The trait {name} is in use by a resource provider.")
        if not store.remove_name(tx, "traits", name):
            raise NotFound(f"No such trait {name}.")


def _class(name: str) -> dict[str, Any]:
    return {"name": name, "links": [{"rel": "self", "href": f"/placement/resource_classes/{name}"}]}


def list_classes(call: Call) -> Any:
    with _service(call).db.read() as tx:
        names = sorted(STANDARD_CLASSES | set(store.names(tx, "resource_classes")))
    return {"resource_classes": [_class(name) for name in names]}


def show_class(call: Call, name: str) -> Any:
    with _service(call).db.read() as tx:
        if name not in STANDARD_CLASSES and name not in store.names(tx, "resource_classes"):
            raise NotFound(f"No such resource class {name}.")
    return _class(name)


def put_class(call: Call, name: str) -> Response:
    if not _CUSTOM.match(name):
        raise BadRequest(f"JSON does not validate: '{name}' does not match '^CUSTOM\\_[A-Z0-9_]+$'")
    with _service(call).db.write() as tx:
        made = store.add_name(tx, "resource_classes", name)
    return Response(201 if made else 204, None, {"Location": f"{call.request.base_url}/resource_classes/{name}"})


def create_class(call: Call) -> Response:
    name = call.body["name"]
    with _service(call).db.write() as tx:
        if not store.add_name(tx, "resource_classes", name):
            raise Conflict(f"Conflicting resource class already exists: {name}")
    return Response(201, None, {"Location": f"{call.request.base_url}/resource_classes/{name}"})


def delete_class(call: Call, name: str) -> None:
    if name in STANDARD_CLASSES:
        raise BadRequest(f"Error in delete resource class: Cannot delete standard resource class {name}.")
    with _service(call).db.write() as tx:
        if store.class_in_use(tx, name):
            raise Conflict(
                f"Error in delete resource class: Cannot delete resource class {name}. Class is in use in inventory."
            )
        if not store.remove_name(tx, "resource_classes", name):
            raise NotFound(f"No such resource class {name}.")


# --- allocations ---------------------------------------------------------------------------------------------------------------------


def show_allocations(call: Call, consumer: str) -> Any:
    with _service(call).db.read() as tx:
        rows = store.allocations_of(tx, consumer)
        holder = store.consumer(tx, consumer)
        found: dict[str, dict[str, Any]] = {}
        for row in rows:
            entry = found.setdefault(row.provider_id, {"resources": {}})
            entry["resources"][row.resource_class] = row.used
        for provider_id, entry in found.items():
            provider = store.provider(tx, provider_id)
            entry["generation"] = provider.generation if provider else 0
    shown: dict[str, Any] = {"allocations": found}
    if holder is not None and found:
        if call.version >= (1, 12):
            shown |= {"project_id": holder.project_id, "user_id": holder.user_id}
        if call.version >= (1, 28):
            shown["consumer_generation"] = holder.generation
        if call.version >= (1, 38):
            shown["consumer_type"] = holder.type or "unknown"
    return shown


def _claim(call: Call, consumer: str, body: dict[str, Any]) -> Claim:
    raw = body["allocations"]
    if isinstance(raw, list):
        resources = {entry["resource_provider"]["uuid"]: entry["resources"] for entry in raw}
    else:
        resources = {uuid: entry["resources"] for uuid, entry in raw.items()}
    checks = call.version >= (1, 28)
    if checks and "consumer_generation" not in body:
        raise BadRequest("JSON does not validate: 'consumer_generation' is a required property")
    if call.version >= (1, 8) and ("project_id" not in body or "user_id" not in body):
        raise BadRequest("JSON does not validate: 'project_id' is a required property")
    return Claim(
        consumer_id=consumer,
        resources=resources,
        project_id=body.get("project_id", "00000000-0000-0000-0000-000000000000"),
        user_id=body.get("user_id", "00000000-0000-0000-0000-000000000000"),
        generation=body.get("consumer_generation"),
        check_generation=checks,
        type=body.get("consumer_type"),
    )


def put_allocations(call: Call, consumer: str) -> Response:
    if not re.fullmatch(UUID["pattern"], consumer):
        raise BadRequest("Malformed allocation data: consumer is not a UUID.")
    number = _service(call).claim([_claim(call, consumer, call.body)])
    return Response(204, headers={CHANGE: str(number)})


def post_allocations(call: Call) -> None:
    _service(call).claim([_claim(call, consumer, body) for consumer, body in call.body.items()])


def delete_allocations(call: Call, consumer: str) -> None:
    _service(call).release(consumer)


def project_usages(call: Call) -> Any:
    project = call.one("project_id")
    if project is None:
        raise BadRequest("Invalid query string parameters: 'project_id' is a required property")
    call.authorize("placement:usages", project_id=project)
    with _service(call).db.read() as tx:
        return {"usages": store.usage_of_project(tx, project, call.one("user_id"))}


# --- candidates ----------------------------------------------------------------------------------------------------------------------


def _resources(text: str) -> dict[str, int]:
    wanted = {}
    for part in text.split(","):
        name, _, amount = part.partition(":")
        if not _CLASS.match(name) or not amount.isdigit() or int(amount) < 1:
            raise BadRequest(
                "Badly formed resources parameter. Expected resources query string parameter in form: "
                f"?resources=VCPU:2,MEMORY_MB:1024. Got: {text}."
            )
        wanted[name] = int(amount)
    return wanted


def _required(call: Call) -> tuple[set[str], set[str]]:
    required: set[str] = set()
    forbidden: set[str] = set()
    for text in call.query.get("required", ()):
        for name in text.split(","):
            (forbidden if name.startswith("!") else required).add(name.removeprefix("!"))
    return required, forbidden


def _members(call: Call) -> set[str]:
    members: set[str] = set()
    for text in call.query.get("member_of", ()):
        members |= set(text.removeprefix("in:").split(","))
    return members


def list_candidates(call: Call) -> Any:
    text = call.one("resources")
    if text is None:
        raise BadRequest("Invalid query string parameters: 'resources' is a required property")
    wanted = _resources(text)
    required, forbidden = _required(call)
    limit = call.one("limit")
    if limit is not None and (not limit.isdigit() or int(limit) < 1):
        raise BadRequest("Invalid query string parameters: limit must be a positive integer")
    found, rows = _service(call).candidates(
        wanted, required=required, forbidden=forbidden, members=_members(call), limit=int(limit) if limit else None
    )
    requests = []
    for provider in found:
        entry: dict[str, Any] = {"allocations": {provider.id: {"resources": wanted}}}
        if call.version >= (1, 34):
            entry["mappings"] = {"": [provider.id]}
        if call.version < (1, 12):
            entry["allocations"] = [{"resource_provider": {"uuid": provider.id}, "resources": wanted}]
        requests.append(entry)
    summaries = {}
    for provider in found:
        shown = [row for row in rows[provider.id] if call.version >= (1, 27) or row.resource_class in wanted]
        summary: dict[str, Any] = {
            "resources": {row.resource_class: {"capacity": row.capacity, "used": row.used} for row in shown}
        }
        if call.version >= (1, 17):
            summary["traits"] = provider.traits
        if call.version >= (1, 29):
            summary |= {"parent_provider_uuid": provider.parent_id, "root_provider_uuid": provider.root_id}
        summaries[provider.id] = summary
    return {"allocation_requests": requests, "provider_summaries": summaries}


# --- copies --------------------------------------------------------------------------------------------------------------------------

#: so many providers in one answer, when all of them are read
STATES_PAGE = 1000


def list_states(call: Call) -> Any:
    """Not part of the reference's API: room and traits of all providers by pages, or of those that changed since a number.

    For who keeps a copy.  `marker` is the next page's; `lost` says that `since` was too long ago; a provider that is gone has no resources.
    """
    since = call.one("since")
    if since is None:
        number, found = _service(call).states(call.one("marker") or "", STATES_PAGE)
        marker = found[-1].uuid if len(found) == STATES_PAGE else None
        return {"number": number, "providers": found, "marker": marker}
    if not since.isdigit():
        raise BadRequest("Invalid query string parameters: since must be a number")
    number, changed = _service(call).changed(int(since))
    return {"number": number, "providers": changed or [], "lost": changed is None}


_P = "placement:resource_providers"

ROUTES: list[Route] = [
    Get("/", root, may=PUBLIC),
    Get("/resource_providers", list_providers, may=f"{_P}:list"),
    Post("/resource_providers", create_provider, may=f"{_P}:create", takes=PROVIDER),
    Get("/resource_providers/{uuid}", show_provider, may=f"{_P}:show"),
    Put("/resource_providers/{uuid}", update_provider, may=f"{_P}:update", takes=PROVIDER),
    Delete("/resource_providers/{uuid}", delete_provider, may=f"{_P}:delete"),
    Get("/resource_providers/{uuid}/inventories", show_inventories, may=f"{_P}:inventories:list"),
    Post("/resource_providers/{uuid}/inventories", create_inventory, may=f"{_P}:inventories:create", takes=INVENTORY),
    Put("/resource_providers/{uuid}/inventories", set_inventories, may=f"{_P}:inventories:update", takes=INVENTORIES),
    Delete("/resource_providers/{uuid}/inventories", clear_inventories, may=f"{_P}:inventories:delete", since=(1, 5)),
    Get("/resource_providers/{uuid}/inventories/{name}", show_inventory, may=f"{_P}:inventories:show"),
    Put(
        "/resource_providers/{uuid}/inventories/{name}",
        update_inventory,
        may=f"{_P}:inventories:update",
        takes=INVENTORY,
    ),
    Delete("/resource_providers/{uuid}/inventories/{name}", delete_inventory, may=f"{_P}:inventories:delete"),
    Get("/resource_providers/{uuid}/usages", provider_usages, may=f"{_P}:usages"),
    Get("/resource_providers/{uuid}/allocations", provider_allocations, may=f"{_P}:allocations:list"),
    Get("/resource_providers/{uuid}/traits", show_traits, may=f"{_P}:traits:list", since=(1, 6)),
    Put("/resource_providers/{uuid}/traits", set_traits, may=f"{_P}:traits:update", takes=TRAITS, since=(1, 6)),
    Delete("/resource_providers/{uuid}/traits", clear_traits, may=f"{_P}:traits:delete", since=(1, 6)),
    Get("/resource_providers/{uuid}/aggregates", show_aggregates, may=f"{_P}:aggregates:list", since=(1, 1)),
    Put(
        "/resource_providers/{uuid}/aggregates",
        set_aggregates,
        may=f"{_P}:aggregates:update",
        takes=AGGREGATES,
        since=(1, 1),
    ),
    Get("/traits", list_traits, may="placement:traits:list", since=(1, 6)),
    Get("/traits/{name}", show_trait, may="placement:traits:show", since=(1, 6), status=204),
    Put("/traits/{name}", put_trait, may="placement:traits:update", since=(1, 6), body="none"),
    Delete("/traits/{name}", delete_trait, may="placement:traits:delete", since=(1, 6)),
    Get("/resource_classes", list_classes, may="placement:resource_classes:list", since=(1, 2)),
    Post("/resource_classes", create_class, may="placement:resource_classes:create", takes=NEW_CLASS, since=(1, 2)),
    Get("/resource_classes/{name}", show_class, may="placement:resource_classes:show", since=(1, 2)),
    Put("/resource_classes/{name}", put_class, may="placement:resource_classes:update", since=(1, 7), body="none"),
    Delete("/resource_classes/{name}", delete_class, may="placement:resource_classes:delete", since=(1, 2)),
    Get("/allocations/{consumer}", show_allocations, may="placement:allocations:list"),
    Put("/allocations/{consumer}", put_allocations, may="placement:allocations:update", takes=ALLOCATIONS, status=204),
    Delete("/allocations/{consumer}", delete_allocations, may="placement:allocations:delete"),
    Post(
        "/allocations",
        post_allocations,
        may="placement:allocations:manage",
        takes={"type": "object", "minProperties": 1, "additionalProperties": ALLOCATIONS},
        status=204,
        since=(1, 13),
    ),
    Get("/usages", project_usages, may="placement:usages", since=(1, 9)),
    Get("/provider_states", list_states, may="cumulet:provider_states:list"),
    Get("/allocation_candidates", list_candidates, may="placement:allocation_candidates:list", since=(1, 10)),
]


def application(
    service: PlacementService,
    *,
    authenticate: Authenticate,
    clock: Clock,
    ids: Ids,
    policy_overrides: Path | None = None,
) -> App:
    """Placement on the web."""
    return App(
        "placement",
        ROUTES,
        service=service,
        policy=Policy(RULES, overrides=policy_overrides),
        authenticate=authenticate,
        clock=clock,
        ids=ids,
        error=placement_error,
        versions=VERSIONS,
    )
