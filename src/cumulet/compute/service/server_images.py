"""Images that are made of servers: of a local root disk its bytes, of a server that boots from a volume snapshots of its volumes."""

from collections.abc import Mapping

import msgspec

from cumulet.compute import states
from cumulet.compute.doors import Doors
from cumulet.compute.records import Server
from cumulet.compute.service.servers import ServerFlows
from cumulet.core.context import Context
from cumulet.core.errors import CloudError, Conflict, Forbidden
from cumulet.core.saga import Flow
from cumulet.core.web.client import Credentials
from cumulet.flows.snapshot import SNAPSHOT, SnapshotRequest
from cumulet.flows.volume_snapshots import VOLUME_SNAPSHOTS, VolumeSnapshotsRequest, backed_by_volumes
from cumulet.image.door import ImageInfo

__all__ = ["ServerImages", "volume_backed"]

#: what a volume keeps of its image beside the image's own properties
_FACTS = frozenset(
    {"image_id", "image_name", "checksum", "container_format", "disk_format", "min_disk", "min_ram", "size"}
)
#: what only the cloud says of an image of volumes
_OF_VOLUMES = frozenset({"block_device_mapping", "bdm_v2", "root_device_name"})


def volume_backed(server: Server) -> bool:
    """Whether the server boots from a volume."""
    return any(device.boot_index == 0 and device.destination == "volume" for device in server.block_devices)


class ServerImages:
    """See the module's docstring."""

    def __init__(self, *, flows: ServerFlows, doors: Doors) -> None:
        self._flows = flows
        self._doors = doors

    def create(
        self, context: Context, credentials: Credentials, server: Server, name: str, metadata: Mapping[str, str]
    ) -> str:
        """A queued image that the server is on its way into.  Its id, known at once."""
        if (server.task_state or "").startswith("image_"):
            raise Conflict(f"Cannot 'createImage' instance {server.id} while it is in task_state {server.task_state}")
        states.allowed("createImage", server.id, server.vm_state, server.task_state)
        self._flows.check_lock(context, server)
        if volume_backed(server):
            return self._of_volumes(context, credentials, server, name, metadata)
        properties = {
            **_kept(server),
            **metadata,
            "image_type": "snapshot",
            "instance_uuid": server.id,
            "user_id": context.user_id,
            "base_image_ref": server.image_id or "",
        }
        image = self._doors.image.create(
            credentials,
            name=name,
            disk_format="qcow2",
            properties=properties,
            min_disk=server.flavor.disk_gb,
            min_ram=0,
        )
        self._begin(context, credentials, server, image, SNAPSHOT, SnapshotRequest(image_id=image.id))
        return image.id

    def _of_volumes(
        self, context: Context, credentials: Credentials, server: Server, name: str, metadata: Mapping[str, str]
    ) -> str:
        volumes = backed_by_volumes(server)
        left = self._doors.volume.snapshots_left(credentials)
        if left is not None and left < len(volumes):
            raise Forbidden("Quota exceeded for resources: snapshots")
        root = next(device for device in volumes if device.boot_index == 0)
        of_root = self._doors.volume.get(credentials, root.volume_id or "").image_metadata
        told = {**of_root, **_kept(server), **metadata, "base_image_ref": server.image_id or ""}
        properties = {key: value for key, value in told.items() if key not in _FACTS | _OF_VOLUMES}
        if server.root_device_name:
            properties["root_device_name"] = server.root_device_name
        image = self._doors.image.create(
            credentials,
            name=name,
            disk_format="raw",  # there will be no byte of any format
            properties=properties,
            min_disk=int(of_root.get("min_disk") or 0),
            min_ram=int(of_root.get("min_ram") or 0),
        )
        request = VolumeSnapshotsRequest(image_id=image.id, image_name=name)
        self._begin(context, credentials, server, image, VOLUME_SNAPSHOTS, request)
        return image.id

    def _begin(
        self,
        context: Context,
        credentials: Credentials,
        server: Server,
        image: ImageInfo,
        flow: Flow,
        request: msgspec.Struct,
    ) -> None:
        try:
            self._flows.begin(context, server, "createImage", flow, request)
        except CloudError:
            # somebody else was first: nothing will ever fill this image
            self._doors.image.delete(credentials, image.id)
            raise


def _kept(server: Server) -> dict[str, str]:
    """The properties of the image that the server was made of."""
    return {name: str(value) for name, value in server.image_properties.items() if isinstance(value, str | int | bool)}
