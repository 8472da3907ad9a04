"""An image with a kernel and a ramdisk, as a user makes it, boots without its boot loader."""

from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.real.test_launch_real import ACTIVE_TIMEOUT_S, VERSION, wait_for

from cumulet.dev.cloud import RunningCloud, Session
from cumulet.guest.build import DIRECT_BOOT_CMDLINE
from cumulet.guest.disk import ROOT_LABEL

pytestmark = pytest.mark.real

BOOT_TIMEOUT_S = 180.0
TOLD = "#!/bin/sh\necho told: $(cat /proc/cmdline) on $(grep ' / ' /proc/mounts) end >/dev/ttyS0\n"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCloud]:
    """A cloud that fails to start where anything in it would be simulated."""
    with RunningCloud(tmp_path_factory.mktemp("direct"), ["--real"], quiet=True) as running:
        yield running


def upload(session: Session, name: str, disk_format: str, file: Path, **properties: str) -> str:
    """An image of the user's own; its id."""
    body = {"name": name, "disk_format": disk_format, "container_format": "bare", **properties}
    image = str(session.post("image", "/v2/images", body)["id"])
    headers = {"X-Auth-Token": session.token, "Content-Type": "application/octet-stream"}
    url = f"{session.catalogue['image']}/v2/images/{image}/file"
    assert httpx.put(url, content=file.read_bytes(), headers=headers, timeout=60).status_code == 204
    return image


def console(session: Session, server: str) -> str:
    """What the guest has said so far."""
    shown: dict[str, Any] = session.post("compute", f"/servers/{server}/action", {"os-getConsoleOutput": {}})
    return str(shown["output"])


def test_a_guest_boots_from_its_images_kernel(cloud: RunningCloud) -> None:
    """It was told what the image says, and its root is the disk; so again after it was stopped and started."""
    guest = cloud.state / "guest"
    with cloud.session("cumulet") as session:
        kernel = upload(session, "kernel", "aki", guest / "vmlinuz")
        ramdisk = upload(session, "ramdisk", "ari", guest / "initramfs.img")
        more = {"kernel_id": kernel, "ramdisk_id": ramdisk}
        told = f"root=LABEL={ROOT_LABEL} {DIRECT_BOOT_CMDLINE} kept=this"
        image = upload(session, "direct", "qcow2", guest / "disk.qcow2", os_command_line=told, **more)
        flavors = {flavor["name"]: flavor["id"] for flavor in session.get("compute", "/flavors")["flavors"]}
        body = {
            "name": "direct",
            "flavorRef": flavors["m1.tiny"],
            "imageRef": image,
            "networks": "none",
            "config_drive": True,
            "user_data": b64encode(TOLD.encode()).decode(),
        }
        server = session.post("compute", "/servers", {"server": body}, **VERSION)["server"]["id"]

        def status() -> str:
            return str(session.get("compute", f"/servers/{server}")["server"]["status"])

        wait_for(lambda: status() != "BUILD", "the launch", ACTIVE_TIMEOUT_S)
        wait_for(lambda: "GUEST: ready" in console(session, server), "the guest is up", BOOT_TIMEOUT_S)
        said = console(session, server).split("told: ")[1].split(" end")[0]
        assert "kept=this on /dev/vda" in said
        session.post("compute", f"/servers/{server}/action", {"os-stop": None})
        wait_for(lambda: status() == "SHUTOFF", "off", ACTIVE_TIMEOUT_S)
        session.post("compute", f"/servers/{server}/action", {"os-start": None})
        wait_for(lambda: console(session, server).count("GUEST: ready") == 2, "it is up again", BOOT_TIMEOUT_S)
        session.delete("compute", f"/servers/{server}")
