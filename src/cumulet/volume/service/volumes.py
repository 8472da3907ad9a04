"""Volumes: made, found, changed, deleted.

A write reads, decides, and then moves the status and begins the saga in one transaction; whoever comes second meets the new status.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from cumulet.core.db import Tx
from cumulet.core.errors import BadRequest, CloudError, Forbidden, NotFound
from cumulet.core.keys import Key
from cumulet.core.saga import Failure
from cumulet.image.door import ImageInfo
from cumulet.volume import flows, guest_copies
from cumulet.volume.errors import BadInput, BadVolume, SnapshotNotFound, TypeNotFound, VolumeNotFound
from cumulet.volume.messages import SelectRequest
from cumulet.volume.records import Snapshot, Volume, VolumeType, backend_of
from cumulet.volume.service.means import Caller, Means
from cumulet.volume.service.quotas import Quotas
from cumulet.volume.store import snapshots, types, volumes

__all__ = ["DELETABLE", "NewVolume", "Volumes", "guest_of"]

GIB = 1 << 30
DELETABLE = ("available", "error", "error_restoring", "error_extending", "error_managing")
#: a volume's type may be named by its image
TYPE_OF_IMAGE = "cinder_img_volume_type"


class NewVolume(msgspec.Struct, frozen=True, kw_only=True):
    """A creation's body, as given."""

    size_gib: int | None
    name: str | None = None
    description: str | None = None
    type: str | None = None
    image_id: str | None = None
    snapshot_id: str | None = None
    source_id: str | None = None
    zone: str | None = None
    metadata: dict[str, str] = {}
    multiattach: bool = False


class _ImageDevice(msgspec.Struct, frozen=True, kw_only=True):
    """Of a disk that an image names, what tells a boot disk's snapshot."""

    source_type: str | None = None
    boot_index: int | None = None
    snapshot_id: str | None = None


class _Source(msgspec.Struct, frozen=True, kw_only=True):
    """What a new volume begins with."""

    image: ImageInfo | None = None
    snapshot: Snapshot | None = None
    #: the snapshot's volume, or the one to be cloned
    volume: Volume | None = None


class Volumes:
    """See the module's docstring."""

    def __init__(self, means: Means, quotas: Quotas) -> None:
        self._means = means
        self._quotas = quotas

    # --- found -----------------------------------------------------------------------------------------------------

    def get(self, caller: Caller, id: str) -> Volume:
        """Raises VolumeNotFound, also for what is another project's."""
        with self._means.db.read() as tx:
            return self.find(tx, caller, id)

    @staticmethod
    def find(tx: Tx, caller: Caller, id: str) -> Volume:
        volume = volumes.get(tx, id, project_id=caller.sees)
        if volume is None:
            raise VolumeNotFound(id=id)
        return volume

    # --- made ------------------------------------------------------------------------------------------------------

    def create(self, caller: Caller, new: NewVolume, *, key: Key | None = None) -> Volume:
        """A volume in status `creating`.  Raises BadRequest, NotFound, and what quotas say."""
        source = self._source(caller, new)
        if source.image is not None and (snapshot_id := _boot_snapshot(source.image)) is not None:
            # an image without a byte, of a server that boots from a volume: what it stands for is the snapshot
            new = msgspec.structs.replace(new, image_id=None, snapshot_id=snapshot_id)
            source = self._source(caller, new)
        size = self._size(new, source)
        if new.zone is not None and new.zone != self._means.config.zone:
            raise BadInput(reason=f"Availability zone '{new.zone}' is invalid.")
        with self._means.db.read() as tx:
            kind = self._type(tx, caller, new, source)
        now = self._means.clock.now()
        volume = Volume(
            id=self._means.ids.uuid(),
            project_id=caller.project_id,
            user_id=caller.context.user_id,
            name=new.name,
            description=new.description,
            size=size,
            status="creating",
            previous_status=None,
            migration_status=None,
            availability_zone=new.zone or self._means.config.zone,
            host=None,
            bootable=source.volume.bootable if source.volume is not None else False,
            multiattach=new.multiattach or kind.multiattach,
            type_id=kind.id,
            type_name=kind.name,
            snapshot_id=new.snapshot_id,
            source_volid=new.source_id,
            image_metadata=dict(source.volume.image_metadata) if source.volume is not None else {},
            admin_metadata={},
            metadata=new.metadata,
            attachments=[],
            created_at=now,
            updated_at=now,
        )
        select = SelectRequest(
            volume_id=volume.id,
            size_gib=size,
            type_name=kind.name,
            extra_specs=kind.extra_specs,
            zone=new.zone,
            multiattach=volume.multiattach,
            beside=source.volume.host if source.volume is not None else None,
        )
        request = flows.CreateRequest(
            select=select,
            image_id=source.image.id if source.image is not None else None,
            snapshot_id=new.snapshot_id,
            source_id=new.source_id,
            guest=guest_of(source.volume, volume.id) if new.source_id is not None and source.volume else None,
        )
        flow = guest_copies.CREATE_FROM_GUEST if request.guest is not None else flows.CREATE
        with self._means.db.write() as tx:
            self._quotas.take(tx, caller.project_id, kind.id, kind.name, volumes=1, gib=size, size_gib=size)
            volumes.add(tx, volume)
            self._means.coordinator.begin(tx, flow, subject_id=volume.id, context=caller.context, input=request)
            if key is not None:
                key.keep(tx, [volume.id])
        return volume

    def _source(self, caller: Caller, new: NewVolume) -> _Source:
        given = [source for source in (new.image_id, new.snapshot_id, new.source_id) if source is not None]
        if len(given) > 1:
            raise BadInput(reason="May specify only one of snapshot, imageRef or source volume")
        if new.image_id is not None:
            return _Source(image=self._image(caller, new.image_id))
        with self._means.db.read() as tx:
            if new.snapshot_id is not None:
                snapshot = snapshots.get(tx, new.snapshot_id, project_id=caller.sees)
                if snapshot is None:
                    raise SnapshotNotFound(id=new.snapshot_id)
                if snapshot.status not in {"available", "backing-up"}:
                    raise BadInput(reason=f"Invalid snapshot: status must be available, but is {snapshot.status}.")
                return _Source(snapshot=snapshot, volume=volumes.get(tx, snapshot.volume_id))
            if new.source_id is not None:
                volume = self.find(tx, caller, new.source_id)
                if volume.status not in {"available", "in-use"}:
                    raise BadVolume(reason=f"source volume status must be available or in-use, but is {volume.status}.")
                return _Source(volume=volume)
        return _Source()

    def _image(self, caller: Caller, image_id: str) -> ImageInfo:
        """The caller's own eyes decide whether there is such an image."""
        try:
            image = self._means.image.get(image_id, self._means.credentials(caller.context))
        except (NotFound, Forbidden, BadRequest):
            raise BadRequest("Invalid image identifier or unable to access requested image.") from None
        if image.status != "active":
            raise BadInput(reason=f"Image {image_id} is not active.")
        return image

    def _size(self, new: NewVolume, source: _Source) -> int:
        size = new.size_gib
        if size is None:
            known = (
                source.snapshot.size if source.snapshot is not None else source.volume.size if source.volume else None
            )
            if known is None:
                raise BadInput(reason="Volume size must be an integer greater than 0.")
            size = known
        if not 0 < size <= self._means.config.size_max_gib:
            raise BadInput(reason=f"Volume size '{size}' must be an integer and greater than 0")
        if source.snapshot is not None and size < source.snapshot.size:
            raise BadInput(
                reason=f"Volume size '{size}'GB cannot be smaller than the snapshot size {source.snapshot.size}GB. "
                "They must be >= original snapshot size."
            )
        if source.snapshot is None and source.volume is not None and size < source.volume.size:
            raise BadInput(
                reason=f"Clones currently disallowed when {size} < {source.volume.size}. They must be >= original volume size."
            )
        if source.image is not None:
            _fits(source.image, size)
        return size

    def _type(self, tx: Tx, caller: Caller, new: NewVolume, source: _Source) -> VolumeType:
        if new.type is not None:
            found = types.find(tx, new.type, project_id=caller.sees)
            if found is None:
                raise TypeNotFound(id=new.type)
            return found
        if source.volume is not None:
            kept = types.get(tx, source.volume.type_id)
            if kept is not None:
                return kept
        named = source.image.properties.get(TYPE_OF_IMAGE) if source.image is not None else None
        if named is not None:
            found = types.find(tx, named, project_id=caller.sees)
            if found is not None:
                return found
        return self.default_type(tx, caller.project_id)

    def default_type(self, tx: Tx, project_id: str) -> VolumeType:
        """The project's own default, else the configured one."""
        own = types.default_of(tx, project_id)
        found = types.get(tx, own) if own is not None else None
        found = found or types.by_name(tx, self._means.config.default_type)
        if found is None:
            raise TypeNotFound(id=self._means.config.default_type)
        return found

    # --- changed ---------------------------------------------------------------------------------------------------

    def update(self, volume: Volume, **values: Any) -> None:
        with self._means.db.write() as tx:
            if not volumes.set_fields(tx, volume.id, at=self._means.clock.now(), **values):
                raise VolumeNotFound(id=volume.id)

    def move(self, volume: Volume, before: tuple[str, ...], after: str, *, verb: str, **values: Any) -> None:
        """Compare-and-set of the status.  Raises BadVolume when it is another one."""
        with self._means.db.write() as tx:
            self._move(tx, volume, before, after, verb=verb, **values)

    def _move(self, tx: Tx, volume: Volume, before: tuple[str, ...], after: str, *, verb: str, **values: Any) -> None:
        if not volumes.move(tx, volume.id, before, after, at=self._means.clock.now(), **values):
            now = volumes.get(tx, volume.id)
            if now is None:
                raise VolumeNotFound(id=volume.id)
            wanted = " or ".join(before)
            raise BadVolume(
                reason=f"Volume {volume.id} status must be {wanted} to {verb}, but current status is: {now.status}."
            )
        self._means.changes.note(tx, volume.id)

    def reset_status(self, volume: Volume, values: Mapping[str, str | None]) -> None:
        """An admin knows better."""
        with self._means.db.write() as tx:
            volumes.set_fields(tx, volume.id, at=self._means.clock.now(), **values)
            self._means.changes.note(tx, volume.id)

    def extend(self, caller: Caller, volume: Volume, size_gib: int, *, attached_too: bool) -> None:
        """Grow; an attached volume only where compute is told, and where the version allows it."""
        attached = volume.status == "in-use"
        before = ("available", "in-use") if attached_too and self._means.guests_grow else ("available",)
        if size_gib <= volume.size:
            raise BadInput(
                reason="New size for extend must be greater than current size. "
                f"(current: {volume.size}, extended: {size_gib})."
            )
        request = flows.ExtendRequest(size_gib=size_gib, attached=attached)
        with self._means.db.write() as tx:
            more = size_gib - volume.size
            self._quotas.take(tx, volume.project_id, volume.type_id, volume.type_name, gib=more, size_gib=size_gib)
            expected = (volume.status,) if volume.status in before else before
            self._move(tx, volume, expected, "extending", verb="extend", previous_status=volume.status)
            self._begin(tx, flows.EXTEND, caller, volume, request)

    def retype(self, caller: Caller, volume: Volume, key: str, *, policy: str) -> None:
        """Another type on the same back end: a word in the row.  What would have to move is refused, as nothing moves here."""
        with self._means.db.read() as tx:
            found = types.find(tx, key, project_id=caller.sees)
        if found is None:
            raise TypeNotFound(id=key)
        if found.id == volume.type_id:
            raise BadInput(reason=f"New volume_type same as original: {found.id}.")
        backend = found.extra_specs.get("volume_backend_name")
        here = (backend_of(volume.host) or "").partition("@")[2]
        if backend is not None and backend != here:
            raise BadVolume(reason=f"Retype requires migration but is not allowed (migration policy {policy}).")
        if found.multiattach != volume.multiattach and volume.status == "in-use":
            raise BadInput(reason="Retype of an in-use volume from or to a multiattach type is not allowed.")
        with self._means.db.write() as tx:
            done = volumes.move(
                tx,
                volume.id,
                (volume.status,) if volume.status in {"available", "in-use"} else ("available",),
                volume.status,
                at=self._means.clock.now(),
                type_id=found.id,
                multiattach=found.multiattach,
            )
        if not done:
            raise BadVolume(
                reason=f"Volume {volume.id} status must be available or in-use to retype, but current status is: {volume.status}."
            )

    def revert(self, caller: Caller, volume: Volume, snapshot_id: str) -> None:
        """Back to the latest snapshot."""
        now = self._means.clock.now()
        with self._means.db.write() as tx:
            snapshot = snapshots.get(tx, snapshot_id, project_id=caller.sees)
            if snapshot is None:
                raise SnapshotNotFound(id=snapshot_id)
            latest = snapshots.of_volume(tx, volume.id)
            if not latest or latest[0].id != snapshot_id:
                raise BadInput(
                    reason=f"Specified snapshot {snapshot_id} is None or not the latest one of volume {volume.id}."
                )
            if volume.size < snapshot.size:
                raise BadVolume(reason="The volume is smaller than the snapshot.")
            if not snapshots.move(tx, snapshot_id, "available", "restoring", at=now):
                raise BadInput(
                    reason=f"Snapshot {snapshot_id} status must be available, but current status is: {snapshot.status}."
                )
            self._move(tx, volume, ("available",), "reverting", verb="revert", previous_status=volume.status)
            self._begin(tx, flows.REVERT, caller, volume, flows.SnapshotRequest(snapshot_id=snapshot_id))

    def upload(
        self,
        caller: Caller,
        volume: Volume,
        *,
        name: str,
        disk_format: str,
        container_format: str,
        visibility: str,
        force: bool,
    ) -> ImageInfo:
        """A queued image that the volume's disk is on its way to."""
        if volume.status == "in-use" and not force:
            raise BadVolume(reason="Volume status is in-use.")
        if volume.status not in {"available", "in-use"}:
            raise BadVolume(
                reason=f"Volume {volume.id} status must be available or in-use, but current status is: {volume.status}."
            )
        kept = {"image_id", "image_name", "checksum", "container_format", "disk_format", "min_disk", "min_ram", "size"}
        properties = {key: value for key, value in volume.image_metadata.items() if key not in kept}
        image_id = self._means.ids.uuid()
        request = flows.UploadRequest(
            image_id=image_id,
            disk_format=disk_format,
            guest=guest_of(volume, image_id),
            name=name,
            container_format=container_format,
            properties=properties,
            min_disk=int(volume.image_metadata.get("min_disk", 0) or 0),
            min_ram=int(volume.image_metadata.get("min_ram", 0) or 0),
            visibility=visibility,
        )
        flow = guest_copies.UPLOAD_OF_GUEST if request.guest is not None else flows.UPLOAD
        with self._means.db.write() as tx:
            self._move(tx, volume, (volume.status,), "uploading", verb="upload", previous_status=volume.status)
            saga_id = self._begin(tx, flow, caller, volume, request)
        credentials = self._means.credentials(caller.context)
        try:
            made = flows.make_image(self._means.image, credentials, request)
        except CloudError as error:
            self._give_up(saga_id, error)
            raise
        return made or self._means.image.get(request.image_id, credentials)

    def _give_up(self, saga_id: str, error: CloudError) -> None:
        """Turn a flow back whose request failed after it had begun."""
        with self._means.db.write() as tx:
            saga = self._means.coordinator.journal.get(tx, saga_id)
            if saga is not None:
                failure = Failure(message=error.message, detail=error.detail or "", code=error.status, kind=error.kind)
                self._means.coordinator.cancel(tx, saga, failure)

    # --- deleted ---------------------------------------------------------------------------------------------------

    def delete(self, caller: Caller, volume: Volume, *, cascade: bool = False, force: bool = False) -> None:
        """Begin the deletion.  Raises BadVolume while the volume is in use or has snapshots (without `cascade`)."""
        with self._means.db.write() as tx:
            now = volumes.get(tx, volume.id)
            if now is None:
                raise VolumeNotFound(id=volume.id)
            if now.status == "deleting":
                if force:
                    return
                raise BadVolume(reason=_undeletable(volume.id))
            ties = [tie for tie in now.attachments if tie.status != "detached"]
            if ties and not force:
                raise BadVolume(reason=_undeletable(volume.id))
            kept = snapshots.of_volume(tx, volume.id)
            if kept and not cascade:
                raise BadVolume(reason=_undeletable(volume.id))
            for snapshot in kept:
                if not snapshots.move(
                    tx, snapshot.id, ("available", "error", "deleting"), "deleting", at=self._means.clock.now()
                ):
                    raise BadVolume(reason="Failed to update snapshot.")
            before = (now.status,) if force else DELETABLE
            if not volumes.move(
                tx, volume.id, before, "deleting", at=self._means.clock.now(), previous_status=now.status
            ):
                raise BadVolume(reason=_undeletable(volume.id))
            self._means.changes.note(tx, volume.id)
            self._turn_back(tx, volume.id)
            request = flows.DeleteRequest(snapshot_ids=[snapshot.id for snapshot in kept])
            self._begin(tx, flows.DELETE, caller, now, request)

    def _turn_back(self, tx: Tx, volume_id: str) -> None:
        """What is under way with the volume is undone first."""
        coordinator = self._means.coordinator
        for saga in coordinator.journal.live_of(tx, volume_id):
            coordinator.cancel(tx, saga, flows.cancelled())

    def _begin(self, tx: Tx, flow: Any, caller: Caller, volume: Volume, request: msgspec.Struct) -> str:
        return self._means.coordinator.begin(
            tx, flow, subject_id=volume.id, context=caller.context, input=request, host=backend_of(volume.host)
        )


def guest_of(volume: Volume, copy_id: str) -> flows.Guest | None:
    """The server whose hypervisor must copy a volume, None for one that is free.  Raises BadVolume where no one can."""
    if volume.status != "in-use":
        return None
    servers = {tie.server_id for tie in volume.attachments if tie.mode != "ro"} or {
        tie.server_id for tie in volume.attachments
    }
    if len(servers) > 1:
        raise BadVolume(reason=f"Volume {volume.id} is attached to several servers and cannot be copied while it is.")
    server_id = next(iter(servers), None)
    if server_id is None:
        raise BadVolume(reason=f"Volume {volume.id} is attached to no server that could copy it.")
    return flows.Guest(volume_id=volume.id, server_id=server_id, copy_id=copy_id)


def _undeletable(volume_id: str) -> str:
    return (
        "Volume status must be available or error or error_restoring or error_extending or error_managing and must not be "
        f"migrating, attached, belong to a group, have snapshots, awaiting a transfer, or be disassociated from snapshots after "
        f"volume transfer: volume {volume_id}."
    )


def _boot_snapshot(image: ImageInfo) -> str | None:
    """The snapshot that an image's servers boot from, where the image names one."""
    text = image.properties.get("block_device_mapping")
    if image.size or not text:
        return None
    try:
        devices = msgspec.json.decode(text, type=list[_ImageDevice])
    except msgspec.MsgspecError as error:
        raise BadInput(reason=f"Image {image.id}: block_device_mapping: {error}") from None
    boots = (one.snapshot_id for one in devices if one.source_type == "snapshot" and one.boot_index == 0)
    return next(boots, None)


def _fits(image: ImageInfo, size_gib: int) -> None:
    needed = -(-(image.virtual_size or image.size) // GIB)
    if needed > size_gib:
        raise BadInput(reason=f"Size of specified image {needed}GB is larger than volume size {size_gib}GB.")
    if image.min_disk > size_gib:
        raise BadInput(
            reason=f"Volume size {size_gib}GB cannot be smaller than the image minDisk size {image.min_disk}GB."
        )
