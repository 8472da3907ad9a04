"""What is made of a volume while a guest has it open: its snapshot, its clone, its image.

Nobody but the hypervisor can read such a disk as it is at one moment, so the copy is made by the host that runs the guest, and the
volume host makes of it what was asked for:

    place   volume host  says how the copy's file is called, beside the volume's own
    copy    conductor    asks compute (by its door) for the copy and waits until it is there: QEMU mirrors the disk into the new file and
                         cuts the mirror when both are alike, so the copy is the disk as it was at the cut, as after a power failure
    …       volume host  makes the snapshot, the volume or the image of the copy, and removes the copy

Everything goes by the id of what is made, which was committed before: asked twice, compute does it once; undone, it ends the mirror
before the file goes.  The guest's own disk stays the one file that it was, whatever is interrupted (docs/decisions/0011-guest-copies.md).

A server that is off has its disk copied on its host as well, in turn with what else happens to that server, so that no start comes in
between.  A volume of several servers is refused: one hypervisor does not see what the others write.
"""

from collections.abc import Generator
from typing import Any

from cumulet.compute.door import ComputeDoor
from cumulet.core.errors import NotFound, ServerFault
from cumulet.core.saga import Flow, Run, Step
from cumulet.core.web.client import Credentials
from cumulet.core.work import Slow, TimedOutError, Until
from cumulet.volume.conductor.tools import ConductorTools
from cumulet.volume.drivers.driver import GuestCopy
from cumulet.volume.flows import CREATE, SNAPSHOT, UPLOAD, Guest
from cumulet.volume.host.tools import HostTools

__all__ = ["CREATE_FROM_GUEST", "GUEST_FLOWS", "SNAPSHOT_OF_GUEST", "UPLOAD_OF_GUEST"]

#: a word of the copy's end that was lost is made up for by a look
LOOK_AGAIN_S = 30.0


class GuestOutOfReach(ServerFault):
    """There is no compute service to ask."""

    default = "Volume {volume_id} is in use and cannot be copied now."


class GuestNotCopied(ServerFault):
    """The host of the guest could not copy the disk."""

    default = "Volume {volume_id} could not be copied while it is in use: {reason}"


def _guest(run: Run) -> Guest:
    guest: Guest | None = run.input(run.flow.input).guest  # type: ignore[attr-defined]  # all three inputs have it
    assert guest is not None  # noqa: S101 - these flows are begun with one
    return guest


def _compute(run: Run) -> tuple[ComputeDoor, Credentials]:
    tools: ConductorTools = run.tools
    if tools.compute is None:
        raise GuestOutOfReach(volume_id=_guest(run).volume_id)
    return tools.compute(), tools.own(run)


def place(run: Run) -> Generator[Any, Any, GuestCopy]:
    """Learn how the copy's file is to be called."""
    tools: HostTools = run.tools
    guest = _guest(run)
    placed: GuestCopy = yield Slow("devices", tools.driver.place_copy, (guest.volume_id, guest.copy_id))
    return placed


def drop_copy(run: Run) -> Generator[Any, Any, None]:
    """Remove the copy, whoever has got how far with it."""
    tools: HostTools = run.tools
    guest = _guest(run)
    yield Slow("devices", tools.driver.drop_copy, (guest.volume_id, guest.copy_id))


def copy(run: Run) -> Generator[Any, Any, None]:
    """Have the guest's host copy the disk."""
    guest, placed = _guest(run), run.output("place", GuestCopy)
    door, own = _compute(run)
    assert placed is not None  # noqa: S101 - the step before
    there = door.volume_copy(own, guest.server_id, guest.copy_id)
    if there is None or there.status == "failed":  # an earlier run of the step may have asked
        door.copy_volume(own, guest.server_id, guest.copy_id, volume_id=guest.volume_id, file=placed.name)
    yield from _ended(run, door, own)
    there = door.volume_copy(own, guest.server_id, guest.copy_id)
    if there is None or there.status != "done":
        reason = there.message if there is not None else "its server is gone"
        raise GuestNotCopied(volume_id=guest.volume_id, reason=reason)


def stop_copying(run: Run) -> Generator[Any, Any, None]:
    """Have the copying end and its file go."""
    tools: ConductorTools = run.tools
    if tools.compute is None:  # nobody was asked
        return
    guest, (door, own) = _guest(run), _compute(run)
    try:
        door.stop_copying_volume(own, guest.server_id, guest.copy_id)
    except NotFound:  # never begun, or the server is gone with all that was done to it
        return
    yield from _ended(run, door, own)


def _ended(run: Run, door: ComputeDoor, own: Credentials) -> Generator[Any, Any, None]:
    """Wait until nobody works on the copy."""
    guest = _guest(run)
    while True:
        there = door.volume_copy(own, guest.server_id, guest.copy_id)
        if there is None or there.status != "copying":
            return
        try:
            yield Until(("copy", guest.copy_id), LOOK_AGAIN_S)
        except TimedOutError:
            continue


#: what the copy takes.  Its file goes last, when no hypervisor writes any more
_COPY = (
    Step(name="place", where="host", what="choose a place for the copy", do=place, undo=drop_copy),
    Step(name="copy", where="conductor", what="have the guest's disk copied", do=copy, undo=stop_copying),
)

CREATE_FROM_GUEST = Flow(
    name="volume_create_from_guest",
    action="create",
    input=CREATE.input,
    steps=(CREATE.steps[0], *_COPY, *CREATE.steps[1:]),
)
SNAPSHOT_OF_GUEST = Flow(
    name="snapshot_create_of_guest",
    action="create",
    input=SNAPSHOT.input,
    steps=(*_COPY, *SNAPSHOT.steps),
)
UPLOAD_OF_GUEST = Flow(
    name="volume_upload_of_guest",
    action="upload",
    input=UPLOAD.input,
    steps=(UPLOAD.steps[0], *_COPY, *UPLOAD.steps[1:]),
)

GUEST_FLOWS = (CREATE_FROM_GUEST, SNAPSHOT_OF_GUEST, UPLOAD_OF_GUEST)
