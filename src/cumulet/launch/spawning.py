"""Row 19: let the guest run that was begun in row 15, or make it first, from the record, once the ports are up."""

from collections.abc import Generator
from typing import Any

import msgspec

from cumulet.compute.door import HostTools, Interface, Server
from cumulet.core.saga import Run
from cumulet.core.work import Slow, Together
from cumulet.launch import guest
from cumulet.launch.networking import BoundPorts, all_up, plug_tap, say_up, wait_up
from cumulet.launch.volumes import AttachedVolumes

__all__ = ["StartedDomain", "destroy", "start"]


class StartedDomain(msgspec.Struct, frozen=True, kw_only=True):
    """What runs."""

    power_state: int
    node: str


def start(run: Run) -> Generator[Any, Any, StartedDomain]:
    """Make the root disk and the config drive, start the domain when its ports are up, and complete the attachments."""
    tools: HostTools = run.tools
    server = run.subject_as(Server)
    interfaces = (run.output("bind_ports", BoundPorts) or BoundPorts(interfaces=[])).interfaces
    devices = (run.output("attach_volumes", AttachedVolumes) or AttachedVolumes(devices=[])).devices

    def make(paused: bool) -> None:
        tools.hypervisor.start(guest.prepared(run, server, interfaces, devices), paused)

    if guest.NAME in run.under_way:
        yield Together(tuple(Slow(tools.pool, _plug_behind, (tools, server.id, nic)) for nic in interfaces))
        yield from wait_up(run, tools.credentials(run), interfaces)
        say_up(run, interfaces)
        yield from guest.let_run(run)
    elif all_up(run, interfaces):
        say_up(run, interfaces)
        yield Slow(tools.pool, make, (False,), server.project_id)
    else:
        # what takes longest, QEMU, and what we wait for, the switch and OVN, go side by side
        plugs = [Slow(tools.pool, plug_tap, (tools, server.id, interface)) for interface in interfaces]
        yield Together((*plugs, Slow(tools.pool, make, (True,), server.project_id)))
        yield from wait_up(run, tools.credentials(run), interfaces)
        say_up(run, interfaces)
        yield Slow(tools.pool, tools.hypervisor.unpause, (server.id,))
    credentials = tools.credentials(run)
    for device in devices:
        if device.attachment_id is not None:
            tools.volume.complete_attachment(credentials, device.attachment_id)
    run.note(f"{tools.virt_type}: running")
    return StartedDomain(power_state=1, node=tools.host)


def _plug_behind(tools: HostTools, server_id: str, interface: Interface) -> None:
    """Plug a guest's tap that is being made, once its process has begun: before, libvirt opens the tap, and would wait for the kernel's
    lock that the switch holds while it takes the tap up, 5 ms."""
    tools.hypervisor.wait_begun(server_id)
    plug_tap(tools, server_id, interface)


def destroy(run: Run) -> Generator[Any, Any, None]:
    """Stop the domain if there is one, and remove the server's files."""
    yield from guest.end(run)
