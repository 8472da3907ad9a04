"""The compute service: what its handlers use, held together."""

import platform
from collections.abc import Callable, Mapping

from cumulet.compute.doors import Doors
from cumulet.compute.messages import ComputeHost
from cumulet.compute.records import Server
from cumulet.compute.service.changes import ServerChanges
from cumulet.compute.service.consoles import ConsoleTokens
from cumulet.compute.service.devices import ServerDevices
from cumulet.compute.service.flavors import Flavors
from cumulet.compute.service.fleet import Fleet
from cumulet.compute.service.keypairs import Keypairs
from cumulet.compute.service.quotas import Quotas
from cumulet.compute.service.resolve import Resolver
from cumulet.compute.service.security_groups import ServerSecurityGroups
from cumulet.compute.service.server_groups import ServerGroups
from cumulet.compute.service.server_images import ServerImages
from cumulet.compute.service.servers import ServerFlows
from cumulet.compute.service.volume_copies import VolumeCopies
from cumulet.compute.store import servers
from cumulet.core.clock import Clock
from cumulet.core.context import Context
from cumulet.core.db import Database, Tx
from cumulet.core.errors import NotFound
from cumulet.core.ids import Ids
from cumulet.core.web import Call
from cumulet.core.web.client import Credentials
from cumulet.identity.door import IdentityDoor

__all__ = ["ComputeConfig", "ComputeService"]

#: the reference's quota names and our defaults: limits do not stand in the way of a test cloud
QUOTAS: Mapping[str, int] = {
    "instances": 10_000,
    "cores": 100_000,
    "ram": 500_000_000,
    "metadata_items": 128,
    "key_pairs": 10_000,
    "server_groups": 1_000,
    "server_group_members": 1_000,
    "injected_files": 5,
    "injected_file_content_bytes": 10_240,
    "injected_file_path_bytes": 255,
}


class ComputeConfig:
    """Settings of the compute service.  console_url: where the browser's console page is, below the public URL."""

    def __init__(
        self,
        *,
        zone: str = "nova",
        quotas: Mapping[str, int] = QUOTAS,
        console_path: str = "/console",
        controller: str | None = None,
    ) -> None:
        """controller: the name of the host that conductor and scheduler are shown on; by default this machine's."""
        self.controller = controller or platform.node()
        self.zone = zone
        self.quotas = quotas
        self.console_path = console_path


class ComputeService:
    """What handlers use."""

    def __init__(
        self,
        db: Database,
        *,
        flows: ServerFlows,
        resolver: Resolver,
        doors: Doors,
        identity: IdentityDoor,
        host: Callable[[str], ComputeHost],
        service_token: Callable[[], str],
        clock: Clock,
        ids: Ids,
        config: ComputeConfig,
    ) -> None:
        self.db = db
        self.flows = flows
        self.resolver = resolver
        self.doors = doors
        self.identity = identity
        self.host = host
        self.clock = clock
        self.ids = ids
        self.config = config
        self.quotas = Quotas(db, config.quotas)
        self.fleet = Fleet(db, zone=config.zone, controller=config.controller, clock=clock, ids=ids)
        self.flavors = Flavors(db, clock=clock, ids=ids)
        self.keypairs = Keypairs(db, quotas=self.quotas, clock=clock)
        self.changes = ServerChanges(db, flows=flows, resolver=resolver, quotas=self.quotas, clock=clock, ids=ids)
        self.images = ServerImages(flows=flows, doors=doors, ids=ids)
        self.devices = ServerDevices(db, flows=flows, doors=doors, clock=clock, ids=ids)
        self.volume_copies = VolumeCopies(db, flows.coordinator)
        self.server_groups = ServerGroups(db, quotas=self.quotas, clock=clock, ids=ids)
        self.security_groups = ServerSecurityGroups(db, doors=doors, clock=clock)
        self.consoles = ConsoleTokens(db, clock=clock, ids=ids)
        self._service_token = service_token

    def limits(self, tx: Tx, project_id: str, user_id: str) -> Mapping[str, int]:
        """A project's limits by resource, -1 for none; in the caller's transaction."""
        return self.quotas.limits(tx, project_id, user_id)

    def validate_console_token(self, token: str) -> tuple[str, str]:
        """(server, host) whose screen a token opens; it opens it once.  Raises NotFound."""
        return self.consoles.take(token)

    def bootstrap_flavors(self) -> None:
        """The flavors of a new cloud; what is there stays as it is."""
        self.flavors.bootstrap()

    def credentials(self, context: Context) -> Credentials:
        """The caller's token with the service's beside it."""
        return Credentials(
            token=context.token or "", service_token=self._service_token(), request_id=context.request_id
        )

    def server(self, call: Call, server_id: str, *, deleted: bool = False) -> Server:
        """A server that the caller may know of: its project's own, or any for admins.  Others' are not found."""
        project = None if call.context.is_admin or "service" in call.context.roles else call.context.project_id
        with self.db.read() as tx:
            found = servers.get(tx, server_id, project_id=project, deleted=deleted)
        if found is None:
            raise NotFound(f"Instance {server_id} could not be found.")
        return found
