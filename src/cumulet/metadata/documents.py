"""The documents, made from a server's record: OpenStack's and EC2's paths from one source.

Pure: the same record gives the same bytes, for the metadata service and for the config drive.
"""

import base64
from collections.abc import Mapping
from typing import Any

import msgspec

from cumulet.compute.door import Interface, Server

__all__ = ["OPENSTACK_VERSIONS", "config_drive_files", "ec2_tree", "openstack_files"]

#: as the reference names its versions; all answer with the newest document
OPENSTACK_VERSIONS = (
    "2012-08-10",
    "2013-04-04",
    "2013-10-17",
    "2015-10-15",
    "2016-06-30",
    "2016-10-06",
    "2017-02-22",
    "2018-08-27",
    "2020-10-14",
    "latest",
)
EC2_VERSIONS = (
    "1.0",
    "2007-01-19",
    "2007-03-01",
    "2007-08-29",
    "2007-10-10",
    "2007-12-15",
    "2008-02-01",
    "2008-09-01",
    "2009-04-04",
    "latest",
)


def _user_data(server: Server) -> bytes | None:
    return base64.b64decode(server.user_data) if server.user_data else None


def _meta_data(server: Server) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "uuid": server.id,
        "name": server.name,
        "hostname": server.hostname,
        "launch_index": server.launch_index,
        "availability_zone": server.availability_zone or "nova",
        "project_id": server.project_id,
        "meta": server.metadata,
        "devices": _devices(server),
        "dedicated_cpus": [],
    }
    if server.key is not None:
        shown["public_keys"] = {server.key.name: server.key.public_key}
        shown["keys"] = [{"name": server.key.name, "type": server.key.type, "data": server.key.public_key}]
    return shown


def _devices(server: Server) -> list[dict[str, Any]]:
    nics = [
        {"type": "nic", "bus": "none", "address": "none", "mac": nic.mac, "tags": [nic.tag]}
        for nic in server.interfaces
        if nic.tag
    ]
    disks = [
        {"type": "disk", "bus": device.bus, "address": "none", "serial": device.volume_id or "", "tags": [device.tag]}
        for device in server.block_devices
        if device.tag
    ]
    return [*nics, *disks]


def _network_data(interfaces: list[Interface]) -> dict[str, Any]:
    links: list[dict[str, Any]] = []
    networks: list[dict[str, Any]] = []
    for nic in interfaces:
        links.append(
            {"id": nic.tap, "vif_id": nic.port_id, "type": "ovs", "mtu": nic.mtu, "ethernet_mac_address": nic.mac}
        )
        for address in nic.addresses:
            kind = "ipv6_dhcp" if address.version == 6 else "ipv4_dhcp"
            networks.append(
                {"id": f"network{len(networks)}", "type": kind, "link": nic.tap, "network_id": nic.network_id}
            )
    return {"links": links, "networks": networks, "services": []}


def openstack_files(server: Server, interfaces: list[Interface]) -> dict[str, bytes]:
    """The documents below `openstack/VERSION/`, by name."""
    files = {
        "meta_data.json": msgspec.json.encode(_meta_data(server)),
        "network_data.json": msgspec.json.encode(_network_data(interfaces)),
        "vendor_data.json": b"{}",
        "vendor_data2.json": b"{}",
    }
    user_data = _user_data(server)
    if user_data is not None:
        files["user_data"] = user_data
    return files


def config_drive_files(server: Server, interfaces: list[Interface]) -> Mapping[str, bytes]:
    """All files of a config drive, by path."""
    files = openstack_files(server, interfaces)
    found = {
        f"openstack/{version}/{name}": data
        for version in ("2018-08-27", "2020-10-14", "latest")
        for name, data in files.items()
    }
    meta = {
        key: value
        for key, value in ec2_tree(server, interfaces)["meta-data"].items()
        if key not in {"public-ipv4", "public-hostname", "public-keys", "placement", "block-device-mapping"}
    }
    for version in ("2009-04-04", "latest"):
        found[f"ec2/{version}/meta-data.json"] = msgspec.json.encode(meta)
        if "user_data" in files:
            found[f"ec2/{version}/user-data"] = files["user_data"]
    return found


def ec2_tree(server: Server, interfaces: list[Interface]) -> dict[str, Any]:
    """EC2's documents as a tree: a dictionary is a folder, a text is a leaf.  `public-ipv4` follows the floating IP of now."""
    fixed = [address for nic in interfaces for address in nic.addresses if address.version == 4]
    floating = [ip for address in fixed for ip in address.floating]
    ec2_id = f"i-{server.id.replace('-', '')[:8]}"
    meta: dict[str, Any] = {
        "ami-id": f"ami-{(server.image_id or '').replace('-', '')[:8] or '00000000'}",
        "ami-launch-index": str(server.launch_index),
        "ami-manifest-path": "none",
        "block-device-mapping": {"ami": "vda", "root": server.root_device_name or "/dev/vda"},
        "hostname": server.hostname,
        "instance-action": "none",
        "instance-id": ec2_id,
        "instance-type": server.flavor.name,
        "local-hostname": server.hostname,
        "local-ipv4": fixed[0].address if fixed else "",
        "placement": {"availability-zone": server.availability_zone or "nova"},
        "public-hostname": server.hostname,
        "public-ipv4": floating[0] if floating else "",
        "reservation-id": server.reservation_id,
        "security-groups": "\n".join(group.name for group in server.security_groups) or "default",
    }
    if server.key is not None:
        meta["public-keys"] = {"0": {"openssh-key": server.key.public_key, "_name": f"0={server.key.name}"}}
    tree: dict[str, Any] = {"meta-data": meta}
    user_data = _user_data(server)
    if user_data is not None:
        tree["user-data"] = user_data
    return tree
