"""Volumes and NICs of a server that exists: attach and detach, while it runs or is stopped."""

import contextlib
from collections.abc import Generator
from typing import Any

import msgspec

from cumulet.compute.door import BlockDevice, ConductorTools, HostTools, Interface, NetworkRequest, Server
from cumulet.core.errors import NotFound
from cumulet.core.saga import Flow, Run, Step
from cumulet.core.work import Slow
from cumulet.launch.networking import plug, port_of, unplug, wait_up
from cumulet.launch.volumes import AttachedVolumes

__all__ = [
    "ATTACH_INTERFACE",
    "ATTACH_VOLUME",
    "DETACH_INTERFACE",
    "DETACH_VOLUME",
    "AttachInterfaceRequest",
    "AttachVolumeRequest",
    "DetachInterfaceRequest",
    "DetachVolumeRequest",
    "Interfaces",
]


class AttachVolumeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The device, without its attachment."""

    device: BlockDevice


class DetachVolumeRequest(msgspec.Struct, frozen=True, kw_only=True):
    volume_id: str


class AttachInterfaceRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A network or a port, as at launch."""

    network: NetworkRequest


class DetachInterfaceRequest(msgspec.Struct, frozen=True, kw_only=True):
    port_id: str


class Reserved(msgspec.Struct, frozen=True, kw_only=True):
    attachment_id: str


class AddedPort(msgspec.Struct, frozen=True, kw_only=True):
    """A NIC that the guest is to get."""

    interface: Interface


class Interfaces(msgspec.Struct, frozen=True, kw_only=True):
    """All NICs of the server after the step."""

    interfaces: list[Interface]


def reserve_volume(run: Run) -> Reserved:
    """Reserve the volume for the server; a reservation that an earlier run made is found."""
    tools: ConductorTools = run.tools
    volume_id = run.input(AttachVolumeRequest).device.volume_id or ""
    for attachment in tools.volume.attachments_of(tools.own(run), server_id=run.subject_id):
        if attachment.volume_id == volume_id:
            return Reserved(attachment_id=attachment.id)
    made = tools.volume.create_attachment(tools.credentials(run), volume_id=volume_id, server_id=run.subject_id)
    return Reserved(attachment_id=made)


def release_volume(run: Run) -> None:
    """Delete the attachment: the volume is available again."""
    tools: ConductorTools = run.tools
    volume_id = run.input(AttachVolumeRequest).device.volume_id
    for attachment in tools.volume.attachments_of(tools.own(run), server_id=run.subject_id):
        if attachment.volume_id == volume_id:
            tools.volume.delete_attachment(tools.own(run), attachment.id)


def connect_volume(run: Run) -> AttachedVolumes:
    """Get the connection of the reserved attachment."""
    tools: HostTools = run.tools
    server = run.subject_as(Server)
    device = run.input(AttachVolumeRequest).device
    reserved = run.output("reserve_volume", Reserved) or Reserved(attachment_id="")
    connection = tools.volume.connect(
        tools.credentials(run), reserved.attachment_id, tools.connector, mountpoint=f"/dev/{device.device_name}"
    )
    connected = msgspec.structs.replace(device, attachment_id=reserved.attachment_id, connection=connection)
    others = [other for other in server.block_devices if other.id != device.id]
    return AttachedVolumes(devices=[*others, connected])


def plug_volume(run: Run) -> Generator[Any, Any, None]:
    """Give the disk to the guest and complete the attachment."""
    tools: HostTools = run.tools
    devices = (run.output("connect_volume", AttachedVolumes) or AttachedVolumes(devices=[])).devices
    device = next(device for device in devices if device.id == run.input(AttachVolumeRequest).device.id)
    yield Slow(tools.pool, tools.hypervisor.attach_disk, (run.subject_id, tools.disk(device)))
    tools.volume.complete_attachment(tools.credentials(run), device.attachment_id or "")


def unplug_attached(run: Run) -> Generator[Any, Any, None]:
    """Take the disk from the guest again."""
    tools: HostTools = run.tools
    device = run.input(AttachVolumeRequest).device
    yield Slow(tools.pool, tools.hypervisor.detach_disk, (run.subject_id, device.volume_id or ""))


def unplug_volume(run: Run) -> Generator[Any, Any, None]:
    """Take the disk from the guest, and wait until the guest has let go."""
    tools: HostTools = run.tools
    yield Slow(tools.pool, tools.hypervisor.detach_disk, (run.subject_id, run.input(DetachVolumeRequest).volume_id))


def replug_volume(run: Run) -> Generator[Any, Any, None]:
    """The guest did not let go, or its answer was lost: it has the disk that its record says it has."""
    tools: HostTools = run.tools
    volume_id = run.input(DetachVolumeRequest).volume_id
    for device in run.subject_as(Server).block_devices:
        if device.volume_id == volume_id and device.connection is not None:
            with contextlib.suppress(NotFound):  # no guest is there to have it; its record tells at the next start
                yield Slow(tools.pool, tools.hypervisor.attach_disk, (run.subject_id, tools.disk(device)))


def disconnect_volume(run: Run) -> AttachedVolumes:
    """Only after the host has confirmed: delete the attachment, take the device off the record."""
    tools: ConductorTools = run.tools
    server = run.subject_as(Server)
    volume_id = run.input(DetachVolumeRequest).volume_id
    for device in server.block_devices:
        if device.volume_id == volume_id and device.attachment_id is not None:
            try:
                tools.volume.delete_attachment(tools.own(run), device.attachment_id)
            except NotFound:  # gone already: an action may run twice
                continue
    return AttachedVolumes(devices=[device for device in server.block_devices if device.volume_id != volume_id])


def add_port(run: Run) -> Generator[Any, Any, AddedPort]:
    """Create or take the port, plug its tap, wait until it is up."""
    tools: HostTools = run.tools
    server = run.subject_as(Server)
    credentials = tools.credentials(run)
    network = run.input(AttachInterfaceRequest).network
    known = {interface.port_id for interface in server.interfaces}
    there = [port for port in tools.network.list_ports(credentials, device_id=server.id) if port.id not in known]
    interface = port_of(run, credentials, server, network, there)
    plug(run, interface)
    yield from wait_up(run, credentials, [interface])
    return AddedPort(interface=interface)


def remove_port(run: Run) -> None:
    """Unplug, and delete or give back the port that the first step took."""
    tools: HostTools = run.tools
    server = run.subject_as(Server)
    own = tools.own(run)
    request = run.input(AttachInterfaceRequest).network
    kept = {interface.port_id for interface in server.interfaces}
    for port in tools.network.list_ports(own, device_id=server.id):
        if port.id in kept:
            continue
        unplug(tools, port.id)
        if port.id == request.port_id:
            tools.network.unbind_port(own, port.id)
        else:
            tools.network.delete_port(own, port.id)


def plug_nic(run: Run) -> Generator[Any, Any, Interfaces]:
    """Give the NIC to the guest.  Only now it is on the server's record: until here its absence says what is to be undone."""
    tools: HostTools = run.tools
    added = run.output("add_port", AddedPort)
    others = [
        nic for nic in run.subject_as(Server).interfaces if added is None or nic.port_id != added.interface.port_id
    ]
    if added is None:
        return Interfaces(interfaces=others)
    yield Slow(tools.pool, tools.hypervisor.attach_nic, (run.subject_id, tools.nic(added.interface)))
    return Interfaces(interfaces=[*others, added.interface])


def unplug_added(run: Run) -> Generator[Any, Any, None]:
    """Take the NIC from the guest again; where the flow's log was lost, the one that its request names."""
    tools: HostTools = run.tools
    added = run.output("add_port", AddedPort)
    port_id = run.input(AttachInterfaceRequest).network.port_id if added is None else added.interface.port_id
    if port_id is not None:
        yield Slow(tools.pool, tools.hypervisor.detach_nic, (run.subject_id, port_id))


def unplug_nic(run: Run) -> Generator[Any, Any, None]:
    """Take the NIC from the guest, then its tap from the bridge."""
    tools: HostTools = run.tools
    server = run.subject_as(Server)
    port_id = run.input(DetachInterfaceRequest).port_id
    interface = next((nic for nic in server.interfaces if nic.port_id == port_id), None)
    if interface is not None:
        yield Slow(tools.pool, tools.hypervisor.detach_nic, (run.subject_id, port_id))
    unplug(tools, port_id)


def replug_nic(run: Run) -> Generator[Any, Any, None]:
    """As `replug_volume`."""
    tools: HostTools = run.tools
    port_id = run.input(DetachInterfaceRequest).port_id
    for interface in run.subject_as(Server).interfaces:
        if interface.port_id == port_id:
            plug(run, interface)
            with contextlib.suppress(NotFound):
                yield Slow(tools.pool, tools.hypervisor.attach_nic, (run.subject_id, tools.nic(interface)))


def release_port(run: Run) -> Interfaces:
    """Delete the port if the cloud made it, give it back if the user did."""
    tools: ConductorTools = run.tools
    server = run.subject_as(Server)
    own = tools.own(run)
    port_id = run.input(DetachInterfaceRequest).port_id
    for interface in server.interfaces:
        if interface.port_id == port_id:
            if interface.created:
                tools.network.delete_port(own, port_id)
            else:
                tools.network.unbind_port(own, port_id)
    return Interfaces(interfaces=[nic for nic in server.interfaces if nic.port_id != port_id])


ATTACH_VOLUME = Flow(
    name="attach_volume",
    action="attach_volume",
    input=AttachVolumeRequest,
    steps=(
        Step(
            name="reserve_volume", where="conductor", what="reserve the volume", do=reserve_volume, undo=release_volume
        ),
        # whoever deletes the attachment shuts the host out
        Step(
            name="connect_volume",
            where="host",
            what="ask for the volume's connection",
            do=connect_volume,
            undo=None,
        ),
        Step(name="plug_volume", where="host", what="give the disk to the guest", do=plug_volume, undo=unplug_attached),
    ),
)

DETACH_VOLUME = Flow(
    name="detach_volume",
    action="detach_volume",
    input=DetachVolumeRequest,
    steps=(
        Step(
            name="unplug_volume",
            where="host",
            what="take the disk from the guest",
            do=unplug_volume,
            undo=replug_volume,
        ),
        Step(
            name="disconnect_volume",
            where="conductor",
            what="release the volume",
            do=disconnect_volume,
            undo=None,
            keeps_on=True,
        ),
    ),
)

ATTACH_INTERFACE = Flow(
    name="attach_interface",
    action="attach_interface",
    input=AttachInterfaceRequest,
    steps=(
        Step(name="add_port", where="host", what="allocate the port", do=add_port, undo=remove_port),
        Step(name="plug_nic", where="host", what="give the NIC to the guest", do=plug_nic, undo=unplug_added),
    ),
)

DETACH_INTERFACE = Flow(
    name="detach_interface",
    action="detach_interface",
    input=DetachInterfaceRequest,
    steps=(
        Step(name="unplug_nic", where="host", what="take the NIC from the guest", do=unplug_nic, undo=replug_nic),
        Step(
            name="release_port",
            where="conductor",
            what="release the port",
            do=release_port,
            undo=None,
            keeps_on=True,
        ),
    ),
)
