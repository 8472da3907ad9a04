"""What would fit: the scheduler's answer for a server that nobody launches."""

import msgspec

from cumulet.compute.records import FlavorSnapshot
from cumulet.compute.scheduler.decision import Decision
from cumulet.compute.scheduler.messages import FitRequest, SchedulerInterface
from cumulet.compute.service.quotas import Quotas
from cumulet.compute.service.resolve import Resolver
from cumulet.compute.store import flavors, usages
from cumulet.core.db import Database, Tx
from cumulet.core.errors import NotFound
from cumulet.core.web.client import Credentials

__all__ = ["Fitting", "WhatFits"]


class WhatFits(msgspec.Struct, frozen=True, kw_only=True):
    """decision: as for a launch, its host the one that would be chosen.  rooms: by host, how many such servers it would hold, best
    host first; fits: how many all hosts would; quota: how many the project may still have, None for any number or without a project."""

    decision: Decision
    rooms: dict[str, int]
    fits: int
    quota: int | None


class Fitting:
    """Asks the scheduler.  A method blocks, and is not for the dispatcher."""

    def __init__(self, db: Database, *, resolver: Resolver, quotas: Quotas, scheduler: SchedulerInterface) -> None:
        self._db = db
        self._resolver = resolver
        self._quotas = quotas
        self._scheduler = scheduler

    def what_fits(
        self,
        credentials: Credentials,
        *,
        flavor_id: str,
        image_id: str | None = None,
        zone: str | None = None,
        project_id: str | None = None,
    ) -> WhatFits:
        """Raises NotFound for a flavor that is not there (for this project), BadRequest for what a launch would refuse of the image."""
        with self._db.read() as tx:
            flavor = flavors.get(tx, flavor_id, project_id=project_id)
            quota = None if flavor is None or project_id is None else self._quota(tx, project_id, flavor.snapshot())
        if flavor is None:
            raise NotFound(f"Flavor {flavor_id} could not be found.")
        properties = {}
        if image_id is not None:
            image = self._resolver.image(credentials, image_id)
            self._resolver.check_fits(image, flavor, volume_backed=False)
            properties = dict(image.properties)
        request = FitRequest(flavor=flavor.snapshot(), image_properties=properties, zone=zone)
        fit = self._scheduler.fit(request)
        return WhatFits(decision=fit.decision, rooms=fit.rooms, fits=fit.fits, quota=quota)

    def _quota(self, tx: Tx, project_id: str, flavor: FlavorSnapshot) -> int | None:
        """How many more the project's quota lets in."""
        limits, used = self._quotas.limits(tx, project_id), usages.of_project(tx, project_id)
        each = {"instances": 1, "cores": flavor.vcpus, "ram": flavor.ram_mb}
        rooms = [max(0, limits[n] - used[n]) // amount for n, amount in each.items() if limits[n] >= 0 and amount]
        return min(rooms, default=None)
