"""What each flow means for the records of volumes and snapshots.  Every method runs inside the transaction that records the event.

Once a flow has begun, this is the only place where a status moves (but for an admin's reset), always by compare-and-set.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from cumulet.core.clock import Clock, add_seconds
from cumulet.core.db import Tx
from cumulet.core.ids import Ids
from cumulet.core.saga import Failure, Outcome, Saga, Step
from cumulet.core.saga.journal import Journal
from cumulet.volume.changes import Changes
from cumulet.volume.flows import DeleteRequest, ExtendRequest, Made, SnapshotRequest
from cumulet.volume.messages import Selected
from cumulet.volume.records import Message, backend_of
from cumulet.volume.store import messages, snapshots, transfers, volumes

__all__ = ["outcomes"]

#: the reference keeps messages for 30 days
MESSAGE_TTL_S = 30 * 24 * 3600


class _Outcome(Outcome):
    """What all share: nothing changes unless a flow says so."""

    #: what a failure is called in the message to the owner
    event = ""

    def __init__(self, journal: Journal, changes: Changes, *, clock: Clock, ids: Ids) -> None:
        self._journal = journal
        self._changes = changes
        self._clock = clock
        self._ids = ids

    def started(self, tx: Tx, saga: Saga, step: Step) -> None:
        """No status of its own."""

    def recorded(self, tx: Tx, saga: Saga, step: Step, output: Any) -> None:
        """Nothing for the record."""

    def _move(self, tx: Tx, saga: Saga, before: tuple[str, ...], after: str, **values: Any) -> None:
        if volumes.move(tx, saga.subject_id, before, after, at=self._clock.now(), **values):
            self._changes.note(tx, saga.subject_id)

    def _message(self, tx: Tx, saga: Saga, failure: Failure, kind: str, id: str) -> None:
        """Tell the owner why."""
        volume = volumes.get(tx, saga.subject_id)
        if volume is None:
            return
        now = self._clock.now()
        messages.add(
            tx,
            Message(
                id=self._ids.uuid(),
                project_id=volume.project_id,
                event_id=f"VOLUME_{kind}_{self.event}_001",
                user_message=f"{self.event.replace('_', ' ')}: {failure.message}",
                resource_type=kind,
                resource_id=id,
                request_id=saga.request_id,
                created_at=now,
                guaranteed_until=add_seconds(now, MESSAGE_TTL_S),
            ),
        )


class CreateOutcome(_Outcome):
    """available when all is done; error, with nothing left behind, when it was unwound."""

    event = "create_volume"

    def started(self, tx: Tx, saga: Saga, step: Step) -> None:
        if step.where == "host" and saga.input.get("image_id") is not None:
            # who waits for the volume waits for its end, so nobody is told
            volumes.move(tx, saga.subject_id, ("creating",), "downloading", at=self._clock.now())

    def recorded(self, tx: Tx, saga: Saga, step: Step, output: Any) -> None:
        if step.name == "schedule":
            selected = msgspec.convert(output, Selected)
            volumes.set_fields(tx, saga.subject_id, host=selected.host, availability_zone=selected.zone)
            self._journal.change(tx, saga, host=backend_of(selected.host))

    def done(self, tx: Tx, saga: Saga, outputs: Mapping[str, Any]) -> None:
        made = msgspec.convert(outputs["create"], Made)
        values: dict[str, Any] = {}
        if made.image_metadata is not None:
            values = {"image_metadata": made.image_metadata, "bootable": True}
        self._move(tx, saga, ("creating", "downloading"), "available", **values)

    def unwound(self, tx: Tx, saga: Saga, failure: Failure) -> None:
        self._move(tx, saga, ("creating", "downloading"), "error")
        self._message(tx, saga, failure, "VOLUME", saga.subject_id)


class DeleteOutcome(_Outcome):
    """The volume is gone, and the snapshots that went along."""

    def done(self, tx: Tx, saga: Saga, outputs: Mapping[str, Any]) -> None:
        for snapshot_id in msgspec.convert(saga.input, DeleteRequest).snapshot_ids:
            snapshots.remove(tx, snapshot_id)
        transfers.remove_of(tx, saga.subject_id)
        volumes.remove(tx, saga.subject_id)
        self._changes.note(tx, saga.subject_id)

    def unwound(self, tx: Tx, saga: Saga, failure: Failure) -> None:
        """Never: there is no way back."""


class ExtendOutcome(_Outcome):
    """The new size; a volume whose growing failed says so."""

    event = "extend_volume"

    def done(self, tx: Tx, saga: Saga, outputs: Mapping[str, Any]) -> None:
        request = msgspec.convert(saga.input, ExtendRequest)
        self._move(tx, saga, ("extending",), _before(tx, saga), size=request.size_gib, previous_status=None)

    def unwound(self, tx: Tx, saga: Saga, failure: Failure) -> None:
        self._move(tx, saga, ("extending",), "error_extending")
        self._message(tx, saga, failure, "VOLUME", saga.subject_id)


class SnapshotOutcome(_Outcome):
    """Who waits for a snapshot waits for word of its volume."""

    event = "create_snapshot"

    def done(self, tx: Tx, saga: Saga, outputs: Mapping[str, Any]) -> None:
        snapshots.move(tx, _snapshot(saga), "creating", "available", at=self._clock.now(), progress="100%")
        self._changes.note(tx, saga.subject_id)

    def unwound(self, tx: Tx, saga: Saga, failure: Failure) -> None:
        snapshots.move(tx, _snapshot(saga), "creating", "error", at=self._clock.now())
        self._changes.note(tx, saga.subject_id)
        self._message(tx, saga, failure, "VOLUME_SNAPSHOT", _snapshot(saga))


class SnapshotDeleteOutcome(_Outcome):
    def done(self, tx: Tx, saga: Saga, outputs: Mapping[str, Any]) -> None:
        snapshots.remove(tx, _snapshot(saga))

    def unwound(self, tx: Tx, saga: Saga, failure: Failure) -> None:
        """Never: there is no way back."""


class RevertOutcome(_Outcome):
    """The volume is as the snapshot has it; both can be used again."""

    def done(self, tx: Tx, saga: Saga, outputs: Mapping[str, Any]) -> None:
        self._move(tx, saga, ("reverting",), _before(tx, saga), previous_status=None)
        snapshots.move(tx, _snapshot(saga), "restoring", "available", at=self._clock.now())

    def unwound(self, tx: Tx, saga: Saga, failure: Failure) -> None:
        """Never: there is no way back."""


class UploadOutcome(_Outcome):
    """The volume is as it was, whatever became of the image."""

    event = "copy_volume_to_image"

    def done(self, tx: Tx, saga: Saga, outputs: Mapping[str, Any]) -> None:
        self._move(tx, saga, ("uploading",), _before(tx, saga), previous_status=None)

    def unwound(self, tx: Tx, saga: Saga, failure: Failure) -> None:
        self._move(tx, saga, ("uploading",), _before(tx, saga), previous_status=None)
        self._message(tx, saga, failure, "VOLUME", saga.subject_id)


def _before(tx: Tx, saga: Saga) -> str:
    volume = volumes.get(tx, saga.subject_id)
    return (volume.previous_status if volume is not None else None) or "available"


def _snapshot(saga: Saga) -> str:
    return msgspec.convert(saga.input, SnapshotRequest).snapshot_id


def outcomes(journal: Journal, changes: Changes, *, clock: Clock, ids: Ids) -> dict[str, Outcome]:
    """By flow name."""
    kinds: dict[str, type[_Outcome]] = {
        "volume_create": CreateOutcome,
        "volume_create_from_guest": CreateOutcome,
        "volume_delete": DeleteOutcome,
        "volume_extend": ExtendOutcome,
        "snapshot_create": SnapshotOutcome,
        "snapshot_create_of_guest": SnapshotOutcome,
        "snapshot_delete": SnapshotDeleteOutcome,
        "volume_revert": RevertOutcome,
        "volume_upload": UploadOutcome,
        "volume_upload_of_guest": UploadOutcome,
    }
    return {name: kind(journal, changes, clock=clock, ids=ids) for name, kind in kinds.items()}
