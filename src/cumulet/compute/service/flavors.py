"""Flavors: made, changed, shared with projects, given extra specs."""

from collections.abc import Mapping
from typing import Any

import msgspec

from cumulet.compute.store import flavors
from cumulet.compute.store.flavors import Flavor
from cumulet.core.clock import Clock
from cumulet.core.db import Database, Duplicate
from cumulet.core.errors import Conflict, NotFound
from cumulet.core.ids import Ids

__all__ = ["Flavors"]

#: id, name, vCPUs, MiB, GiB
FIRST = (
    ("42", "m1.nano", 1, 128, 1),
    ("84", "m1.micro", 1, 192, 2),
    ("1", "m1.tiny", 1, 512, 1),
    ("2", "m1.small", 1, 2048, 20),
    ("3", "m1.medium", 2, 4096, 40),
    ("4", "m1.large", 4, 8192, 80),
    ("5", "m1.xlarge", 8, 16384, 160),
)


class Flavors:
    """What can be done to flavors."""

    def __init__(self, db: Database, *, clock: Clock, ids: Ids) -> None:
        self._db = db
        self._clock = clock
        self._ids = ids

    def get(self, flavor_id: str, *, project_id: str | None) -> Flavor:
        """project_id: None for an admin, who sees private ones too."""
        with self._db.read() as tx:
            flavor = flavors.get(tx, flavor_id, project_id=project_id)
        if flavor is None:
            raise NotFound(f"Flavor {flavor_id} could not be found.")
        return flavor

    def create(
        self,
        *,
        id: str | None,
        name: str,
        vcpus: int,
        ram_mb: int,
        disk_gb: int,
        ephemeral_gb: int = 0,
        swap_mb: int = 0,
        rxtx_factor: float = 1.0,
        is_public: bool = True,
        description: str | None = None,
    ) -> Flavor:
        flavor = Flavor(
            id=id or self._ids.uuid(),
            name=name,
            description=description,
            vcpus=vcpus,
            ram_mb=ram_mb,
            disk_gb=disk_gb,
            ephemeral_gb=ephemeral_gb,
            swap_mb=swap_mb,
            rxtx_factor=rxtx_factor,
            is_public=is_public,
            disabled=False,
            extra_specs={},
            created_at=self._clock.now(),
        )
        with self._db.write() as tx:
            if flavors.get(tx, flavor.id) is not None:
                raise Conflict(f"Flavor with ID {flavor.id} already exists.")
            try:
                flavors.add(tx, flavor)
            except Duplicate:
                raise Conflict(f"Flavor with name {name} already exists.") from None
        return flavor

    def describe(self, flavor_id: str, description: str | None) -> Flavor:
        with self._db.write() as tx:
            if not flavors.set_fields(tx, flavor_id, description=description):
                raise NotFound(f"Flavor {flavor_id} could not be found.")
        return self.get(flavor_id, project_id=None)

    def delete(self, flavor_id: str) -> None:
        with self._db.write() as tx:
            if not flavors.remove(tx, flavor_id):
                raise NotFound(f"Flavor {flavor_id} could not be found.")

    # --- who may use a private one -------------------------------------------------------------------------------------------------

    def projects(self, flavor_id: str) -> list[str]:
        """Who may use a private flavor.  A public one has no such list: 404."""
        with self._db.read() as tx:
            flavor = flavors.get(tx, flavor_id)
            found = flavors.access(tx, flavor_id)
        if flavor is None:
            raise NotFound(f"Flavor {flavor_id} could not be found.")
        if flavor.is_public:
            raise NotFound("Access list not available for public flavors.")
        return found

    def share(self, flavor_id: str, project_id: str) -> list[str]:
        if self.get(flavor_id, project_id=None).is_public:
            raise Conflict("Can not add access to a public flavor.")
        with self._db.write() as tx:
            try:
                flavors.add_access(tx, flavor_id, project_id)
            except Duplicate:
                raise Conflict(
                    f"Flavor access already exists for flavor {flavor_id} and project {project_id} combination."
                ) from None
        return self.projects(flavor_id)

    def unshare(self, flavor_id: str, project_id: str) -> list[str]:
        self.get(flavor_id, project_id=None)
        with self._db.write() as tx:
            if not flavors.remove_access(tx, flavor_id, project_id):
                raise NotFound(f"Flavor access not found for {flavor_id} / {project_id} combination.")
        return self.projects(flavor_id)

    # --- extra specs ---------------------------------------------------------------------------------------------------------------

    def set_specs(self, flavor_id: str, specs: Mapping[str, str]) -> dict[str, str]:
        """Add or overwrite; all extra specs afterwards."""
        with self._db.write() as tx:
            flavor = flavors.get(tx, flavor_id)
            if flavor is None:
                raise NotFound(f"Flavor {flavor_id} could not be found.")
            whole = {**flavor.extra_specs, **specs}
            flavors.set_fields(tx, flavor_id, extra_specs=whole)
        return whole

    def drop_spec(self, flavor_id: str, key: str) -> None:
        with self._db.write() as tx:
            flavor = flavors.get(tx, flavor_id)
            if flavor is None:
                raise NotFound(f"Flavor {flavor_id} could not be found.")
            if key not in flavor.extra_specs:
                raise NotFound(f"Flavor {flavor_id} has no extra specs with key {key}.")
            flavors.set_fields(tx, flavor_id, extra_specs={k: v for k, v in flavor.extra_specs.items() if k != key})

    # --- the first ones ------------------------------------------------------------------------------------------------------------

    def bootstrap(self) -> None:
        """The flavors of a new cloud.  Leaves what is there alone."""
        now = self._clock.now()
        empty: dict[str, Any] = {
            "description": None,
            "ephemeral_gb": 0,
            "swap_mb": 0,
            "rxtx_factor": 1.0,
            "is_public": True,
            "disabled": False,
            "extra_specs": {},
            "created_at": now,
        }
        with self._db.write() as tx:
            taken = {
                name
                for flavor in flavors.page(tx, project_id=None, is_public=None)
                for name in (flavor.id, flavor.name)
            }
            for id_, name, vcpus, ram_mb, disk_gb in FIRST:
                if taken.isdisjoint({id_, name}):
                    row = {"id": id_, "name": name, "vcpus": vcpus, "ram_mb": ram_mb, "disk_gb": disk_gb, **empty}
                    flavors.add(tx, msgspec.convert(row, Flavor))
