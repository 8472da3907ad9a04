"""Row 19: generate the domain from the record and start it."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import msgspec

from cumulet.compute.door import HostTools, Server
from cumulet.core.saga import Run
from cumulet.core.work import Slow
from cumulet.launch.image import LoadedImage
from cumulet.launch.networking import BoundPorts
from cumulet.launch.volumes import AttachedVolumes

__all__ = ["StartedDomain", "destroy", "start"]


class StartedDomain(msgspec.Struct, frozen=True, kw_only=True):
    """What runs."""

    power_state: int
    node: str


def start(run: Run) -> Generator[Any, Any, StartedDomain]:
    """Make the root disk and the config drive, start the domain, and complete the attachments."""
    tools: HostTools = run.tools
    server = run.subject_as(Server)
    image = run.output("load_image", LoadedImage) or LoadedImage(image_id=None)
    interfaces = (run.output("bind_ports", BoundPorts) or BoundPorts(interfaces=[])).interfaces
    devices = (run.output("attach_volumes", AttachedVolumes) or AttachedVolumes(devices=[])).devices
    base = Path(image.base) if image.base else None
    yield Slow("devices", tools.instances.prepare, (server, interfaces, devices, base))
    domain = tools.domain(server, interfaces=interfaces, devices=devices, base=base, generation=run.generation)
    yield Slow("devices", tools.hypervisor.start, (domain,))
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
