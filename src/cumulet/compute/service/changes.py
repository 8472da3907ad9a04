"""What a server's owner may change of it while it lives: image, flavor, lock, state, snapshot, metadata, tags.

Each method reads and decides, then begins a flow or writes once.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from cumulet.compute import states
from cumulet.compute.records import KeySnapshot, Server
from cumulet.compute.service.quotas import Quotas
from cumulet.compute.service.resolve import Resolver, canonical_v6
from cumulet.compute.service.servers import QuotaExceededError, ServerFlows
from cumulet.compute.store import flavors, keypairs, servers
from cumulet.core.clock import Clock
from cumulet.core.context import Context
from cumulet.core.db import Database, Tx
from cumulet.core.errors import BadRequest, CloudError, Conflict, Forbidden, NotFound
from cumulet.core.ids import Ids
from cumulet.core.web.client import Credentials
from cumulet.flows.rebuild import REBUILD, RebuildRequest
from cumulet.flows.resize import CONFIRM_RESIZE, RESIZE, REVERT_RESIZE, ResizeRequest
from cumulet.flows.snapshot import SNAPSHOT, SnapshotRequest, make_image
from cumulet.image.door import ImageDoor

__all__ = ["ServerChanges"]

TAGS_MAX = 50
#: where metadata may change
SETTLED = frozenset({states.ACTIVE, states.PAUSED, states.SUSPENDED, states.STOPPED})


class ServerChanges:
    """See the module's docstring."""

    def __init__(
        self,
        db: Database,
        *,
        flows: ServerFlows,
        resolver: Resolver,
        quotas: Quotas,
        image: ImageDoor,
        clock: Clock,
        ids: Ids,
    ) -> None:
        self._db = db
        self._flows = flows
        self._resolver = resolver
        self._quotas = quotas
        self._image = image
        self._clock = clock
        self._ids = ids

    # --- flows ---------------------------------------------------------------------------------------------------------------------

    def rebuild(self, context: Context, credentials: Credentials, server: Server, body: Mapping[str, Any]) -> Server:
        """A new root disk; what the body names is written with the flow's begin.  The server as it is then."""
        if _volume_backed(server):
            raise BadRequest("Unable to rebuild with a different image for a volume-backed server.")
        image = self._resolver.image(credentials, body["imageRef"])
        now = self._clock.now()
        current = flavors.Flavor(
            **msgspec.structs.asdict(server.flavor), description=None, is_public=True, disabled=False, created_at=now
        )
        self._resolver.check_fits(image, current, volume_backed=False)
        columns = {
            "name": "name",
            "metadata": "metadata",
            "description": "description",
            "hostname": "hostname",
            "accessIPv4": "access_ip_v4",
            "accessIPv6": "access_ip_v6",
            "OS-DCF:diskConfig": "disk_config",
            "user_data": "user_data",
        }
        fields = {column: body[key] for key, column in columns.items() if key in body}
        if "access_ip_v6" in fields:
            fields["access_ip_v6"] = canonical_v6(fields["access_ip_v6"])
        if "key_name" in body:
            key = self._key(context, body["key_name"])
            fields |= {"key_name": body["key_name"], "key": key}
        if "metadata" in fields:
            self._count_metadata(context, fields["metadata"])
        fields |= {"image_id": image.id, "image_properties": dict(image.properties), "progress": 0}
        request = RebuildRequest(was_stopped=server.vm_state == states.STOPPED)
        self._flows.begin(context, server, "rebuild", REBUILD, request, **fields)
        # as it was when the flow began: it may be further by now
        return msgspec.structs.replace(server, task_state="rebuilding", updated_at=now, **fields)

    def _key(self, context: Context, name: str | None) -> KeySnapshot | None:
        if name is None:
            return None
        with self._db.read() as tx:
            key = keypairs.get(tx, context.user_id, name)
        if key is None:
            raise BadRequest("Invalid key_name provided.")
        return KeySnapshot(name=key.name, type=key.type, public_key=key.public_key)

    def resize(self, context: Context, server: Server, flavor_id: str, disk_config: str | None) -> None:
        self._flows.check_lock(context, server)
        states.allowed("resize", server.id, server.vm_state, server.task_state)
        with self._db.read() as tx:
            flavor = flavors.get(tx, flavor_id, project_id=None if context.is_admin else context.project_id)
            if flavor is not None:
                self._fits_quota(tx, server, flavor)
        if flavor is None:
            raise BadRequest(f"Flavor {flavor_id} could not be found.")
        if flavor.id == server.flavor.id:
            raise BadRequest("When resizing, instances must change flavor!")
        if not _volume_backed(server) and flavor.disk_gb < server.flavor.disk_gb:
            raise BadRequest("Resize error: Unable to resize disk down.")
        fields = {"disk_config": disk_config} if disk_config else {}
        request = ResizeRequest(
            new_flavor=flavor.snapshot(), old_flavor=server.flavor, was_stopped=server.vm_state == states.STOPPED
        )
        self._flows.begin(context, server, "resize", RESIZE, request, **fields)

    def _fits_quota(self, tx: Tx, server: Server, flavor: flavors.Flavor) -> None:
        limits = self._quotas.limits(tx, server.project_id, server.user_id)
        used = servers.usage(tx, server.project_id)
        more = {"cores": flavor.vcpus - server.flavor.vcpus, "ram": flavor.ram_mb - server.flavor.ram_mb}
        over = [name for name, amount in more.items() if amount > 0 and 0 <= limits[name] < used[name] + amount]
        if over:
            raise QuotaExceededError(
                overs=", ".join(over),
                requested=", ".join(str(more[name]) for name in over),
                used=", ".join(str(used[name]) for name in over),
                allowed=", ".join(str(limits[name]) for name in over),
            )

    def confirm_resize(self, context: Context, server: Server) -> None:
        self._flows.begin(context, server, "confirmResize", CONFIRM_RESIZE, self._resized(server), old_flavor=None)

    def revert_resize(self, context: Context, server: Server) -> None:
        self._flows.begin(context, server, "revertResize", REVERT_RESIZE, self._resized(server))

    @staticmethod
    def _resized(server: Server) -> ResizeRequest:
        if server.old_flavor is None:
            raise BadRequest("Instance has not been resized.")
        return ResizeRequest(
            new_flavor=server.flavor, old_flavor=server.old_flavor, was_stopped=server.power_state == states.SHUTDOWN
        )

    def snapshot(
        self, context: Context, credentials: Credentials, server: Server, name: str, metadata: Mapping[str, str]
    ) -> str:
        """An image that is made of the root disk.  Its id, known at once."""
        if _volume_backed(server):
            raise BadRequest("Creating an image of a volume-backed server is not supported; snapshot its volume.")
        if server.task_state == "image_snapshot" or (server.task_state or "").startswith("image_"):
            raise Conflict(f"Cannot 'createImage' instance {server.id} while it is in task_state {server.task_state}")
        states.allowed("createImage", server.id, server.vm_state, server.task_state)
        self._flows.check_lock(context, server)
        kept = {
            name: str(value) for name, value in server.image_properties.items() if isinstance(value, str | int | bool)
        }
        properties = {
            **kept,
            **metadata,
            "image_type": "snapshot",
            "instance_uuid": server.id,
            "user_id": context.user_id,
            "base_image_ref": server.image_id or "",
        }
        request = SnapshotRequest(
            image_id=self._ids.uuid(), name=name, properties=properties, min_disk=server.flavor.disk_gb
        )
        saga_id = self._flows.begin(context, server, "createImage", SNAPSHOT, request)
        try:
            make_image(self._image, credentials, request)
        except CloudError as error:
            self._flows.give_up(saga_id, error)
            raise
        return request.image_id

    # --- plain writes --------------------------------------------------------------------------------------------------------------

    def lock(self, context: Context, server: Server, reason: str | None) -> None:
        by = "admin" if context.is_admin and context.project_id != server.project_id else "owner"
        self._set(server, locked=True, locked_by=by, locked_reason=reason)

    def unlock(self, server: Server) -> None:
        self._set(server, locked=False, locked_by=None, locked_reason=None)

    def reset_state(self, server: Server, vm_state: str) -> None:
        self._set(server, vm_state=vm_state, task_state=None)

    def forget_password(self, server: Server) -> None:
        self._set(server, password=None)

    def set_metadata(
        self, context: Context, server: Server, change: Callable[[dict[str, str]], dict[str, str]]
    ) -> dict[str, str]:
        """Replace a server's metadata by what `change` makes of it."""
        self._flows.check_lock(context, server)
        if server.vm_state not in SETTLED:
            msg = f"Cannot 'update_instance_metadata' instance {server.id} while it is in vm_state {server.vm_state}"
            raise states.InstanceInInvalidStateError(msg)
        with self._db.write() as tx:
            current = self._live(tx, server)
            metadata = change(dict(current.metadata))
            self._count_metadata(context, metadata, tx)
            servers.set_fields(tx, server.id, metadata=metadata, at=self._clock.now())
        return metadata

    def _count_metadata(self, context: Context, metadata: Mapping[str, str], tx: Tx | None = None) -> None:
        project = context.project_id or ""
        limit = (
            self._quotas.limit(tx, "metadata_items", project)
            if tx
            else self._quotas.of_project(project)["metadata_items"]
        )
        if 0 <= limit < len(metadata):
            raise Forbidden("Maximum number of metadata items exceeds " + str(limit))

    def set_tags(self, server: Server, change: Callable[[list[str]], list[str]]) -> list[str]:
        """Replace a server's tags by what `change` makes of them."""
        with self._db.write() as tx:
            current = self._live(tx, server)
            tags = change(list(current.tags))
            if len(tags) > TAGS_MAX:
                raise BadRequest(f"The number of tags exceeded the per-server limit {TAGS_MAX}")
            servers.set_fields(tx, server.id, tags=tags, at=self._clock.now())
        return tags

    def _set(self, server: Server, **values: Any) -> None:
        with self._db.write() as tx:
            servers.set_fields(tx, server.id, at=self._clock.now(), **values)

    @staticmethod
    def _live(tx: Tx, server: Server) -> Server:
        current = servers.get(tx, server.id)
        if current is None:
            raise NotFound(f"Instance {server.id} could not be found.")
        return current


def _volume_backed(server: Server) -> bool:
    return any(device.boot_index == 0 and device.destination == "volume" for device in server.block_devices)
