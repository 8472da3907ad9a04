"""Snapshots: volumes as they were."""

from typing import Any

from cumulet.volume import flows, guest_copies
from cumulet.volume.errors import BadSnapshot, BadVolume, SnapshotNotFound, VolumeNotFound
from cumulet.volume.records import Snapshot, Volume, backend_of
from cumulet.volume.service.means import Caller, Means
from cumulet.volume.service.quotas import Quotas
from cumulet.volume.service.volumes import guest_of
from cumulet.volume.store import snapshots, volumes

__all__ = ["Snapshots"]


class Snapshots:
    """See the module's docstring."""

    def __init__(self, means: Means, quotas: Quotas) -> None:
        self._means = means
        self._quotas = quotas

    def get(self, caller: Caller, id: str) -> Snapshot:
        with self._means.db.read() as tx:
            found = snapshots.get(tx, id, project_id=caller.sees)
        if found is None:
            raise SnapshotNotFound(id=id)
        return found

    def create(
        self,
        caller: Caller,
        volume: Volume,
        *,
        name: str | None,
        description: str | None,
        metadata: dict[str, str],
        attached_too: bool,
    ) -> Snapshot:
        """A snapshot in status `creating`.  Raises BadVolume, and what quotas say."""
        now = self._means.clock.now()
        snapshot = Snapshot(
            id=self._means.ids.uuid(),
            volume_id=volume.id,
            project_id=volume.project_id,
            user_id=caller.context.user_id,
            name=name,
            description=description,
            size=volume.size,
            status="creating",
            progress="0%",
            metadata=metadata,
            created_at=now,
            updated_at=now,
        )
        with self._means.db.write() as tx:
            fresh = volumes.get(tx, volume.id)
            if fresh is None:
                raise VolumeNotFound(id=volume.id)
            if fresh.status not in {"available", *(("in-use",) if attached_too else ())}:
                raise BadVolume(
                    reason=f"Volume {volume.id} status must be available, but current status is: {fresh.status}."
                )
            request = flows.SnapshotRequest(snapshot_id=snapshot.id, guest=guest_of(fresh, snapshot.id))
            self._quotas.take(tx, fresh.project_id, fresh.type_id, fresh.type_name, snapshots=1, gib=fresh.size)
            snapshots.add(tx, snapshot)
            self._means.coordinator.begin(
                tx,
                guest_copies.SNAPSHOT_OF_GUEST if request.guest is not None else flows.SNAPSHOT,
                subject_id=volume.id,
                context=caller.context,
                input=request,
                host=backend_of(fresh.host),
            )
        return snapshot

    def delete(self, caller: Caller, snapshot: Snapshot, *, force: bool = False) -> None:
        """Begin the deletion.  Raises BadSnapshot when its status forbids it."""
        with self._means.db.write() as tx:
            making = volumes.ids_from_snapshot(tx, snapshot.id, ("creating",))
            if making:
                raise BadSnapshot(reason=f"Snapshot {snapshot.id} is being used to create a volume.")
            before = ("available", "error", "creating", "unmanaging") if force else ("available", "error")
            if not snapshots.move(tx, snapshot.id, before, "deleting", at=self._means.clock.now()):
                raise BadSnapshot(
                    reason=f"Snapshot status must be available or error to delete, but current status is: {snapshot.status}."
                )
            volume = volumes.get(tx, snapshot.volume_id)
            self._means.coordinator.begin(
                tx,
                flows.SNAPSHOT_DELETE,
                subject_id=snapshot.volume_id,
                context=caller.context,
                input=flows.SnapshotRequest(snapshot_id=snapshot.id),
                host=backend_of(volume.host) if volume is not None else None,
            )

    def update(self, snapshot: Snapshot, **values: Any) -> Snapshot:
        with self._means.db.write() as tx:
            snapshots.set_fields(tx, snapshot.id, at=self._means.clock.now(), **values)
            changed = snapshots.get(tx, snapshot.id)
        if changed is None:
            raise SnapshotNotFound(id=snapshot.id)
        return changed
