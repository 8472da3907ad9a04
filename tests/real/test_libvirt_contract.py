"""The hypervisor's contract on libvirt and QEMU, and what only a real one can show."""

from __future__ import annotations

import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import libvirt
import msgspec
import pytest
from tests.real.libvirt_lab import LibvirtLab, only_one, wait_for
from tests.unit.test_hypervisor_contract import (
    HypervisorContract,
    HypervisorContractWithGuest,
    Told,
    World,
    new_id,
    volume,
)

from cumulet.compute.agent.hypervisor import config_drive
from cumulet.compute.agent.hypervisor.domain_xml import parse
from cumulet.compute.agent.hypervisor.driver import (
    DeviceBusy,
    Disk,
    Domain,
    DomainRefused,
    FileSource,
    HypervisorDown,
    Nic,
    PowerState,
)
from cumulet.compute.agent.hypervisor.libvirt_driver import LibvirtHypervisor
from cumulet.guest.build import build
from cumulet.host.leftovers import guests

pytestmark = pytest.mark.real

#: made once, kept between runs, as downloads of kernels are not repeated for fun
_GUEST_FOLDER = Path(__file__).parents[2] / ".cache" / "guest"


@pytest.fixture(scope="module")
def lab() -> Iterator[LibvirtLab]:
    """One libvirt for all claims."""
    guest = build(_GUEST_FOLDER)
    with only_one(), tempfile.TemporaryDirectory(prefix="lv-", dir="/tmp") as folder:
        made = LibvirtLab(Path(folder), guest)
        try:
            made.start()
            yield made
        finally:
            made.stop()


class LibvirtWorld:
    """A driver on the lab's libvirt."""

    def __init__(self, lab: LibvirtLab, hypervisor: LibvirtHypervisor) -> None:
        self.lab = lab
        self.hypervisor = hypervisor
        self.folder = lab.folder

    def domain(self) -> Domain:
        """A guest whose processor is stopped."""
        return self.lab.stopped()

    def booted(self) -> Domain:
        """The guest image, up.  With a config drive, or it would first look for metadata on a network."""
        domain = self.with_config_drive(self.lab.direct(), hostname="booted")
        self.hypervisor.start(domain)
        wait_for(lambda: self.has_said(domain.server_id, "GUEST: ssh"), "the guest's last step")
        return domain

    def with_config_drive(self, domain: Domain, *, hostname: str, user_data: bytes = b"") -> Domain:
        """The same server with a config drive."""
        path = self.folder / f"{domain.server_id}.iso"
        meta_data = msgspec.json.encode({"uuid": domain.server_id, "hostname": hostname})
        files = {"openstack/latest/meta_data.json": meta_data, "openstack/latest/user_data": user_data}
        config_drive.write(path, files)
        return msgspec.structs.replace(domain, config_drive=str(path))

    def has_said(self, server_id: str, words: str) -> bool:
        """Whether the guest has printed this on its console."""
        return words in self.hypervisor.console_output(server_id, None)

    def nic(self) -> Nic:
        """A tap of its own."""
        return self.lab.nic()

    def wait_attached(self, server_id: str) -> None:
        """The guest tells nobody; detach asks again until it listens."""


@pytest.fixture
def world(lab: LibvirtLab) -> Iterator[LibvirtWorld]:
    """A driver without guests; whatever a claim leaves is destroyed."""
    lab.start_daemons()
    hypervisor = lab.driver()
    yield LibvirtWorld(lab, hypervisor)
    for state in hypervisor.list():
        hypervisor.destroy(state.server_id)
    hypervisor.close()


class TestLibvirt(HypervisorContract):
    """The contract on QEMU, guests at rest."""

    @pytest.fixture
    def world(self, world: LibvirtWorld) -> World:
        """The module's."""
        return world


@pytest.mark.slow
class TestLibvirtWithGuest(HypervisorContractWithGuest):
    """The contract on QEMU, guests that take part."""

    @pytest.fixture
    def world(self, world: LibvirtWorld) -> World:
        """The module's."""
        return world


def test_the_shared_base_stays_ours(world: LibvirtWorld) -> None:
    """No guest's QEMU ever owns the base that all guests read: root's and read-only, before, during and after."""
    base = world.folder / "stopped.raw"

    def owner() -> tuple[int, int, int]:
        status = base.stat()
        return status.st_uid, status.st_gid, status.st_mode & 0o777

    domain = world.domain()
    world.hypervisor.start(domain)
    assert owner() == (0, 0, 0o444)
    world.hypervisor.destroy(domain.server_id)
    assert owner() == (0, 0, 0o444)


def test_a_guest_that_does_not_listen_keeps_its_device(world: LibvirtWorld) -> None:
    """A device is not called detached while the guest may still write to it."""
    domain = world.domain()
    world.hypervisor.start(domain)
    disk = volume(world)
    world.hypervisor.attach_disk(domain.server_id, disk)
    with pytest.raises(DeviceBusy):
        world.hypervisor.detach_disk(domain.server_id, disk.serial, timeout_s=0.5)
    assert disk.target in [each.target for each in world.hypervisor.diagnostics(domain.server_id).disks]
    world.hypervisor.destroy(domain.server_id)
    world.hypervisor.detach_disk(domain.server_id, disk.serial)


def test_a_guest_that_does_not_listen_is_ended_after_its_time(world: LibvirtWorld) -> None:
    """The button first, the plug when time is up."""
    domain = world.domain()
    world.hypervisor.start(domain)
    began = time.monotonic()
    assert world.hypervisor.shutdown(domain.server_id, timeout_s=0.5) is False
    assert 0.5 <= time.monotonic() - began < 5.0


def test_a_start_that_fails_leaves_nothing(world: LibvirtWorld) -> None:
    """A guest whose disk is missing is refused, in words that name no path, and is not there afterwards."""
    domain = world.domain()
    missing = Disk(target="vdb", source=FileSource(path=str(world.folder / "missing"), format="raw"))
    with pytest.raises(DomainRefused) as refused:
        world.hypervisor.start(msgspec.structs.replace(domain, disks=(*domain.disks, missing)))
    assert "missing" in (refused.value.detail or "")
    assert str(world.folder) not in refused.value.message
    assert world.hypervisor.power_state(domain.server_id).power_state is PowerState.NOSTATE


def test_a_restart_that_fails_leaves_the_guest_known(world: LibvirtWorld) -> None:
    """A stopped guest that cannot start is still a stopped guest."""
    domain = world.domain()
    world.hypervisor.start(domain)
    world.hypervisor.shutdown(domain.server_id, timeout_s=0.0)
    missing = Disk(target="vdb", source=FileSource(path=str(world.folder / "missing"), format="raw"))
    with pytest.raises(DomainRefused):
        world.hypervisor.start(msgspec.structs.replace(domain, disks=(*domain.disks, missing)))
    assert world.hypervisor.power_state(domain.server_id).power_state is PowerState.SHUTDOWN


def test_starts_at_the_same_time_start_once(world: LibvirtWorld) -> None:
    """Four callers start one server: all return, one guest runs."""
    domain = world.domain()
    errors: list[Exception] = []

    def start() -> None:
        try:
            world.hypervisor.start(domain)
        except Exception as error:  # noqa: BLE001 - whatever it is, the claim is that there is none
            errors.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]  # noqa: TID251 - as the agent's pool
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert errors == []
    assert world.hypervisor.power_state(domain.server_id).power_state is PowerState.RUNNING
    assert world.hypervisor.host_stats().running == 1


def test_who_waits_for_a_guest_to_begin_finds_its_process(world: LibvirtWorld, lab: LibvirtLab) -> None:
    """Asked while libvirt prepares the guest, whose log is opened shortly before the process begins."""
    domain = world.domain()
    log = Path(lab.config.state_dir, "libvirt", "log", "qemu", f"{domain.domain_name}.log")
    thread = threading.Thread(target=world.hypervisor.start, args=(domain, True))  # noqa: TID251 - as the agent's pool
    thread.start()
    try:
        wait_for(log.exists, "the guest's log")
        world.hypervisor.wait_begun(domain.server_id)
        assert guests(lab.config)
    finally:
        thread.join(timeout=30)
    assert world.hypervisor.power_state(domain.server_id).power_state is PowerState.PAUSED


def test_a_guest_sees_few_devices(world: LibvirtWorld, lab: LibvirtLab) -> None:
    """None of the machine's disks, not its memory; and the device that makes taps is not for QEMU's user."""
    world.hypervisor.start(world.domain())
    (pid,) = guests(lab.config)
    devices = Path(f"/proc/{pid}/root/dev")
    assert {entry.name for entry in devices.iterdir()} == {
        *("null", "full", "zero", "random", "urandom", "ptmx", "pts", "fd", "net"),
    }
    user = Path(f"/proc/{pid}").stat()
    assert user.st_uid != 0
    net = (devices / "net").stat()
    assert (net.st_uid, stat.S_IMODE(net.st_mode)) == (0, 0o700)
    assert (devices / "net" / "tun").exists()


def test_another_clouds_guests_are_not_ours(world: LibvirtWorld, lab: LibvirtLab) -> None:
    """A driver lists its own cloud's guests only."""
    other = lab.driver(cloud_id="another")
    domain = world.domain()
    other.start(domain)
    try:
        assert [state.server_id for state in other.list()] == [domain.server_id]
        assert world.hypervisor.list() == ()
    finally:
        other.destroy(domain.server_id)
        other.close()


def test_a_dead_guest_is_told(world: LibvirtWorld, lab: LibvirtLab) -> None:
    """When QEMU dies subscribers hear that the guest crashed, and it starts again in one step."""
    domain = world.domain()
    world.hypervisor.start(domain)
    told = Told(world.hypervisor)
    lab.kill_guest(domain.server_id)
    told.wait(domain.server_id, PowerState.SHUTDOWN)
    assert world.hypervisor.power_state(domain.server_id).reason == "crashed"
    world.hypervisor.start(domain)
    assert world.hypervisor.power_state(domain.server_id).power_state is PowerState.RUNNING


def _definitions(lab: LibvirtLab) -> set[str]:
    """The ids of what libvirt knows also when it is off."""
    connection = libvirt.open(lab.uri)
    try:
        return {one.UUIDString() for one in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_PERSISTENT)}
    finally:
        connection.close()


def test_a_new_guest_that_was_let_run_is_defined_soon(world: LibvirtWorld, lab: LibvirtLab) -> None:
    """Nobody asks for it; while it is not let run it is not."""
    domain = world.domain()
    world.hypervisor.start(domain, paused=True)
    assert domain.server_id not in _definitions(lab)
    world.hypervisor.unpause(domain.server_id)
    wait_for(lambda: domain.server_id in _definitions(lab), "the definition")
    assert world.hypervisor.power_state(domain.server_id).power_state is PowerState.RUNNING


@pytest.mark.parametrize("runs", [True, False])
def test_a_new_guest_that_dies_before_it_is_defined_is_told(world: LibvirtWorld, lab: LibvirtLab, runs: bool) -> None:
    """It crashed, as any other; it is known, and starts again."""
    domain = world.domain()
    world.hypervisor.start(domain, paused=True)
    told = Told(world.hypervisor)
    if runs:
        world.hypervisor.unpause(domain.server_id)
    lab.kill_guest(domain.server_id)
    told.wait(domain.server_id, PowerState.SHUTDOWN)
    assert domain.server_id in _definitions(lab)
    world.hypervisor.start(domain)
    told.wait(domain.server_id, PowerState.RUNNING)


def test_a_new_guest_that_is_destroyed_before_it_is_defined_is_forgotten(world: LibvirtWorld, lab: LibvirtLab) -> None:
    """And stays so, whatever was about to be defined."""
    domain, other = world.domain(), world.domain()
    for each in (domain, other):
        world.hypervisor.start(each, paused=True)
        world.hypervisor.unpause(each.server_id)
        if each is domain:
            world.hypervisor.destroy(domain.server_id)
    wait_for(lambda: other.server_id in _definitions(lab), "the other's definition")
    assert domain.server_id not in _definitions(lab)
    assert world.hypervisor.power_state(domain.server_id).power_state is PowerState.NOSTATE


def test_a_new_guest_is_suspended_before_it_is_defined(world: LibvirtWorld) -> None:
    """Only what is defined can be saved: it is defined then."""
    domain = world.domain()
    world.hypervisor.start(domain, paused=True)
    world.hypervisor.unpause(domain.server_id)
    world.hypervisor.suspend(domain.server_id)
    assert world.hypervisor.power_state(domain.server_id).reason == "saved"
    world.hypervisor.resume(domain.server_id)
    assert world.hypervisor.power_state(domain.server_id).power_state is PowerState.RUNNING


def test_what_a_process_did_not_live_to_define_the_next_one_does(world: LibvirtWorld, lab: LibvirtLab) -> None:
    """And the guest is what it was."""
    domain = world.domain()
    dead = lab.driver(cloud_id="another")
    dead.start(domain, paused=True)
    dead.close()
    assert domain.server_id not in _definitions(lab)
    heir = lab.driver(cloud_id="another")
    wait_for(lambda: domain.server_id in _definitions(lab), "the definition")
    heir.unpause(domain.server_id)
    assert heir.power_state(domain.server_id).power_state is PowerState.RUNNING
    heir.shutdown(domain.server_id, timeout_s=0)
    assert heir.power_state(domain.server_id).power_state is PowerState.SHUTDOWN
    heir.destroy(domain.server_id)
    heir.close()


def test_guests_outlive_the_daemon(world: LibvirtWorld, lab: LibvirtLab) -> None:
    """While the daemon is dead verbs fail at once, and who waits is woken; when it is back every guest is told."""
    survivor, victim = world.domain(), world.domain()
    world.hypervisor.start(survivor)
    world.hypervisor.start(victim)
    woken: list[BaseException | None] = []

    def wait_for_shutdown() -> None:
        try:
            world.hypervisor.shutdown(survivor.server_id, timeout_s=60.0)
        except HypervisorDown as error:
            woken.append(error)

    waiting = threading.Thread(target=wait_for_shutdown)  # noqa: TID251 - as the agent's pool
    waiting.start()
    wait_for(lambda: bool(world.hypervisor._link._waiters), "the waiter")
    lab.kill_libvirtd()
    waiting.join(timeout=5)
    assert len(woken) == 1
    began = time.monotonic()
    with pytest.raises(HypervisorDown):
        world.hypervisor.list()
    assert time.monotonic() - began < 0.5
    lab.kill_guest(victim.server_id)
    told = Told(world.hypervisor)
    lab.start_daemons()
    told.wait(survivor.server_id, PowerState.RUNNING)
    assert world.hypervisor.power_state(victim.server_id).reason == "crashed"
    disk = volume(world)
    world.hypervisor.attach_disk(survivor.server_id, disk)
    assert disk.target in [each.target for each in world.hypervisor.diagnostics(survivor.server_id).disks]


def test_a_new_driver_finds_what_runs(world: LibvirtWorld, lab: LibvirtLab) -> None:
    """After the agent's own restart its guests are listed with their generation, and told to its first subscriber."""
    domain = msgspec.structs.replace(world.domain(), generation=4)
    world.hypervisor.start(domain)
    again = lab.driver()
    try:
        told = Told(again)
        again.daemon_started()
        assert [(state.server_id, state.generation) for state in again.list()] == [(domain.server_id, 4)]
        again.pause(domain.server_id)
        assert told.wait(domain.server_id, PowerState.PAUSED).generation == 4
    finally:
        again.close()


def test_a_snapshot_holds_what_the_guest_sees(world: LibvirtWorld) -> None:
    """Base and overlay are one in the copy, grown to the disk's size, and sparse."""
    domain = world.domain()
    world.hypervisor.start(domain)
    target = world.folder / f"snapshot-{new_id()}"
    world.hypervisor.snapshot(domain.server_id, target, disk_format="raw")
    base = (world.folder / "stopped.raw").read_bytes()
    assert target.read_bytes() == base.ljust(4 << 20, b"\0")
    assert target.stat().st_blocks * 512 <= len(base)


def test_a_copy_whose_caller_died_is_ended(world: LibvirtWorld) -> None:
    """A mirror that nobody waits for any more ends when it is told to, and gives way to a new copy of the same disk; the guest's own disk
    is what it was."""
    domain, volume_disk = world.domain(), volume(world)
    world.hypervisor.start(domain)
    world.hypervisor.attach_disk(domain.server_id, volume_disk)
    guest = world.hypervisor._get(domain.server_id)

    def begin() -> Path:
        target = world.folder / f"copy-{new_id()}"
        xml = f"<disk type='file'><driver type='raw'/><source file='{target}'/></disk>"
        guest.blockCopy(volume_disk.target, xml, None, libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB)
        assert guest.blockJobInfo(volume_disk.target, 0)
        return target

    before = parse(guest.XMLDesc()).findall("devices/disk/source")
    left = begin()
    for _ in range(2):
        world.hypervisor.stop_copying(domain.server_id, volume_disk.serial)
        assert not guest.blockJobInfo(volume_disk.target, 0)
    left.unlink()
    begin().unlink()
    target = world.folder / f"copy-{new_id()}"
    world.hypervisor.snapshot(domain.server_id, target, disk_format="raw", key=volume_disk.serial)
    assert target.exists()
    assert not guest.blockJobInfo(volume_disk.target, 0)
    after = parse(guest.XMLDesc()).findall("devices/disk/source")
    assert [source.get("file") for source in after] == [source.get("file") for source in before]


def test_the_screen_answers(world: LibvirtWorld) -> None:
    """The address given is a VNC server's, on loopback."""
    import socket

    domain = world.domain()
    world.hypervisor.start(domain)
    address = world.hypervisor.vnc_address(domain.server_id)
    assert address.host == "127.0.0.1"
    with socket.create_connection((address.host, address.port), timeout=5) as screen:
        assert screen.recv(12).startswith(b"RFB 003.")


@pytest.mark.slow
def test_the_guest_reads_its_config_drive_and_sees_volumes(world: LibvirtWorld) -> None:
    """The guest takes its name from its config drive and sees root, volume and drive in this order."""
    user_data = b"#!/bin/sh\necho disks: $(cat /sys/class/block/vd?/size) >/dev/ttyS0\n"
    domain = world.with_config_drive(world.lab.direct(), hostname="from-drive", user_data=user_data)
    disk = volume(world, size=48 << 20)
    world.hypervisor.start(msgspec.structs.replace(domain, disks=(*domain.disks, disk)))
    wait_for(lambda: world.has_said(domain.server_id, "GUEST: metadata from-drive"), "metadata from the drive")
    wait_for(lambda: world.has_said(domain.server_id, "disks: "), "user data")
    said = world.hypervisor.console_output(domain.server_id, None)
    sizes = [int(sectors) * 512 for sectors in said.split("disks: ")[1].split("\n")[0].split()]
    drive = world.folder / f"{domain.server_id}.iso"
    assert sizes == [4 << 20, 48 << 20, drive.stat().st_size]


def test_what_a_guest_holds_of_the_hosts_memory_is_told(world: LibvirtWorld) -> None:
    """Some of it, and never more than it was given."""
    domain = world.lab.direct()
    world.hypervisor.start(domain)
    wait_for(lambda: world.has_said(domain.server_id, "GUEST: userspace"), "a guest that has touched its memory")
    facts = world.hypervisor.diagnostics(domain.server_id)
    assert facts.memory_mib == domain.memory_mib
    assert 0 < (facts.memory_used_mib or 0) <= domain.memory_mib
