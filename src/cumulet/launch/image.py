"""Rows 13 and 14: ask the image API for the image and where it lies; make sure that this host has it as a base for root disks.

An image may name a kernel and a ramdisk, images too; the guest then boots from them directly, without a boot loader.
"""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import msgspec

from cumulet.compute.door import CachedImage, DirectBoot, HostTools, Server
from cumulet.core.saga import Run
from cumulet.core.work import After, Slow

__all__ = ["LoadedImage", "load"]

#: how long one image may take to load
LOAD_TIMEOUT_S = 1800.0


class LoadedImage(msgspec.Struct, frozen=True, kw_only=True):
    """The root disk's base on this host, or None when the server boots from a volume; likewise kernel and ramdisk."""

    image_id: str | None
    base: str | None = None
    size_bytes: int = 0
    kernel: str | None = None
    ramdisk: str | None = None

    @property
    def direct(self) -> DirectBoot | None:
        """The kernel that the server's own is copied from."""
        if self.kernel is None:
            return None
        return DirectBoot(kernel=Path(self.kernel), ramdisk=Path(self.ramdisk) if self.ramdisk else None)


def load(run: Run) -> Generator[Any, Any, LoadedImage]:
    """Load the image unless the host has it: once, however many launches wait for it."""
    server = run.subject_as(Server)
    if server.image_id is None:
        run.skip("boots from a volume", row=14, name="image_answers")
        return LoadedImage(image_id=None)
    base = yield from _load(run, server.image_id, row=14)
    kernel_id, ramdisk_id = (server.image_properties.get(name) for name in ("kernel_id", "ramdisk_id"))
    kernel = (yield from _load(run, kernel_id)) if kernel_id else None
    ramdisk = (yield from _load(run, ramdisk_id)) if kernel and ramdisk_id else None
    return LoadedImage(
        image_id=server.image_id,
        base=str(base.path),
        size_bytes=base.size,
        kernel=str(kernel.path) if kernel else None,
        ramdisk=str(ramdisk.path) if ramdisk else None,
    )


def _load(run: Run, image_id: str, *, row: int | None = None) -> Generator[Any, Any, CachedImage]:
    """One image's base; `row`: in which the image API's answer is told."""
    tools: HostTools = run.tools
    # the location is for services only, and the image may be private to the user: both tokens go along
    image, served = tools.image.get_with_location(image_id, tools.credentials(run))
    if row is not None:
        told = f"{image.name}: {image.disk_format}, {image.size} bytes"
        run.served(row, "image_answers", served.started, served.finished, told)
    cached: CachedImage | None = tools.instances.find_base(image)
    if cached is None:
        under_way = tools.instances.base_under_way(image)
        # those who wait for another's loading leave the threads to those who need not
        if under_way is not None:
            cached = yield After(under_way, LOAD_TIMEOUT_S)
        else:
            cached = yield Slow("devices", tools.instances.ensure_base, (image,), run.context.project_id or "")
        run.note(f"{image.name}: loaded")
    else:
        run.note(f"{image.name}: already on this host")
    return cached
