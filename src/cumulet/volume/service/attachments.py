"""Attachments: a volume is reserved for a server, connected to its host, completed, and let go.

A volume's status follows from its attachments: reserved, attaching, in-use, and available without any.  The older interface
(os-reserve, os-attach, os-initialize_connection, …) writes the same rows.
"""

from collections.abc import Generator
from typing import Any

import msgspec

from cumulet.core.db import Tx
from cumulet.core.work import Slow
from cumulet.volume.errors import AttachmentNotFound, BadInput, BadVolume, ServerUsesVolume
from cumulet.volume.messages import ConnectRequest
from cumulet.volume.records import Attachment, Volume, backend_of
from cumulet.volume.service.means import Caller, Means
from cumulet.volume.service.volumes import Volumes
from cumulet.volume.store import attachments, volumes

__all__ = ["Attachments", "status_of"]

#: from the strongest tie to the weakest: what the volume's status is then
_STATUS = (("attached", "in-use"), ("attaching", "attaching"), ("detaching", "detaching"), ("reserved", "reserved"))
#: a volume that may be reserved for anybody
_FREE = ("available", "downloading")


def status_of(ties: list[Attachment]) -> str:
    """A volume's status, from its attachments."""
    states = {tie.status for tie in ties}
    return next((status for state, status in _STATUS if state in states), "available")


def _check_mode(mode: str | None) -> None:
    if mode is not None and mode not in {"rw", "ro"}:
        raise BadInput(reason=f"Invalid attachment mode: {mode}")


def _way(volume: Volume, connector: dict[str, Any], mode: str | None) -> tuple[str, str]:
    """The host that is to reach the volume, and how it may use it.  Raises BadVolume, BadInput."""
    if volume.status in {"error", "deleting", "error_deleting"} or volume.host is None:
        raise BadVolume(reason=f"Volume {volume.id} status is {volume.status}: it cannot be attached.")
    access = mode or ("ro" if volume.readonly else "rw")
    if access == "rw" and volume.readonly:
        raise BadVolume(reason=f"Invalid attaching mode 'rw' for volume {volume.id}.")
    host = str(connector.get("host") or "")
    if not host:
        raise BadInput(reason="The connector names no host.")
    return host, access


class Attachments:
    """See the module's docstring."""

    def __init__(self, means: Means, volumes_: Volumes) -> None:
        self._means = means
        self._volumes = volumes_

    def get(self, caller: Caller, id: str) -> Attachment:
        with self._means.db.read() as tx:
            found = attachments.get(tx, id, project_id=caller.sees)
        if found is None:
            raise AttachmentNotFound(id=id)
        return found

    # --- reserve ---------------------------------------------------------------------------------------------------

    def create(self, volume: Volume, *, server_id: str | None, mode: str | None) -> Attachment:
        """Reserve the volume.  Raises BadVolume when its status forbids it."""
        _check_mode(mode)
        return self._reserved(volume, self._new(volume, server_id, "reserved", mode=mode))

    def create_connected(
        self, volume: Volume, connector: dict[str, Any], *, server_id: str | None, mode: str | None
    ) -> Generator[Slow, Any, Attachment]:
        """Reserve the volume and let the connector's host reach it.  What led nowhere is taken back."""
        _check_mode(mode)
        host, access = _way(volume, connector, mode)
        tie = self._new(volume, server_id, "reserved", mode=mode, connector=connector, host_name=host)
        tie = self._reserved(volume, tie)
        try:
            return (yield from self._let_in(volume, tie, connector, access))
        except Exception:  # raised again: whatever it was, a tie that led nowhere is taken back
            yield from self.delete(tie)
            raise

    def _new(
        self,
        volume: Volume,
        server_id: str | None,
        status: str,
        *,
        mode: str | None = None,
        connector: dict[str, Any] | None = None,
        host_name: str | None = None,
    ) -> Attachment:
        return Attachment(
            id=self._means.ids.uuid(),
            volume_id=volume.id,
            project_id=volume.project_id,
            server_id=server_id,
            status=status,
            mode=mode,
            host_name=host_name,
            mountpoint=None,
            connector=connector,
            connection_info=None,
            created_at=self._means.clock.now(),
            attached_at=None,
        )

    def _reserved(self, volume: Volume, tie: Attachment) -> Attachment:
        """The new tie, written with the volume's status.  Raises BadVolume when that forbids it."""
        with self._means.db.write() as tx:
            if volumes.move(tx, volume.id, _FREE, "reserved", at=tie.created_at, owner=volume.project_id):
                self._means.changes.note(tx, volume.id)
            else:
                self._check_shared(tx, volume, tie.server_id)
            attachments.add(tx, tie)
        return tie

    @staticmethod
    def _check_shared(tx: Tx, seen: Volume, server_id: str | None) -> None:
        """Whether a volume that is not free may have one more tie.

        A server that has the volume already may have a second one: it moves to another host.
        """
        volume = volumes.get(tx, seen.id, project_id=seen.project_id)
        if volume is None:
            raise BadVolume(reason=f"Volume {seen.id} is gone.")
        same = server_id is not None and any(tie.server_id == server_id for tie in volume.attachments)
        states = (*_FREE, "in-use", "reserved", "attaching") if volume.multiattach else _FREE
        if volume.status not in states and not same:
            wanted = ", ".join(states)
            raise BadVolume(
                reason=f"Volume {volume.id} status must be {wanted} to reserve, but the status is {volume.status}."
            )

    # --- connect ---------------------------------------------------------------------------------------------------

    def connect(
        self, tie: Attachment, connector: dict[str, Any], *, mode: str | None
    ) -> Generator[Slow, Any, Attachment]:
        """Ask the volume's host to let the connector's host reach it; repeated, it asks again and gives the same."""
        volume = self._of(tie)
        host, access = _way(volume, connector, mode or tie.mode)
        with self._means.db.write() as tx:
            # before the host is let in: whatever becomes of the answer, whoever deletes the attachment knows whom to shut out
            if not attachments.set_fields(tx, tie.id, connector=connector, host_name=host):
                raise AttachmentNotFound(id=tie.id)
        changed = msgspec.structs.replace(tie, connector=connector, host_name=host)
        return (yield from self._let_in(volume, changed, connector, access))

    def _let_in(
        self, volume: Volume, tie: Attachment, connector: dict[str, Any], access: str
    ) -> Generator[Slow, Any, Attachment]:
        """Let the host in that the tie names already, and write down how it reaches the volume."""
        info = yield Slow("calls", self._connect_call(volume, tie.host_name or "", access))
        shown = {**info["data"], "driver_volume_type": info["driver_volume_type"], "attachment_id": tie.id}
        with self._means.db.write() as tx:
            there = attachments.move(
                tx,
                tie.id,
                ("reserved", "attaching"),
                "attaching",
                connector=connector,
                connection_info=shown,
                mode=access,
                host_name=tie.host_name,
                mountpoint=connector.get("mountpoint") or tie.mountpoint,
            )
            if not there and not attachments.set_fields(
                tx, tie.id, connector=connector, connection_info=shown, mode=access, host_name=tie.host_name
            ):
                raise AttachmentNotFound(id=tie.id)
            ties = self._follow(tx, volume.id)
        return next(one for one in ties if one.id == tie.id)

    def _connect_call(self, volume: Volume, host: str, mode: str) -> Any:
        queue = self._means.host(backend_of(volume.host) or "")
        request = ConnectRequest(volume_id=volume.id, connector_host=host, mode=mode)
        return lambda: queue.connect(request)

    def connection_of(self, volume: Volume, connector: dict[str, Any]) -> Generator[Slow, Any, dict[str, Any]]:
        """The older interface: how a host reaches a volume, without an attachment."""
        if volume.host is None:
            raise BadVolume(reason=f"Volume {volume.id} status is {volume.status}: it cannot be attached.")
        host = str(connector.get("host") or "")
        info: dict[str, Any] = yield Slow("calls", self._connect_call(volume, host, "ro" if volume.readonly else "rw"))
        return info

    def disconnect(self, volume: Volume, connector: dict[str, Any]) -> Generator[Slow, Any, None]:
        """A host has let go, unless another attachment of it still needs the way."""
        host = str(connector.get("host") or "")
        if volume.host is None or not host:
            return
        queue = self._means.host(backend_of(volume.host) or "")
        yield Slow("calls", queue.disconnect, (ConnectRequest(volume_id=volume.id, connector_host=host),))

    # --- complete and let go ---------------------------------------------------------------------------------------

    def complete(self, tie: Attachment) -> None:
        """The server has the disk."""
        now = self._means.clock.now()
        with self._means.db.write() as tx:
            done = attachments.move(tx, tie.id, ("attaching", "reserved", "attached"), "attached", attached_at=now)
            if not done:
                raise AttachmentNotFound(id=tie.id)
            kept = volumes.admin_metadata(tx, tie.volume_id)
            self._follow(tx, tie.volume_id, admin_metadata={**kept, "attached_mode": tie.mode or "rw"})

    def check_deletion(self, caller: Caller, tie: Attachment) -> None:
        """Only compute takes a disk from a server of its own (OSSA-2023-003): else the host would keep a way to a volume that is
        given to somebody else."""
        context = caller.context
        if "service" in context.service_roles or "service" in context.roles:
            return
        if tie.server_id is None or not tie.connection_info:
            return
        if self._means.server_uses is not None and not self._means.server_uses(tie.server_id, tie.volume_id):
            return
        raise ServerUsesVolume(server_id=tie.server_id)

    def delete(self, tie: Attachment) -> Generator[Slow, Any, list[Attachment]]:
        """Unmap first, then forget; what remains of the volume's attachments."""
        volume = self._of(tie)
        others = [other for other in volume.attachments if other.id != tie.id]
        if tie.connector is not None and not any(other.host_name == tie.host_name for other in others):
            yield from self.disconnect(volume, tie.connector)
        with self._means.db.write() as tx:
            attachments.remove(tx, tie.id)
            return self._follow(tx, tie.volume_id)

    def _of(self, tie: Attachment) -> Volume:
        with self._means.db.read() as tx:
            volume = volumes.get(tx, tie.volume_id)
        if volume is None:
            raise AttachmentNotFound(id=tie.id)
        return volume

    def _follow(self, tx: Tx, volume_id: str, **values: Any) -> list[Attachment]:
        """Set the volume's status from its attachments, unless other work has it, and these columns; gives the attachments."""
        ties = attachments.of_volume(tx, volume_id)
        after = status_of(ties)
        if not ties:
            kept = volumes.admin_metadata(tx, volume_id)
            values["admin_metadata"] = {key: value for key, value in kept.items() if key != "attached_mode"}
        before = ("available", "reserved", "attaching", "in-use", "detaching", "error_attaching", "error_detaching")
        if volumes.move(tx, volume_id, before, after, at=self._means.clock.now(), **values):
            self._means.changes.note(tx, volume_id)
            return ties
        volume = volumes.get(tx, volume_id)
        if volume is not None:
            if volume.previous_status in {"in-use", "available"} and after in {"in-use", "available"}:
                values["previous_status"] = after  # the flow that has the volume ends in what is true then
            if values:
                volumes.set_fields(tx, volume_id, **values)
        return ties

    # --- the older interface ---------------------------------------------------------------------------------------

    def reserve(self, volume: Volume) -> None:
        if volume.multiattach and volume.status == "in-use":
            return
        self._volumes.move(volume, ("available",), "attaching", verb="reserve")

    def unreserve(self, volume: Volume) -> None:
        after = "in-use" if any(tie.status == "attached" for tie in volume.attachments) else "available"
        self._volumes.move(volume, ("attaching",), after, verb="unreserve")

    def attach(
        self, volume: Volume, *, server_id: str | None, host_name: str | None, mountpoint: str, mode: str
    ) -> None:
        """The server has the disk, says the caller."""
        if mode == "rw" and volume.readonly:
            raise BadVolume(reason=f"Invalid attaching mode 'rw' for volume {volume.id}.")
        now = self._means.clock.now()
        with self._means.db.write() as tx:
            fresh = volumes.get(tx, volume.id)
            states = {"available", "attaching", "reserved"} | ({"in-use"} if volume.multiattach else set())
            if fresh is None or fresh.status not in states:
                status = fresh.status if fresh is not None else "deleted"
                raise BadVolume(reason=f"Volume {volume.id} status must be available, but current status is: {status}.")
            tie = self._new(fresh, server_id, "attached", mode=mode)
            values = {"host_name": host_name, "mountpoint": mountpoint, "attached_at": now}
            attachments.add(tx, tie)
            attachments.set_fields(tx, tie.id, **values)
            self._follow(tx, volume.id, admin_metadata={**fresh.admin_metadata, "attached_mode": mode})

    def begin_detaching(self, volume: Volume) -> None:
        if not any(tie.status == "attached" for tie in volume.attachments):
            raise BadVolume(reason=f"Volume {volume.id} is not attached.")
        self._volumes.move(volume, ("in-use",), "detaching", verb="detach")

    def roll_detaching(self, volume: Volume) -> None:
        self._volumes.move(volume, ("detaching",), "in-use", verb="roll detaching")

    def tie_to_detach(self, caller: Caller, volume: Volume, attachment_id: str | None) -> Attachment | None:
        """The attachment meant; one must be named where there are several."""
        ties = volume.attachments
        if attachment_id is not None:
            found = next((tie for tie in ties if tie.id == attachment_id), None)
            if found is None:
                raise AttachmentNotFound(id=attachment_id)
        elif len(ties) > 1:
            raise BadVolume(
                reason=f"Detach volume failed: More than one attachment, but no attachment_id provided.: {volume.id}"
            )
        else:
            found = ties[0] if ties else None
        if found is not None:
            self.check_deletion(caller, found)
        return found

    def settle(self, volume: Volume) -> None:
        """No attachment is left: whatever the status said, the volume is free."""
        with self._means.db.write() as tx:
            self._follow(tx, volume.id)
