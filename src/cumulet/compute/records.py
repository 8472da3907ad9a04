"""The compute service's frozen records: what its store gives out and what crosses to hosts.

Names and numbers are the reference's: vm states, task states, power states, block device mapping v2.
"""

import hashlib
from typing import Any

import msgspec

__all__ = [
    "BlockDevice",
    "Fault",
    "FixedAddress",
    "FlavorSnapshot",
    "Interface",
    "KeySnapshot",
    "NetworkRequest",
    "NewPort",
    "SecurityGroupRef",
    "Server",
    "host_id",
]


class FlavorSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A flavor as it was when the server was made."""

    id: str
    name: str
    vcpus: int
    ram_mb: int
    disk_gb: int
    ephemeral_gb: int = 0
    swap_mb: int = 0
    rxtx_factor: float = 1.0
    extra_specs: dict[str, str] = {}


class KeySnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A keypair as it was when the server was made; its name may be reused later."""

    name: str
    type: str
    public_key: str


class NewPort(msgspec.Struct, frozen=True, kw_only=True):
    """A port that a launch is to make: its id, and what of its network a guest must know.

    Chosen with the request: the guest is made while the port is, and a port that is asked for again is the same.
    """

    id: str
    network_name: str
    mtu: int


class NetworkRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One NIC that was asked for: a network, with the port that is to be made on it, or a port that exists; perhaps an address."""

    network_id: str | None = None
    port_id: str | None = None
    new: NewPort | None = None
    fixed_ip: str | None = None
    tag: str | None = None


class SecurityGroupRef(msgspec.Struct, frozen=True, kw_only=True):
    """A security group, as the network service knows it."""

    id: str
    name: str


class FixedAddress(msgspec.Struct, frozen=True, kw_only=True):
    """An address of a NIC, with the floating addresses that lead to it."""

    address: str
    version: int
    subnet_id: str
    floating: tuple[str, ...] = ()


class Interface(msgspec.Struct, frozen=True, kw_only=True):
    """A NIC of a server.  created: whether the launch made the port, so that deleting the server deletes it."""

    port_id: str
    network_id: str
    network_name: str
    mac: str
    mtu: int
    addresses: tuple[FixedAddress, ...]
    created: bool
    tap: str
    tag: str | None = None


class BlockDevice(msgspec.Struct, frozen=True, kw_only=True):
    """One block device, mapping v2.

    id: chosen at the API, and written on the volume that a launch makes, so that a repeated step finds it.
    source: image, volume, snapshot, blank; destination: local, volume.  volume_id and connection are filled in by the launch.
    """

    id: str
    source: str
    destination: str
    source_id: str | None = None
    boot_index: int | None = None
    size_gb: int | None = None
    volume_type: str | None = None
    delete_on_termination: bool = False
    device_name: str | None = None
    bus: str = "virtio"
    device_type: str = "disk"
    guest_format: str | None = None
    tag: str | None = None
    volume_id: str | None = None
    attachment_id: str | None = None
    #: as the volume service gave it (the reference's connection_info); holds secrets of the back end, shown to nobody
    connection: Any = None


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """Why a server is in error: words for its owner, detail for the admin."""

    code: int
    message: str
    details: str
    created: str


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """A server's row."""

    id: str
    name: str
    description: str | None
    hostname: str
    project_id: str
    user_id: str
    reservation_id: str
    launch_index: int
    vm_state: str
    task_state: str | None
    power_state: int
    host: str | None
    node: str | None
    availability_zone: str | None
    requested_zone: str | None
    requested_host: str | None
    flavor: FlavorSnapshot
    old_flavor: FlavorSnapshot | None
    image_id: str | None
    image_properties: dict[str, Any]
    key_name: str | None
    key: KeySnapshot | None
    user_data: str | None
    config_drive: bool
    root_device_name: str | None
    access_ip_v4: str | None
    access_ip_v6: str | None
    disk_config: str
    locked: bool
    locked_reason: str | None
    locked_by: str | None
    progress: int
    hints: dict[str, Any]
    group_id: str | None
    metadata: dict[str, str]
    tags: list[str]
    #: None: the project's only network; "none" is an empty list with `interfaces` empty
    requested_networks: list[NetworkRequest] | None
    security_groups: list[SecurityGroupRef]
    interfaces: list[Interface]
    block_devices: list[BlockDevice]
    fault: Fault | None
    password: str | None
    created_at: str
    updated_at: str
    launched_at: str | None
    terminated_at: str | None
    deleted: bool


def host_id(host: str | None, project_id: str) -> str:
    """The API's `hostId`: tells a tenant whether two servers share a host, without naming it."""
    return hashlib.sha224(f"{project_id}{host}".encode()).hexdigest() if host else ""
