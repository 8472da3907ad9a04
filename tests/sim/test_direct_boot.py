"""Images that name a kernel: their guests boot from it directly, without a boot loader."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from cumulet.compute.agent.hypervisor.driver import Domain
from cumulet.core.disk import qcow2
from cumulet.dev.chaos.proofs import Stage
from cumulet.dev.chaos.world import token_of


def add(stage: Stage, name: str, disk_format: str, content: bytes, properties: Mapping[str, str] | None = None) -> str:
    """A public image of these bytes; its id."""
    assert stage.world.services is not None
    file = Path(stage.world.outside.folder) / name
    if disk_format == "qcow2":
        qcow2.write_empty(file, size=64 << 20)
    else:
        file.write_bytes(content)
    images = stage.world.services.image
    return images.add_file(name=name, path=file, disk_format=disk_format, owner=None, properties=properties).id


def record(stage: Stage) -> Domain:
    """The only guest as its hypervisor has it."""
    (server,) = stage.story.servers()
    found = stage.world.outside.hosts[server["host"]].hypervisor.record(server["id"])
    assert found is not None
    return found


def with_kernel(stage: Stage, **properties: str) -> str:
    """An image with a kernel and a ramdisk, before the stage's first launch."""
    kernel = add(stage, "kernel", "aki", b"MZ" + bytes(600))
    ramdisk = add(stage, "ramdisk", "ari", b"\x1f\x8b" + bytes(600))
    stage.ids["image"] = add(stage, "root", "qcow2", b"", {"kernel_id": kernel, "ramdisk_id": ramdisk, **properties})
    return kernel


def test_a_guest_boots_from_the_kernel_that_its_image_names(stage: Stage) -> None:
    """Kernel, ramdisk, and the reference's command line; the same after a stop and a start, and none after a rebuild without."""
    plain = stage.ids["image"]
    with_kernel(stage)
    server_id = stage.server()
    launched = record(stage)
    assert launched.kernel is not None
    assert launched.initrd is not None
    assert launched.kernel != launched.initrd
    assert launched.cmdline == "root=/dev/vda console=tty0 console=ttyS0"
    for action in ({"os-stop": None}, {"os-start": None}):
        stage.act(server_id, action)
        stage.settle()
    again = record(stage)
    assert (again.kernel, again.initrd, again.cmdline) == (launched.kernel, launched.initrd, launched.cmdline)
    stage.act(server_id, {"rebuild": {"imageRef": plain}})
    stage.settle()
    rebuilt = record(stage)
    assert (rebuilt.kernel, rebuilt.initrd, rebuilt.cmdline) == (None, None, "")


def test_an_image_says_what_its_kernel_is_told(stage: Stage) -> None:
    """The property os_command_line, in place of the reference's words."""
    with_kernel(stage, os_command_line="root=LABEL=x quiet")
    stage.server()
    assert record(stage).cmdline == "root=LABEL=x quiet"


@pytest.mark.parametrize("kernel", ["unknown", "qcow2", "itself"])
def test_what_is_no_kernel_is_refused(stage: Stage, kernel: str) -> None:
    """400, and no server: an image that is not there, another disk, or the image itself."""
    disk = add(stage, "disk", "qcow2", b"")
    named = {"unknown": "00000000-0000-4000-8000-000000000000", "qcow2": disk}.get(kernel, "")
    image = add(stage, "root", "qcow2", b"", {"kernel_id": named} if named else {})
    token = token_of(stage.world, "admin")
    if not named:
        change = [{"op": "add", "path": "/kernel_id", "value": image}]
        headers = {"content-type": "application/openstack-images-v2.1-json-patch"}
        patched = stage.world.ask("image", "PATCH", f"/v2/images/{image}", token=token, body=change, headers=headers)
        assert patched.status == 200
    body = {"name": "one", "imageRef": image, "flavorRef": stage.ids["m1.nano"], "networks": "none"}
    headers = {"openstack-api-version": "compute 2.96"}
    answer = stage.world.ask("compute", "POST", "/v2.1/servers", token=token, body={"server": body}, headers=headers)
    assert answer.status == 400
    assert stage.story.servers() == []
