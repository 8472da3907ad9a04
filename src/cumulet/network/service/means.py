"""What every part of the service works with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cumulet.core.clock import Clock
from cumulet.core.db import Database
from cumulet.core.db.database import Tx
from cumulet.core.ids import Ids
from cumulet.network import errors
from cumulet.network.config import NetworkConfig
from cumulet.network.service.effects import Effects
from cumulet.network.store import standard

__all__ = ["Means"]


@dataclass(frozen=True, kw_only=True)
class Means:
    """Database, data plane, clock, ids and settings."""

    db: Database
    effects: Effects
    clock: Clock
    ids: Ids
    config: NetworkConfig

    def standard(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """What every new row has."""
        now = self.clock.now()
        return {
            "id": wanted.get("id") or self.ids.uuid(),
            "project_id": wanted["project_id"],
            "name": wanted.get("name", ""),
            "description": wanted.get("description", ""),
            "tags": wanted.get("tags", []),
            "created_at": now,
            "updated_at": now,
            "revision_number": 1,
        }

    def mac(self) -> str:
        number = self.ids.rng.getrandbits(24)
        return f"{self.config.mac_prefix}:{number >> 16:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"

    def limit(self, tx: Tx, resource: str, project_id: str) -> int:
        return standard.quotas_of(tx, project_id).get(resource, self.config.quotas.get(resource, -1))

    def count(self, tx: Tx, resource: str, project_id: str, more: int = 1) -> None:
        """Raise OverQuota unless a project may have so many more."""
        limit = self.limit(tx, resource, project_id)
        if limit >= 0 and standard.used(tx, resource, project_id) + more > limit:
            raise errors.OverQuota(overs=[resource])

    def zones(self, hints: Iterable[str]) -> None:
        """Raise unless every availability zone is there."""
        for hint in hints:
            if hint != self.config.availability_zone:
                raise errors.AvailabilityZoneNotFound(zone=hint)


def check_revision(current: int, expected: int | None) -> None:
    """`If-Match: revision_number=N`."""
    if expected is not None and current != expected:
        raise errors.RevisionNumberConstraintFailed(expected=expected, current=current)
