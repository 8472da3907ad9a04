"""Images that are made of servers: of a local root disk its bytes, of a server that boots from a volume snapshots of its volumes."""

from collections.abc import Mapping

from cumulet.compute import states
from cumulet.compute.doors import Doors
from cumulet.compute.records import Server
from cumulet.compute.service.servers import ServerFlows
from cumulet.core.context import Context
from cumulet.core.errors import CloudError, Conflict, Forbidden
from cumulet.core.ids import Ids
from cumulet.core.saga import Flow
from cumulet.core.web.client import Credentials
from cumulet.flows.snapshot import SNAPSHOT, SnapshotRequest, make_image
from cumulet.flows.volume_snapshots import VOLUME_SNAPSHOTS, backed_by_volumes

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

    def __init__(self, *, flows: ServerFlows, doors: Doors, ids: Ids) -> None:
        self._flows = flows
        self._doors = doors
        self._ids = ids

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
        request = SnapshotRequest(
            image_id=self._ids.uuid(), name=name, properties=properties, min_disk=server.flavor.disk_gb
        )
        return self._begin(context, credentials, server, SNAPSHOT, request)

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
        request = SnapshotRequest(
            image_id=self._ids.uuid(),
            name=name,
            disk_format="raw",  # there will be no byte of any format
            properties=properties,
            min_disk=int(of_root.get("min_disk") or 0),
            min_ram=int(of_root.get("min_ram") or 0),
        )
        return self._begin(context, credentials, server, VOLUME_SNAPSHOTS, request)

    def _begin(
        self, context: Context, credentials: Credentials, server: Server, flow: Flow, request: SnapshotRequest
    ) -> str:
        saga_id = self._flows.begin(context, server, "createImage", flow, request)
        try:
            make_image(self._doors.image, credentials, request)
        except CloudError as error:
            self._flows.give_up(saga_id, error)
            raise
        return request.image_id


def _kept(server: Server) -> dict[str, str]:
    """The properties of the image that the server was made of."""
    return {name: str(value) for name, value in server.image_properties.items() if isinstance(value, str | int | bool)}
