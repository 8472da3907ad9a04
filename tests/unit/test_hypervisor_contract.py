"""What every hypervisor driver must do; here on the simulated one, in `tests/real` on libvirt.

No claim here needs an operating system in the guest, but for those of `HypervisorContractWithGuest`.
"""

from __future__ import annotations

import queue
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import msgspec
import pytest

from cumulet.compute.agent.hypervisor.driver import (
    STARTING,
    DeviceRefused,
    Disk,
    Domain,
    DomainGone,
    DomainNotRunning,
    DomainState,
    FileSource,
    Hypervisor,
    Nic,
    NoSavedState,
    PowerState,
)
from cumulet.compute.agent.hypervisor.sim import SimHypervisor
from cumulet.core.disk import qcow2
from cumulet.core.disk.errors import DiskExists
from cumulet.core.ids import SystemIds

_EVENT_S_MAX = 10.0
_IDS = SystemIds()


def new_id() -> str:
    """An id as the API chooses it."""
    return _IDS.uuid()


class World(Protocol):
    """A hypervisor and what a host keeps beside it."""

    @property
    def hypervisor(self) -> Hypervisor:
        """The driver."""

    @property
    def folder(self) -> Path:
        """Where disks and logs lie."""

    def domain(self) -> Domain:
        """A new server whose guest does nothing at all."""

    def booted(self) -> Domain:
        """A new server, started, whose guest is up and listens to its power button and its slots."""

    def nic(self) -> Nic:
        """A new port with its tap."""

    def wait_attached(self, server_id: str) -> None:
        """Wait until the guest has seen what was plugged in last: before, it does not let go of it."""


class Told:
    """What a subscriber was told."""

    def __init__(self, hypervisor: Hypervisor) -> None:
        self._states: queue.SimpleQueue[DomainState] = queue.SimpleQueue()
        self.unsubscribe = hypervisor.subscribe(self._states.put)

    def wait(self, server_id: str, power_state: PowerState) -> DomainState:
        """The next word of this state of this server."""
        deadline = time.monotonic() + _EVENT_S_MAX
        while True:
            state = self._states.get(timeout=max(0.0, deadline - time.monotonic()))
            if (state.server_id, state.power_state) == (server_id, power_state):
                return state


def volume(world: World, target: str = "vdb", *, size: int = 8 << 20) -> Disk:
    """A new empty volume."""
    volume_id = new_id()
    path = world.folder / f"volume-{volume_id}.qcow2"
    qcow2.write_empty(path, size=size)
    return Disk(target=target, serial=volume_id, source=FileSource(path=str(path), format="qcow2"))


class HypervisorContract:
    """Claims on a guest that does nothing."""

    @pytest.fixture
    def world(self) -> Iterator[World]:
        """To be given by each driver."""
        raise NotImplementedError

    def test_a_started_guest_runs_and_is_told(self, world: World) -> None:
        """Start makes a guest RUNNING, listed with its generation, and subscribers hear of it."""
        told = Told(world.hypervisor)
        domain = msgspec.structs.replace(world.domain(), generation=7)
        world.hypervisor.start(domain)
        told.wait(domain.server_id, PowerState.RUNNING)
        state = world.hypervisor.power_state(domain.server_id)
        assert (state.power_state, state.generation) == (PowerState.RUNNING, 7)
        assert state.instance_name == domain.domain_name
        assert state in world.hypervisor.list()

    def test_who_waits_for_a_guest_to_begin_does_not_wait_for_ever(self, world: World) -> None:
        """For one that runs, stands or is not there, the wait is over."""
        domain = world.domain()
        world.hypervisor.wait_begun(domain.server_id)
        world.hypervisor.start(domain, paused=True)
        world.hypervisor.wait_begun(domain.server_id)
        world.hypervisor.unpause(domain.server_id)
        world.hypervisor.wait_begun(domain.server_id)
        assert world.hypervisor.power_state(domain.server_id).power_state is PowerState.RUNNING

    def test_starting_twice_starts_once(self, world: World) -> None:
        """A second start finds the guest running and leaves it as it is."""
        domain = world.domain()
        world.hypervisor.start(domain)
        world.hypervisor.start(msgspec.structs.replace(domain, generation=9, memory_mib=domain.memory_mib * 2))
        assert world.hypervisor.power_state(domain.server_id).generation == domain.generation
        assert [each.server_id for each in world.hypervisor.list()].count(domain.server_id) == 1

    def test_a_guest_whose_start_has_not_let_it_run_is_starting(self, world: World) -> None:
        """Until it is let run; paused by its user later, it is not."""
        domain = world.domain()
        world.hypervisor.start(domain, paused=True)
        state = world.hypervisor.power_state(domain.server_id)
        assert (state.power_state, state.reason) == (PowerState.PAUSED, STARTING)
        world.hypervisor.unpause(domain.server_id)
        world.hypervisor.pause(domain.server_id)
        state = world.hypervisor.power_state(domain.server_id)
        assert state.power_state is PowerState.PAUSED
        assert state.reason != STARTING

    def test_a_start_cut_short_is_gone_on_with(self, world: World) -> None:
        """A guest that stands paused after its start runs after a second one, unless that is to leave it paused too."""
        told = Told(world.hypervisor)
        domain = world.domain()
        for _ in range(2):
            world.hypervisor.start(domain, paused=True)
            assert world.hypervisor.power_state(domain.server_id).power_state is PowerState.PAUSED
        world.hypervisor.start(domain)
        told.wait(domain.server_id, PowerState.RUNNING)
        world.hypervisor.start(domain, paused=True)
        assert world.hypervisor.power_state(domain.server_id).power_state is PowerState.RUNNING

    def test_a_guest_stopped_on_its_way_to_run_is_told(self, world: World) -> None:
        """That it is off, and that it runs when it is started anew."""
        domain = world.domain()
        world.hypervisor.start(domain, paused=True)
        told = Told(world.hypervisor)
        world.hypervisor.shutdown(domain.server_id, timeout_s=0)
        told.wait(domain.server_id, PowerState.SHUTDOWN)
        world.hypervisor.start(domain)
        told.wait(domain.server_id, PowerState.RUNNING)

    def test_a_destroyed_guest_is_forgotten(self, world: World) -> None:
        """Destroy leaves nothing to list, tells subscribers, and may be repeated."""
        domain = world.domain()
        world.hypervisor.start(domain)
        told = Told(world.hypervisor)
        world.hypervisor.destroy(domain.server_id)
        world.hypervisor.destroy(domain.server_id)
        told.wait(domain.server_id, PowerState.NOSTATE)
        assert world.hypervisor.power_state(domain.server_id).power_state is PowerState.NOSTATE
        assert domain.server_id not in [each.server_id for each in world.hypervisor.list()]

    def test_a_guest_whose_plug_is_pulled_stays_known(self, world: World) -> None:
        """Shutdown without patience ends the guest, which stays listed as SHUTDOWN and can be started again."""
        domain = world.domain()
        world.hypervisor.start(domain)
        told = Told(world.hypervisor)
        assert world.hypervisor.shutdown(domain.server_id, timeout_s=0.0) is False
        told.wait(domain.server_id, PowerState.SHUTDOWN)
        assert world.hypervisor.power_state(domain.server_id).reason == "destroyed"
        assert domain.server_id in [each.server_id for each in world.hypervisor.list()]
        assert world.hypervisor.shutdown(domain.server_id, timeout_s=0.0) is True
        world.hypervisor.start(domain)
        assert world.hypervisor.power_state(domain.server_id).power_state is PowerState.RUNNING

    def test_pause_and_unpause(self, world: World) -> None:
        """Both change the state once, and may be repeated."""
        domain = world.domain()
        world.hypervisor.start(domain)
        for _ in range(2):
            world.hypervisor.pause(domain.server_id)
            assert world.hypervisor.power_state(domain.server_id).power_state is PowerState.PAUSED
        for _ in range(2):
            world.hypervisor.unpause(domain.server_id)
            assert world.hypervisor.power_state(domain.server_id).power_state is PowerState.RUNNING

    def test_suspend_and_resume(self, world: World) -> None:
        """A suspended guest is off and saved; resume brings it back; both may be repeated."""
        domain = world.domain()
        world.hypervisor.start(domain)
        for _ in range(2):
            world.hypervisor.suspend(domain.server_id)
            state = world.hypervisor.power_state(domain.server_id)
            assert (state.power_state, state.reason) == (PowerState.SHUTDOWN, "saved")
        for _ in range(2):
            world.hypervisor.resume(domain.server_id)
            state = world.hypervisor.power_state(domain.server_id)
            assert (state.power_state, state.reason) == (PowerState.RUNNING, "restored")

    def test_start_drops_what_was_saved(self, world: World) -> None:
        """Start is a boot from the record, also of a suspended guest; there is nothing to resume afterwards."""
        domain = world.domain()
        world.hypervisor.start(domain)
        world.hypervisor.suspend(domain.server_id)
        world.hypervisor.start(domain)
        assert world.hypervisor.power_state(domain.server_id).reason == "booted"
        world.hypervisor.shutdown(domain.server_id, timeout_s=0.0)
        with pytest.raises(NoSavedState):
            world.hypervisor.resume(domain.server_id)

    def test_hard_reboot_starts_from_the_new_record(self, world: World) -> None:
        """After a hard reboot the guest runs as its record says now."""
        domain = world.domain()
        world.hypervisor.start(domain)
        world.hypervisor.reboot(msgspec.structs.replace(domain, generation=2), hard=True)
        state = world.hypervisor.power_state(domain.server_id)
        assert (state.power_state, state.generation) == (PowerState.RUNNING, 2)

    def test_a_disk_is_attached_once(self, world: World) -> None:
        """A second attach of a volume finds it there."""
        domain = world.domain()
        world.hypervisor.start(domain)
        disk = volume(world)
        world.hypervisor.attach_disk(domain.server_id, disk)
        world.hypervisor.attach_disk(domain.server_id, disk)
        targets = [each.target for each in world.hypervisor.diagnostics(domain.server_id).disks]
        assert targets.count(disk.target) == 1

    def test_two_disks_cannot_have_one_target(self, world: World) -> None:
        """The second is refused, and the first stays."""
        domain = world.domain()
        world.hypervisor.start(domain)
        world.hypervisor.attach_disk(domain.server_id, volume(world))
        with pytest.raises(DeviceRefused):
            world.hypervisor.attach_disk(domain.server_id, volume(world))
        assert len(world.hypervisor.diagnostics(domain.server_id).disks) == len(domain.disks) + 1

    def test_a_nic_is_attached_once(self, world: World) -> None:
        """A second attach of a port finds it there."""
        domain = world.domain()
        world.hypervisor.start(domain)
        nic = world.nic()
        world.hypervisor.attach_nic(domain.server_id, nic)
        world.hypervisor.attach_nic(domain.server_id, nic)
        assert [each.mac for each in world.hypervisor.diagnostics(domain.server_id).nics] == [nic.mac]

    def test_a_guest_that_is_off_takes_devices_at_its_next_start(self, world: World) -> None:
        """Attaching to and detaching from a stopped guest does nothing: the record says what it starts with."""
        domain = world.domain()
        world.hypervisor.start(domain)
        world.hypervisor.shutdown(domain.server_id, timeout_s=0.0)
        disk = volume(world)
        world.hypervisor.attach_disk(domain.server_id, disk)
        world.hypervisor.detach_disk(domain.server_id, disk.serial)
        world.hypervisor.start(msgspec.structs.replace(domain, disks=(*domain.disks, disk)))
        assert disk.target in [each.target for each in world.hypervisor.diagnostics(domain.server_id).disks]

    def test_detaching_what_is_not_there_does_nothing(self, world: World) -> None:
        """A detach may be repeated, also after the server is gone."""
        domain = world.domain()
        world.hypervisor.start(domain)
        for server_id in (domain.server_id, new_id()):
            world.hypervisor.detach_disk(server_id, new_id())
            world.hypervisor.detach_nic(server_id, new_id())
        assert world.hypervisor.power_state(domain.server_id).power_state is PowerState.RUNNING

    def test_only_disks_of_the_server_are_resized(self, world: World) -> None:
        """A disk grows once and stays so when told again; one that is not there is refused."""
        domain = world.domain()
        world.hypervisor.start(domain)
        disk = volume(world, size=8 << 20)
        world.hypervisor.attach_disk(domain.server_id, disk)
        for _ in range(2):
            world.hypervisor.resize_disk(domain.server_id, disk.serial, 16 << 20)
        with pytest.raises(DeviceRefused):
            world.hypervisor.resize_disk(domain.server_id, new_id(), 16 << 20)

    @pytest.mark.parametrize("disk_format", ["raw", "qcow2"])
    @pytest.mark.parametrize("running", [True, False], ids=["running", "off"])
    def test_a_snapshot_is_a_file_of_its_own(self, world: World, disk_format: str, running: bool) -> None:
        """A snapshot stands without any other file, never replaces one, and the guest stays as it was."""
        domain = world.domain()
        world.hypervisor.start(domain)
        if not running:
            world.hypervisor.shutdown(domain.server_id, timeout_s=0.0)
        before = world.hypervisor.power_state(domain.server_id).power_state
        target = world.folder / f"snapshot-{new_id()}"
        world.hypervisor.snapshot(domain.server_id, target, disk_format=disk_format)
        if disk_format == "qcow2":
            assert not qcow2.read_header(target).has_backing
        else:
            assert target.stat().st_size % 512 == 0
            assert target.stat().st_size > 0
        assert target.stat().st_mode & 0o777 == 0o600
        with pytest.raises(DiskExists):
            world.hypervisor.snapshot(domain.server_id, target, disk_format=disk_format)
        assert target.exists()
        assert world.hypervisor.power_state(domain.server_id).power_state is before

    def test_a_volume_can_be_copied_while_attached(self, world: World) -> None:
        """Snapshot takes any disk of the server by its key, and refuses one that it does not have."""
        domain = world.domain()
        world.hypervisor.start(domain)
        disk = volume(world)
        world.hypervisor.attach_disk(domain.server_id, disk)
        target = world.folder / f"copy-{new_id()}"
        world.hypervisor.snapshot(domain.server_id, target, disk_format="raw", key=disk.serial)
        assert target.exists()
        missing = world.folder / f"copy-{new_id()}"
        with pytest.raises(DeviceRefused):
            world.hypervisor.snapshot(domain.server_id, missing, disk_format="raw", key=new_id())
        assert not missing.exists()

    def test_nobody_copies_is_no_error(self, world: World) -> None:
        """There may be nothing to end: a guest whose disks nobody copies, one that is off, a disk or a guest that is not there."""
        domain = world.domain()
        world.hypervisor.start(domain)
        for key in ("", new_id()):
            world.hypervisor.stop_copying(domain.server_id, key)
        world.hypervisor.shutdown(domain.server_id, timeout_s=0.0)
        world.hypervisor.stop_copying(domain.server_id)
        world.hypervisor.stop_copying(new_id())

    def test_the_console_is_text(self, world: World) -> None:
        """Console output is as many last lines as are asked for."""
        domain = world.domain()
        world.hypervisor.start(domain)
        everything = world.hypervisor.console_output(domain.server_id, None)
        assert world.hypervisor.console_output(domain.server_id, 0) == ""
        assert everything.endswith(world.hypervisor.console_output(domain.server_id, 1))

    def test_a_guest_that_is_off_refuses_what_needs_it_running(self, world: World) -> None:
        """Pause, unpause, suspend, screen and counters need a running guest."""
        domain = world.domain()
        world.hypervisor.start(domain)
        world.hypervisor.shutdown(domain.server_id, timeout_s=0.0)
        hypervisor = world.hypervisor
        for verb in (
            hypervisor.pause, hypervisor.unpause, hypervisor.suspend, hypervisor.vnc_address, hypervisor.diagnostics,
        ):  # fmt: skip
            with pytest.raises(DomainNotRunning):
                verb(domain.server_id)
        assert hypervisor.power_state(domain.server_id).power_state is PowerState.SHUTDOWN

    def test_a_server_that_never_was_is_gone(self, world: World) -> None:
        """Every verb that needs a guest says so when there is none, and leaves none behind."""
        hypervisor, unknown = world.hypervisor, new_id()
        for verb in (
            hypervisor.pause, hypervisor.unpause, hypervisor.suspend, hypervisor.resume, hypervisor.vnc_address,
            hypervisor.diagnostics,
            lambda server_id: hypervisor.shutdown(server_id, timeout_s=1.0),
            lambda server_id: hypervisor.attach_disk(server_id, volume(world)),
            lambda server_id: hypervisor.resize_disk(server_id, "vda", 1 << 30),
            lambda server_id: hypervisor.console_output(server_id, None),
            lambda server_id: hypervisor.snapshot(server_id, world.folder / "never", disk_format="raw"),
        ):  # fmt: skip
            with pytest.raises(DomainGone):
                verb(unknown)
        assert not (world.folder / "never").exists()
        assert hypervisor.power_state(unknown).power_state is PowerState.NOSTATE

    def test_the_host_counts_what_runs(self, world: World) -> None:
        """Used processors and guests go up with a running guest and down with its end."""
        before = world.hypervisor.host_stats()
        # clients take the line apart
        assert re.match(r"\s*(.+)\sup\s+(.+),\s+(.+)\susers?,\s+load average:\s(.+)", before.uptime)
        domain = world.domain()
        world.hypervisor.start(domain)
        during = world.hypervisor.host_stats()
        world.hypervisor.destroy(domain.server_id)
        after = world.hypervisor.host_stats()
        assert during.vcpus_used - before.vcpus_used == domain.vcpus
        assert (during.running - before.running, after.running - before.running) == (1, 0)
        assert before.vcpus > 0
        assert before.memory_mib > 0
        assert before.disk_gib > 0
        assert set(before.cpu_info.topology) == {"cells", "sockets", "cores", "threads"}

    def test_unsubscribed_is_not_told(self, world: World) -> None:
        """Only present subscribers are told."""
        gone, told = Told(world.hypervisor), Told(world.hypervisor)
        gone.unsubscribe()
        domain = world.domain()
        world.hypervisor.start(domain)
        told.wait(domain.server_id, PowerState.RUNNING)
        assert gone._states.empty()


class HypervisorContractWithGuest:
    """Claims on a guest that takes part."""

    @pytest.fixture
    def world(self) -> Iterator[World]:
        """To be given by each driver."""
        raise NotImplementedError

    def test_a_guest_lets_go_and_shuts_down(self, world: World) -> None:
        """Disk and interface are gone when detach returns, may be attached again, and the button ends the guest."""
        domain = world.booted()
        hypervisor, server_id = world.hypervisor, domain.server_id
        disk, nic = volume(world), world.nic()
        for _ in range(2):
            hypervisor.attach_disk(server_id, disk)
            hypervisor.attach_nic(server_id, nic)
            world.wait_attached(server_id)
            for _ in range(2):
                hypervisor.detach_disk(server_id, disk.serial)
                hypervisor.detach_nic(server_id, nic.port_id)
            counters = hypervisor.diagnostics(server_id)
            assert disk.target not in [each.target for each in counters.disks]
            assert nic.mac not in [each.mac for each in counters.nics]
        assert hypervisor.shutdown(server_id, timeout_s=60.0) is True
        state = hypervisor.power_state(server_id)
        assert (state.power_state, state.reason) == (PowerState.SHUTDOWN, "shutdown")

    def test_soft_reboot(self, world: World) -> None:
        """The guest ends by itself and starts from its record."""
        domain = world.booted()
        world.hypervisor.reboot(msgspec.structs.replace(domain, generation=5), hard=False, timeout_s=60.0)
        state = world.hypervisor.power_state(domain.server_id)
        assert (state.power_state, state.generation) == (PowerState.RUNNING, 5)


class SimWorld:
    """A simulated host."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hypervisor = SimHypervisor(hostname="sim-host")

    def domain(self) -> Domain:
        """A server with a root disk that nobody reads."""
        server_id = new_id()
        root = Disk(target="vda", source=FileSource(path=str(self.folder / f"{server_id}.qcow2"), format="qcow2"))
        return Domain(
            server_id=server_id,
            name="server",
            vcpus=2,
            memory_mib=128,
            disks=(root,),
            console_log=str(self.folder / f"{server_id}.log"),
        )

    def booted(self) -> Domain:
        """A simulated guest is up at once."""
        domain = self.domain()
        self.hypervisor.start(domain)
        return domain

    def nic(self) -> Nic:
        """A port without a tap."""
        return Nic(port_id=new_id(), mac=f"fa:16:3e:{_IDS.rng.randrange(256):02x}:00:01", tap="tap0")

    def wait_attached(self, server_id: str) -> None:
        """A simulated guest sees everything at once."""


class TestSim(HypervisorContract, HypervisorContractWithGuest):
    """The contract on the simulated hypervisor."""

    @pytest.fixture
    def world(self, tmp_path: Path) -> World:
        """A fresh one for each claim."""
        return SimWorld(tmp_path)
