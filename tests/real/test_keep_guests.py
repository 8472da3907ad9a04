"""`cumulet up --keep-guests` on real drivers: the cloud goes and comes again, its guests do not notice."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.real.test_launch_real import ACTIVE_TIMEOUT_S, SSH_TIMEOUT_S, VERSION, login, make_key, make_room, wait_for

from cumulet.dev.cloud import RunningCloud, Session
from cumulet.host.config import HostConfig
from cumulet.host.leftovers import leftovers, our_processes

pytestmark = pytest.mark.real

BOOT_ID = "cat /proc/sys/kernel/random/boot_id"
METADATA = "wget -q -O - http://169.254.169.254/openstack/latest/meta_data.json"
#: the keeper, three databases, northd, the switch, the controller, virtlogd, libvirtd
DAEMONS = 9


def launch(session: Session, public_key: str) -> tuple[str, str, str]:
    """A server that is ACTIVE: its id, its floating IP, the user to log in as."""
    room = make_room(session)
    session.post("compute", "/os-keypairs", {"keypair": {"name": "kept", "public_key": public_key}})
    image = session.get("image", "/v2/images?visibility=public&status=active")["images"][0]
    flavors = {flavor["name"]: flavor["id"] for flavor in session.get("compute", "/flavors")["flavors"]}
    body = {
        "name": "kept",
        "flavorRef": flavors["m1.nano"],
        "imageRef": image["id"],
        "networks": [{"uuid": room["network"]}],
        "security_groups": [{"name": "real"}],
        "key_name": "kept",
    }
    server_id = str(session.post("compute", "/servers", {"server": body}, **VERSION)["server"]["id"])
    wait_for(lambda: status(session, server_id) == "ACTIVE", "the launch", ACTIVE_TIMEOUT_S)
    port = session.get("network", f"/v2.0/ports?device_id={server_id}")["ports"][0]["id"]
    wanted = {"floating_network_id": room["public"], "port_id": port}
    floating = session.post("network", "/v2.0/floatingips", {"floatingip": wanted})["floatingip"]
    return server_id, str(floating["floating_ip_address"]), str(image["os_admin_user"])


def status(session: Session, server_id: str) -> str:
    """Of a server that must not be in ERROR."""
    shown: dict[str, Any] = session.get("compute", f"/servers/{server_id}")["server"]
    assert shown["status"] != "ERROR", shown.get("fault")
    return str(shown["status"])


def test_kept_guests_run_on_and_are_adopted(tmp_path: Path) -> None:
    """After SIGTERM guest and daemons run on and nothing else does; SSH answers without the cloud.  The next start adopts
    them all: the same boot of the guest, metadata answered, no leak.  A stop without the option leaves nothing.
    """
    key, public_key = make_key(tmp_path)
    state = tmp_path / "state"
    config = HostConfig.for_state_dir(str(state))
    with RunningCloud(state, ["--real", "--keep-guests"], quiet=True) as first:
        with first.session("cumulet") as session:
            server_id, address, user = launch(session, public_key)
        boot_id = wait_for(lambda: login(key, user, address, BOOT_ID), "a login", SSH_TIMEOUT_S)
        before = our_processes(config)
    assert sorted(our_processes(config)) == sorted(before)
    assert len(before) == DAEMONS + 1
    assert login(key, user, address, BOOT_ID) == boot_id

    with RunningCloud(state, ["--real"], port=first.port, quiet=True) as second:
        assert f"0 started, {DAEMONS} adopted" in second.output()
        assert sorted(our_processes(config)) == sorted(before)
        assert login(key, user, address, BOOT_ID) == boot_id
        answer = wait_for(lambda: login(key, user, address, METADATA), "metadata", ACTIVE_TIMEOUT_S)
        assert json.loads(answer)["uuid"] == server_id
        with second.session("cumulet") as session, second.session("cumulet-admin") as admin:
            assert status(session, server_id) == "ACTIVE"
            assert admin.operator("/check")["leaks"] == []
    assert leftovers(config) == []
