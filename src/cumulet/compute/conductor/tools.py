"""What a step may use that runs at the conductor."""

from typing import Any

import msgspec

from cumulet.compute.doors import Doors
from cumulet.compute.records import FlavorSnapshot, Server
from cumulet.compute.resource_classes import resources_of
from cumulet.compute.scheduler.messages import SchedulerInterface
from cumulet.core.db import Database
from cumulet.core.saga import Coordinator, Order, Run

__all__ = ["ConductorTools"]


class ConductorTools(Doors):
    """The doors, the scheduler's queue, and a look at the sagas."""

    def __init__(self, *, scheduler: SchedulerInterface, db: Database, **doors: Any) -> None:
        super().__init__(**doors)
        self.scheduler = scheduler
        self._db = db
        #: set by the wiring, as the coordinator needs these tools first
        self.coordinator: Coordinator | None = None

    def _coordinator(self) -> Coordinator:
        assert self.coordinator is not None  # noqa: S101 - set by the wiring before any saga runs
        return self.coordinator

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

    def other_sagas(self, run: Run) -> list[str]:
        """Sagas of the same server that have not ended."""
        with self._db.read() as tx:
            return [
                saga.id for saga in self._coordinator().journal.live_of(tx, run.subject_id) if saga.id != run.saga_id
            ]

    def is_live(self, saga_id: str) -> bool:
        with self._db.read() as tx:
            saga = self._coordinator().journal.get(tx, saga_id)
        return saga is not None and saga.live

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
