"""Row 19: generate the domain from the record and start it, once the ports of row 15 are up."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import msgspec

from cumulet.compute.door import HostTools, Server
from cumulet.core.saga import Run
from cumulet.core.work import Slow, Together
from cumulet.launch.image import LoadedImage
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
    image = run.output("load_image", LoadedImage) or LoadedImage(image_id=None)
    interfaces = (run.output("bind_ports", BoundPorts) or BoundPorts(interfaces=[])).interfaces
    devices = (run.output("attach_volumes", AttachedVolumes) or AttachedVolumes(devices=[])).devices
    base = Path(image.base) if image.base else None

    def make(paused: bool) -> None:
        tools.instances.prepare(server, interfaces, devices, base, image.direct)
        domain = tools.domain(server, interfaces=interfaces, devices=devices, base=base, generation=run.generation)
        tools.hypervisor.start(domain, paused)

    if all_up(run, interfaces):
        say_up(run, interfaces)
        yield Slow("devices", make, (False,), server.project_id)
    else:
        # what takes longest, QEMU, and what we wait for, the switch and OVN, go side by side
        plugs = [Slow("devices", plug_tap, (tools, server.id, interface)) for interface in interfaces]
        yield Together((*plugs, Slow("devices", make, (True,), server.project_id)))
        yield from wait_up(run, tools.credentials(run), interfaces)
        say_up(run, interfaces)
        yield Slow("devices", tools.hypervisor.unpause, (server.id,))
    credentials = tools.credentials(run)
    for device in devices:
        if device.attachment_id is not None:
            tools.volume.complete_attachment(credentials, device.attachment_id)
    run.note(f"{tools.virt_type}: running")
    return StartedDomain(power_state=1, node=tools.host)


def destroy(run: Run) -> Generator[Any, Any, None]:
    """Stop the domain if there is one, and remove the server's files."""
    tools: HostTools = run.tools
    yield Slow("devices", tools.hypervisor.destroy, (run.subject_id,))
    yield Slow("devices", tools.instances.remove, (run.subject_id,))
