"""What a guest is told of itself: OpenStack's and EC2's paths, and what it may not reach."""

import base64
import json
from typing import Any

import pytest

from cumulet.compute.door import (
    FixedAddress,
    FlavorSnapshot,
    Interface,
    KeySnapshot,
    SecurityGroupRef,
    Server,
)
from cumulet.metadata.documents import config_drive_files
from cumulet.metadata.responder import PASSWORD_MAX, answer

SCRIPT = b"#!/bin/sh\necho hello\n"
KEY = "ssh-ed25519 AAAA me"


def server(**changes: Any) -> Server:
    """A server with everything that a guest may ask for."""
    nic = Interface(
        port_id="p1",
        network_id="n1",
        network_name="blue",
        mac="fa:16:3e:00:00:01",
        mtu=1442,
        addresses=(FixedAddress(address="10.0.0.5", version=4, subnet_id="s1", floating=("172.24.4.9",)),),
        created=True,
        tap="tap1",
    )
    fields: dict[str, Any] = {
        "id": "0a0b0c0d-0000-4000-8000-000000000001",
        "name": "Web 1",
        "description": None,
        "hostname": "web-1",
        "project_id": "p",
        "user_id": "u",
        "reservation_id": "r-1",
        "launch_index": 0,
        "vm_state": "active",
        "task_state": None,
        "power_state": 1,
        "host": "h",
        "node": "h",
        "availability_zone": "nova",
        "requested_zone": None,
        "requested_host": None,
        "flavor": FlavorSnapshot(id="1", name="m1.tiny", vcpus=1, ram_mb=512, disk_gb=1),
        "old_flavor": None,
        "image_id": "0a0b0c0d-0000-4000-8000-000000000002",
        "image_properties": {},
        "key_name": "mine",
        "key": KeySnapshot(name="mine", type="ssh", public_key=KEY),
        "user_data": base64.b64encode(SCRIPT).decode(),
        "config_drive": False,
        "root_device_name": "/dev/vda",
        "access_ip_v4": None,
        "access_ip_v6": None,
        "disk_config": "MANUAL",
        "locked": False,
        "locked_reason": None,
        "locked_by": None,
        "progress": 100,
        "hints": {},
        "group_id": None,
        "metadata": {"role": "web"},
        "tags": [],
        "requested_networks": None,
        "security_groups": [SecurityGroupRef(id="g", name="web")],
        "interfaces": [nic],
        "block_devices": [],
        "fault": None,
        "password": None,
        "created_at": "2026-01-31T12:00:00.000000",
        "updated_at": "2026-01-31T12:00:00.000000",
        "launched_at": None,
        "terminated_at": None,
        "deleted": False,
    }
    return Server(**{**fields, **changes})


def get(path: str, **changes: Any) -> tuple[int, str, bytes]:
    """What a guest gets for a path."""
    return answer("GET", path, b"", server(**changes), set_password=lambda *_: False)


def test_openstack_documents() -> None:
    """Name, key, own metadata and user data, under every version."""
    for version in ("latest", "2012-08-10", "2020-10-14"):
        status, kind, body = get(f"/openstack/{version}/meta_data.json")
        shown = json.loads(body)
        assert (status, kind) == (200, "application/json")
        assert (shown["hostname"], shown["meta"], shown["public_keys"]) == ("web-1", {"role": "web"}, {"mine": KEY})
    assert get("/openstack/latest/user_data")[2] == SCRIPT
    network = json.loads(get("/openstack/latest/network_data.json")[2])
    assert network["links"][0]["ethernet_mac_address"] == "fa:16:3e:00:00:01"
    assert network["networks"][0]["type"] == "ipv4_dhcp"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/latest/meta-data/public-ipv4", "172.24.4.9"),
        ("/latest/meta-data/local-ipv4", "10.0.0.5"),
        ("/2009-04-04/meta-data/hostname", "web-1"),
        ("/latest/meta-data/public-keys/", "0=mine"),
        ("/latest/meta-data/public-keys/0/openssh-key", KEY),
        ("/latest/meta-data/placement/availability-zone", "nova"),
        ("/latest/user-data", SCRIPT.decode()),
    ],
)
def test_ec2_documents(path: str, text: str) -> None:
    """A leaf is its text; a folder lists its names; `public-ipv4` is the floating address of now."""
    assert get(path)[2].decode() == text


def test_what_is_not_there_is_404() -> None:
    """No user data, an unknown version, a path beyond a leaf, a private name."""
    assert get("/openstack/latest/user_data", user_data=None)[0] == 404
    assert get("/latest/user-data", user_data=None)[0] == 404
    assert get("/openstack/1999-01-01/meta_data.json")[0] == 404
    assert get("/latest/meta-data/hostname/more")[0] == 404
    assert get("/latest/meta-data/public-keys/0/_name")[0] == 404


def test_a_password_is_posted_once() -> None:
    """The first is kept; another is refused, as are a long one and one that is not ASCII text."""
    kept: list[tuple[str, str]] = []

    def keep(server_id: str, text: str) -> bool:
        kept.append((server_id, text))
        return len(kept) == 1

    def post(body: bytes) -> int:
        return answer("POST", "/openstack/latest/password", body, server(), set_password=keep)[0]

    assert [post(b"c2VjcmV0"), post(b"again")] == [200, 409]
    assert [post(b"x" * (PASSWORD_MAX + 1)), post("ü".encode()), post(b"a\0b")] == [400, 400, 400]
    assert kept[0][1] == "c2VjcmV0"


def test_a_config_drive_holds_the_same_documents() -> None:
    """And nothing that may change later, such as the floating address."""
    files = config_drive_files(server(), server().interfaces)
    assert json.loads(files["openstack/latest/meta_data.json"])["uuid"] == server().id
    assert files["openstack/latest/user_data"] == SCRIPT
    assert "public-ipv4" not in json.loads(files["ec2/latest/meta-data.json"])
