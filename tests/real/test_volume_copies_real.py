"""Volumes that a running guest has open, on real drivers: what is made of them has the bytes of one moment, and the guest goes on."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.real.test_launch_real import (
    ACTIVE_TIMEOUT_S,
    SSH_TIMEOUT_S,
    VERSION,
    login,
    make_key,
    make_room,
    wait_for,
)

from cumulet.dev.cloud import RunningCloud, Session

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(400)]

VOLUME = {"OpenStack_API_Version": "volume 3.66"}
BLOCKS = 4000
#: so many are written before anything is made of the volume
SOME = 20


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCloud]:
    """A cloud of nothing but real drivers."""
    arguments = ["--real", "--no-merge-clouds"]
    with RunningCloud(tmp_path_factory.mktemp("copies"), arguments, quiet=True) as running:
        yield running


class User:
    """Someone with a key, a network, and an eye on what becomes of things."""

    def __init__(self, session: Session, folder: Path) -> None:
        self.session = session
        self.key, public = make_key(folder)
        self.room = make_room(session)
        session.post("compute", "/os-keypairs", {"keypair": {"name": "copies", "public_key": public}})
        self.image = session.get("image", "/v2/images?visibility=public&status=active")["images"][0]
        flavors = session.get("compute", "/flavors")["flavors"]
        self.flavor = next(one["id"] for one in flavors if one["name"] == "m1.nano")

    def boot(self, name: str, **more: Any) -> str:
        body = {
            "name": name,
            "flavorRef": self.flavor,
            "networks": [{"uuid": self.room["network"]}],
            "security_groups": [{"name": "real"}],
            "key_name": "copies",
            **more,
        }
        id = str(self.session.post("compute", "/servers", {"server": body}, **VERSION)["server"]["id"])
        self.reach_server(id, "ACTIVE")
        return id

    def reach_server(self, id: str, status: str) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            shown: dict[str, Any] = self.session.get("compute", f"/servers/{id}", **VERSION)["server"]
            assert shown["status"] != "ERROR", shown.get("fault")
            return shown if shown["status"] == status and shown["OS-EXT-STS:task_state"] is None else None

        found: dict[str, Any] = wait_for(look, f"server {status}", ACTIVE_TIMEOUT_S)
        return found

    def address(self, server: str) -> str:
        """A floating address that leads to a server."""
        port = self.session.get("network", f"/v2.0/ports?device_id={server}")["ports"][0]["id"]
        body = {"floating_network_id": self.room["public"], "port_id": port}
        made = self.session.post("network", "/v2.0/floatingips", {"floatingip": body})["floatingip"]
        return str(made["floating_ip_address"])

    def run(self, address: str, command: str) -> str:
        """What a command in a guest says; waits for the first login."""
        user = self.image["os_admin_user"]
        return str(wait_for(lambda: login(self.key, user, address, command), f"`{command}`", SSH_TIMEOUT_S))

    def make(self, kind: str, body: dict[str, Any], status: str = "available") -> str:
        id = str(self.session.post("block-storage", f"/{kind}s", {kind: body}, **VOLUME)[kind]["id"])
        self.reach(kind, id, status)
        return id

    def reach(self, kind: str, id: str, status: str) -> None:
        def look() -> bool:
            now = self.session.get("block-storage", f"/{kind}s/{id}")[kind]["status"]
            assert now != "error", self.session.get("block-storage", "/messages", **VOLUME)["messages"]
            return bool(now == status)

        wait_for(look, f"{kind} {status}", ACTIVE_TIMEOUT_S)

    def attach(self, server: str, volume: str) -> None:
        attachments = f"/servers/{server}/os-volume_attachments"
        self.session.post("compute", attachments, {"volumeAttachment": {"volumeId": volume}})
        self.reach("volume", volume, "in-use")

    def active_image(self, id: str) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            shown: dict[str, Any] = self.session.get("image", f"/v2/images/{id}")
            return shown if shown["status"] == "active" else None

        found: dict[str, Any] = wait_for(look, "the image", ACTIVE_TIMEOUT_S)
        return found


def numbers(user: User, address: str, disk: str) -> list[int]:
    """The blocks that a disk of a guest has."""
    read = f"sudo dd if=/dev/{disk} bs=4096 skip=256 count={BLOCKS} 2>/dev/null | tr -d '\\000'; echo end"
    return [int(number) for number in user.run(address, read).split()[:-1]]


def test_what_is_made_of_a_running_guests_volumes(cloud: RunningCloud, tmp_path: Path) -> None:
    """A server boots from a volume and writes all the time to a second one.  Snapshot, clone and image of that one hold what was
    written before, whole blocks of one moment, and not what came after; the guest's own disk has lost nothing.  An image of the server
    boots a second one with both disks.  Nothing is left of any copy.
    """
    with cloud.session("cumulet") as session, cloud.session("cumulet-admin") as admin:
        user = User(session, tmp_path)
        root = {"boot_index": 0, "uuid": user.image["id"], "source_type": "image", "destination_type": "volume"}
        data = {"boot_index": -1, "source_type": "blank", "destination_type": "volume", "volume_size": 1}
        server = user.boot("one", block_device_mapping_v2=[root | {"volume_size": 1}, data])
        attached = session.get("compute", f"/servers/{server}/os-volume_attachments")["volumeAttachments"]
        volume = next(one["volumeId"] for one in attached if one["device"] == "/dev/vdb")
        address = user.address(server)
        # block N holds the number N, each flushed before the next: what has block N must have all before it
        block = "printf '%-4096d' $i | dd of=/dev/vdb bs=4096 seek=$((256 + i)) conv=fsync,notrunc 2>/dev/null"
        writer = f"i=0; while [ $i -lt {BLOCKS} ]; do {block}; i=$((i + 1)); done"
        user.run(address, "echo kept-before > /tmp/mark; sudo dd if=/tmp/mark of=/dev/vdb conv=fsync 2>&1")
        user.run(
            address, f"sudo sh -c 'echo before > /kept; sync'; cat > /tmp/writer <<'END'\n{writer}\nEND\necho done"
        )
        assert "begun" in user.run(address, "sudo sh /tmp/writer >/dev/null 2>&1 </dev/null & echo begun")
        wait_for(lambda: len(numbers(user, address, "vdb")) > SOME, "the first blocks", ACTIVE_TIMEOUT_S)

        snapshot = user.make("snapshot", {"volume_id": volume})
        clone = user.make("volume", {"source_volid": volume})
        asked = {"image_name": "uploaded", "disk_format": "qcow2", "force": True}
        path = f"/volumes/{volume}/action"
        shown = session.post("block-storage", path, {"os-volume_upload_image": asked}, **VOLUME)
        uploaded = user.active_image(shown["os-volume_upload_image"]["image_id"])
        user.reach("volume", volume, "in-use")
        assert (uploaded["disk_format"], uploaded["virtual_size"]) == ("qcow2", 1 << 30)
        user.run(
            address, "echo after > /tmp/mark; sudo dd if=/tmp/mark of=/dev/vdb conv=fsync,notrunc 2>&1; echo written"
        )
        assert "after" in user.run(address, "sudo head -c 5 /dev/vdb")

        of_snapshot = user.make("volume", {"snapshot_id": snapshot})
        of_image = user.make("volume", {"imageRef": uploaded["id"], "size": 1})
        for letter, made in zip("cde", (of_snapshot, clone, of_image), strict=True):
            user.attach(server, made)
            assert "kept-before" in user.run(address, f"sudo head -c 11 /dev/vd{letter}")
            found = numbers(user, address, f"vd{letter}")
            assert len(found) > SOME
            assert found == list(range(len(found)))  # no hole before the last block
        assert "before" in user.run(address, "cat /kept")

        made_image = session.post("compute", f"/servers/{server}/action", {"createImage": {"name": "whole"}}, **VERSION)
        image = user.active_image(made_image["image_id"])
        user.reach_server(server, "ACTIVE")
        mapping = json.loads(image["block_device_mapping"])
        assert (image["size"], len(mapping)) == (0, 5)
        second = user.boot("two", imageRef=image["id"])
        other = user.address(second)
        assert "before" in user.run(other, "cat /kept")
        assert "after" in user.run(other, "sudo head -c 5 /dev/vdb")
        assert user.run(other, "lsblk -dn -o NAME").split()[:5] == [f"vd{letter}" for letter in "abcde"]

        session.post("compute", f"/servers/{second}/action", {"os-stop": None})
        user.reach_server(second, "SHUTOFF")
        off = session.get("compute", f"/servers/{second}/os-volume_attachments")["volumeAttachments"][0]["volumeId"]
        user.make("snapshot", {"volume_id": off})
        session.post("compute", f"/servers/{second}/action", {"os-start": None})
        user.reach_server(second, "ACTIVE")
        assert "before" in user.run(other, "cat /kept")

        for id in (server, second):
            session.delete("compute", f"/servers/{id}")
        wait_for(lambda: not session.get("compute", "/servers")["servers"], "the servers to go", ACTIVE_TIMEOUT_S)
        for kind in ("snapshot", "volume"):
            for one in session.get("block-storage", f"/{kind}s")[f"{kind}s"]:
                user.reach(kind, one["id"], "available")
                session.delete("block-storage", f"/{kind}s/{one['id']}")
            wait_for(
                lambda kind=kind: not session.get("block-storage", f"/{kind}s")[f"{kind}s"],  # type: ignore[misc]
                f"the {kind}s to go",
                ACTIVE_TIMEOUT_S,
            )
        assert admin.operator("/check")["leaks"] == []
    assert not list((cloud.state / "volumes").iterdir())
