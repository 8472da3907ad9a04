"""A volume's connection, as the volume service gave it, as a disk for the hypervisor.

The shapes are the reference's `connection_info`: `local` names a file with its format, `rbd` names a pool, an image and monitors.
"""

from cumulet.compute.agent.hypervisor.driver import Backing, Disk, FileSource, NetworkAuth, NetworkHost, NetworkSource
from cumulet.compute.records import BlockDevice
from cumulet.core.errors import ServerFault

__all__ = ["UnknownConnectionError", "disk_of"]


class UnknownConnectionError(ServerFault):
    """The volume's back end is reached in a way that this host does not know."""

    default = "The volume's connection type is not supported by this host."


def disk_of(device: BlockDevice) -> Disk:
    """The disk of an attached volume."""
    info = device.connection or {}
    kind, data = info.get("driver_volume_type"), info.get("data", {})
    target = (device.device_name or "vdb").removeprefix("/dev/")
    read_only = data.get("access_mode") == "ro"
    if kind == "local":
        backing = tuple(Backing(path=entry["path"], format=entry["format"]) for entry in data.get("backing", ()))
        file = FileSource(path=data["device_path"], format=data["format"], backing=backing)
        return Disk(target=target, source=file, serial=device.volume_id or "", read_only=read_only)
    if kind == "rbd":
        auth = None
        if data.get("auth_enabled"):
            auth = NetworkAuth(username=data["auth_username"], secret_type="ceph", secret_uuid=data["secret_uuid"])  # noqa: S106 - a kind, not a secret
        hosts = tuple(
            NetworkHost(name=name, port=str(port)) for name, port in zip(data["hosts"], data["ports"], strict=True)
        )
        network = NetworkSource(protocol="rbd", name=data["name"], hosts=hosts, auth=auth)
        return Disk(target=target, source=network, serial=device.volume_id or "", read_only=read_only, cache="none")
    raise UnknownConnectionError(detail=f"driver_volume_type {kind!r}")
