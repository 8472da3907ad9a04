"""What all parts of the volume service work with."""

from collections.abc import Callable

import msgspec

from cumulet.core.clock import Clock
from cumulet.core.context import Context
from cumulet.core.db import Database
from cumulet.core.ids import Ids
from cumulet.core.saga import Coordinator
from cumulet.core.web.client import Credentials
from cumulet.image.door import ImageDoor
from cumulet.volume.changes import Changes
from cumulet.volume.config import VolumeConfig
from cumulet.volume.messages import VolumeHost

__all__ = ["Caller", "Means", "ServerUses"]

#: (server, volume) → whether compute has that volume on that server
ServerUses = Callable[[str, str], bool]


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks, and for which project.  project_id: whose new things are; sees: None for one who sees all projects."""

    context: Context
    project_id: str
    sees: str | None


class Means:
    """Database, coordinator, neighbours, clock.

    host: a volume host's queue by its name; server_uses: asks compute, or None where nobody can be asked.
    """

    def __init__(
        self,
        db: Database,
        coordinator: Coordinator,
        *,
        changes: Changes,
        host: Callable[[str], VolumeHost],
        image: ImageDoor,
        service_token: Callable[[], str],
        clock: Clock,
        ids: Ids,
        config: VolumeConfig,
        server_uses: ServerUses | None = None,
        guests_grow: bool = False,
    ) -> None:
        self.db = db
        self.coordinator = coordinator
        self.changes = changes
        self.host = host
        self.image = image
        self.clock = clock
        self.ids = ids
        self.config = config
        self.server_uses = server_uses
        #: whether compute is told of a volume that grew while attached
        self.guests_grow = guests_grow
        self._service_token = service_token

    def credentials(self, context: Context) -> Credentials:
        """The caller's token with the service's beside it."""
        return Credentials(
            token=context.token or "", service_token=self._service_token(), request_id=context.request_id
        )
