"""What takes time with volumes: tables of steps, each recorded, each with its undo.

The subject of every flow is the volume, also where a snapshot or an image is made of it: so a host does one thing at a time with a
volume's bytes.  Steps at the conductor use ConductorTools, steps at the host HostTools; the bytes move in the pool "devices".

What is made of a volume that a guest has open goes the longer way of `guest_copies.py`, and ends in the same steps as here.
"""

import contextlib
from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

from cumulet.core.disk.formats import qemu_format
from cumulet.core.errors import Conflict, NotFound, ServerFault
from cumulet.core.saga import Failure, Flow, Run, Step
from cumulet.core.web.client import Credentials
from cumulet.core.work import Slow
from cumulet.image.door import ImageDoor, ImageInfo
from cumulet.volume.conductor.tools import ConductorTools
from cumulet.volume.drivers.driver import Growth, ImageSource
from cumulet.volume.drivers.driver import Snapshot as SnapshotToMake
from cumulet.volume.drivers.driver import Volume as VolumeToMake
from cumulet.volume.host.tools import HostTools
from cumulet.volume.messages import Selected, SelectRequest
from cumulet.volume.records import Volume

__all__ = [
    "CREATE",
    "DELETE",
    "EXTEND",
    "FLOWS",
    "REVERT",
    "SNAPSHOT",
    "SNAPSHOT_DELETE",
    "UPLOAD",
    "CreateRequest",
    "DeleteRequest",
    "ExtendRequest",
    "Guest",
    "Made",
    "SnapshotRequest",
    "UploadRequest",
    "cancelled",
    "make_image",
]

OTHERS_TIMEOUT_S = 3600.0
COPY_TIMEOUT_S = 3600.0


def cancelled() -> Failure:
    """Why a flow turns back when its volume is deleted by force."""
    return Failure(message="The volume was deleted.", kind="Cancelled", code=409)


class ImageNotReadable(ServerFault):
    """The image service did not say where the image lies."""

    default = "Image {image_id} could not be read."


class GuestCannotGrow(ServerFault):
    """A guest has the volume open, and nobody here can tell its hypervisor."""

    default = "Volume {volume_id} is in use and cannot be extended now."


class Guest(msgspec.Struct, frozen=True, kw_only=True):
    """A volume that a server has, and the id of what is to be made of it, by which its copy is known everywhere."""

    volume_id: str
    server_id: str
    copy_id: str


class CreateRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Where the volume is to go, and what it begins with.  guest: the server that has the source."""

    select: SelectRequest
    image_id: str | None = None
    snapshot_id: str | None = None
    source_id: str | None = None
    guest: Guest | None = None


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """A volume that is there; of the image it was made from."""

    image_metadata: dict[str, str] | None = None


class DeleteRequest(msgspec.Struct, frozen=True, kw_only=True):
    """snapshot_ids: what goes first."""

    snapshot_ids: list[str] = []


class ExtendRequest(msgspec.Struct, frozen=True, kw_only=True):
    size_gib: int
    attached: bool


class Extended(msgspec.Struct, frozen=True, kw_only=True):
    by_hypervisor: bool


class SnapshotRequest(msgspec.Struct, frozen=True, kw_only=True):
    """For making, deleting and going back to a snapshot.  guest: the server that has the volume, when one is made."""

    snapshot_id: str
    guest: Guest | None = None


class UploadRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The image, whose id is chosen here, so that there is no image without a saga that owns it.  guest: the server that has the volume."""

    image_id: str
    disk_format: str
    guest: Guest | None = None
    name: str = ""
    container_format: str = "bare"
    properties: dict[str, str] = {}
    min_disk: int = 0
    min_ram: int = 0
    visibility: str = "private"


# --- create --------------------------------------------------------------------------------------------------------


def schedule(run: Run) -> Selected:
    """Ask the scheduler for a back end."""
    tools: ConductorTools = run.tools
    selected: Selected = tools.scheduler.select(run.input(CreateRequest).select)
    run.note(f"{selected.host} of {selected.considered} considered")
    return selected


def create(run: Run) -> Generator[Any, Any, Made]:
    """Make the volume: empty, or as a copy of an image, a snapshot, another volume."""
    tools: HostTools = run.tools
    request = run.input(CreateRequest)
    target = VolumeToMake(run.subject_id, request.select.size_gib)
    if request.image_id is not None:
        source, metadata = _image(run, request.image_id)
        yield Slow("devices", tools.driver.create_from_image, (target, source))
        return Made(image_metadata=metadata)
    if request.snapshot_id is not None:
        yield Slow("devices", tools.driver.create_from_snapshot, (target, request.snapshot_id))
    elif request.source_id is not None:
        clone = partial(tools.driver.clone, copied=request.guest is not None)
        yield Slow("devices", clone, (target, request.source_id))
        yield from _used_up(tools, request.guest)
    else:
        yield Slow("devices", tools.driver.create, (target,))
    return Made()


def _used_up(tools: HostTools, guest: Guest | None) -> Generator[Any, Any, None]:
    """Remove the copy that something was made of."""
    if guest is not None:
        yield Slow("devices", tools.driver.drop_copy, (guest.volume_id, guest.copy_id))


def _image(run: Run, image_id: str) -> tuple[ImageSource, dict[str, str]]:
    """Where the image's file lies and in which format the image service has it: told, never looked for."""
    tools: HostTools = run.tools
    image, _ = tools.image.get_with_location(image_id, tools.credentials(run))
    if image.location is None or image.disk_format is None:
        raise ImageNotReadable(image_id=image_id, detail="no location or no format")
    facts = {
        "image_id": image.id,
        "image_name": image.name,
        "checksum": image.checksum or "",
        "container_format": image.container_format or "",
        "disk_format": image.disk_format,
        "min_disk": str(image.min_disk),
        "min_ram": str(image.min_ram),
        "size": str(image.size),
    }
    source = ImageSource(
        Path(unquote(urlsplit(image.location).path)), qemu_format(image.disk_format), image.virtual_size or image.size
    )
    return source, {**image.properties, **facts}


def remove(run: Run) -> Generator[Any, Any, None]:
    """Remove the volume and what attempts to make it left."""
    tools: HostTools = run.tools
    yield Slow("devices", tools.driver.delete, (run.subject_id,))


CREATE = Flow(
    name="volume_create",
    action="create",
    input=CreateRequest,
    steps=(
        # nothing to undo: the choice is a word in the volume's row
        Step(name="schedule", where="conductor", what="choose a back end", do=schedule, undo=None, timeout_s=60),
        Step(name="create", where="host", what="make the volume", do=create, undo=remove, timeout_s=COPY_TIMEOUT_S),
    ),
)


# --- delete --------------------------------------------------------------------------------------------------------


def settle_others(run: Run) -> Generator[Any, Any, None]:
    """Wait until every other saga of the volume has ended; a creation under way was told to turn back."""
    tools: ConductorTools = run.tools
    yield from tools.others.settle(run, timeout_s=OTHERS_TIMEOUT_S)


def delete(run: Run) -> Generator[Any, Any, None]:
    """Remove the snapshots that go along, then the volume."""
    tools: HostTools = run.tools
    for snapshot_id in run.input(DeleteRequest).snapshot_ids:
        yield Slow("devices", tools.driver.delete_snapshot, (snapshot_id,))
    yield Slow("devices", tools.driver.delete, (run.subject_id,))


DELETE = Flow(
    name="volume_delete",
    action="delete",
    input=DeleteRequest,
    forward_only=True,
    without_host=True,
    steps=(
        Step(
            name="settle_others",
            where="conductor",
            what="wait for other work on the volume",
            do=settle_others,
            undo=None,
        ),
        Step(name="delete", where="host", what="remove the volume", do=delete, undo=None),
    ),
)


# --- extend --------------------------------------------------------------------------------------------------------


def extend(run: Run) -> Generator[Any, Any, Extended]:
    """Make the volume larger, or learn that the hypervisor must."""
    tools: HostTools = run.tools
    request = run.input(ExtendRequest)
    grow = partial(tools.driver.extend, attached=request.attached)
    growth = yield Slow("devices", grow, (run.subject_id, request.size_gib))
    return Extended(by_hypervisor=growth is Growth.BY_HYPERVISOR)


def grow_in_guest(run: Run) -> Generator[Any, Any, None]:
    """Tell compute, whose hypervisor shows the new size to the guest (and grows the file where it alone may)."""
    tools: ConductorTools = run.tools
    extended = run.output("extend", Extended)
    servers = [tie.server_id for tie in run.subject_as(Volume).attachments if tie.server_id is not None]
    if not run.input(ExtendRequest).attached or not servers:
        return
    if tools.tell_extended is not None:
        yield Slow("calls", tools.tell_extended, (run.subject_id, run.input(ExtendRequest).size_gib, servers))
    elif extended is not None and extended.by_hypervisor:
        raise GuestCannotGrow(volume_id=run.subject_id)


EXTEND = Flow(
    name="volume_extend",
    action="extend",
    input=ExtendRequest,
    steps=(
        # a volume that has grown stays so: there is no way back that keeps its bytes
        Step(name="extend", where="host", what="make the volume larger", do=extend, undo=None),
        Step(name="grow_in_guest", where="conductor", what="tell compute of the new size", do=grow_in_guest, undo=None),
    ),
)


# --- snapshots -----------------------------------------------------------------------------------------------------


def keep(run: Run) -> Generator[Any, Any, None]:
    """Keep the volume as it is now."""
    tools: HostTools = run.tools
    request = run.input(SnapshotRequest)
    make = partial(tools.driver.create_snapshot, copied=request.guest is not None)
    yield Slow("devices", make, (SnapshotToMake(request.snapshot_id, run.subject_id),))
    yield from _used_up(tools, request.guest)


def drop(run: Run) -> Generator[Any, Any, None]:
    """Remove the snapshot and what attempts to make it left."""
    tools: HostTools = run.tools
    yield Slow("devices", tools.driver.delete_snapshot, (run.input(SnapshotRequest).snapshot_id,))


def restore(run: Run) -> Generator[Any, Any, None]:
    """Make the volume anew as the snapshot has it, in the volume's present size."""
    tools: HostTools = run.tools
    target = VolumeToMake(run.subject_id, run.subject_as(Volume).size)
    yield Slow("devices", tools.driver.create_from_snapshot, (target, run.input(SnapshotRequest).snapshot_id))


SNAPSHOT = Flow(
    name="snapshot_create",
    action="create",
    input=SnapshotRequest,
    steps=(
        Step(name="keep", where="host", what="keep the volume as it is", do=keep, undo=drop, timeout_s=COPY_TIMEOUT_S),
    ),
)

SNAPSHOT_DELETE = Flow(
    name="snapshot_delete",
    action="delete",
    input=SnapshotRequest,
    forward_only=True,
    without_host=True,
    steps=(Step(name="drop", where="host", what="remove the snapshot", do=drop, undo=None),),
)

REVERT = Flow(
    name="volume_revert",
    action="revert",
    input=SnapshotRequest,
    # what the volume held is given up with the first step
    forward_only=True,
    steps=(
        Step(name="remove", where="host", what="remove what the volume holds", do=remove, undo=None),
        Step(
            name="restore",
            where="host",
            what="bring the snapshot back",
            do=restore,
            undo=None,
            timeout_s=COPY_TIMEOUT_S,
        ),
    ),
)


# --- to an image ---------------------------------------------------------------------------------------------------


def make_image(
    image: ImageDoor, credentials: Credentials, request: UploadRequest, *, owner: str | None = None
) -> ImageInfo | None:
    """The queued image; None where it is there.  The request makes it before it answers, the step makes sure of it."""
    try:
        return image.create(
            credentials,
            name=request.name,
            disk_format=request.disk_format,
            container_format=request.container_format,
            properties=request.properties,
            min_disk=request.min_disk,
            min_ram=request.min_ram,
            visibility=request.visibility,
            owner=owner,
            id=request.image_id,
        )
    except Conflict:
        return None


def own_image(run: Run) -> None:
    """The queued image, if the request did not come to it."""
    tools: ConductorTools = run.tools
    make_image(tools.image, tools.own(run), run.input(UploadRequest), owner=run.subject_as(Volume).project_id)


def give_up_image(run: Run) -> None:
    """Remove the image that was to be.  It is made first if it is not there: a used id is refused to a creation that comes late."""
    tools: ConductorTools = run.tools
    own_image(run)
    with contextlib.suppress(NotFound):  # gone already: an undo may run twice
        tools.image.delete(tools.own(run), run.input(UploadRequest).image_id)


def copy_out(run: Run) -> Generator[Any, Any, None]:
    """Write the volume's disk to a file beside the volumes."""
    tools: HostTools = run.tools
    request = run.input(UploadRequest)
    target, disk_format = tools.upload_path(request.image_id), qemu_format(request.disk_format)
    if request.guest is None:
        yield Slow("devices", tools.driver.copy_to_image, (run.subject_id, target, disk_format))
        return
    if not target.exists():  # it takes its name when it is complete, and the copy may be gone since
        copy = partial(tools.driver.copy_to_image, copy_id=request.guest.copy_id)
        yield Slow("devices", copy, (run.subject_id, target, disk_format))
    yield from _used_up(tools, request.guest)


def remove_copy(run: Run) -> None:
    """Remove the copy."""
    tools: HostTools = run.tools
    tools.drop_upload(run.input(UploadRequest).image_id)


def upload(run: Run) -> Generator[Any, Any, None]:
    """Send the copy to the image service, and remove it here."""
    tools: HostTools = run.tools
    image_id = run.input(UploadRequest).image_id
    path = tools.upload_path(image_id)
    if tools.image.get(image_id, tools.own(run)).status == "queued":  # else an earlier run of the step has done it
        yield Slow("devices", tools.image.upload, (tools.credentials(run), image_id, path))
    tools.drop_upload(image_id)


UPLOAD = Flow(
    name="volume_upload",
    action="upload",
    input=UploadRequest,
    steps=(
        # begun with the saga itself: from the request's first moment on the image has an owner
        Step(name="own_image", where="conductor", what="make the image", do=own_image, undo=give_up_image),
        Step(
            name="copy_out",
            where="host",
            what="copy the volume",
            do=copy_out,
            undo=remove_copy,
            timeout_s=COPY_TIMEOUT_S,
        ),
        Step(name="upload", where="host", what="upload the image", do=upload, undo=None, timeout_s=COPY_TIMEOUT_S),
    ),
)

FLOWS = (CREATE, DELETE, EXTEND, SNAPSHOT, SNAPSHOT_DELETE, REVERT, UPLOAD)
