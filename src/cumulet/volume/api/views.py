"""How volumes, snapshots and attachments are shown, by version and by what the caller may know."""

from typing import Any

from cumulet.core.clock import iso_seconds
from cumulet.core.web import Call
from cumulet.volume.api.listing import public_path
from cumulet.volume.records import Attachment, Snapshot, Volume

__all__ = [
    "attachment_brief",
    "attachment_detail",
    "links",
    "snapshot_detail",
    "snapshot_view",
    "volume_brief",
    "volume_detail",
    "volume_view",
]


def links(call: Call, path: str) -> list[dict[str, str]]:
    """Self below /v3, bookmark beside it."""
    own = public_path(call, path)
    return [{"rel": "self", "href": own}, {"rel": "bookmark", "href": own.replace("/v3/", "/", 1)}]


def volume_brief(call: Call, volume: Volume) -> dict[str, Any]:
    return {"id": volume.id, "name": volume.name, "links": links(call, f"/volumes/{volume.id}")}


def _tie(tie: Attachment) -> dict[str, Any]:
    return {
        "id": tie.volume_id,
        "attachment_id": tie.id,
        "volume_id": tie.volume_id,
        "server_id": tie.server_id,
        "host_name": tie.host_name,
        "device": tie.mountpoint,
        "attached_at": iso_seconds(tie.attached_at),
    }


def volume_detail(call: Call, volume: Volume) -> dict[str, Any]:
    """With what the reference's extensions add where a volume is shown."""
    shown, owner = volume_view(call, volume), {"project_id": volume.project_id}
    if call.allowed("volume_extension:volume_tenant_attribute", **owner):
        shown["os-vol-tenant-attr:tenant_id"] = volume.project_id
    if call.allowed("volume_extension:volume_host_attribute", **owner):
        shown["os-vol-host-attr:host"] = volume.host
    if call.allowed("volume_extension:volume_mig_status_attribute", **owner):
        shown["os-vol-mig-status-attr:migstat"] = volume.migration_status
        shown["os-vol-mig-status-attr:name_id"] = None
    if volume.image_metadata:
        shown["volume_image_metadata"] = volume.image_metadata
    return shown


def volume_view(call: Call, volume: Volume) -> dict[str, Any]:
    """As creation and update answer."""
    version = call.version
    visible = {key: value for key, value in volume.admin_metadata.items() if key in {"readonly", "attached_mode"}}
    shown: dict[str, Any] = {
        "id": volume.id,
        "status": volume.status,
        "size": volume.size,
        "availability_zone": volume.availability_zone,
        "created_at": iso_seconds(volume.created_at),
        "updated_at": iso_seconds(volume.updated_at),
        "attachments": [_tie(tie) for tie in volume.attachments if tie.status == "attached"],
        "name": volume.name,
        "description": volume.description,
        "volume_type": volume.type_name,
        "snapshot_id": volume.snapshot_id,
        "source_volid": volume.source_volid,
        "metadata": {**volume.metadata, **visible},
        "links": links(call, f"/volumes/{volume.id}"),
        "user_id": volume.user_id,
        "bootable": "true" if volume.bootable else "false",
        "encrypted": False,
        "replication_status": None,
        "consistencygroup_id": None,
        "multiattach": volume.multiattach,
    }
    admin = call.context.is_admin
    if admin:
        shown["migration_status"] = volume.migration_status
    if version >= (3, 13):
        shown["group_id"] = None
    if version >= (3, 21) and admin:
        shown["provider_id"] = None
    if version >= (3, 48):
        shown["service_uuid"] = None
        shown["shared_targets"] = None if version >= (3, 69) else False
    if version >= (3, 61) and admin:
        shown["cluster_name"] = None
    if version >= (3, 63):
        shown["volume_type_id"] = volume.type_id
    if version >= (3, 65):
        shown["consumes_quota"] = True
    return shown


def snapshot_view(call: Call, snapshot: Snapshot) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": snapshot.id,
        "name": snapshot.name,
        "description": snapshot.description,
        "created_at": iso_seconds(snapshot.created_at),
        "updated_at": iso_seconds(snapshot.updated_at),
        "volume_id": snapshot.volume_id,
        "status": snapshot.status,
        "size": snapshot.size,
        "metadata": snapshot.metadata,
    }
    if call.version >= (3, 41):
        shown["user_id"] = snapshot.user_id
    if call.version >= (3, 65):
        shown["consumes_quota"] = True
    return shown


def snapshot_detail(call: Call, snapshot: Snapshot) -> dict[str, Any]:
    shown = snapshot_view(call, snapshot)
    shown["os-extended-snapshot-attributes:progress"] = snapshot.progress
    shown["os-extended-snapshot-attributes:project_id"] = snapshot.project_id
    if call.version >= (3, 14):
        shown["group_snapshot_id"] = None
    return shown


def attachment_brief(call: Call, tie: Attachment) -> dict[str, Any]:  # noqa: ARG001 - one signature for all views
    return {"id": tie.id, "volume_id": tie.volume_id, "instance": tie.server_id, "status": tie.status}


def attachment_detail(call: Call, tie: Attachment) -> dict[str, Any]:
    return {
        **attachment_brief(call, tie),
        "attached_at": iso_seconds(tie.attached_at) or "",
        "detached_at": "",
        "attach_mode": tie.mode or "null",
        "connection_info": tie.connection_info or {},
    }
