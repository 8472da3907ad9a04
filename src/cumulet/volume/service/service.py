"""The volume service: its parts, held together."""

from collections.abc import Callable

from cumulet.core.db import Database, Tx
from cumulet.volume.records import VolumeType
from cumulet.volume.service.attachments import Attachments
from cumulet.volume.service.means import Means
from cumulet.volume.service.quotas import Quotas
from cumulet.volume.service.snapshots import Snapshots
from cumulet.volume.service.transfers import Transfers
from cumulet.volume.service.types import Types
from cumulet.volume.service.volumes import Volumes
from cumulet.volume.store import types

__all__ = ["VolumeService"]


class VolumeService:
    """What handlers use."""

    def __init__(self, means: Means) -> None:
        self.means = means
        self.quotas = Quotas(means)
        self.volumes = Volumes(means, self.quotas)
        self.attachments = Attachments(means, self.volumes)
        self.snapshots = Snapshots(means, self.quotas)
        self.types = Types(means)
        self.transfers = Transfers(means, self.volumes, self.quotas)

    @property
    def db(self) -> Database:
        return self.means.db

    def on_change(self, callback: Callable[[str], None]) -> None:
        """Call back with a volume's id after each commit that changed its status (or removed it), on whichever thread committed."""
        self.means.changes.subscribe(callback)

    def bootstrap(self) -> None:
        """The types that must be there; may be repeated."""
        with self.means.db.write() as tx:
            self._ensure_type(tx, self.means.config.default_type, "Default Volume Type", {})
            self._ensure_type(tx, "multiattach", "Volumes that several servers may have", {"multiattach": "<is> True"})

    def _ensure_type(self, tx: Tx, name: str, description: str, extra_specs: dict[str, str]) -> None:
        if types.by_name(tx, name) is None:
            new = VolumeType(
                id=self.means.ids.uuid(),
                name=name,
                description=description,
                is_public=True,
                extra_specs=extra_specs,
                qos_specs_id=None,
                created_at=self.means.clock.now(),
            )
            types.add(tx, new)

    def adopt(self) -> int:
        """At start: go on with what an earlier process left."""
        return self.means.coordinator.adopt()
