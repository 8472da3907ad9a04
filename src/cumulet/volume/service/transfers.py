"""Transfers: a volume goes to another project, whose user has the key."""

import hashlib
import hmac

from cumulet.core.errors import BadRequest, NotFound
from cumulet.volume.records import Transfer, Volume
from cumulet.volume.service.means import Caller, Means
from cumulet.volume.service.quotas import Quotas
from cumulet.volume.service.volumes import Volumes
from cumulet.volume.store import snapshots, transfers, volumes

__all__ = ["Transfers"]


class Transfers:
    """See the module's docstring."""

    def __init__(self, means: Means, volumes_: Volumes, quotas: Quotas) -> None:
        self._means = means
        self._volumes = volumes_
        self._quotas = quotas

    def get(self, caller: Caller, id: str) -> Transfer:
        with self._means.db.read() as tx:
            found = transfers.get(tx, id, project_id=caller.sees)
        if found is None:
            raise _missing(id)
        return found

    def create(self, volume: Volume, name: str | None, *, no_snapshots: bool) -> tuple[Transfer, str]:
        """The transfer and its key, which is shown this once."""
        key, salt = self._means.ids.secret(12), self._means.ids.secret(12)
        transfer = Transfer(
            id=self._means.ids.uuid(),
            volume_id=volume.id,
            project_id=volume.project_id,
            name=name,
            salt=salt,
            key_hash=_hash(salt, key),
            no_snapshots=no_snapshots,
            created_at=self._means.clock.now(),
        )
        with self._means.db.write() as tx:
            if not volumes.move(tx, volume.id, "available", "awaiting-transfer", at=self._means.clock.now()):
                raise BadRequest("Invalid volume: status must be available")
            transfers.add(tx, transfer)
            self._means.changes.note(tx, volume.id)
        return transfer, key

    def delete(self, transfer: Transfer) -> None:
        with self._means.db.write() as tx:
            if not transfers.remove(tx, transfer.id):
                raise _missing(transfer.id)
            volumes.move(tx, transfer.volume_id, "awaiting-transfer", "available", at=self._means.clock.now())
            self._means.changes.note(tx, transfer.volume_id)

    def accept(self, caller: Caller, id: str, key: str) -> Transfer:
        """The key opens what lies in another project; quotas are the accepting project's."""
        with self._means.db.read() as tx:
            transfer = transfers.get(tx, id)
        if transfer is None:
            raise _missing(id)
        if not hmac.compare_digest(transfer.key_hash, _hash(transfer.salt, key)):
            raise BadRequest(f"Invalid auth key: Attempt to transfer {id} with invalid auth key.")
        with self._means.db.write() as tx:
            volume = volumes.get(tx, transfer.volume_id)
            if volume is None or volume.status != "awaiting-transfer" or not transfers.remove(tx, id):
                raise _missing(id)
            kept = snapshots.of_volume(tx, volume.id)
            if transfer.no_snapshots:
                kept = []
            gib = volume.size + sum(snapshot.size for snapshot in kept)
            self._quotas.take(
                tx, caller.project_id, volume.type_id, volume.type_name, volumes=1, gib=gib, snapshots=len(kept)
            )
            now = self._means.clock.now()
            owner = {"project_id": caller.project_id, "user_id": caller.context.user_id}
            volumes.move(tx, volume.id, "awaiting-transfer", "available", at=now, **owner)
            if kept:
                snapshots.set_fields_of(tx, volume.id, **owner)
            self._means.changes.note(tx, volume.id)
        return transfer


def _hash(salt: str, key: str) -> str:
    return hmac.new(salt.encode(), key.encode(), hashlib.sha256).hexdigest()


def _missing(id: str) -> NotFound:
    return NotFound(f"Transfer {id} could not be found.")
