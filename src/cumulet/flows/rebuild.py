"""A server gets a new root disk, from the same image or another one, and keeps its ports, its volumes and its host."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import msgspec

from cumulet.compute.door import HostTools, Server
from cumulet.core.saga import Flow, Run, Step
from cumulet.core.work import Slow
from cumulet.flows.power import replug
from cumulet.launch import image
from cumulet.launch.image import LoadedImage

__all__ = ["REBUILD", "RebuildRequest"]


class RebuildRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The image is on the server's record already; the state it had decides whether it runs afterwards."""

    was_stopped: bool = False


def destroy(run: Run) -> Generator[Any, Any, None]:
    """Stop the domain; its taps and volumes stay."""
    tools: HostTools = run.tools
    yield Slow(tools.pool, tools.hypervisor.destroy, (run.subject_id,))


def spawn(run: Run) -> Generator[Any, Any, None]:
    """A fresh root disk over the image's base, and the domain from the record."""
    tools: HostTools = run.tools
    server = run.subject_as(Server)
    loaded = run.output("load_image", LoadedImage) or LoadedImage(image_id=None)
    base = Path(loaded.base) if loaded.base else None
    yield Slow(tools.pool, tools.instances.remove, (server.id,))
    files = (server, server.interfaces, server.block_devices, base, loaded.direct)
    yield Slow(tools.pool, tools.instances.prepare, files)
    if run.input(RebuildRequest).was_stopped:
        run.note("stays stopped")
        return
    yield from replug(run)
    domain = tools.domain(
        server, interfaces=server.interfaces, devices=server.block_devices, base=base, generation=run.generation
    )
    yield Slow(tools.pool, tools.hypervisor.start, (domain,))


REBUILD = Flow(
    name="rebuild",
    action="rebuild",
    input=RebuildRequest,
    steps=(
        # the image is loaded before anything is destroyed: an image that cannot be had leaves the server as it was
        Step(
            name="load_image",
            where="host",
            what="load the image",
            do=image.load,
            undo=None,
            stage="rebuilding",
            timeout_s=1800,
        ),
        Step(
            name="destroy_domain",
            where="host",
            what="stop the domain",
            do=destroy,
            undo=None,  # the old disk is what the user asked to lose
            stage="rebuild_block_device_mapping",
        ),
        Step(
            name="start_domain",
            where="host",
            what="start the new domain",
            do=spawn,
            undo=None,
            stage="rebuild_spawning",
            timeout_s=600,
        ),
    ),
)
