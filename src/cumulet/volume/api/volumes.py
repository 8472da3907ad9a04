"""/volumes and its metadata."""

from typing import Any

from cumulet.core.errors import BadRequest
from cumulet.core.web import Call, Delete, Get, Post, Put, Response
from cumulet.volume.api import listing
from cumulet.volume.api.caller import caller, service
from cumulet.volume.api.metadata import Labelled, few
from cumulet.volume.api.schemas import VOLUME_CREATE, VOLUME_UPDATE
from cumulet.volume.api.views import volume_brief, volume_detail, volume_view
from cumulet.volume.records import Volume
from cumulet.volume.service.volumes import NewVolume
from cumulet.volume.store import labels, volumes
from cumulet.volume.tables import VOLUMES as V

__all__ = ["ROUTES", "found", "text_of"]

_SORTABLE = {
    "id": "id",
    "name": "name",
    "display_name": "name",
    "status": "status",
    "size": "size",
    "availability_zone": "availability_zone",
    "created_at": "created_at",
    "updated_at": "updated_at",
    "volume_type_id": "type_id",
    "host": "host",
    "bootable": "bootable",
    "user_id": "user_id",
    "project_id": "project_id",
}
_FILTERS = {
    "id": "id",
    "name": "name",
    "display_name": "name",
    "status": "status",
    "size": "size",
    "bootable": "bootable",
    "multiattach": "multiattach",
    "availability_zone": "availability_zone",
    "migration_status": "migration_status",
    "description": "description",
    "user_id": "user_id",
    "host": "host",
    "volume_type_id": "type_id",
    "snapshot_id": "snapshot_id",
    "source_volid": "source_volid",
    "created_at": "created_at",
    "updated_at": "updated_at",
}


def found(call: Call, id: str, rule: str) -> Volume:
    """The volume, if the caller may do this to it."""
    volume = service(call).volumes.get(caller(call), id)
    call.authorize(rule, project_id=volume.project_id, user_id=volume.user_id)
    return volume


_LABELLED = Labelled(word="Volume", found=found)


def create_volume(call: Call) -> Any:
    body = call.body["volume"]
    for word in ("consistencygroup_id", "group_id", "backup_id"):
        if body.get(word):
            raise BadRequest(f"{word} is not supported by this cloud.")
    image_id = body.get("imageRef") or body.get("image_id") or None
    if image_id is not None:
        call.authorize("volume:create_from_image", project_id=call.context.project_id)
        image_id = image_id.rpartition("/")[2]  # a link to the image is taken too
    if (size := body.get("size")) is not None:
        size = int(size)
    multiattach = listing.is_true(body.get("multiattach"))
    if multiattach:
        call.authorize("volume:multiattach", project_id=call.context.project_id)
    volume = service(call).volumes.create(
        caller(call),
        NewVolume(
            size_gib=size,
            name=text_of(body, "name"),
            description=text_of(body, "description"),
            type=body.get("volume_type") or None,
            image_id=image_id,
            snapshot_id=body.get("snapshot_id") or None,
            source_id=body.get("source_volid") or None,
            zone=body.get("availability_zone") or None,
            metadata=few(body.get("metadata") or {}),
            multiattach=multiattach,
        ),
        key=call.key,
    )
    return {"volume": volume_view(call, volume)}


def create_volume_again(call: Call, ids: list[str]) -> Any:
    """The answer for a request that has made its volume before."""
    return {"volume": volume_view(call, service(call).volumes.get(caller(call), ids[0]))}


def text_of(body: dict[str, Any], name: str) -> str | None:
    """A name or description, also under its older name."""
    value = body.get(name) if body.get(name) is not None else body.get(f"display_{name}")
    return value.strip() if value is not None else None


def _where(call: Call) -> list[Any]:
    who = caller(call)
    every = listing.flag(call, "all_tenants") and call.allowed("volume:get_all_tenants")
    project = None if every and who.sees is None else (call.context.project_id or "")
    if every and (asked := call.one("project_id") or call.one("tenant_id")):
        project = asked
    where = volumes.listed(project_id=project, metadata=listing.mapping(call.one("metadata")))
    return where + listing.conditions(call, V, _FILTERS)


def _list(call: Call, path: str, show: Any) -> Any:
    where, page = _where(call), listing.page_of(call, _SORTABLE)
    counted = call.version >= (3, 45) and listing.flag(call, "with_count")
    with service(call).db.read() as tx:
        volumes_found = volumes.page(tx, where, page)
        count = volumes.count(tx, where) if counted else 0
    answer = listing.answer(call, "volumes", path, page, volumes_found, show)
    if counted:
        answer["count"] = count
    return answer


def list_volumes(call: Call) -> Any:
    return _list(call, "/volumes", volume_brief)


def list_volumes_detail(call: Call) -> Any:
    return _list(call, "/volumes/detail", volume_detail)


def summarise_volumes(call: Call) -> Any:
    with service(call).db.read() as tx:
        count, gib, ids = volumes.summary(tx, _where(call))
        texts = labels.of_many(tx, ids) if call.version >= (3, 36) else {}
    summary: dict[str, Any] = {"total_count": count, "total_size": gib}
    if call.version >= (3, 36):
        together: dict[str, list[str]] = {}
        for metadata in texts.values():
            for key, value in metadata.items():
                if value not in together.setdefault(key, []):
                    together[key].append(value)
        summary["metadata"] = together
    return {"volume-summary": summary}


def show_volume(call: Call, id: str) -> Any:
    return {"volume": volume_detail(call, found(call, id, "volume:get"))}


def update_volume(call: Call, id: str) -> Any:
    volume = found(call, id, "volume:update")
    body = call.body["volume"]
    values: dict[str, Any] = {}
    for name in ("name", "description"):
        if name in body or f"display_{name}" in body:
            values[name] = text_of(body, name)
    service(call).volumes.update(volume, **values)
    if body.get("metadata") is not None:
        with service(call).db.write() as tx:
            labels.replace(tx, id, few(body["metadata"]))
    return {"volume": volume_view(call, service(call).volumes.get(caller(call), id))}


def delete_volume(call: Call, id: str) -> Response:
    force = call.version >= (3, 23) and listing.flag(call, "force")
    volume = found(call, id, "volume:force_delete" if force else "volume:delete")
    service(call).volumes.delete(caller(call), volume, cascade=listing.flag(call, "cascade"), force=force)
    return Response(202)


ROUTES = [
    Post("/v3/volumes", create_volume, may="volume:create", takes=VOLUME_CREATE, status=202, again=create_volume_again),
    Get("/v3/volumes", list_volumes, may="volume:get_all"),
    Get("/v3/volumes/detail", list_volumes_detail, may="volume:get_all"),
    Get("/v3/volumes/summary", summarise_volumes, may="volume:get_all", since=(3, 12)),
    Get("/v3/volumes/{id}", show_volume, may="volume:get", look=True),
    Put("/v3/volumes/{id}", update_volume, may="volume:update", takes=VOLUME_UPDATE),
    Delete("/v3/volumes/{id}", delete_volume, may="volume:delete"),
    *_LABELLED.routes(
        "/v3/volumes/{id}/metadata",
        show="volume:get_volume_metadata",
        add="volume:create_volume_metadata",
        change="volume:update_volume_metadata",
        remove="volume:delete_volume_metadata",
    ),
]
