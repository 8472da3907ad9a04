"""What hosts say of their guests: levels, told again and again."""

import pytest

from cumulet.compute.agent.hypervisor.driver import STARTING, DomainState, PowerState
from cumulet.dev.chaos.outside import HOSTS
from cumulet.dev.chaos.proofs import Stage


def _pass(stage: Stage, seconds: float) -> None:
    stage.world.agenda.run(until_s=stage.world.agenda.now_s + seconds)


def test_a_guest_that_is_gone_is_off(stage: Stage) -> None:
    """Seen missing twice, its server is stopped: what the record says is what is there."""
    server_id = stage.server()
    for host in stage.world.outside.hosts.values():
        host.hypervisor._guests.drop(server_id)
    _pass(stage, 15)
    assert stage.story.servers()[0]["vm_state"] == "active"
    _pass(stage, 45)
    assert stage.story.servers()[0]["vm_state"] == "stopped"


def test_guests_that_were_off_at_a_start_are_started_and_not_stopped(stage: Stage) -> None:
    """A host that comes up after a loss of power starts those that ran before it tells anybody that they are off."""
    server_id = stage.server()
    host = stage.story.servers()[0]["host"]
    assert host in HOSTS
    world = stage.world
    world.died(world.hosts[host].life)
    world.outside.hosts[host].hypervisor.shutdown(server_id, timeout_s=0)
    _pass(stage, 60)
    assert stage.story.servers()[0]["vm_state"] == "active"
    assert int(world.outside.hosts[host].hypervisor.power_state(server_id).power_state) == 1


@pytest.mark.parametrize("stopped_first", [False, True])
def test_a_guest_whose_resize_waits_to_be_confirmed_is_as_it_was(stage: Stage, stopped_first: bool) -> None:
    """After a start of its host it runs if it ran, and stays off if it was resized while it was off."""
    before: list[dict[str, object]] = [{"os-stop": None}] if stopped_first else []
    server_id = stage.acted(*before, {"resize": {"flavorRef": stage.ids["m1.tiny"]}})
    world, host = stage.world, stage.story.servers()[0]["host"]
    hypervisor = world.outside.hosts[host].hypervisor
    world.died(world.hosts[host].life)
    if not stopped_first:
        hypervisor.shutdown(server_id, timeout_s=0)
    _pass(stage, 60)
    assert stage.story.servers()[0]["vm_state"] == "resized"
    assert (int(hypervisor.power_state(server_id).power_state) == 1) is not stopped_first
    assert (stage.story.servers()[0]["power_state"] == 1) is not stopped_first


@pytest.mark.parametrize(("reason", "becomes"), [(STARTING, "active"), ("paused", "paused")])
def test_a_start_under_way_is_nobodys_pause(stage: Stage, reason: str, becomes: str) -> None:
    """Told late, that a guest was made paused does not make its running server a paused one; a real pause does."""
    server_id = stage.server()
    part = stage.world.hosts[stage.story.servers()[0]["host"]].part
    assert part is not None
    told = DomainState(server_id=server_id, power_state=PowerState.PAUSED, reason=reason)
    part.agent._guest_changed(told)
    _pass(stage, 2)
    assert stage.story.servers()[0]["vm_state"] == becomes
