"""The other services, as the flows reach them: by REST."""

from collections.abc import Callable

from cumulet.core.saga import Run
from cumulet.core.web.client import Credentials
from cumulet.image.door import ImageDoor
from cumulet.network.door import NetworkDoor
from cumulet.placement.door import PlacementDoor
from cumulet.volume.door import VolumeDoor

__all__ = ["Doors"]


class Doors:
    """The other services, as this one reaches them: by REST, with the user's token while there is one."""

    def __init__(
        self,
        *,
        image: ImageDoor,
        network: NetworkDoor,
        volume: VolumeDoor,
        placement: PlacementDoor,
        service_token: Callable[[], str],
    ) -> None:
        self.image = image
        self.network = network
        self.volume = volume
        self.placement = placement
        self._service_token = service_token

    def credentials(self, run: Run) -> Credentials:
        """The user's token with the service's beside it; after a restart, and for undo, the service's alone."""
        service = self._service_token()
        return Credentials(token=run.token or service, service_token=service, request_id=run.context.request_id)

    def own(self, run: Run) -> Credentials:
        """The service's own token, for what must work whatever became of the user's."""
        service = self._service_token()
        return Credentials(token=service, service_token=service, request_id=run.context.request_id)
