"""The definition of a guest, as libvirt will read it."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cumulet.compute.agent.hypervisor.domain_xml import (
    alias_of,
    disk_xml,
    domain_xml,
    find_device,
    nic_xml,
    owner_from_xml,
    parse,
)
from cumulet.compute.agent.hypervisor.driver import (
    Backing,
    Disk,
    Domain,
    FileSource,
    NetworkAuth,
    NetworkHost,
    NetworkSource,
    Nic,
)

SERVER = "11111111-2222-3333-4444-555555555555"
ROOT = Disk(
    target="vda", source=FileSource(path="/d/root.qcow2", format="qcow2", backing=(Backing(path="/d/base.raw"),))
)
DATA = Disk(target="vdb", serial="volume-1", source=FileSource(path="/d/data.raw", format="raw"))
NIC = Nic(port_id="port-1", mac="fa:16:3e:00:00:01", tap="tap1", mtu=1442)
DOMAIN = Domain(
    server_id=SERVER,
    name="web",
    vcpus=2,
    memory_mib=192,
    disks=(ROOT, DATA),
    nics=(NIC,),
    console_log="/d/console.log",
    generation=3,
)


def xml(domain: Domain = DOMAIN, virt_type: str = "qemu") -> str:
    """The definition."""
    return domain_xml(domain, cloud_id="cloud-1", virt_type=virt_type)


@given(st.text())
def test_no_text_of_a_tenant_is_markup(text: str) -> None:
    """Whatever a name, host name, command line or metadata holds, the definition has the same elements."""
    hostile = msgspec.structs.replace(DOMAIN, name=text, hostname=text, metadata={"k": text}, kernel="/k", cmdline=text)
    harmless = msgspec.structs.replace(hostile, name="x", hostname="x", metadata={"k": "x"}, cmdline="x")
    assert [element.tag for element in parse(xml(hostile)).iter()] == [
        element.tag for element in parse(xml(harmless)).iter()
    ]


def test_the_owner_can_be_read_back() -> None:
    """Cloud, server and generation stand in the metadata; a domain without them is nobody's."""
    owner = owner_from_xml(xml())
    assert owner is not None
    assert (owner.cloud_id, owner.server_id, owner.generation) == ("cloud-1", SERVER, 3)
    assert owner_from_xml("<domain><metadata/></domain>") is None


def test_every_chain_is_spelled_out_to_its_end() -> None:
    """No disk is left for libvirt to look into, and no base is re-owned."""
    for disk in parse(xml()).findall("devices/disk"):
        stores = list(disk.iter("backingStore"))
        assert len(stores[-1]) == 0
        for store in stores[:-1]:
            label = store.find("source/seclabel")
            assert label is not None
            assert label.attrib == {"model": "dac", "relabel": "no"}
            assert store.find("format") is not None


def test_offloads_are_off_unless_asked_for() -> None:
    """A userspace datapath forwards what the guest sends, so checksums are made by the guest."""
    off = parse(nic_xml(NIC))
    assert off.find("driver/host[@csum='off']") is not None
    assert off.find("driver/guest[@tso4='off']") is not None
    on = parse(nic_xml(msgspec.structs.replace(NIC, offload=True)))
    assert on.find("driver[@name='qemu']") is not None
    assert len(on.findall("driver/*")) == 0


def test_a_nic_is_a_tap_of_ours() -> None:
    """Libvirt neither makes nor removes the tap; no ROM; the MTU is told to the guest."""
    nic = parse(nic_xml(NIC))
    assert nic.get("type") == "ethernet"
    assert nic.find("target[@dev='tap1'][@managed='no']") is not None
    assert nic.find("rom[@enabled='no']") is not None
    assert nic.find("mtu[@size='1442']") is not None
    assert nic.find(f"alias[@name='{alias_of('nic', 'port-1')}']") is not None


def test_one_disk_boots() -> None:
    """The disk named by the record, and none when a kernel is given."""
    boots = [disk.find("target") for disk in parse(xml()).findall("devices/disk") if disk.find("boot") is not None]
    assert [target.get("dev") for target in boots if target is not None] == ["vda"]
    direct = msgspec.structs.replace(DOMAIN, kernel="/k", initrd="/i", cmdline="console=ttyS0")
    assert parse(xml(direct)).find("devices/disk/boot") is None
    assert parse(xml(direct)).findtext("os/initrd") == "/i"


def test_the_config_drive_is_a_read_only_virtio_disk_after_all_others() -> None:
    """The guest's cloud kernel has no driver for a CD drive of this machine."""
    last = parse(xml(msgspec.structs.replace(DOMAIN, config_drive="/d/config.iso"))).findall("devices/disk")[-1]
    assert last.find("source[@file='/d/config.iso']") is not None
    assert last.find("readonly") is not None
    assert last.find("target[@bus='virtio']") is not None


@pytest.mark.parametrize(("virt_type", "mode"), [("qemu", "maximum"), ("kvm", "host-passthrough")])
def test_the_processor_follows_the_kind_of_virtualisation(virt_type: str, mode: str) -> None:
    """TCG gets all it can translate and a cache for it; KVM the host's processor."""
    root = parse(xml(virt_type=virt_type))
    assert root.get("type") == virt_type
    assert root.find(f"cpu[@mode='{mode}']") is not None
    assert (root.findtext("features/tcg/tb-cache") == "64") is (virt_type == "qemu")


def test_there_are_slots_to_plug_into() -> None:
    """As many root ports as devices at boot and twelve more; the root comes first."""
    controllers = parse(xml()).findall("devices/controller[@type='pci']")
    assert controllers[0].get("model") == "pcie-root"
    at_boot = len(DOMAIN.disks) + len(DOMAIN.nics) + 1
    assert [each.get("model") for each in controllers[1:]] == ["pcie-root-port"] * (at_boot + 12)


def test_console_screen_and_entropy() -> None:
    """The console's log is appended to, the screen is on loopback only; nothing takes memory back."""
    devices = parse(xml()).find("devices")
    assert devices is not None
    assert devices.find("serial/log[@append='on'][@file='/d/console.log']") is not None
    assert devices.find("graphics[@type='vnc'][@listen='127.0.0.1'][@autoport='yes']") is not None
    assert devices.find("rng/backend") is not None
    assert devices.find("memballoon[@model='none']") is not None


def test_the_same_record_makes_the_same_definition() -> None:
    """Nothing in it is left to chance or order."""
    first = msgspec.structs.replace(DOMAIN, metadata={"a": "1", "b": "2"})
    second = msgspec.structs.replace(DOMAIN, metadata={"b": "2", "a": "1"})
    assert xml(first) == xml(second)


def test_network_disks() -> None:
    """Each protocol as libvirt wants it: rbd's credentials beside the source, those of iSCSI inside."""
    auth = NetworkAuth(username="cloud", secret_type="ceph", secret_uuid="s")
    hosts = (NetworkHost(name="10.0.0.1", port="6789"),)
    rbd = parse(disk_xml(_network(protocol="rbd", name="volumes/v", hosts=hosts, auth=auth)))
    assert rbd.find("auth/secret[@type='ceph'][@uuid='s']") is not None
    assert rbd.find("source[@protocol='rbd'][@name='volumes/v']/host[@port='6789']") is not None
    iscsi = parse(disk_xml(_network(protocol="iscsi", name="iqn.x/1", hosts=hosts, auth=auth)))
    assert iscsi.find("source/auth[@username='cloud']") is not None
    nbd = parse(disk_xml(_network(protocol="nbd", name="v", hosts=(NetworkHost(socket="/s"),), tls=True)))
    assert nbd.find("source[@tls='yes']/host[@transport='unix'][@socket='/s']") is not None
    assert all(disk.find("driver[@type='raw']") is not None for disk in (rbd, iscsi, nbd))


def _network(**source: object) -> Disk:
    return Disk(target="vdb", serial="v", source=NetworkSource(**source))  # type: ignore[arg-type]  # the test's words


def test_a_device_is_found_by_its_alias() -> None:
    """By the id that we gave, and only by the whole of it."""
    definition = xml()
    found = find_device(definition, alias_of("disk", "volume-1"))
    assert found is not None
    assert found.find("source[@file='/d/data.raw']") is not None
    assert find_device(definition, alias_of("disk", "volume-")) is None
