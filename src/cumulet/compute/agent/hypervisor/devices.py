"""Plugging devices into a running guest and out of it, growing its disks and copying its root.

Unplugging is a request to the guest.  It counts as done only when QEMU says that the guest has let go: a volume that
is given to another server before that is another tenant's data in two hands.  So `detach` waits for that word, asks
again when a guest that was still booting has overlooked the request, and otherwise says DeviceBusy.
"""

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree as ET

import libvirt

from cumulet.compute.agent.hypervisor.domain_xml import find_device, parse
from cumulet.compute.agent.hypervisor.driver import (
    DeviceBusy,
    DeviceRefused,
    DomainGone,
    HypervisorFault,
    HypervisorTimeout,
)
from cumulet.compute.agent.hypervisor.events import Link, Waiter
from cumulet.compute.agent.hypervisor.faults import translated
from cumulet.core.disk import qcow2
from cumulet.core.disk.convert import Layer, Limits, convert
from cumulet.core.disk.errors import DiskExists

__all__ = ["attach", "copy", "detach", "grow", "stop_copying"]

#: how long a guest is given before it is asked again
UNPLUG_INTERVAL_S: Final = 5.0
#: a guest that refuses at once is not asked for ever
UNPLUG_ATTEMPTS: Final = 8
#: for the last word on a job whose end has been seen already
JOB_END_S: Final = 5.0
#: what qcow2's tables may add to a disk's size
_TABLES: Final = 64 << 20


def attach(domain: Any, xml: str, alias: str) -> None:
    """Plug in the device of `xml`, unless one of this alias is there."""
    with translated(DeviceRefused):
        if not domain.isActive() or find_device(domain.XMLDesc(), alias) is not None:
            return
        try:
            domain.attachDeviceFlags(xml, libvirt.VIR_DOMAIN_AFFECT_LIVE)
        except libvirt.libvirtError:
            if domain.isActive() and find_device(domain.XMLDesc(), alias) is None:
                raise


def detach(link: Link, domain: Any, alias: str, *, timeout_s: float) -> None:
    """Unplug the device of this alias and wait until the guest has let go."""
    deadline = time.monotonic() + timeout_s
    with translated(), link.expect(domain.UUIDString(), f"device:{alias}") as waiter:
        for attempt in range(1, UNPLUG_ATTEMPTS + 1):
            if not _request_unplug(domain, alias):
                return
            remaining = deadline - time.monotonic()
            if waiter.wait(min(UNPLUG_INTERVAL_S, remaining)) == "removed":
                return
            if attempt == UNPLUG_ATTEMPTS or time.monotonic() >= deadline:
                break
        if _plugged(domain, alias):
            raise DeviceBusy(detail=f"{alias} is still plugged in after {timeout_s:.0f} s and {attempt} requests")


def _request_unplug(domain: Any, alias: str) -> bool:
    """Ask; False when there is nothing (left) to ask for."""
    if not _plugged(domain, alias):
        return False
    try:
        domain.detachDeviceAlias(alias, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_DEVICE_MISSING or not domain.isActive():
            return False
        if "already in the process of unplug" not in str(error):  # the earlier request still stands
            raise
    return True


def _plugged(domain: Any, alias: str) -> bool:
    try:
        return domain.isActive() and find_device(domain.XMLDesc(), alias) is not None
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return False
        raise


def grow(domain: Any, alias: str, size: int) -> None:
    """Tell the guest that the disk has `size` bytes."""
    with translated():
        if not domain.isActive():
            return
        device = find_device(domain.XMLDesc(), alias)
        if device is None:
            raise DeviceRefused("The server has no such disk.", detail=f"no device {alias}")
        target = _target(device)
        capacity = domain.blockInfo(target)[0]
        if size < capacity:
            raise DeviceRefused("A disk cannot shrink.", detail=f"{alias}: {capacity} bytes, asked for {size}")
        if size > capacity:
            domain.blockResize(target, size, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)


def copy(link: Link, domain: Any, alias: str | None, target: Path, *, disk_format: str, timeout_s: float) -> None:
    """Copy a disk (None: the one the guest boots from) into a new file, with everything below it.

    A running guest's is mirrored by QEMU itself until both are alike, then the mirror is cut: one act that leaves the
    guest's own chain as it was, whenever it is interrupted.  (An external snapshot to be committed back was turned
    down: it has states in between, and a commit one file too deep lands in everybody's base.)
    """
    if target.exists():
        raise DiskExists(detail=str(target))
    try:
        with translated():
            disk = _disk(domain, alias)
            if domain.isActive():
                _mirror(link, domain, _target(disk), target, disk_format=disk_format, timeout_s=timeout_s)
            else:
                top = _layer(disk)
                limits = Limits(output_bytes=_size(top) + _TABLES, wall_s=timeout_s)
                convert(top.path, top.format, target, disk_format, limits=limits, backing=top.backing)
        os.chown(target, os.geteuid(), os.getegid())
        target.chmod(0o600)
    except BaseException:  # whatever it was, a half copy is to be left to nobody
        target.unlink(missing_ok=True)
        raise


def stop_copying(domain: Any, alias: str | None) -> None:
    """Cut the mirror of a disk (None: the one the guest boots from), if there is one."""
    with translated():
        if not domain.isActive():
            return
        try:
            disk = _target(_disk(domain, alias))
        except DeviceRefused:  # unplugged, and the mirror with it
            return
        if domain.blockJobInfo(disk, 0):
            domain.blockJobAbort(disk, 0)


def _mirror(link: Link, domain: Any, disk: str, target: Path, *, disk_format: str, timeout_s: float) -> None:
    with suppress(libvirt.libvirtError):  # of a caller that died: there is one job per disk
        domain.blockJobAbort(disk, 0)
    destination = ET.Element("disk", type="file")
    ET.SubElement(destination, "driver", type=disk_format)
    ET.SubElement(destination, "source", file=str(target))
    with link.expect(domain.UUIDString(), f"job:{disk}") as waiter:
        domain.blockCopy(
            disk,
            ET.tostring(destination, encoding="unicode"),
            None,
            libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB,  # the job is not to outlive the guest's process
        )
        try:
            _wait_alike(domain, waiter, timeout_s)
        except BaseException:  # whatever it was, the mirror is to go before its file does
            with suppress(libvirt.libvirtError):
                domain.blockJobAbort(disk, 0)
            raise
        domain.blockJobAbort(disk, 0)  # cuts the mirror; returns when the copy is complete
        if waiter.wait(JOB_END_S) == "failed":
            raise HypervisorFault("The snapshot failed.", detail="the mirror failed while it was cut")


def _wait_alike(domain: Any, waiter: Waiter, timeout_s: float) -> None:
    word = waiter.wait(timeout_s)
    if word is None:
        raise HypervisorTimeout(
            "The snapshot was not finished in time.", detail=f"not mirrored within {timeout_s:.0f} s"
        )
    if word != "ready":
        if not domain.isActive():
            raise DomainGone(detail="the guest went away while its disk was copied")
        raise HypervisorFault("The snapshot failed.", detail=f"block job: {word}")


def _disk(domain: Any, alias: str | None) -> ET.Element:
    """The disk of this alias, or the one that the guest boots from."""
    if alias is not None:
        found = find_device(domain.XMLDesc(), alias)
        if found is None:
            raise DeviceRefused("The server has no such disk.", detail=f"no device {alias}")
        return found
    disks = parse(domain.XMLDesc()).findall("devices/disk[@device='disk']")
    for disk in disks:
        if disk.find("boot") is not None:
            return disk
    if not disks:
        raise DeviceRefused("The server has no disk to copy.", detail="no disk in the domain's XML")
    return disks[0]


def _layer(disk: ET.Element) -> Layer:
    """Where a disk lies, its format and what is under it, all as the record said."""
    source, driver = disk.find("source"), disk.find("driver")
    if source is None or driver is None or not source.get("file"):
        raise HypervisorFault("The server has no disk to copy.", detail="the disk is not a file")
    return Layer(Path(source.get("file", "")), driver.get("type", "raw"), _backing(disk))


def _backing(parent: ET.Element) -> Layer | None:
    store = parent.find("backingStore")
    source, kind = (None, None) if store is None else (store.find("source"), store.find("format"))
    if store is None or source is None or kind is None:
        return None
    return Layer(Path(source.get("file", "")), kind.get("type", "raw"), _backing(store))


def _size(top: Layer) -> int:
    return qcow2.read_header(top.path).size if top.format == "qcow2" else top.path.stat().st_size


def _target(device: ET.Element) -> str:
    target = device.find("target")
    return target.get("dev", "") if target is not None else ""
