"""What hosts report of their guests while a launch is on its way, and what the server is when it has ended."""

from collections.abc import Iterator
from typing import Any, cast

import pytest
from tests.http.compute_world import CREDENTIALS, HOST, World

from cumulet.compute import states
from cumulet.compute.conductor.service import ConductorService
from cumulet.compute.messages import PowerReport
from cumulet.core.saga import Run
from cumulet.placement.door import PlacementDoor


class ReportingWorld(World):
    """A launch during which the host reports one power state after another."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.reports: list[int] = []
        self.conductor = ConductorService(
            self.db,
            self.coordinator,
            placement=cast("PlacementDoor", None),
            credentials=lambda: CREDENTIALS,
            zone="nova",
            clock=self.clock,
            ids=self.ids,
        )

    def _launch(self, run: Run) -> dict[str, Any]:
        output = super()._launch(run)
        for state in self.reports:
            report = PowerReport(host=HOST, server_id=run.subject_id, power_state=state, reason="")
            self.conductor.report_power(report)
        return output


@pytest.fixture
def world(database_url: str) -> Iterator[ReportingWorld]:
    """A compute API of its own."""
    world = ReportingWorld(database_url)
    yield world
    world.close()


@pytest.mark.parametrize(
    ("reports", "vm_state", "power_state"),
    [
        ([states.POWER_PAUSED, states.RUNNING], states.ACTIVE, states.RUNNING),
        ([states.POWER_PAUSED, states.RUNNING, states.SHUTDOWN], states.STOPPED, states.SHUTDOWN),
        ([states.RUNNING, states.CRASHED], states.STOPPED, states.CRASHED),
        ([states.RUNNING, states.SHUTDOWN, states.RUNNING], states.ACTIVE, states.RUNNING),
    ],
)
def test_a_guest_that_dies_before_its_launch_has_ended(
    world: ReportingWorld, reports: list[int], vm_state: str, power_state: int
) -> None:
    """The server is off, not ACTIVE without a guest; one that was started again meanwhile is ACTIVE."""
    world.reports = reports
    server = world.settle(world.boot())
    assert (server.vm_state, server.power_state, server.task_state) == (vm_state, power_state, None)


def test_a_guest_that_dies_later(world: ReportingWorld) -> None:
    """It takes its server with it, and its return brings the server back."""
    server_id = world.boot()
    for power_state, vm_state in ((states.SHUTDOWN, states.STOPPED), (states.RUNNING, states.ACTIVE)):
        world.conductor.report_power(PowerReport(host=HOST, server_id=server_id, power_state=power_state, reason=""))
        assert world.settle(server_id).vm_state == vm_state
