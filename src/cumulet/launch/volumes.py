"""Rows 17 and 18: create or locate the volumes of the server's disks, and attach them to this host."""

import contextlib
from collections.abc import Generator
from typing import Any

import msgspec

from cumulet.compute.door import BlockDevice, ConductorTools, HostTools, Server
from cumulet.core.errors import BadRequest, Conflict, NotFound, ServerFault
from cumulet.core.saga import Run
from cumulet.core.web.client import Credentials
from cumulet.core.work import TimedOutError, Until
from cumulet.volume.door import VolumeInfo

__all__ = ["AttachedVolumes", "attach", "delete_volume", "detach", "device_names", "none_wanted"]

VOLUME_TIMEOUT_S = 1200.0
LOOK_AGAIN_S = 30.0
#: written on a volume that a launch makes: the block device it was made for
MARK = "cumulet_block_device"
#: what a volume's status is for a while only
AT_WORK = frozenset({"creating", "downloading", "uploading", "extending", "reverting", "attaching", "detaching"})


class VolumeNotReadyError(ServerFault):
    """A volume did not become available."""

    default = "Build of instance aborted: Volume {volume_id} did not finish being created."


class AttachedVolumes(msgspec.Struct, frozen=True, kw_only=True):
    """All block devices of the server, those on volumes with their connection."""

    devices: list[BlockDevice]


def none_wanted(run: Run) -> bool:
    """No disk of the server is a volume."""
    return not _on_volumes(run.subject_as(Server).block_devices)


def _on_volumes(devices: list[BlockDevice]) -> list[BlockDevice]:
    return [device for device in devices if device.destination == "volume"]


def attach(run: Run) -> Generator[Any, Any, AttachedVolumes]:
    """Create what is to be created, wait until available, reserve, and get each connection."""
    tools: HostTools = run.tools
    server = run.subject_as(Server)
    devices = device_names(server.block_devices)
    wanted = _on_volumes(devices)
    if not wanted:
        run.skip("no volumes asked for", row=18, name="volume_answers")
        return AttachedVolumes(devices=devices)
    credentials = tools.credentials(run)
    asked = run.clock.now()
    attached: dict[str, BlockDevice] = {}
    for device in wanted:
        volume = yield from _volume(run, server, device)
        attachment_id = device.attachment_id or _attachment(run, volume.id)
        mountpoint = f"/dev/{device.device_name}"
        if attachment_id is None:
            attachment_id, connection = tools.volume.attach(
                credentials, tools.connector, volume_id=volume.id, server_id=server.id, mountpoint=mountpoint
            )
        else:
            connection = tools.volume.connect(credentials, attachment_id, tools.connector, mountpoint=mountpoint)
        attached[device.id] = msgspec.structs.replace(
            device, volume_id=volume.id, attachment_id=attachment_id, connection=connection, size_gb=volume.size
        )
    kinds = ", ".join(f"{device.device_name}: {device.volume_id}" for device in attached.values())
    run.served(18, "volume_answers", asked, run.clock.now(), kinds)
    run.note(f"{len(wanted)} volume{'s' if len(wanted) != 1 else ''}")
    return AttachedVolumes(devices=[attached.get(device.id, device) for device in devices])


def _volume(run: Run, server: Server, device: BlockDevice) -> Generator[Any, Any, VolumeInfo]:
    """The device's volume, available: the one named, or one made for it (found again by its mark)."""
    tools: HostTools = run.tools
    credentials = tools.credentials(run)
    volume: VolumeInfo | None
    if device.source == "volume":
        volume = tools.volume.get(credentials, device.source_id or "")
    else:
        there = [] if run.first else tools.volume.list_marked(credentials, {MARK: device.id})
        volume = next(iter(there), None)
        if volume is None:
            volume = tools.volume.create(
                credentials,
                project_id=server.project_id,
                size_gb=device.size_gb,
                image_id=device.source_id if device.source == "image" else None,
                snapshot_id=device.source_id if device.source == "snapshot" else None,
                volume_type=device.volume_type,
                metadata={MARK: device.id},
                # a request that was given up may still come: it then finds what was made since, and makes nothing
                key=device.id,
            )
    ends = run.clock.monotonic() + VOLUME_TIMEOUT_S
    while volume.status in {"creating", "downloading"}:
        with contextlib.suppress(TimedOutError):  # a look now and then makes up for a word that got lost
            yield Until(("volume", volume.id), LOOK_AGAIN_S)
        volume = tools.volume.get(credentials, volume.id)
        if volume.status in {"creating", "downloading"} and run.clock.monotonic() > ends:
            raise VolumeNotReadyError(
                volume_id=volume.id, detail=f"it was {volume.status} for {VOLUME_TIMEOUT_S:.0f} s"
            )
    if volume.status in {"error", "error_restoring", "error_extending"}:
        raise VolumeNotReadyError(volume_id=volume.id, detail=f"its status is {volume.status}")
    return volume


def _attachment(run: Run, volume_id: str) -> str | None:
    """An attachment of this server that an earlier run of the step made."""
    tools: HostTools = run.tools
    if run.first:
        return None
    found = tools.volume.attachments_of(tools.own(run), server_id=run.subject_id)
    return next((attachment.id for attachment in found if attachment.volume_id == volume_id), None)


def device_names(devices: list[BlockDevice]) -> list[BlockDevice]:
    """The devices, each with a name: those asked for, else the next free one, the boot device first."""
    taken = {device.device_name.removeprefix("/dev/") for device in devices if device.device_name}
    free = (f"vd{letter}" for letter in "abcdefghijklmnopqrstuvwxyz" if f"vd{letter}" not in taken)
    named: dict[str, str] = {}
    for device in sorted(
        devices, key=lambda d: d.boot_index if d.boot_index is not None and d.boot_index >= 0 else 1000
    ):
        named[device.id] = device.device_name.removeprefix("/dev/") if device.device_name else next(free)
    return [msgspec.structs.replace(device, device_name=named[device.id]) for device in devices]


def detach(run: Run) -> None:
    """Delete the server's attachments and the volumes that the launch made.  The volume service unmaps before it answers."""
    tools: HostTools = run.tools
    server = run.subject_as(Server)
    own = tools.own(run)
    for attachment in tools.volume.attachments_of(own, server_id=run.subject_id):
        tools.volume.delete_attachment(own, attachment.id)
    for device in server.block_devices:
        if device.destination == "volume" and device.source != "volume":
            for volume in tools.volume.list_marked(own, {MARK: device.id}):
                delete_volume(tools, own, volume.id)


def delete_volume(doors: HostTools | ConductorTools, own: Credentials, volume_id: str) -> None:
    """Delete a volume, unless its owner keeps it: by snapshots, or for another server.  One that is at work is tried again."""
    try:
        doors.volume.delete(own, volume_id)
    except NotFound:  # gone already: this may run twice
        return
    except (BadRequest, Conflict):
        with contextlib.suppress(NotFound):
            if doors.volume.get(own, volume_id).status in AT_WORK:
                raise
