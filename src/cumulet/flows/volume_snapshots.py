"""An image of a server that boots from a volume: snapshots of its volumes, and an image without a byte that names them.

As in the reference the image is a bucket of properties: `block_device_mapping` says which disk is to be made of which snapshot.  Unlike
there it becomes active only when every snapshot is available, so whoever waited for it can boot from it; and when one fails, neither the
image nor a snapshot stays.  A deleted image leaves its snapshots, which are their owner's.

The disks are copied one after the other: each is as after a power failure, but two of them not at the same moment.
"""

import json
from collections.abc import Generator
from typing import Any

import msgspec

from cumulet.compute.door import BlockDevice, ConductorTools, Server
from cumulet.core.errors import NotFound, ServerFault
from cumulet.core.saga import Flow, Run, Step
from cumulet.core.work import TimedOutError, Until
from cumulet.flows.snapshot import OWN_IMAGE, SnapshotRequest
from cumulet.volume.door import SnapshotInfo

__all__ = ["VOLUME_SNAPSHOTS", "backed_by_volumes"]

#: written on the snapshots that are made for an image
MARK = "cumulet_image"
NAME_MAX = 255
#: a word of a snapshot's end that was lost is made up for by a look
LOOK_AGAIN_S = 30.0


class SnapshotFailed(ServerFault):
    """A snapshot that the image needs could not be made."""

    default = "The snapshot of volume {volume_id} could not be made."


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """By volume id: its snapshot."""

    snapshots: dict[str, str]


def backed_by_volumes(server: Server) -> list[BlockDevice]:
    """The server's disks that are volumes."""
    return [device for device in server.block_devices if device.destination == "volume" and device.volume_id]


def snapshot(run: Run) -> Generator[Any, Any, Made]:
    """Make a snapshot of each volume, and wait until it is available."""
    tools: ConductorTools = run.tools
    credentials, request = tools.credentials(run), run.input(SnapshotRequest)
    mark = {MARK: request.image_id}
    begun = {known.volume_id: known for known in tools.volume.snapshots_marked(credentials, mark)}
    name = f"snapshot for {request.name}"[:NAME_MAX]
    volume_ids = [device.volume_id or "" for device in backed_by_volumes(run.subject_as(Server))]
    for volume_id in volume_ids:
        if volume_id not in begun:
            begun[volume_id] = tools.volume.create_snapshot(credentials, volume_id, name, True, metadata=mark)
    made: dict[str, str] = {}
    for volume_id in volume_ids:
        ended = yield from _ended(run, begun[volume_id])
        if ended is None or ended.status != "available":
            raise SnapshotFailed(volume_id=volume_id, detail=f"snapshot {begun[volume_id].id}")
        made[volume_id] = ended.id
    run.note(f"{len(made)} snapshot{'s' if len(made) != 1 else ''}")
    return Made(snapshots=made)


def _ended(run: Run, begun: SnapshotInfo) -> Generator[Any, Any, SnapshotInfo | None]:
    """A snapshot once it is no longer being made; None when it is gone."""
    tools: ConductorTools = run.tools
    now = begun
    while now.status == "creating":
        try:
            now = tools.volume.get_snapshot(tools.own(run), begun.id)
            if now.status == "creating":
                yield Until(("volume", begun.volume_id), LOOK_AGAIN_S)
        except TimedOutError:
            continue
        except NotFound:
            return None
    return now


def give_up(run: Run) -> Generator[Any, Any, None]:
    """Remove the snapshots; one that is still being made ends first."""
    tools: ConductorTools = run.tools
    own, image_id = tools.own(run), run.input(SnapshotRequest).image_id
    for known in tools.volume.snapshots_marked(own, {MARK: image_id}):
        ended = yield from _ended(run, known)
        if ended is not None and ended.status != "deleting":
            tools.volume.delete_snapshot(own, known.id)


def describe(run: Run) -> None:
    """Write the disks into the image and make it active."""
    tools: ConductorTools = run.tools
    credentials, image_id = tools.credentials(run), run.input(SnapshotRequest).image_id
    if tools.image.get(image_id, tools.own(run)).status != "queued":  # an earlier run of the step has done it
        return
    made = run.output("snapshot_volumes", Made) or Made(snapshots={})
    mapping = [_mapping(device, made.snapshots) for device in run.subject_as(Server).block_devices]
    properties = {"block_device_mapping": json.dumps([one for one in mapping if one is not None]), "bdm_v2": "True"}
    tools.image.set_properties(credentials, image_id, properties)
    tools.image.activate_empty(credentials, image_id)


def _mapping(device: BlockDevice, snapshots: dict[str, str]) -> dict[str, Any] | None:
    """A disk in the reference's words; None for one that came after the snapshots."""
    snapshot_id = snapshots.get(device.volume_id or "")
    if device.destination == "volume" and snapshot_id is None:
        return None
    return {
        "source_type": "snapshot" if snapshot_id else device.source,
        "destination_type": device.destination,
        "snapshot_id": snapshot_id,
        "volume_id": None,
        "image_id": device.source_id if device.source == "image" and not snapshot_id else None,
        "no_device": None,
        "boot_index": device.boot_index,
        "device_name": f"/dev/{device.device_name.removeprefix('/dev/')}" if device.device_name else None,
        "device_type": device.device_type,
        "disk_bus": device.bus,
        "guest_format": None if snapshot_id else device.guest_format,
        "volume_size": device.size_gb,
        "volume_type": None,
        "delete_on_termination": device.delete_on_termination,
        "tag": None if snapshot_id else device.tag,
    }


VOLUME_SNAPSHOTS = Flow(
    name="volume_snapshots",
    action="createImage",
    input=SnapshotRequest,
    steps=(
        OWN_IMAGE,
        Step(
            name="snapshot_volumes",
            where="conductor",
            what="make snapshots of the volumes",
            do=snapshot,
            undo=give_up,
            stage="image_pending_upload",
        ),
        Step(
            name="write_image",
            where="conductor",
            what="write the snapshots into the image",
            do=describe,
            undo=None,
            stage="image_uploading",
        ),
    ),
)
