"""From a volume's connection data, in the reference's shape, to a disk of a guest.

QEMU reaches every kind by itself, so nothing is mounted or logged in to on the host, and nothing has to be undone
there.  The data come from the volume service and are trusted as far as that: formats are taken as said, never looked
for.
"""

from collections.abc import Mapping
from typing import Any

from cumulet.compute.agent.hypervisor.driver import (
    Backing,
    DeviceRefused,
    Disk,
    DiskSource,
    FileSource,
    NetworkAuth,
    NetworkHost,
    NetworkSource,
)

__all__ = ["disk_from_connection"]

_ISCSI_PORT = "3260"


def disk_from_connection(
    connection_info: Mapping[str, Any], *, volume_id: str, target: str, bus: str = "virtio"
) -> Disk:
    """The disk to plug in.  Raises DeviceRefused for a kind that no guest here can reach, or incomplete data."""
    kind = connection_info.get("driver_volume_type")
    data = connection_info.get("data") or {}
    try:
        source = _SOURCES[str(kind)](data)
    except KeyError as missing:
        raise DeviceRefused(detail=f"connection of kind {kind!r}: {missing} is not known or not there") from missing
    return Disk(
        target=target,
        bus=bus,
        serial=volume_id,
        source=source,
        read_only=data.get("access_mode") == "ro",
        cache="writeback" if isinstance(source, FileSource) else "none",
        discard=bool(data.get("discard", True)),
    )


def _local(data: Mapping[str, Any]) -> DiskSource:
    backing = tuple(Backing(path=str(each["path"]), format=str(each["format"])) for each in data.get("backing") or ())
    return FileSource(path=str(data["device_path"]), format=str(data.get("format", "raw")), backing=backing)


def _rbd(data: Mapping[str, Any]) -> DiskSource:
    hosts = data["hosts"]
    ports = data.get("ports") or [""] * len(hosts)
    auth = None
    if data.get("auth_enabled"):
        auth = NetworkAuth(
            username=str(data["auth_username"]),
            secret_type=str(data.get("secret_type") or "ceph"),
            secret_uuid=str(data["secret_uuid"]),
        )
    return NetworkSource(
        protocol="rbd",
        name=str(data["name"]),
        hosts=tuple(NetworkHost(name=str(host), port=str(port)) for host, port in zip(hosts, ports, strict=True)),
        auth=auth,
    )


def _iscsi(data: Mapping[str, Any]) -> DiskSource:
    """CHAP's secret is kept by libvirt under `secret_uuid`; a password in the data is not put into any definition."""
    address, _, port = str(data["target_portal"]).rpartition(":")
    auth = None
    if data.get("auth_method") and data.get("secret_uuid"):
        kind = "iscsi"
        auth = NetworkAuth(username=str(data["auth_username"]), secret_type=kind, secret_uuid=str(data["secret_uuid"]))
    return NetworkSource(
        protocol="iscsi",
        name=f"{data['target_iqn']}/{data['target_lun']}",
        hosts=(NetworkHost(name=address.strip("[]"), port=port or _ISCSI_PORT),),
        auth=auth,
    )


def _nbd(data: Mapping[str, Any]) -> DiskSource:
    """Not of the reference: an export of this cloud's own volume host."""
    host = (
        NetworkHost(socket=str(data["socket"]))
        if data.get("socket")
        else NetworkHost(name=str(data["host"]), port=str(data["port"]))
    )
    return NetworkSource(protocol="nbd", name=str(data["export"]), hosts=(host,), tls=bool(data.get("tls")))


_SOURCES = {"local": _local, "sim": _local, "rbd": _rbd, "iscsi": _iscsi, "nbd": _nbd}
