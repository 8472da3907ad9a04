"""What other services may do with volumes: find, make and delete them, attach them to servers, keep them as snapshots."""

import json
from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from cumulet.core.errors import NotFound
from cumulet.core.web.client import Client, Credentials, path
from cumulet.core.web.http import AGAIN

__all__ = ["AttachmentInfo", "SnapshotInfo", "VolumeDoor", "VolumeInfo", "VolumeRest"]

VERSION = {"openstack-api-version": "volume 3.70"}


class VolumeInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A volume.  size is GiB; attachments as the API shows them."""

    id: str
    name: str
    status: str
    size: int
    bootable: bool
    multiattach: bool
    encrypted: bool
    #: None where the caller may not know it
    project_id: str | None
    volume_type: str | None
    availability_zone: str | None
    attachments: list[dict[str, Any]]
    #: of the image that the volume was made from
    image_metadata: dict[str, str]
    metadata: dict[str, str]


class AttachmentInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A volume's tie to a server.  status: reserved, attaching, attached, detached."""

    id: str
    volume_id: str
    server_id: str | None
    status: str


class SnapshotInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A volume as it was.  size is GiB."""

    id: str
    name: str
    status: str
    size: int
    volume_id: str


class VolumeDoor(Protocol):
    """Volumes, to another service."""

    def get(self, credentials: Credentials, volume_id: str) -> VolumeInfo:
        """A volume that the caller may see.  Raises NotFound."""

    def create(
        self,
        credentials: Credentials,
        *,
        project_id: str,
        size_gb: int | None,
        image_id: str | None = None,
        snapshot_id: str | None = None,
        volume_type: str | None = None,
        name: str = "",
        metadata: Mapping[str, str] | None = None,
        availability_zone: str | None = None,
        key: str | None = None,
    ) -> VolumeInfo:
        """A volume in status `creating`, of a project that only a service may name freely; one for one `key`, however often and
        late its requests come.  Raises PayloadTooLarge over quota.
        """

    def delete(self, credentials: Credentials, volume_id: str) -> None:
        """Begin a volume's deletion.  Raises NotFound, BadRequest while it is attached."""

    def list_marked(self, credentials: Credentials, metadata: Mapping[str, str]) -> list[VolumeInfo]:
        """Volumes with these metadata: of all projects for a service, of the caller's own else."""

    def create_attachment(self, credentials: Credentials, *, volume_id: str, server_id: str) -> str:
        """Reserve a volume for a server; the attachment's id.  Raises BadRequest when its status forbids it."""

    def attach(
        self, credentials: Credentials, connector: dict[str, Any], *, volume_id: str, server_id: str, mountpoint: str
    ) -> tuple[str, dict[str, Any]]:
        """`create_attachment` and `connect` in one: the attachment's id and its `connection_info`; neither if either fails."""

    def connect(
        self, credentials: Credentials, attachment_id: str, connector: dict[str, Any], *, mountpoint: str
    ) -> dict[str, Any]:
        """Let a host reach the attachment's volume: `connection_info` in the reference's shape."""

    def complete_attachment(self, credentials: Credentials, attachment_id: str) -> None:
        """The server has the disk: the volume is in use."""

    def delete_attachment(self, credentials: Credentials, attachment_id: str) -> None:
        """The host has let go; an attachment that is gone is fine."""

    def attachments_of(self, credentials: Credentials, *, server_id: str) -> list[AttachmentInfo]:
        """A server's attachments."""

    def create_snapshot(
        self,
        credentials: Credentials,
        volume_id: str,
        name: str,
        force: bool,
        *,
        metadata: Mapping[str, str] | None = None,
    ) -> SnapshotInfo:
        """A snapshot in status `creating`; `force` allows an attached volume.  Raises PayloadTooLarge over quota."""

    def snapshots_marked(self, credentials: Credentials, metadata: Mapping[str, str]) -> list[SnapshotInfo]:
        """Snapshots with these metadata: of all projects for a service, of the caller's own else."""

    def snapshots_left(self, credentials: Credentials) -> int | None:
        """How many snapshots the caller's project may still make; None for any number."""

    def get_snapshot(self, credentials: Credentials, snapshot_id: str) -> SnapshotInfo:
        """A snapshot that the caller may see.  Raises NotFound."""

    def delete_snapshot(self, credentials: Credentials, snapshot_id: str) -> None:
        """Begin a snapshot's deletion; one that is gone is fine."""


class VolumeRest:
    """The door, by the public API."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def _call(self, method: str, where: str, credentials: Credentials, **more: Any) -> Any:
        return self._client.call(method, where, credentials, headers=VERSION, **more)

    def get(self, credentials: Credentials, volume_id: str) -> VolumeInfo:
        return _volume(self._call("GET", path("v3", "volumes", volume_id), credentials)["volume"])

    def create(
        self,
        credentials: Credentials,
        *,
        project_id: str,
        size_gb: int | None,
        image_id: str | None = None,
        snapshot_id: str | None = None,
        volume_type: str | None = None,
        name: str = "",
        metadata: Mapping[str, str] | None = None,
        availability_zone: str | None = None,
        key: str | None = None,
    ) -> VolumeInfo:
        given = {
            "size": size_gb,
            "imageRef": image_id,
            "snapshot_id": snapshot_id,
            "volume_type": volume_type,
            "availability_zone": availability_zone,
        }
        body = {
            "name": name,
            "metadata": dict(metadata or {}),
            **{key: value for key, value in given.items() if value is not None},
        }
        headers = VERSION if key is None else VERSION | {AGAIN: key}
        where = path("v3", project_id, "volumes")
        document = self._client.call("POST", where, credentials, headers=headers, json={"volume": body})
        # the answer of a creation does not say whose the volume is
        return msgspec.structs.replace(_volume(document["volume"]), project_id=project_id)

    def delete(self, credentials: Credentials, volume_id: str) -> None:
        self._call("DELETE", path("v3", "volumes", volume_id), credentials)

    def list_marked(self, credentials: Credentials, metadata: Mapping[str, str]) -> list[VolumeInfo]:
        query = {"metadata": json.dumps(dict(metadata)), "all_tenants": "1"}
        document = self._call("GET", "/v3/volumes/detail", credentials, query=query)
        return [_volume(volume) for volume in document["volumes"]]

    def create_attachment(self, credentials: Credentials, *, volume_id: str, server_id: str) -> str:
        body = {"volume_uuid": volume_id, "instance_uuid": server_id}
        document = self._call("POST", "/v3/attachments", credentials, json={"attachment": body})
        return str(document["attachment"]["id"])

    def attach(
        self, credentials: Credentials, connector: dict[str, Any], *, volume_id: str, server_id: str, mountpoint: str
    ) -> tuple[str, dict[str, Any]]:
        there = {**connector, "mountpoint": mountpoint}
        body = {"volume_uuid": volume_id, "instance_uuid": server_id, "connector": there}
        shown = self._call("POST", "/v3/attachments", credentials, json={"attachment": body})["attachment"]
        return str(shown["id"]), _connection(shown)

    def connect(
        self, credentials: Credentials, attachment_id: str, connector: dict[str, Any], *, mountpoint: str
    ) -> dict[str, Any]:
        body = {"attachment": {"connector": {**connector, "mountpoint": mountpoint}}}
        document = self._call("PUT", path("v3", "attachments", attachment_id), credentials, json=body)
        return _connection(document["attachment"])

    def complete_attachment(self, credentials: Credentials, attachment_id: str) -> None:
        self._call("POST", path("v3", "attachments", attachment_id, "action"), credentials, json={"os-complete": None})

    def delete_attachment(self, credentials: Credentials, attachment_id: str) -> None:
        try:
            self._call("DELETE", path("v3", "attachments", attachment_id), credentials)
        except NotFound:
            return

    def attachments_of(self, credentials: Credentials, *, server_id: str) -> list[AttachmentInfo]:
        query = {"instance_id": server_id, "all_tenants": "1"}
        document = self._call("GET", "/v3/attachments", credentials, query=query)
        return [
            AttachmentInfo(
                id=entry["id"], volume_id=entry["volume_id"], server_id=entry["instance"], status=entry["status"]
            )
            for entry in document["attachments"]
        ]

    def create_snapshot(
        self,
        credentials: Credentials,
        volume_id: str,
        name: str,
        force: bool,
        *,
        metadata: Mapping[str, str] | None = None,
    ) -> SnapshotInfo:
        # from 3.66 on a snapshot of an attached volume needs no `force`, and it may not be said; so it is the caller's duty
        headers = {"openstack-api-version": "volume 3.65"}
        snapshot = {"volume_id": volume_id, "name": name, "force": force, "metadata": dict(metadata or {})}
        body = {"snapshot": snapshot}
        return _snapshot(
            self._client.call("POST", "/v3/snapshots", credentials, headers=headers, json=body)["snapshot"]
        )

    def snapshots_marked(self, credentials: Credentials, metadata: Mapping[str, str]) -> list[SnapshotInfo]:
        query = {"metadata": json.dumps(dict(metadata)), "all_tenants": "1"}
        document = self._call("GET", "/v3/snapshots/detail", credentials, query=query)
        return [_snapshot(snapshot) for snapshot in document["snapshots"]]

    def snapshots_left(self, credentials: Credentials) -> int | None:
        absolute = self._call("GET", "/v3/limits", credentials)["limits"]["absolute"]
        most = int(absolute["maxTotalSnapshots"])
        return None if most < 0 else max(0, most - int(absolute["totalSnapshotsUsed"]))

    def get_snapshot(self, credentials: Credentials, snapshot_id: str) -> SnapshotInfo:
        return _snapshot(self._call("GET", path("v3", "snapshots", snapshot_id), credentials)["snapshot"])

    def delete_snapshot(self, credentials: Credentials, snapshot_id: str) -> None:
        try:
            self._call("DELETE", path("v3", "snapshots", snapshot_id), credentials)
        except NotFound:
            return


def _volume(shown: Mapping[str, Any]) -> VolumeInfo:
    return VolumeInfo(
        id=shown["id"],
        name=shown["name"] or "",
        status=shown["status"],
        size=shown["size"],
        bootable=shown["bootable"] == "true",
        multiattach=shown["multiattach"],
        encrypted=shown["encrypted"],
        project_id=shown.get("os-vol-tenant-attr:tenant_id"),
        volume_type=shown["volume_type"],
        availability_zone=shown["availability_zone"],
        attachments=shown["attachments"],
        image_metadata=shown.get("volume_image_metadata") or {},
        metadata=shown["metadata"],
    )


def _connection(attachment: Mapping[str, Any]) -> dict[str, Any]:
    """In the shape that hypervisors take."""
    shown: dict[str, Any] = attachment["connection_info"]
    data = {key: value for key, value in shown.items() if key not in {"driver_volume_type", "attachment_id"}}
    return {"driver_volume_type": shown["driver_volume_type"], "data": data, "attachment_id": attachment["id"]}


def _snapshot(shown: Mapping[str, Any]) -> SnapshotInfo:
    return SnapshotInfo(
        id=shown["id"],
        name=shown["name"] or "",
        status=shown["status"],
        size=shown["size"],
        volume_id=shown["volume_id"],
    )
