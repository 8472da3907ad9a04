"""Numbers that libvirt tells of the host and of a guest, in the reference's units."""

import os
import time
from pathlib import Path
from typing import Any

import libvirt

from cumulet.compute.agent.hypervisor.domain_xml import parse
from cumulet.compute.agent.hypervisor.driver import CpuInfo, Diagnostics, DiskUsage, HostStats, NicUsage, PowerState

__all__ = ["diagnostics", "host_stats"]

_GIB = 1 << 30
_UPTIME = Path("/proc/uptime")
_STATS = (
    libvirt.VIR_DOMAIN_STATS_VCPU
    | libvirt.VIR_DOMAIN_STATS_BALLOON
    | libvirt.VIR_DOMAIN_STATS_BLOCK
    | libvirt.VIR_DOMAIN_STATS_INTERFACE
)


def host_stats(connection: Any, *, hostname: str, virt_type: str, disk_directory: Path) -> HostStats:
    """What the host has and what its guests take."""
    memory = connection.getMemoryStats(libvirt.VIR_NODE_MEMORY_STATS_ALL_CELLS)
    free_kib = memory["free"] + memory.get("buffers", 0) + memory.get("cached", 0)
    disk = os.statvfs(disk_directory)
    active = connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
    return HostStats(
        vcpus=connection.getInfo()[2],
        vcpus_used=sum(_vcpus(domain) for domain in active),
        memory_mib=memory["total"] >> 10,
        memory_mib_used=(memory["total"] - free_kib) >> 10,
        disk_gib=disk.f_blocks * disk.f_frsize // _GIB,
        disk_gib_used=(disk.f_blocks - disk.f_bfree) * disk.f_frsize // _GIB,
        disk_gib_available_least=disk.f_bavail * disk.f_frsize // _GIB,
        running=len(active),
        hypervisor_type=connection.getType(),
        hypervisor_version=connection.getVersion(),
        hypervisor_hostname=hostname,
        virt_type=virt_type,
        cpu_info=_cpu_info(connection.getCapabilities()),
        uptime=uptime_line(float(_UPTIME.read_text().split()[0]), os.getloadavg()),
    )


def uptime_line(seconds: float, load: tuple[float, float, float]) -> str:
    """How long a host has been up and how busy it is, as `uptime` prints it."""
    days, rest = divmod(int(seconds), 86_400)
    clock = time.strftime("%H:%M:%S", time.gmtime())
    loads = ", ".join(f"{value:.2f}" for value in load)
    # nobody logs in at a host: that part of the line is there because clients parse it
    return f" {clock} up {days} days, {rest // 3600:2}:{rest % 3600 // 60:02},  0 users,  load average: {loads}"


def _vcpus(domain: Any) -> int:
    try:
        return int(domain.info()[3])
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return 0
        raise


def _cpu_info(capabilities: str) -> CpuInfo:
    host = parse(capabilities).find("host")
    cpu = host.find("cpu") if host is not None else None
    if host is None or cpu is None:
        return CpuInfo(arch="x86_64", model="", vendor="", topology={}, features=[])
    topology = cpu.find("topology")
    numbers = (
        {name: int(topology.get(name, "1")) for name in ("sockets", "cores", "threads")} if topology is not None else {}
    )
    return CpuInfo(
        arch=cpu.findtext("arch", ""),
        model=cpu.findtext("model", ""),
        vendor=cpu.findtext("vendor", ""),
        topology={"cells": len(host.findall("topology/cells/cell")) or 1, **numbers},
        features=[feature.get("name", "") for feature in cpu.findall("feature")],
    )


def diagnostics(connection: Any, domain: Any, power_state: PowerState) -> Diagnostics:
    """A running guest's counters, in one call to libvirt and one for its devices' names."""
    devices = parse(domain.XMLDesc()).find("devices")
    numbers: dict[str, Any] = connection.domainListGetStats([domain], _STATS)[0][1]
    macs: dict[str, str] = {}
    for interface in devices.findall("interface") if devices is not None else ():
        target, mac = interface.find("target"), interface.find("mac")
        if target is not None and mac is not None:
            macs[target.get("dev", "")] = mac.get("address", "")
    current_kib, resident_kib = numbers.get("balloon.current", 0), numbers.get("balloon.rss")
    return Diagnostics(
        power_state=power_state,
        cpu_time_ns=tuple(numbers.get(f"vcpu.{i}.time", 0) for i in range(numbers.get("vcpu.maximum", 0))),
        memory_mib=current_kib >> 10,
        # QEMU's own is in what is resident
        memory_used_mib=None if resident_kib is None else min(resident_kib, current_kib) >> 10,
        disks=tuple(_disk_usage(numbers, f"block.{i}.") for i in range(numbers.get("block.count", 0))),
        nics=tuple(_nic_usage(numbers, f"net.{i}.", macs) for i in range(numbers.get("net.count", 0))),
    )


def _disk_usage(numbers: dict[str, Any], prefix: str) -> DiskUsage:
    return DiskUsage(
        target=numbers.get(f"{prefix}name", ""),
        read_bytes=numbers.get(f"{prefix}rd.bytes", 0),
        read_requests=numbers.get(f"{prefix}rd.reqs", 0),
        write_bytes=numbers.get(f"{prefix}wr.bytes", 0),
        write_requests=numbers.get(f"{prefix}wr.reqs", 0),
    )


def _nic_usage(numbers: dict[str, Any], prefix: str, macs: dict[str, str]) -> NicUsage:
    return NicUsage(
        mac=macs.get(numbers.get(f"{prefix}name", ""), ""),
        rx_bytes=numbers.get(f"{prefix}rx.bytes", 0),
        rx_packets=numbers.get(f"{prefix}rx.pkts", 0),
        rx_errors=numbers.get(f"{prefix}rx.errs", 0),
        rx_drop=numbers.get(f"{prefix}rx.drop", 0),
        tx_bytes=numbers.get(f"{prefix}tx.bytes", 0),
        tx_packets=numbers.get(f"{prefix}tx.pkts", 0),
        tx_errors=numbers.get(f"{prefix}tx.errs", 0),
        tx_drop=numbers.get(f"{prefix}tx.drop", 0),
    )
