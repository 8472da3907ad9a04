"""What a step may use that runs at the volume conductor."""

from collections.abc import Callable

from cumulet.compute.door import ComputeDoor
from cumulet.core.saga import OtherSagas, Run
from cumulet.core.web.client import Credentials
from cumulet.image.door import ImageDoor
from cumulet.volume.messages import VolumeScheduler

__all__ = ["ConductorTools", "TellExtended"]

#: called with the volume's id, its new size in GiB and the servers that have it: compute shows the guests the new size
TellExtended = Callable[[str, int, list[str]], None]


class ConductorTools:
    """The scheduler's queue, a look at the volume's other sagas, images, and compute.  compute: its door, which may be made after this."""

    def __init__(
        self,
        *,
        scheduler: VolumeScheduler,
        others: OtherSagas,
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
        self.others = others

    def own(self, run: Run) -> Credentials:
        """The service's own token: for what must work whatever became of the user's, and compute copies no disk for anybody else."""
        service = self._service_token()
        return Credentials(token=service, service_token=service, request_id=run.context.request_id)
