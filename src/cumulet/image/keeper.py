"""The keeper of images: one whose bytes were on their way, and are not any more, is queued again."""

from collections.abc import Generator, Sequence

from cumulet.core.clock import Clock
from cumulet.core.reconcile import Overdue, Row, cutoff, row_of
from cumulet.core.work import Slow
from cumulet.image import store
from cumulet.image.records import IMPORTING, QUEUED, SAVING, UPLOADING
from cumulet.image.service import ImageService

__all__ = ["ImageKeeper"]


class ImageKeeper:
    """A `Keeper`."""

    kinds = frozenset({"image"})

    def __init__(self, service: ImageService, *, clock: Clock) -> None:
        self._service = service
        self._clock = clock

    def overdue(self, rows: Sequence[Row], now: str, limit: int) -> list[Overdue]:
        with self._service.db.read() as tx:
            old = store.in_status_since(tx, [row.state for row in rows], cutoff(rows, now))
        found = [
            (row_of(rows, "image", one["status"], one["updated_at"], now), one["id"])
            for one in old
            if one["id"] not in self._service.arriving
        ]
        return [Overdue(row, image_id) for row, image_id in found if row is not None][:limit]

    def queue_again(self, image_id: str) -> Generator[Slow, None, bool]:
        """Remove what has come in; then the image may have its bytes anew."""
        service = self._service
        if image_id in service.arriving:
            return False
        # before the image is queued: from then on new bytes may come in under this name
        yield Slow("devices", service.files.remove, (image_id,))
        now = self._clock.now()
        values = {
            "status": QUEUED,
            "updated_at": now,
            **dict.fromkeys(("size", "virtual_size", "checksum", "os_hash_value")),
        }
        with service.db.write() as tx:
            if not store.set_image(tx, image_id, values, status=[SAVING, IMPORTING, UPLOADING]):
                return False
            store.fail_tasks_of(tx, image_id, "The import was interrupted.", now)
        return True
