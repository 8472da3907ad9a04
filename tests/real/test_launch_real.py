"""One launch on real drivers, as a user makes it: port, volumes, login over a floating IP, a volume more while it runs."""

import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cumulet.dev.cloud import Refused, RunningCloud, Session
from cumulet.launch.flow import ROWS

pytestmark = pytest.mark.real

ACTIVE_TIMEOUT_S = 60.0
SSH_TIMEOUT_S = 120.0
POLL_S = 0.01
VERSION = {"OpenStack_API_Version": "compute 2.96"}
STAGES = ["scheduling", "networking", "block_device_mapping", "spawning", None]


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCloud]:
    """A cloud that fails to start where anything in it would be simulated."""
    with RunningCloud(tmp_path_factory.mktemp("real"), ["--real"], quiet=True) as running:
        yield running


def wait_for(look: Callable[[], Any], what: str, timeout_s: float) -> Any:
    """Ask until the answer is true: a public API sends no events."""
    ends = time.monotonic() + timeout_s
    while not (found := look()):
        assert time.monotonic() < ends, f"not within {timeout_s:.0f} s: {what}"
        threading.Event().wait(POLL_S)
    return found


def make_room(session: Session) -> dict[str, str]:
    """Network, subnet, router to the outside, and rules that let SSH in; their ids."""
    public = session.get("network", "/v2.0/networks?router:external=true")["networks"][0]["id"]
    network = session.post("network", "/v2.0/networks", {"network": {"name": "real"}})["network"]["id"]
    subnet_body = {"network_id": network, "ip_version": 4, "cidr": "10.40.0.0/24"}
    subnet = session.post("network", "/v2.0/subnets", {"subnet": subnet_body})["subnet"]["id"]
    router_body = {"name": "real", "external_gateway_info": {"network_id": public}}
    router = session.post("network", "/v2.0/routers", {"router": router_body})["router"]["id"]
    session.ask("PUT", "network", f"/v2.0/routers/{router}/add_router_interface", {"subnet_id": subnet})
    group = session.post("network", "/v2.0/security-groups", {"security_group": {"name": "real"}})["security_group"][
        "id"
    ]
    rule = {"security_group_id": group, "direction": "ingress", "protocol": "tcp"}
    rule |= {"port_range_min": 22, "port_range_max": 22}
    session.post("network", "/v2.0/security-group-rules", {"security_group_rule": rule})
    return {"network": network, "public": public, "group": group}


def make_key(folder: Path) -> tuple[Path, str]:
    """A key of the test's own: the file, and its public half."""
    key = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    return key, key.with_suffix(".pub").read_text().strip()


def login(key: Path, user: str, address: str, command: str) -> str | None:
    """What a command in the guest prints; None when there is no login (yet)."""
    options = [
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "LogLevel=ERROR",
        "BatchMode=yes",
        "ConnectTimeout=3",
    ]
    words = [
        "ssh",
        "-i",
        str(key),
        *(word for option in options for word in ("-o", option)),
        f"{user}@{address}",
        command,
    ]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=30)
    return done.stdout if done.returncode == 0 else None


def test_a_real_launch_from_request_to_login(cloud: RunningCloud, tmp_path: Path) -> None:
    """A server with a second volume becomes ACTIVE through the stages in order, with all nineteen rows; SSH by floating IP
    shows both disks, and a third one attached while it runs; deleted, nothing is left.
    """
    key, public_key = make_key(tmp_path)
    with cloud.session("cumulet") as session, cloud.session("cumulet-admin") as admin:
        room = make_room(session)
        session.post("compute", "/os-keypairs", {"keypair": {"name": "real", "public_key": public_key}})
        image = session.get("image", "/v2/images?visibility=public&status=active")["images"][0]
        flavors = {flavor["name"]: flavor["id"] for flavor in session.get("compute", "/flavors")["flavors"]}
        root = {"boot_index": 0, "uuid": image["id"], "source_type": "image", "destination_type": "local"}
        data = {"boot_index": -1, "source_type": "blank", "destination_type": "volume", "volume_size": 1}
        body = {
            "name": "real",
            "flavorRef": flavors["m1.nano"],
            "imageRef": image["id"],
            "networks": [{"uuid": room["network"]}],
            "security_groups": [{"name": "real"}],
            "key_name": "real",
            "block_device_mapping_v2": [one | {"delete_on_termination": True} for one in (root, data)],
        }
        server_id = session.post("compute", "/servers", {"server": body}, **VERSION)["server"]["id"]
        seen: list[str | None] = []

        def over() -> dict[str, Any] | None:
            shown: dict[str, Any] = session.get("compute", f"/servers/{server_id}", **VERSION)["server"]
            if not seen or seen[-1] != shown["OS-EXT-STS:task_state"]:
                seen.append(shown["OS-EXT-STS:task_state"])
            return shown if shown["status"] != "BUILD" else None

        server = wait_for(over, "the launch", ACTIVE_TIMEOUT_S)
        assert server["status"] == "ACTIVE", server.get("fault")
        assert seen == [stage for stage in STAGES if stage in seen]
        assert {"networking", "spawning"} <= set(seen)

        actions = f"/servers/{server_id}/os-instance-actions"
        request_id = admin.get("compute", actions, **VERSION)["instanceActions"][-1]["request_id"]
        events = admin.get("compute", f"{actions}/{request_id}", **VERSION)["instanceAction"]["events"]
        assert {event["event"] for event in events} == {row.name for row in ROWS}
        assert not [event for event in events if event["result"] != "Success" or "skipped" in (event["details"] or "")]

        port = session.get("network", f"/v2.0/ports?device_id={server_id}")["ports"][0]["id"]
        floating_body = {"floating_network_id": room["public"], "port_id": port}
        floating = session.post("network", "/v2.0/floatingips", {"floatingip": floating_body})["floatingip"]
        address, user = floating["floating_ip_address"], image["os_admin_user"]
        disks = wait_for(lambda: login(key, user, address, "lsblk -dn -o NAME,SIZE"), "a login", SSH_TIMEOUT_S)
        assert re.search(r"^vda\s", disks, re.MULTILINE)
        assert re.search(r"^vdb\s+1G", disks, re.MULTILINE)

        volume = session.post("block-storage", "/volumes", {"volume": {"name": "more", "size": 2}})["volume"]["id"]

        def status() -> str:
            return str(session.get("block-storage", f"/volumes/{volume}")["volume"]["status"])

        wait_for(lambda: status() == "available", "the volume", ACTIVE_TIMEOUT_S)
        attachments = f"/servers/{server_id}/os-volume_attachments"
        session.post("compute", attachments, {"volumeAttachment": {"volumeId": volume}})
        wait_for(
            lambda: re.search(r"^vdc\s+2G", login(key, user, address, "lsblk -dn -o NAME,SIZE") or "", re.MULTILINE),
            "the third disk in the guest",
            ACTIVE_TIMEOUT_S,
        )
        assert status() == "in-use"

        session.delete("compute", f"/servers/{server_id}")

        def gone() -> bool:
            try:
                session.get("compute", f"/servers/{server_id}")
            except Refused as refused:
                return refused.status == 404
            return False

        wait_for(gone, "the server to go", ACTIVE_TIMEOUT_S)
        wait_for(lambda: status() == "available", "the user's own volume to be free", ACTIVE_TIMEOUT_S)
        session.delete("block-storage", f"/volumes/{volume}")
        wait_for(lambda: not session.get("block-storage", "/volumes")["volumes"], "the volumes to go", ACTIVE_TIMEOUT_S)
        assert admin.operator("/check")["leaks"] == []
