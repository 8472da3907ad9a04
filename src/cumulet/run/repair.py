"""`cumulet check --repair`: what has no owner is taken away by the owner's own undo.

Only what can be named: a thing whose kind and id say which undo is its.  All else is told and left alone.  A port that a user brought is
given back and not deleted, and so is one whose server the cloud has never known: it may be anybody's.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import structlog

from cumulet.compute.store import servers
from cumulet.core.errors import CloudError
from cumulet.launch.networking import unplug
from cumulet.run.leaks import Leak, find_leaks

if TYPE_CHECKING:
    from cumulet.run.services import Services

__all__ = ["ORDER", "repair"]

log = structlog.get_logger()

#: what stands on others goes first
ORDER = (
    "domain",
    "tap",
    "files",
    "attachment",
    "port",
    "allocation",
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
    undo = _Undo(services)
    told: list[dict[str, str]] = []
    leaks = find_leaks(services)
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
        told.append({"kind": leak.kind, "id": leak.id, "detail": leak.detail, "done": done})
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
            "volume volume": self._volume,
            "volume unfinished": self._volume,
            "volume snapshot": self._snapshot,
            "image file": self._image_file,
            **{kind: self._row for kind in ORDER if kind.startswith("ovn ")},
        }

    def _domain(self, leak: Leak) -> str:
        self._services.machine.hypervisor.destroy(leak.id)
        return "destroyed"

    def _tap(self, leak: Leak) -> str:
        unplug(self._services.host_part.tools, leak.detail.removeprefix("port "))
        return "unplugged"

    def _files(self, leak: Leak) -> str:
        self._services.host_part.instances.remove(leak.id)
        return "removed"

    def _attachment(self, leak: Leak) -> str:
        self._services.volume_door.delete_attachment(self._services.own(), leak.id)
        return "deleted"

    def _port(self, leak: Leak) -> str:
        with self._services.compute_db.read() as tx:
            server = servers.get(tx, leak.detail.removeprefix("server "), deleted=True)
        door = self._services.network_door
        brought = {asked.port_id for asked in (server.requested_networks or [])} if server is not None else {leak.id}
        if leak.id in brought:
            door.unbind_port(self._services.own(), leak.id)
            return "given back to its owner"
        door.delete_port(self._services.own(), leak.id)
        return "deleted"

    def _allocation(self, leak: Leak) -> str:
        self._services.placement_door.release(leak.id, self._services.own())
        return "released"

    def _volume(self, leak: Leak) -> str:
        self._services.machine.volumes.delete(leak.id)
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
