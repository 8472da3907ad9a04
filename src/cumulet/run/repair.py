"""`cumulet check --repair`: what has no owner is taken away by the owner's own undo.

Only what can be named: a thing whose kind and id say which undo is its.  All else is told and left alone.  A port that a user brought is
given back and not deleted, and so is one whose server the cloud has never known: it may be anybody's.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import msgspec
import structlog
from sqlalchemy import select

from cumulet.compute.store import servers, usages
from cumulet.compute.tables import SAGAS
from cumulet.core.errors import CloudError
from cumulet.flows.devices import ATTACH_INTERFACE, AttachInterfaceRequest
from cumulet.flows.snapshot import SNAPSHOT
from cumulet.placement import store as placement
from cumulet.run.host_part import HostThings
from cumulet.run.leaks import ROOT_DISK, UPLOAD, VOLUME, Leak, find_leaks, live_inputs
from cumulet.volume.store import volumes

if TYPE_CHECKING:
    from cumulet.run.services import Services

__all__ = ["ORDER", "mend", "repair"]

log = structlog.get_logger()

#: what stands on others goes first
ORDER = (
    "domain",
    "tap",
    "files",
    "attachment",
    "port",
    "allocation",
    "usage",
    "inventory",
    "copy",
    "volume snapshot",
    "volume volume",
    "volume unfinished",
    "image file",
    "ovn floating_ip",
    "ovn router",
    "ovn port",
    "ovn subnet",
    "ovn security_group",
    "ovn network",
)


def repair(services: "Services") -> list[dict[str, str]]:
    """Mend what has no owner; each leak with what was done of it.  Blocks: for a pool's thread."""
    return mend(services, find_leaks(services))


def mend(services: "Services", leaks: Iterable[Leak]) -> list[dict[str, str]]:
    """Mend these."""
    undo = _Undo(services)
    told: list[dict[str, str]] = []
    for leak in sorted(leaks, key=lambda leak: ORDER.index(leak.kind) if leak.kind in ORDER else len(ORDER)):
        act = undo.by_kind.get(leak.kind)
        if act is None:
            done = "left alone: it cannot be told what it is"
        else:
            try:
                done = act(leak)
            except (CloudError, OSError) as error:
                detail = error.detail or error.message if isinstance(error, CloudError) else str(error)
                done = f"not mended: {detail}"
        log.warning("repair", kind=leak.kind, id=leak.id, detail=leak.detail, done=done)
        told.append({"kind": leak.kind, "id": leak.id, "detail": leak.detail, "host": leak.host, "done": done})
    return told


class _Undo:
    """The owners' undos, by the kind of what they take away."""

    def __init__(self, services: "Services") -> None:
        self._services = services
        self.by_kind: dict[str, Callable[[Leak], str]] = {
            "domain": self._domain,
            "tap": self._tap,
            "files": self._files,
            "attachment": self._attachment,
            "port": self._port,
            "allocation": self._allocation,
            "usage": self._usage,
            "inventory": self._inventory,
            "copy": self._copy,
            "volume volume": self._volume,
            "volume unfinished": self._unfinished,
            "volume snapshot": self._snapshot,
            "image file": self._image_file,
            **{kind: self._row for kind in ORDER if kind.startswith("ovn ")},
        }

    def _host(self, leak: Leak) -> HostThings:
        return next(host for host in self._services.hosts if host.machine.host == leak.host)

    def _domain(self, leak: Leak) -> str:
        self._host(leak).machine.hypervisor.destroy(leak.id)
        return "destroyed"

    def _tap(self, leak: Leak) -> str:
        self._host(leak).unplug(leak.detail.removeprefix("port "))
        return "unplugged"

    def _files(self, leak: Leak) -> str:
        self._host(leak).instances.remove(leak.id)
        return "removed"

    def _copy(self, leak: Leak) -> str:
        if leak.detail == UPLOAD:
            self._services.volume_parts.tools.drop_upload(leak.id)
            return "removed"
        if leak.detail == ROOT_DISK:
            return self._root_copy(leak)
        volume_id = leak.detail.removeprefix(VOLUME)
        if any(volume_id in (one.get("volume_id"), (one.get("guest") or {}).get("volume_id")) for one in self._live()):
            return "left alone while the volume is copied"
        with self._services.volume.db.read() as tx:
            volume = volumes.get(tx, volume_id)
        for tie in volume.attachments if volume is not None else []:
            self._stop_copying(self._services.hosts, tie.server_id, volume_id)
        self._services.machine.volumes.drop_copy(volume_id, leak.id)
        return "removed from the back end"

    def _root_copy(self, leak: Leak) -> str:
        """Whose it was is on the saga that began it."""
        host, sagas = self._host(leak), SAGAS.sagas
        began = select(sagas.c.subject_id).where(sagas.c.flow == SNAPSHOT.name, sagas.c.input.like(f"%{leak.id}%"))
        with self._services.compute_db.read() as tx:
            server_id = tx.value(began)
            if server_id is not None and self._services.coordinator.journal.live_of(tx, server_id):
                return "left alone while something works on the server"
        self._stop_copying([host], server_id, "")
        host.instances.snapshot_path(leak.id).unlink(missing_ok=True)
        return "removed"

    @staticmethod
    def _stop_copying(hosts: Iterable[HostThings], server_id: str | None, key: str) -> None:
        """A copying that began after its undo must not go on writing."""
        for host in hosts if server_id is not None else ():
            host.machine.hypervisor.stop_copying(server_id or "", key)

    def _live(self) -> list[dict[str, Any]]:
        return list(live_inputs(self._services))

    def _attachment(self, leak: Leak) -> str:
        self._services.volume_door.delete_attachment(self._services.own(), leak.id)
        return "deleted"

    def _port(self, leak: Leak) -> str:
        server_id, sagas = leak.detail.removeprefix("server "), SAGAS.sagas
        attached = select(sagas.c.input).where(sagas.c.subject_id == server_id, sagas.c.flow == ATTACH_INTERFACE.name)
        with self._services.compute_db.read() as tx:
            server = servers.get(tx, server_id, deleted=True)
            later = [msgspec.convert(given, AttachInterfaceRequest).network for given in tx.values(attached)]
        door = self._services.network_door
        brought = {leak.id} if server is None else {one.port_id for one in [*(server.requested_networks or []), *later]}
        if leak.id in brought:
            door.unbind_port(self._services.own(), leak.id)
            return "given back to its owner"
        door.delete_port(self._services.own(), leak.id)
        return "deleted"

    def _allocation(self, leak: Leak) -> str:
        self._services.placement_door.release(leak.id, self._services.own())
        return "released"

    def _usage(self, leak: Leak) -> str:
        with self._services.compute_db.write() as tx:
            usages.forget(tx, leak.id)
        return "to be counted anew"

    def _inventory(self, leak: Leak) -> str:
        with self._services.placement.db.write() as tx:
            placement.recount(tx, leak.id)
            placement.note(tx, [leak.id])
        return "counted anew"

    def _volume(self, leak: Leak) -> str:
        self._services.machine.volumes.delete(leak.id)
        return "removed from the back end"

    def _unfinished(self, leak: Leak) -> str:
        self._services.machine.volumes.drop_unfinished(leak.id)
        return "removed from the back end"

    def _snapshot(self, leak: Leak) -> str:
        self._services.machine.volumes.delete_snapshot(leak.id)
        return "removed from the back end"

    def _image_file(self, leak: Leak) -> str:
        self._services.image.files.remove(leak.id)
        return "removed"

    def _row(self, leak: Leak) -> str:
        kind: Any = leak.kind.removeprefix("ovn ")
        self._services.network.put_again(kind, leak.id)
        return "taken out of the data plane"
