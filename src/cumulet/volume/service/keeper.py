"""The keeper of volumes, snapshots and attachments: what nobody works on any more is unwound, or begun again."""

from collections.abc import Callable, Generator, Sequence
from typing import Any

import msgspec
from sqlalchemy import Select, exists, select

from cumulet.core.context import Context
from cumulet.core.db import Tx
from cumulet.core.reconcile import Overdue, Row, cutoff, row_of
from cumulet.core.saga import Failure, Flow
from cumulet.core.work import Slow
from cumulet.volume import flows
from cumulet.volume.messages import SelectRequest
from cumulet.volume.records import Attachment, Volume, backend_of
from cumulet.volume.service.attachments import Attachments
from cumulet.volume.service.means import Means
from cumulet.volume.store import attachments, snapshots, volumes
from cumulet.volume.tables import ATTACHMENTS, SNAPSHOTS, VOLUMES

__all__ = ["ServerHas", "VolumeKeeper"]

#: (server, volume) → whether compute has that volume on that server; None while it works on it
ServerHas = Callable[[str, str], bool | None]


class VolumeKeeper:
    """A `Keeper`; on the volume conductor's worker."""

    kinds = frozenset({"volume", "snapshot", "attachment"})

    def __init__(self, means: Means, ties: Attachments, *, server_has: ServerHas) -> None:
        self._means = means
        self._ties = ties
        self._server_has = server_has

    def overdue(self, rows: Sequence[Row], now: str, limit: int) -> list[Overdue]:
        def states(kind: str) -> list[str]:
            return [row.state for row in rows if row.kind == kind]

        before, at_rest = cutoff(rows, now), self._means.coordinator.journal.at_rest
        v, s, a = VOLUMES.c, SNAPSHOTS.c, ATTACHMENTS.c
        # a volume whose attachment is under way follows it, and that has a deadline of its own
        open_ties = exists().where(a.volume_id == v.id, a.status.in_(("reserved", "attaching")))
        questions: tuple[tuple[str, Select[Any]], ...] = (
            (
                "volume",
                select(v.id, v.status, v.updated_at.label("since")).where(
                    v.status.in_(states("volume")), v.updated_at < before, at_rest(v.id), ~open_ties
                ),
            ),
            (
                "snapshot",
                select(s.id, s.status, s.updated_at.label("since")).where(
                    s.status.in_(states("snapshot")), s.updated_at < before, at_rest(s.volume_id)
                ),
            ),
            (
                "attachment",
                select(a.id, a.status, a.created_at.label("since")).where(
                    a.status.in_(states("attachment")), a.created_at < before
                ),
            ),
        )
        found: list[Overdue] = []
        with self._means.db.read() as tx:
            for kind, question in questions:
                for one in tx.all(question.limit(limit)):
                    row = row_of(rows, kind, one["status"], one["since"], now)
                    if row is not None:
                        found.append(Overdue(row, one["id"]))
        return found

    # --- volumes -----------------------------------------------------------------------------------------------------

    def unwind_create(self, id: str) -> bool:
        def request(volume: Volume) -> flows.CreateRequest:
            select_ = SelectRequest(
                volume_id=id,
                size_gib=volume.size,
                type_name=volume.type_name,
                extra_specs={},
                zone=None,
                multiattach=volume.multiattach,
            )
            return flows.CreateRequest(select=select_)

        return self._unwind(id, ("creating", "downloading"), flows.CREATE, request)

    def unwind_extend(self, id: str) -> bool:
        return self._unwind(
            id,
            ("extending",),
            flows.EXTEND,
            lambda volume: flows.ExtendRequest(size_gib=volume.size, attached=bool(volume.attachments)),
        )

    def resume_delete(self, id: str) -> bool:
        with self._means.db.write() as tx:
            volume = self._lost(tx, id, ("deleting",))
            if volume is None:
                return False
            going = [one.id for one in snapshots.of_volume(tx, id) if one.status == "deleting"]
            self._begin(tx, flows.DELETE, volume, flows.DeleteRequest(snapshot_ids=going))
        return True

    def resume_revert(self, id: str) -> bool:
        """Go on with the snapshot that is being restored; without one nobody knows what the volume holds."""
        now = self._means.clock.now()
        with self._means.db.write() as tx:
            volume = self._lost(tx, id, ("reverting",))
            if volume is None:
                return False
            source = next((one for one in snapshots.of_volume(tx, id) if one.status == "restoring"), None)
            if source is None:
                volumes.move(tx, id, "reverting", "error_restoring", at=now, previous_status=None)
                self._means.changes.note(tx, id)
            else:
                self._begin(tx, flows.REVERT, volume, flows.SnapshotRequest(snapshot_id=source.id))
        return True

    def give_back(self, id: str) -> bool:
        """The status that was before: nothing that was begun has changed the volume."""
        with self._means.db.write() as tx:
            volume = self._lost(tx, id, ("uploading",))
            if volume is None:
                return False
            after = volume.previous_status or "available"
            volumes.move(tx, id, volume.status, after, at=self._means.clock.now(), previous_status=None)
            self._means.changes.note(tx, id)
        return True

    def follow(self, id: str) -> bool:
        """What the volume's attachments say."""
        with self._means.db.read() as tx:
            volume = volumes.get(tx, id)
        if volume is None:
            return False
        self._ties.settle(volume)
        return True

    # --- snapshots ---------------------------------------------------------------------------------------------------

    def unwind_snapshot(self, id: str) -> bool:
        return self._of_snapshot(id, "creating", flows.SNAPSHOT, unwind=True)

    def resume_snapshot_delete(self, id: str) -> bool:
        return self._of_snapshot(id, "deleting", flows.SNAPSHOT_DELETE, unwind=False)

    def release_snapshot(self, id: str) -> bool:
        """No volume is going back to it any more."""
        with self._means.db.write() as tx:
            return snapshots.move(tx, id, "restoring", "available", at=self._means.clock.now())

    def _of_snapshot(self, id: str, status: str, flow: Flow, *, unwind: bool) -> bool:
        with self._means.db.write() as tx:
            snapshot = snapshots.get(tx, id)
            volume = None if snapshot is None else volumes.get(tx, snapshot.volume_id)
            if snapshot is None or snapshot.status != status:
                return False
            if volume is None:
                snapshots.remove(tx, id)
                return True
            if self._means.coordinator.journal.live_of(tx, volume.id):
                return False
            request = flows.SnapshotRequest(snapshot_id=id)
            if unwind:
                self._begin_unwinding(tx, flow, volume, request)
            else:
                self._begin(tx, flow, volume, request)
        return True

    # --- attachments -------------------------------------------------------------------------------------------------

    def finish_tie(self, id: str) -> bool | Generator[Slow, Any, bool]:
        """Complete it if the server's record has the volume, let go if not; while compute works on the server it decides."""
        with self._means.db.read() as tx:
            tie = attachments.get(tx, id)
        if tie is None:
            return False
        has = False if tie.server_id is None else self._server_has(tie.server_id, tie.volume_id)
        if has is None:
            return False
        if has and tie.connection_info:
            self._ties.complete(tie)
            return True
        return self._let_go(tie)

    def _let_go(self, tie: Attachment) -> Generator[Slow, Any, bool]:
        yield from self._ties.delete(tie)
        return True

    # --- inside ------------------------------------------------------------------------------------------------------

    def _lost(self, tx: Tx, id: str, states: tuple[str, ...]) -> Volume | None:
        """The volume, if it still is in this state and nothing works on it."""
        volume = volumes.get(tx, id)
        if volume is None or volume.status not in states or self._means.coordinator.journal.live_of(tx, id):
            return None
        return volume

    def _unwind(
        self, id: str, states: tuple[str, ...], flow: Flow, request: Callable[[Volume], msgspec.Struct]
    ) -> bool:
        with self._means.db.write() as tx:
            volume = self._lost(tx, id, states)
            if volume is None:
                return False
            self._begin_unwinding(tx, flow, volume, request(volume))
        return True

    def _begin_unwinding(self, tx: Tx, flow: Flow, volume: Volume, request: msgspec.Struct) -> None:
        words = "Nothing worked on it any more; what had begun was taken back."
        self._means.coordinator.begin_unwinding(
            tx,
            flow,
            subject_id=volume.id,
            project_id=volume.project_id,
            input=request,
            host=backend_of(volume.host),
            failure=Failure(message=words, detail=f"no saga; status {volume.status}", kind="Lost"),
        )

    def _begin(self, tx: Tx, flow: Flow, volume: Volume, request: msgspec.Struct) -> None:
        context = Context(user_id=volume.user_id, project_id=volume.project_id, request_id=self._means.ids.request_id())
        self._means.coordinator.begin(
            tx, flow, subject_id=volume.id, context=context, input=request, host=backend_of(volume.host)
        )
