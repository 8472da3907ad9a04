"""What a step may use that runs at the volume conductor."""

from collections.abc import Callable

from cumulet.compute.door import ComputeDoor
from cumulet.core.db import Database
from cumulet.core.saga import Coordinator, Run
from cumulet.core.web.client import Credentials
from cumulet.image.door import ImageDoor
from cumulet.volume.messages import VolumeScheduler

__all__ = ["ConductorTools", "TellExtended"]

#: called with the volume's id, its new size in GiB and the servers that have it: compute shows the guests the new size
TellExtended = Callable[[str, int, list[str]], None]


class ConductorTools:
    """The scheduler's queue, a look at the sagas, images, and compute.  compute: its door, which may be made after this."""

    def __init__(
        self,
        *,
        scheduler: VolumeScheduler,
        db: Database,
        image: ImageDoor,
        service_token: Callable[[], str],
        tell_extended: TellExtended | None = None,
        compute: Callable[[], ComputeDoor] | None = None,
    ) -> None:
        self.scheduler = scheduler
        self.image = image
        self.tell_extended = tell_extended
        self.compute = compute
        self._service_token = service_token
        self._db = db
        #: set by the wiring, as the coordinator needs these tools first
        self.coordinator: Coordinator | None = None

    def _coordinator(self) -> Coordinator:
        assert self.coordinator is not None  # noqa: S101 - set by the wiring before any saga runs
        return self.coordinator

    def own(self, run: Run) -> Credentials:
        """The service's own token: for what must work whatever became of the user's, and compute copies no disk for anybody else."""
        service = self._service_token()
        return Credentials(token=service, service_token=service, request_id=run.context.request_id)

    def other_sagas(self, run: Run) -> list[str]:
        """Sagas of the same volume that have not ended."""
        with self._db.read() as tx:
            return [
                saga.id for saga in self._coordinator().journal.live_of(tx, run.subject_id) if saga.id != run.saga_id
            ]

    def is_live(self, saga_id: str) -> bool:
        with self._db.read() as tx:
            saga = self._coordinator().journal.get(tx, saga_id)
        return saga is not None and saga.live
