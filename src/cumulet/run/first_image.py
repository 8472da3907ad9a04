"""The image that every cloud begins with: `cumulet-guest`."""

from collections.abc import Callable

from cumulet.core.disk import qcow2
from cumulet.image.service import ImageService
from cumulet.run.machine import Machine

__all__ = ["GUEST_IMAGE", "add_first_image"]

GUEST_IMAGE = "cumulet-guest"
#: what a simulated host boots: an empty disk, as no byte of it is ever read
SIM_DISK_BYTES = 64 << 20


def add_first_image(images: ImageService, machine: Machine, *, say: Callable[[str], None]) -> None:
    """Add the image unless it is there."""
    if machine.real:
        from cumulet.guest.build import build

        folder = machine.root / "guest"
        if not (folder / "disk.qcow2").exists():
            say("building the guest image (once)")
        built = build(folder)
        images.add_file(
            name=GUEST_IMAGE,
            path=built.disk,
            disk_format="qcow2",
            visibility="public",
            properties={
                "os_admin_user": "cloud",
                "os_distro": "cumulet",
                "hw_disk_bus": "virtio",
                "hw_vif_model": "virtio",
            },
            owner=None,
        )
        return
    disk = machine.root / "sim" / "empty.qcow2"
    if not disk.exists():
        qcow2.write_empty(disk, size=SIM_DISK_BYTES)
    images.add_file(
        name=GUEST_IMAGE,
        path=disk,
        disk_format="qcow2",
        visibility="public",
        properties={"os_admin_user": "cloud", "description": "an empty disk for simulated hosts"},
        owner=None,
    )
