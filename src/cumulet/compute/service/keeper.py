"""The keeper of servers: one whose task nobody works on any more is unwound, or the task begun again.

A server's task and its saga are written in one transaction and end in one, so this finds something only where a row was changed past
them.  What then may be left on a host, in the network or in placement is undone by the flow's own undos.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from sqlalchemy import select

from cumulet.compute import states
from cumulet.compute.conductor.outcomes import fault
from cumulet.compute.records import BlockDevice, NetworkRequest, Server
from cumulet.compute.store import servers
from cumulet.compute.tables import BUSY, SAGAS
from cumulet.compute.tables import SERVERS as S
from cumulet.core.clock import Clock
from cumulet.core.context import Context
from cumulet.core.db import Database, Tx
from cumulet.core.ids import Ids
from cumulet.core.reconcile import Overdue, Row, cutoff, row_of
from cumulet.core.saga import Coordinator, Failure, Flow
from cumulet.core.saga.journal import LIVE
from cumulet.core.web.client import Credentials
from cumulet.flows.delete import DELETE, DeleteRequest
from cumulet.flows.devices import (
    ATTACH_INTERFACE,
    ATTACH_VOLUME,
    DETACH_INTERFACE,
    DETACH_VOLUME,
    AttachInterfaceRequest,
    AttachVolumeRequest,
    DetachInterfaceRequest,
    DetachVolumeRequest,
)
from cumulet.flows.rebuild import REBUILD, RebuildRequest
from cumulet.flows.resize import CONFIRM_RESIZE, RESIZE, REVERT_RESIZE, ResizeRequest
from cumulet.flows.snapshot import SNAPSHOT, SnapshotRequest
from cumulet.image.door import ImageDoor
from cumulet.launch.flow import LAUNCH
from cumulet.launch.request import LaunchRequest
from cumulet.network.door import NetworkDoor
from cumulet.volume.door import VolumeDoor

__all__ = ["ServerKeeper", "server_has"]


def server_has(db: Database, server_id: str, volume_id: str) -> bool | None:
    """Whether a server's record has a volume; None while something works on the server, so that nobody can tell yet."""
    with db.read() as tx:
        sagas = SAGAS.sagas
        if tx.value(select(sagas.c.id).where(sagas.c.subject_id == server_id, sagas.c.state.in_(LIVE)).limit(1)):
            return None
        server = servers.get(tx, server_id)
    return server is not None and any(device.volume_id == volume_id for device in server.block_devices)


class ServerKeeper:
    """A `Keeper`; on the conductor's worker."""

    kinds = frozenset({"server"})

    def __init__(
        self,
        db: Database,
        coordinator: Coordinator,
        *,
        volume: VolumeDoor,
        network: NetworkDoor,
        image: ImageDoor,
        credentials: Callable[[], Credentials],
        clock: Clock,
        ids: Ids,
    ) -> None:
        self._db = db
        self._coordinator = coordinator
        self._volume = volume
        self._network = network
        self._image = image
        self._credentials = credentials
        self._clock = clock
        self._ids = ids

    def overdue(self, rows: Sequence[Row], now: str, limit: int) -> list[Overdue]:
        statement = select(S.c.id, S.c.vm_state, S.c.task_state, S.c.updated_at).where(
            BUSY, S.c.updated_at < cutoff(rows, now), self._coordinator.journal.at_rest(S.c.id)
        )
        with self._db.read() as tx:
            found = tx.all(statement.order_by(S.c.updated_at).limit(limit))
        pairs = [
            (row_of(rows, "server", row["task_state"] or "BUILD", row["updated_at"], now), row["id"]) for row in found
        ]
        return [Overdue(row, server_id) for row, server_id in pairs if row is not None]

    # --- cures ---------------------------------------------------------------------------------------------------------------------

    def unwind_launch(self, server_id: str) -> bool:
        """Undo all that a launch may have done; the server ends in ERROR with a reason."""
        return self._unwind(server_id, LAUNCH, lambda _: LaunchRequest())

    def unwind_resize(self, server_id: str) -> bool:
        """Back to the flavor on record: its claim, its root disk, and a guest of its size."""
        return self._unwind(server_id, RESIZE, _same_flavor)

    def unwind_attach_volume(self, server_id: str) -> bool:
        """Take the volume back that was on its way to the guest; without one, the task is only ended."""
        server = self._lost(server_id)
        if server is None:
            return False
        device = self._on_its_way(server)
        if device is None:
            return self.settle(server_id)
        return self._unwind(server_id, ATTACH_VOLUME, lambda _: AttachVolumeRequest(device=device))

    def resume_detach_volume(self, server_id: str) -> bool:
        """Which one it was, nobody knows: one whose attachment is gone is taken from the guest; else the guest has all of them again."""
        server = self._lost(server_id)
        if server is None:
            return False
        ties = {tie.id for tie in self._volume.attachments_of(self._credentials(), server_id=server_id)}
        plugged = [device for device in server.block_devices if device.volume_id and device.boot_index != 0]
        gone = [device.volume_id or "" for device in plugged if device.attachment_id not in ties]
        if gone:
            return self._begin(server_id, DETACH_VOLUME, lambda _: DetachVolumeRequest(volume_id=gone[0]))
        requests = [DetachVolumeRequest(volume_id=device.volume_id or "") for device in plugged]
        return self._unwind_each(server_id, DETACH_VOLUME, requests)

    def resume_detach_interface(self, server_id: str) -> bool:
        """Likewise: a NIC whose port is gone is taken from the guest; else the guest has all of them again."""
        server = self._lost(server_id)
        if server is None:
            return False
        there = {port.id for port in self._network.list_ports(self._credentials(), device_id=server_id)}
        gone = [nic.port_id for nic in server.interfaces if nic.port_id not in there]
        if gone:
            return self._begin(server_id, DETACH_INTERFACE, lambda _: DetachInterfaceRequest(port_id=gone[0]))
        requests = [DetachInterfaceRequest(port_id=nic.port_id) for nic in server.interfaces]
        return self._unwind_each(server_id, DETACH_INTERFACE, requests)

    def unwind_attach_interface(self, server_id: str) -> bool:
        """Take the port back that is not on the record.  It may be one that the user brought, so it is untied and not deleted."""
        server = self._lost(server_id)
        if server is None:
            return False
        kept = {nic.port_id for nic in server.interfaces}
        ports = self._network.list_ports(self._credentials(), device_id=server_id)
        requests = [
            AttachInterfaceRequest(network=NetworkRequest(port_id=port.id)) for port in ports if port.id not in kept
        ]
        return self._unwind_each(server_id, ATTACH_INTERFACE, requests[:1])

    def unwind_snapshot(self, server_id: str) -> bool:
        """Give up the image that was on its way, with what was copied for it."""
        server = self._lost(server_id)
        if server is None:
            return False
        queued = self._image.queued_of(self._credentials(), server_id, owner=server.project_id)
        return self._unwind_each(server_id, SNAPSHOT, [SnapshotRequest(image_id=image_id) for image_id in queued])

    def resume_delete(self, server_id: str) -> bool:
        return self._begin(server_id, DELETE, lambda _: DeleteRequest())

    def resume_rebuild(self, server_id: str) -> bool:
        return self._begin(
            server_id, REBUILD, lambda server: RebuildRequest(was_stopped=server.vm_state == states.STOPPED)
        )

    def resume_confirm(self, server_id: str) -> bool:
        return self._begin(server_id, CONFIRM_RESIZE, _same_flavor)

    def resume_revert(self, server_id: str) -> bool:
        def request(server: Server) -> ResizeRequest:
            return ResizeRequest(
                new_flavor=server.flavor,
                old_flavor=server.old_flavor or server.flavor,
                was_stopped=server.power_state == states.SHUTDOWN,
            )

        return self._begin(server_id, REVERT_RESIZE, request)

    def settle(self, server_id: str) -> bool:
        """End the task: the server is what its host says that it is."""
        with self._db.write() as tx:
            server = self._lost_in(tx, server_id)
            if server is None:
                return False
            values: dict[str, Any] = {"task_state": None, "fault": fault(_lost(server), self._clock.now())}
            followed = states.FOLLOWED.get((server.vm_state, server.power_state))
            if followed is not None:
                values["vm_state"] = followed
            return servers.change(tx, server, at=self._clock.now(), **values)

    # --- inside --------------------------------------------------------------------------------------------------------------------

    def _lost(self, server_id: str) -> Server | None:
        with self._db.read() as tx:
            return self._lost_in(tx, server_id)

    def _lost_in(self, tx: Tx, server_id: str) -> Server | None:
        """The server, if it still is busy and nothing works on it."""
        server = servers.get(tx, server_id)
        if server is None or (server.task_state is None and server.vm_state != states.BUILDING):
            return None
        return None if self._coordinator.journal.live_of(tx, server_id) else server

    def _unwind(self, server_id: str, flow: Flow, request: Callable[[Server], msgspec.Struct]) -> bool:
        server = self._lost(server_id)
        return server is not None and self._unwind_each(server_id, flow, [request(server)])

    def _unwind_each(self, server_id: str, flow: Flow, requests: Sequence[msgspec.Struct]) -> bool:
        """Undo for each of what may have been meant; nothing to undo: the task is only ended."""
        if not requests:
            return self.settle(server_id)
        with self._db.write() as tx:
            server = self._lost_in(tx, server_id)
            if server is None:
                return False
            for request in requests:
                self._coordinator.begin_unwinding(
                    tx,
                    flow,
                    subject_id=server_id,
                    project_id=server.project_id,
                    input=request,
                    host=server.host,
                    failure=_lost(server),
                )
        return True

    def _begin(self, server_id: str, flow: Flow, request: Any) -> bool:
        with self._db.write() as tx:
            server = self._lost_in(tx, server_id)
            if server is None:
                return False
            context = Context(user_id=server.user_id, project_id=server.project_id, request_id=self._ids.request_id())
            self._coordinator.begin(
                tx, flow, subject_id=server_id, context=context, input=request(server), host=server.host
            )
        return True

    def _on_its_way(self, server: Server) -> BlockDevice | None:
        """The device whose attachment is not complete, or not even on the record."""
        ties = self._volume.attachments_of(self._credentials(), server_id=server.id)
        whole = {tie.id for tie in ties if tie.status == "attached"}
        volumes = (device for device in server.block_devices if device.volume_id is not None)
        return next((device for device in volumes if device.attachment_id not in whole), None)


def _same_flavor(server: Server) -> msgspec.Struct:
    return ResizeRequest(
        new_flavor=server.flavor, old_flavor=server.flavor, was_stopped=server.vm_state == states.STOPPED
    )


def _lost(server: Server) -> Failure:
    task = server.task_state or "building"
    words = f"The server was '{task}' and nothing worked on it any more; what had begun was taken back."
    return Failure(message=words, detail=f"no saga; vm_state {server.vm_state}, host {server.host}", kind="Lost")
