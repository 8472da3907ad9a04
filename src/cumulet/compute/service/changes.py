"""What a server's owner may change of it while it lives: image, flavor, lock, state, metadata, tags.

Each method reads and decides, then begins a flow or writes once.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from cumulet.compute import states
from cumulet.compute.records import Server
from cumulet.compute.service.keypairs import snapshot_of
from cumulet.compute.service.quotas import Quotas
from cumulet.compute.service.resolve import Resolver, canonical_v6
from cumulet.compute.service.server_images import volume_backed
from cumulet.compute.service.servers import QuotaExceededError, ServerFlows
from cumulet.compute.store import flavors, migrations, servers, usages
from cumulet.core.clock import Clock
from cumulet.core.context import Context
from cumulet.core.db import Database, Tx
from cumulet.core.errors import BadRequest, Forbidden, NotFound
from cumulet.core.ids import Ids
from cumulet.core.web.client import Credentials
from cumulet.flows.rebuild import REBUILD, RebuildRequest
from cumulet.flows.resize import CONFIRM_RESIZE, RESIZE, REVERT_RESIZE, ResizeRequest

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
        clock: Clock,
        ids: Ids,
    ) -> None:
        self._db = db
        self._flows = flows
        self._resolver = resolver
        self._quotas = quotas
        self._clock = clock
        self._ids = ids

    # --- flows ---------------------------------------------------------------------------------------------------------------------

    def rebuild(self, context: Context, credentials: Credentials, server: Server, body: Mapping[str, Any]) -> Server:
        """A new root disk; what the body names is written with the flow's begin.  The server as it is then."""
        if volume_backed(server):
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
            key = snapshot_of(self._db, context.user_id, body["key_name"])
            fields |= {"key_name": body["key_name"], "key": key}
        if "metadata" in fields:
            self._count_metadata(context, fields["metadata"])
        fields |= {"image_id": image.id, "image_properties": dict(image.properties), "progress": 0}
        request = RebuildRequest(was_stopped=server.vm_state == states.STOPPED)
        self._flows.begin(context, server, "rebuild", REBUILD, request, **fields)
        # as it was when the flow began: it may be further by now
        return msgspec.structs.replace(server, task_state="rebuilding", updated_at=now, **fields)

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
        if not volume_backed(server) and flavor.disk_gb < server.flavor.disk_gb:
            raise BadRequest("Resize error: Unable to resize disk down.")

        def choose(tx: Tx, current: Server) -> tuple[ResizeRequest, Mapping[str, Any]]:
            request = ResizeRequest(
                new_flavor=flavor.snapshot(), old_flavor=current.flavor, was_stopped=current.vm_state == states.STOPPED
            )
            self._note_resize(tx, context, current, flavor.id)
            return request, {"disk_config": disk_config} if disk_config else {}

        self._flows.decide(context, server, "resize", RESIZE, choose)

    def _note_resize(self, tx: Tx, context: Context, server: Server, flavor_id: str) -> None:
        migration = migrations.Migration(
            id=migrations.next_id(tx),
            uuid=self._ids.uuid(),
            server_id=server.id,
            project_id=context.project_id or server.project_id,
            user_id=context.user_id,
            migration_type="resize",
            status="pre-migrating",
            source_host=server.host,
            dest_host=server.host,
            old_flavor_id=server.flavor.id,
            new_flavor_id=flavor_id,
            old_vm_state=server.vm_state,
            created_at=self._clock.now(),
            updated_at=None,
        )
        migrations.add(tx, migration)

    def _fits_quota(self, tx: Tx, server: Server, flavor: flavors.Flavor) -> None:
        limits = self._quotas.limits(tx, server.project_id, server.user_id)
        used = usages.of_project(tx, server.project_id)
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
        def choose(tx: Tx, current: Server) -> tuple[ResizeRequest, Mapping[str, Any]]:
            return self._resized(tx, current, "confirming"), {"old_flavor": None}

        self._flows.decide(context, server, "confirmResize", CONFIRM_RESIZE, choose)

    def revert_resize(self, context: Context, server: Server) -> None:
        def choose(tx: Tx, current: Server) -> tuple[ResizeRequest, Mapping[str, Any]]:
            return self._resized(tx, current, "reverting"), {}

        self._flows.decide(context, server, "revertResize", REVERT_RESIZE, choose)

    def _resized(self, tx: Tx, server: Server, status: str) -> ResizeRequest:
        """The resize to confirm or to take back, its migration moved on to `status`."""
        if server.old_flavor is None:
            raise BadRequest("Instance has not been resized.")
        migration = migrations.newest(tx, server.id)
        migrations.set_status(tx, server.id, status, at=self._clock.now())
        return ResizeRequest(
            new_flavor=server.flavor,
            old_flavor=server.old_flavor,
            was_stopped=migration is not None and migration.old_vm_state == states.STOPPED,
        )

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
