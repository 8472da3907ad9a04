"""What the simulated hypervisor has beyond the contract: time, failure, memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.test_hypervisor_contract import SimWorld, Told, volume

from cumulet.compute.agent.hypervisor.driver import (
    ConsoleUnavailable,
    DeviceBusy,
    HypervisorDown,
    HypervisorFault,
    PowerState,
)
from cumulet.compute.agent.hypervisor.sim import Failure, SimHypervisor


@pytest.fixture
def world(tmp_path: Path) -> SimWorld:
    """A simulated host."""
    return SimWorld(tmp_path)


def test_a_failure_before_the_effect_changes_nothing(world: SimWorld) -> None:
    """It strikes once, the guest does not run, and the next call works."""
    domain = world.domain()
    world.hypervisor.fail(Failure(verb="start", error=HypervisorFault()))
    with pytest.raises(HypervisorFault):
        world.hypervisor.start(domain)
    assert world.hypervisor.power_state(domain.server_id).power_state is PowerState.NOSTATE
    world.hypervisor.start(domain)
    assert world.hypervisor.power_state(domain.server_id).power_state is PowerState.RUNNING


def test_a_lost_answer_leaves_the_effect(world: SimWorld) -> None:
    """The call fails, the guest runs, and subscribers heard of it."""
    told, domain = Told(world.hypervisor), world.domain()
    world.hypervisor.fail(Failure(verb="start", error=HypervisorFault(), after_effect=True))
    with pytest.raises(HypervisorFault):
        world.hypervisor.start(domain)
    told.wait(domain.server_id, PowerState.RUNNING)
    assert world.hypervisor.power_state(domain.server_id).power_state is PowerState.RUNNING


def test_failures_may_be_of_one_server_and_of_several_calls(world: SimWorld) -> None:
    """Others are not hit, and the number of calls is counted."""
    hit, spared = world.domain(), world.domain()
    world.hypervisor.fail(Failure(verb="start", error=HypervisorFault(), times=2, server_id=hit.server_id))
    world.hypervisor.start(spared)
    for _ in range(2):
        with pytest.raises(HypervisorFault):
            world.hypervisor.start(hit)
    world.hypervisor.start(hit)
    assert len(world.hypervisor.list()) == 2


def test_verbs_take_their_time_on_the_given_clock() -> None:
    """Delays are asked of the caller's clock, and so is the patience with a deaf guest."""
    waited: list[float] = []
    world = SimWorld(Path("/nowhere"))
    world.hypervisor = SimHypervisor(hostname="slow", delays={"start": 0.25}, wait=waited.append)
    domain = world.domain()
    world.hypervisor.start(domain)
    world.hypervisor.deaf.add(domain.server_id)
    assert world.hypervisor.shutdown(domain.server_id, timeout_s=10.0) is False
    assert waited == [0.25, 10.0]


def test_a_deaf_guest_keeps_its_disk(world: SimWorld) -> None:
    """Detach fails as on a real guest that does not listen, and the disk is still there."""
    domain = world.booted()
    disk = volume(world)
    world.hypervisor.attach_disk(domain.server_id, disk)
    world.hypervisor.deaf.add(domain.server_id)
    with pytest.raises(DeviceBusy):
        world.hypervisor.detach_disk(domain.server_id, disk.serial)
    record = world.hypervisor.record(domain.server_id)
    assert record is not None
    assert disk in record.disks


def test_unreachable_and_back(world: SimWorld) -> None:
    """Every verb fails while the daemon is away; on its return every guest is told."""
    domain = world.booted()
    world.hypervisor.set_reachable(False)
    for verb in (world.hypervisor.list, world.hypervisor.host_stats):
        with pytest.raises(HypervisorDown):
            verb()
    told = Told(world.hypervisor)
    world.hypervisor.set_reachable(True)
    told.wait(domain.server_id, PowerState.RUNNING)


def test_a_crash_is_told(world: SimWorld) -> None:
    """A guest that dies by itself is off, with the reason, and can be started."""
    told, domain = Told(world.hypervisor), world.booted()
    world.hypervisor.crash(domain.server_id)
    assert told.wait(domain.server_id, PowerState.SHUTDOWN).reason == "crashed"
    world.hypervisor.start(domain)
    assert world.hypervisor.power_state(domain.server_id).power_state is PowerState.RUNNING


def test_guests_outlive_the_process(tmp_path: Path) -> None:
    """With a book guests are there again, as they were; without one they are not."""
    world = SimWorld(tmp_path)
    world.hypervisor = SimHypervisor(hostname="h", book=tmp_path / "sim" / "guests")
    paused, destroyed = world.booted(), world.booted()
    world.hypervisor.attach_disk(paused.server_id, volume(world))
    world.hypervisor.pause(paused.server_id)
    world.hypervisor.destroy(destroyed.server_id)
    again = SimHypervisor(hostname="h", book=tmp_path / "sim" / "guests")
    assert again.list() == world.hypervisor.list()
    assert again.record(paused.server_id) == world.hypervisor.record(paused.server_id)
    assert SimHypervisor(hostname="h").list() == ()


def test_nothing_is_pretended(world: SimWorld) -> None:
    """The console says that it is simulated, and there is no screen."""
    domain = world.booted()
    assert "simulated" in world.hypervisor.console_output(domain.server_id, None)
    with pytest.raises(ConsoleUnavailable):
        world.hypervisor.vnc_address(domain.server_id)
