"""What a step may use that runs at the conductor."""

from typing import Any

import msgspec

from cumulet.compute.doors import Doors
from cumulet.compute.records import FlavorSnapshot, Server
from cumulet.compute.resource_classes import resources_of
from cumulet.compute.scheduler.messages import SchedulerInterface
from cumulet.core.saga import Order, OtherSagas, Run

__all__ = ["ConductorTools"]


class ConductorTools(Doors):
    """The doors, the scheduler's queue, and a look at the server's other sagas."""

    def __init__(self, *, scheduler: SchedulerInterface, others: OtherSagas, **doors: Any) -> None:
        super().__init__(**doors)
        self.scheduler = scheduler
        self.others = others

    def order(self, run: Run) -> Order:
        """The order that the scheduler sends on to the host."""
        return Order(
            saga_id=run.saga_id,
            generation=run.generation,
            flow=run.flow.name,
            subject_id=run.subject_id,
            request_id=run.context.request_id,
            token=run.token,
        )

    def claim_flavors(self, run: Run, server: Server, flavors: list[FlavorSnapshot]) -> None:
        """Make the server's claim on its host the largest of these flavors in each resource."""
        credentials = self.own(run)
        wanted: dict[str, int] = {}
        for flavor in flavors:
            for name, amount in resources_of(msgspec.structs.replace(server, flavor=flavor)).items():
                wanted[name] = max(amount, wanted.get(name, 0))
        there = self.placement.allocations(server.id, credentials)
        for provider_id in there:
            self.placement.claim(
                server.id,
                {provider_id: wanted},
                project_id=server.project_id,
                user_id=server.user_id,
                credentials=credentials,
            )
