"""A guest's record as libvirt's XML, and the little that is read back from XML.

Built as a tree, never as text: a server's name is whatever its owner typed.  Characters that XML cannot carry at all
become U+FFFD. What is here by experience and not by taste:

- `<backingStore>` is spelled out to its end for every file disk, so that libvirt never reads a guest's disk to find
  out, and each link says relabel='no': otherwise libvirt gives the shared base to QEMU's user and leaves it so.
- A network interface has every offload off unless its record says otherwise (a userspace datapath does not fill in
  checksums), no boot ROM (half a second of PXE), and managed='no': the tap is the agent's.
- q35 can only plug into root ports that were there at the start, and wants its root named first.
- The config drive is a virtio disk: Debian's cloud kernel has no driver for q35's SATA.
- No USB: PS/2 devices are there anyway, and a guest boots sooner without.
- No balloon: nothing here takes memory back from a guest, and setting it costs each start 7 ms.
"""

import re
from typing import Any
from xml.etree import ElementTree as ET

import msgspec

from cumulet.compute.agent.hypervisor.driver import Backing, Disk, Domain, FileSource, NetworkSource, Nic

__all__ = [
    "METADATA_KEY",
    "METADATA_URI",
    "Owner",
    "alias_of",
    "disk_xml",
    "domain_xml",
    "find_device",
    "nic_xml",
    "owner_from_xml",
    "parse",
]

METADATA_URI = "urn:cumulet:server:1"
METADATA_KEY = "cumulet"

#: root ports beyond those that the devices at boot take: how many disks and interfaces may be plugged in later
SPARE_PORTS = 12
#: beyond this a q35 machine has no buses left for more
PORTS_MAX = 28
#: the config drive's place: after every disk that a server may have
CONFIG_DRIVE_TARGET = "vdz"

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NOT_ALIAS = re.compile(r"[^a-zA-Z0-9_-]")

Element = ET.Element


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """Whose a domain is, as its metadata says."""

    cloud_id: str
    server_id: str
    generation: int


def domain_xml(domain: Domain, *, cloud_id: str, virt_type: str, emulator: str = "/usr/bin/qemu-system-x86_64") -> str:
    """The whole definition.  `virt_type` is "kvm" or "qemu" (translated)."""
    root = Element("domain", type=virt_type)
    _text(root, "name", domain.domain_name)
    _text(root, "uuid", domain.server_id)
    _metadata(root, domain, cloud_id)
    _text(root, "memory", str(domain.memory_mib), unit="MiB")
    _text(root, "vcpu", str(domain.vcpus))
    _sysinfo(root, domain)
    _operating_system(root, domain)
    _processor(root, domain, virt_type)
    clock = _child(root, "clock", offset="utc")
    if virt_type == "kvm":
        _child(clock, "timer", name="pit", tickpolicy="delay")
        _child(clock, "timer", name="rtc", tickpolicy="catchup")
        _child(clock, "timer", name="hpet", present="no")
    _text(root, "on_poweroff", "destroy")
    _text(root, "on_reboot", "restart")
    _text(root, "on_crash", "destroy")
    devices = _child(root, "devices")
    _text(devices, "emulator", emulator)
    _controllers(devices, domain)
    for disk in domain.disks:
        devices.append(_disk(disk, boots=domain.kernel is None and disk.target == domain.boot))
    if domain.config_drive is not None:
        devices.append(_disk(_config_drive(domain.config_drive)))
    for nic in domain.nics:
        devices.append(_nic(nic))
    _fixtures(devices, domain)
    return ET.tostring(root, encoding="unicode")


def disk_xml(disk: Disk) -> str:
    """One disk, for plugging in."""
    return ET.tostring(_disk(disk), encoding="unicode")


def nic_xml(nic: Nic) -> str:
    """One network interface, for plugging in."""
    return ET.tostring(_nic(nic), encoding="unicode")


def alias_of(kind: str, key: str) -> str:
    """The device name that libvirt's events will carry: ours, so that it is known before the device exists.

    `kind` is "disk" or "nic", `key` the volume id, target or port id.
    """
    return f"ua-{kind}-{_NOT_ALIAS.sub('_', key)}"


def find_device(xml: str, alias: str) -> Element | None:
    """The device of this alias in a domain's XML."""
    devices = parse(xml).find("devices")
    for device in devices if devices is not None else ():
        name = device.find("alias")
        if name is not None and name.get("name") == alias:
            return device
    return None


def parse(xml: str) -> Element:
    """A tree from libvirt's own words, in which a tenant's text is escaped and no entity is defined."""
    return ET.fromstring(xml)  # noqa: S314 - as said


def owner_from_xml(xml: str) -> Owner | None:
    """Whose domain this is, from its metadata element; None for one that is not ours."""
    element = parse(xml)
    if _local(element.tag) != "server":
        found = element.find(f"metadata/{{{METADATA_URI}}}server")
        if found is None:
            return None
        element = found
    generation = element.get("generation", "0")
    return Owner(
        cloud_id=element.get("cloud", ""),
        server_id=element.get("id", ""),
        generation=int(generation) if generation.isdigit() else 0,
    )


# ── parts ─────────────────────────────────────────────────────────────────────────────────────────


def _metadata(root: Element, domain: Domain, cloud_id: str) -> None:
    server = _child(
        _child(root, "metadata"),
        f"{{{METADATA_URI}}}server",
        cloud=cloud_id,
        id=domain.server_id,
        project=domain.project_id,
        user=domain.user_id,
        generation=str(domain.generation),
    )
    _text(server, f"{{{METADATA_URI}}}name", domain.name)
    _text(server, f"{{{METADATA_URI}}}hostname", domain.hostname)
    for key, value in sorted(domain.metadata.items()):
        _text(server, f"{{{METADATA_URI}}}item", value, key=key)


def _sysinfo(root: Element, domain: Domain) -> None:
    """The firmware table by which guests of cloud images know that they run under this API."""
    system = _child(_child(root, "sysinfo", type="smbios"), "system")
    for name, value in (
        ("manufacturer", "OpenStack Foundation"),
        ("product", "OpenStack Nova"),
        ("serial", domain.server_id),
        ("uuid", domain.server_id),
        ("family", "Virtual Machine"),
    ):
        _text(system, "entry", value, name=name)


def _operating_system(root: Element, domain: Domain) -> None:
    system = _child(root, "os")
    _text(system, "type", "hvm", arch="x86_64", machine="q35")
    if domain.kernel is not None:
        _text(system, "kernel", domain.kernel)
        if domain.initrd is not None:
            _text(system, "initrd", domain.initrd)
        _text(system, "cmdline", domain.cmdline)
    _child(system, "smbios", mode="sysinfo")


def _processor(root: Element, domain: Domain, virt_type: str) -> None:
    features = _child(root, "features")
    _child(features, "acpi")
    _child(features, "apic")
    if virt_type == "kvm":
        _child(root, "cpu", mode="host-passthrough", check="none")
        return
    _text(_child(features, "tcg"), "tb-cache", str(domain.tb_cache_mib), unit="MiB")
    _child(root, "cpu", mode="maximum")  # has RDRAND: without it a guest waits for entropy before its keys


def _controllers(devices: Element, domain: Domain) -> None:
    _child(devices, "controller", type="pci", index="0", model="pcie-root")
    at_boot = len(domain.disks) + (domain.config_drive is not None) + len(domain.nics) + 1  # the source of entropy
    for _ in range(min(at_boot + SPARE_PORTS, max(PORTS_MAX, at_boot))):
        _child(devices, "controller", type="pci", model="pcie-root-port")
    _child(devices, "controller", type="usb", model="none")


def _config_drive(path: str) -> Disk:
    return Disk(target=CONFIG_DRIVE_TARGET, source=FileSource(path=path, format="raw"), read_only=True, discard=False)


def _disk(disk: Disk, *, boots: bool = False) -> Element:
    source = disk.source
    element = Element("disk", type="file" if isinstance(source, FileSource) else "network", device="disk")
    driver = _child(element, "driver", name="qemu", type=source.format, cache=disk.cache)
    if disk.discard:
        driver.set("discard", "unmap")
    if isinstance(source, FileSource):
        _file_source(element, source)
    else:
        _network_source(element, source)
    _child(element, "target", dev=disk.target, bus=disk.bus)
    if disk.read_only:
        _child(element, "readonly")
    if disk.serial:
        _text(element, "serial", disk.serial)
    if boots:
        _child(element, "boot", order="1")
    _child(element, "alias", name=alias_of("disk", disk.key))
    return element


def _file_source(element: Element, source: FileSource) -> None:
    _child(element, "source", file=source.path)
    _backing(element, source.backing)


def _backing(element: Element, chain: tuple[Backing, ...]) -> None:
    """The rest of the chain; an empty element ends it, and without that end libvirt would read the disk to find out."""
    if not chain:
        _child(element, "backingStore")
        return
    store = _child(element, "backingStore", type="file")
    _child(store, "format", type=chain[0].format)
    _child(_child(store, "source", file=chain[0].path), "seclabel", model="dac", relabel="no")
    _backing(store, chain[1:])


def _network_source(element: Element, source: NetworkSource) -> None:
    if source.auth is not None and source.protocol == "rbd":
        _auth(element, source)
    inner = _child(element, "source", protocol=source.protocol, name=source.name)
    if source.tls:
        inner.set("tls", "yes")
    for host in source.hosts:
        if host.socket:
            _child(inner, "host", transport="unix", socket=host.socket)
            continue
        entry = _child(inner, "host", name=host.name)
        if host.port:
            entry.set("port", host.port)
    if source.auth is not None and source.protocol != "rbd":
        _auth(inner, source)


def _auth(parent: Element, source: NetworkSource) -> None:
    if source.auth is None:
        return
    auth = _child(parent, "auth", username=source.auth.username)
    _child(auth, "secret", type=source.auth.secret_type, uuid=source.auth.secret_uuid)


def _nic(nic: Nic) -> Element:
    element = Element("interface", type="ethernet")
    _child(element, "mac", address=nic.mac)
    _child(element, "target", dev=nic.tap, managed="no")
    _child(element, "model", type="virtio")
    driver = _child(element, "driver", name="qemu")  # not vhost: it needs a kernel module that may be absent
    if not nic.offload:
        _child(driver, "host", csum="off", gso="off", tso4="off", tso6="off", ecn="off", ufo="off")
        _child(driver, "guest", csum="off", tso4="off", tso6="off", ecn="off", ufo="off")
    if nic.mtu is not None:
        _child(element, "mtu", size=str(nic.mtu))
    _child(element, "rom", enabled="no")
    _child(element, "alias", name=alias_of("nic", nic.port_id))
    return element


def _fixtures(devices: Element, domain: Domain) -> None:
    """What every guest has: serial console with its log, screen, entropy."""
    serial = _child(devices, "serial", type="pty")
    _child(serial, "log", file=domain.console_log, append="on")
    _child(serial, "target", port="0")
    console = _child(devices, "console", type="pty")
    _child(console, "target", type="serial", port="0")
    _child(devices, "graphics", type="vnc", autoport="yes", listen="127.0.0.1")
    _child(_child(devices, "video"), "model", type="vga", vram="16384")
    _child(devices, "memballoon", model="none")
    _text(_child(devices, "rng", model="virtio"), "backend", "/dev/urandom", model="random")


def _child(parent: Element, tag: str, **attributes: Any) -> Element:
    return ET.SubElement(parent, tag, {name: _clean(value) for name, value in attributes.items()})


def _text(parent: Element, tag: str, text: str, **attributes: str) -> Element:
    element = _child(parent, tag, **attributes)
    element.text = _clean(text)
    return element


def _clean(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


ET.register_namespace(METADATA_KEY, METADATA_URI)
