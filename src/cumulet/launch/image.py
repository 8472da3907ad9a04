"""Rows 13 and 14: ask the image API for the image and where it lies; make sure that this host has it as a base for root disks."""

from collections.abc import Generator
from typing import Any

import msgspec

from cumulet.compute.door import HostTools, Server
from cumulet.core.saga import Run
from cumulet.core.work import Slow

__all__ = ["LoadedImage", "load"]


class LoadedImage(msgspec.Struct, frozen=True, kw_only=True):
    """The root disk's base on this host, or None when the server boots from a volume."""

    image_id: str | None
    base: str | None = None
    size_bytes: int = 0


def load(run: Run) -> Generator[Any, Any, LoadedImage]:
    """Load the image unless the host has it: once, however many launches wait for it."""
    tools: HostTools = run.tools
    server = run.subject_as(Server)
    if server.image_id is None:
        run.skip("boots from a volume", row=14, name="image_answers")
        return LoadedImage(image_id=None)
    # the location is for services only, and the image may be private to the user: both tokens go along
    image, served = tools.image.get_with_location(server.image_id, tools.credentials(run))
    run.served(
        14, "image_answers", served.started, served.finished, f"{image.name}: {image.disk_format}, {image.size} bytes"
    )
    cached = tools.instances.find_base(image)
    if cached is None:
        cached = yield Slow("devices", tools.instances.ensure_base, (image,))
        run.note(f"{image.name}: loaded")
    else:
        run.note(f"{image.name}: already on this host")
    return LoadedImage(image_id=image.id, base=str(cached.path), size_bytes=cached.size)
