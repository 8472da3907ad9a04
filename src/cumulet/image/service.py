"""What the image service does: images, and the way of their bytes from `queued` to `active`.

Every state moves by compare-and-set (see `records`).  Bytes move outside of transactions, in the "uploads" pool;
whatever goes wrong on their way, the image is `queued` again and nothing is left on disk.
"""

import re
from collections.abc import Generator, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import structlog

from cumulet.core.clock import Clock
from cumulet.core.db import Database, Duplicate
from cumulet.core.errors import BadRequest, CloudError, Conflict, Forbidden, NotFound
from cumulet.core.ids import Ids
from cumulet.core.keys import Key
from cumulet.core.work import Slow, drive
from cumulet.image import store
from cumulet.image.changes import Changes, check_attributes
from cumulet.image.files import ImageFiles, Received, file_chunks
from cumulet.image.listing import Listing
from cumulet.image.members import Members
from cumulet.image.records import (
    ACTIVE,
    DEACTIVATED,
    ID_PATTERN,
    IMPORTING,
    QUEUED,
    SAVING,
    UPLOADING,
    Image,
    ImageConfig,
    ImageDeletedMeanwhile,
    ImageNotFound,
    ImageStateConflict,
    Sight,
    Task,
    TooMany,
    TransitionForbidden,
    Viewer,
)

__all__ = ["ImageService"]

log = structlog.get_logger()

_ID = re.compile(ID_PATTERN)

#: what an image has only while it has data
_NO_DATA: Mapping[str, Any] = {"size": None, "virtual_size": None, "checksum": None, "os_hash_value": None}


class ImageService:
    """See the module's docstring."""

    def __init__(self, db: Database, *, clock: Clock, ids: Ids, config: ImageConfig) -> None:
        self.db = db
        self.config = config
        self.files = ImageFiles(config.folder, size_max=config.size_max, virtual_size_max=config.virtual_size_max)
        self.members = Members(db, clock=clock, members_max=config.members_max)
        self._clock = clock
        self._ids = ids
        #: images whose bytes are on their way in this process
        self.arriving: set[str] = set()

    # --- images -------------------------------------------------------------------------------------------------------

    def seen(self, viewer: Viewer, image_id: str) -> Sight:
        """An image as a viewer sees it.  Raises ImageNotFound for what is not there for this viewer."""
        if not _ID.fullmatch(image_id):
            raise ImageNotFound(id=image_id)
        with self.db.read() as tx:
            found = store.image(tx, image_id, viewer)
            if found is None:
                raise ImageNotFound(id=image_id)
            if found.visibility != "shared" or viewer.project_id in {None, found.owner}:
                return Sight(found, None)
            member = store.member(tx, image_id, viewer.project_id or "")
        return Sight(found, member.member_id if member else None)

    def page(self, viewer: Viewer, listing: Listing) -> tuple[list[Image], bool]:
        """A page of images, and whether more follow."""
        with self.db.read() as tx:
            where = [store.listed(viewer, listing.visibility, listing.member_status), *listing.where]
            if listing.marker is not None:
                marker = store.image(tx, listing.marker, viewer) if _ID.fullmatch(listing.marker) else None
                if marker is None:
                    raise BadRequest(f"Invalid marker. Image {listing.marker} could not be found.")
                where.append(listing.after(marker))
            found = store.images(tx, where, listing.order, listing.limit + 1)
        return found[: listing.limit], len(found) > listing.limit

    def create(
        self,
        attributes: Mapping[str, Any],
        properties: Mapping[str, str],
        *,
        owner: str | None,
        origin: str | None = None,
        key: Key | None = None,
    ) -> Image:
        """A queued image without data.  Raises Conflict when the id was used before."""
        now = self._clock.now()
        tags = list(dict.fromkeys(attributes.get("tags", [])))
        self._limit("tags", len(tags), self.config.tags_max)
        self._limit("properties", len(properties), self.config.properties_max)
        new = Image(
            id=attributes.get("id") or self._ids.uuid(),
            name=attributes.get("name"),
            status=QUEUED,
            visibility=attributes.get("visibility", "shared"),
            owner=owner,
            disk_format=attributes.get("disk_format"),
            container_format=attributes.get("container_format"),
            **_NO_DATA,
            min_disk=attributes.get("min_disk", 0),
            min_ram=attributes.get("min_ram", 0),
            protected=attributes.get("protected", False),
            os_hidden=attributes.get("os_hidden", False),
            origin=origin,
            created_at=now,
            updated_at=now,
            properties=dict(properties),
            tags=sorted(tags),
        )
        taken = Conflict(f"Image ID {new.id} already exists!")
        with self.db.write() as tx:
            if store.is_retired(tx, new.id):
                raise taken
            try:
                store.add_image(tx, new)
            except Duplicate:
                raise taken from None
            if key is not None:
                key.keep(tx, [new.id])
        return new

    def update(self, image: Image, changes: Changes) -> Image:
        """Apply changes that were worked out against `image`."""
        self._limit("tags", len(changes.tags or ()), self.config.tags_max)
        count = len({*image.properties, *changes.properties} - {*changes.removed})
        self._limit("properties", count, self.config.properties_max)
        # formats are fixed as soon as data comes in, which may have begun since `image` was read
        fixed = {"disk_format", "container_format"} & set(changes.columns)
        with self.db.write() as tx:
            values = {**changes.columns, "updated_at": self._clock.now()}
            if not store.set_image(tx, image.id, values, status=[QUEUED] if fixed else None):
                raise (
                    ImageStateConflict(status="(changed meanwhile)", wanted=QUEUED)
                    if fixed
                    else ImageNotFound(id=image.id)
                )
            store.put_properties(tx, image.id, changes.properties)
            if changes.removed:
                store.remove_properties(tx, image.id, changes.removed)
            if changes.tags is not None:
                store.set_tags(tx, image.id, changes.tags)
            updated = store.image(tx, image.id)
        if updated is None:
            raise ImageNotFound(id=image.id)
        return updated

    def delete(self, image: Image) -> Generator[Slow, Any, None]:
        """The image and its bytes.  An upload on its way finds nothing to complete and removes its own."""
        if not image.protected:
            with self.db.write() as tx:
                removed = store.remove_image(tx, image.id, self._clock.now())
            if removed:
                yield Slow("devices", self.files.remove, (image.id,))
                return
            with self.db.read() as tx:
                if store.image(tx, image.id) is None:
                    raise ImageNotFound(id=image.id)
        raise Forbidden(f"Image {image.id} is protected and cannot be deleted.")

    def set_active(self, image: Image, *, active: bool) -> None:
        """Deactivate an image, so that only admins get at its data, or the reverse; may be repeated."""
        wanted = ACTIVE if active else DEACTIVATED
        with self.db.write() as tx:
            values = {"status": wanted, "updated_at": self._clock.now()}
            if not store.set_image(tx, image.id, values, status=[ACTIVE, DEACTIVATED]):
                raise TransitionForbidden(status=image.status, wanted=wanted)

    def add_tag(self, image: Image, tag: str) -> None:
        self._limit("tags", len({*image.tags, tag}), self.config.tags_max)
        with self.db.write() as tx:
            if not store.set_image(tx, image.id, {"updated_at": self._clock.now()}):
                raise ImageNotFound(id=image.id)
            store.put_tag(tx, image.id, tag)

    def remove_tag(self, image: Image, tag: str) -> None:
        with self.db.write() as tx:
            if not store.remove_tag(tx, image.id, tag):
                raise NotFound(f"Tag {tag} was not found on image {image.id}.")
            store.set_image(tx, image.id, {"updated_at": self._clock.now()})

    @staticmethod
    def _limit(things: str, attempted: int, maximum: int) -> None:
        if attempted > maximum:
            raise TooMany(things=things, attempted=attempted, maximum=maximum)

    # --- bytes --------------------------------------------------------------------------------------------------------

    def location(self, image: Image) -> str | None:
        """Where a host of this machine finds the bytes."""
        return self.files.path(image.id).as_uri() if image.status in {ACTIVE, DEACTIVATED} else None

    def upload(self, image: Image, chunks: Iterable[bytes]) -> Generator[Slow, Any, None]:
        """Take an image's bytes: `queued` → `saving` → `active`.

        Raises what `ImageFiles.receive` raises, ImageStateConflict when data is there or coming, ImageDeletedMeanwhile.
        """
        disk_format = self._format(image)
        self._move(image, QUEUED, SAVING)
        self.arriving.add(image.id)
        try:
            received = yield Slow("uploads", self.files.receive, (image.id, chunks, disk_format))
            yield from self._complete(image, SAVING, received)
        except Exception:  # raised again: whatever it was, the image waits for its data as before
            self._fall_back(image, SAVING)
            raise
        finally:
            self.arriving.discard(image.id)

    def stage(self, image: Image, chunks: Iterable[bytes]) -> Generator[Slow, Any, None]:
        """Lay bytes aside for an import: `queued` → `uploading`."""
        self._move(image, QUEUED, UPLOADING)
        self.arriving.add(image.id)
        try:
            yield Slow("uploads", self.files.stage, (image.id, chunks))
        except Exception:  # raised again: as in upload
            self._fall_back(image, UPLOADING)
            raise
        finally:
            self.arriving.discard(image.id)
        with self.db.read() as tx:
            there = store.image(tx, image.id) is not None
        if not there:
            yield Slow("devices", self.files.remove, (image.id,))
            raise ImageDeletedMeanwhile(id=image.id)

    def import_staged(self, image: Image, task: Task) -> Generator[Slow, Any, None]:
        """Make an image of its staged bytes: `uploading` → `importing` → `active`.  How it went is told by the task."""
        disk_format = self._format(image)
        if not self.files.staged(image.id).exists():
            raise ImageStateConflict(status=image.status, wanted=IMPORTING)
        self._move(image, UPLOADING, IMPORTING, task)
        self.arriving.add(image.id)
        try:
            chunks = file_chunks(self.files.staged(image.id))
            received = yield Slow("uploads", self.files.receive, (image.id, chunks, disk_format))
            yield from self._complete(image, IMPORTING, received)
            status, message = "success", ""
            yield Slow("devices", self.files.remove_staged, (image.id,))
        except Exception as error:  # noqa: BLE001 - whatever it was, the task tells it and the image is queued again
            log.info("import failed", image_id=image.id, error=repr(error))
            status, message = "failure", error.message if isinstance(error, CloudError) else CloudError.default
            # before the image is queued: from then on new bytes may be staged under this name
            yield Slow("devices", self.files.remove_staged, (image.id,))
            self._fall_back(image, IMPORTING)
        finally:
            self.arriving.discard(image.id)
        with self.db.write() as tx:
            store.set_task(tx, task.id, status=status, message=message, updated_at=self._clock.now())

    def new_task(self, image: Image, *, user_id: str, request_id: str, request: Mapping[str, Any]) -> Task:
        """The record of an import that is about to begin."""
        now = self._clock.now()
        return Task(
            id=self._ids.uuid(),
            image_id=image.id,
            status="processing",
            owner=image.owner,
            user_id=user_id,
            request_id=request_id,
            input={"image_id": image.id, "import_req": dict(request), "backend": ["file"]},
            message="",
            created_at=now,
            updated_at=now,
        )

    def tasks(self, image: Image) -> list[Task]:
        with self.db.read() as tx:
            return store.tasks(tx, image.id)

    @staticmethod
    def _format(image: Image) -> str:
        missing = [name for name in ("disk_format", "container_format") if getattr(image, name) is None]
        if missing or image.disk_format is None:
            raise BadRequest(f"Properties {', '.join(missing)} must be set prior to saving data.")
        return image.disk_format

    def _move(self, image: Image, old: str, new: str, task: Task | None = None) -> None:
        with self.db.write() as tx:
            if not store.set_image(tx, image.id, {"status": new, "updated_at": self._clock.now()}, status=[old]):
                raise ImageStateConflict(status=image.status, wanted=new)
            if task is not None:
                store.add_task(tx, task)

    def _fall_back(self, image: Image, old: str) -> None:
        with self.db.write() as tx:
            store.set_image(tx, image.id, {"status": QUEUED, "updated_at": self._clock.now(), **_NO_DATA}, status=[old])

    def _complete(self, image: Image, old: str, received: Received) -> Generator[Slow, Any, None]:
        values = {**msgspec.structs.asdict(received), "status": ACTIVE, "updated_at": self._clock.now()}
        with self.db.write() as tx:
            done = store.set_image(tx, image.id, values, status=[old])
        if not done:
            yield Slow("devices", self.files.remove, (image.id,))
            raise ImageDeletedMeanwhile(id=image.id)
        log.info("image active", image_id=image.id, bytes=received.size)

    # --- start --------------------------------------------------------------------------------------------------------

    def recover(self) -> None:
        """At start, before the first request: what was on its way is queued again, files without an image go."""
        staged = self.files.staged_ids()
        with self.db.write() as tx:
            now = self._clock.now()
            for old in (SAVING, IMPORTING):
                store.set_status_of_all(tx, old, QUEUED, now)
            store.fail_tasks(tx, "The service was stopped during the import.", now)
            waiting = store.ids_in_status(tx, UPLOADING)
            for image_id in waiting - staged:
                store.set_image(tx, image_id, {"status": QUEUED, "updated_at": now}, status=[UPLOADING])
            with_data = store.ids_in_status(tx, ACTIVE) | store.ids_in_status(tx, DEACTIVATED)
        self.files.clear(with_data=with_data, staged=waiting & staged)

    def unowned_files(self) -> list[str]:
        """Files of images that have no data by the records, and get none now: for the leak check."""
        there = self.files.stored_ids()
        with self.db.read() as tx:
            kept = set().union(
                *(store.ids_in_status(tx, one) for one in (ACTIVE, DEACTIVATED, SAVING, IMPORTING, UPLOADING))
            )
        return sorted(there - kept - self.arriving)

    def add_file(
        self,
        *,
        name: str,
        path: Path,
        disk_format: str,
        owner: str | None,
        visibility: str = "public",
        properties: Mapping[str, str] | None = None,
        min_disk: int = 0,
        min_ram: int = 0,
    ) -> Image:
        """An image made of a file of the operator's, through the same gate.

        Idempotent: the same file under the same name is not read again, the same bytes under the same name are not kept
        twice.
        """
        about = path.stat()
        origin = f"{path.absolute()} {about.st_size} {about.st_mtime_ns}"
        attributes = {
            "name": name,
            "disk_format": disk_format,
            "container_format": "bare",
            "visibility": visibility,
            "min_disk": min_disk,
            "min_ram": min_ram,
        }
        check_attributes(attributes)
        with self.db.read() as tx:
            there = store.images(tx, store.from_files(name, origin=origin))
        image = there[0] if there else self.create(attributes, properties or {}, owner=owner, origin=origin)
        if image.status != QUEUED:
            return image
        drive(self.upload(image, file_chunks(path)))
        return self._one_of_twins(image.id, name, origin)

    def _one_of_twins(self, image_id: str, name: str, origin: str) -> Image:
        """An image just added, or the older one with the same name and bytes, which is then known by this origin."""
        with self.db.write() as tx:
            new = store.image(tx, image_id)
            if new is None:
                raise ImageNotFound(id=image_id)
            same = store.images(tx, store.from_files(name, os_hash_value=new.os_hash_value))
            twin = next((image for image in same if image.id != image_id), None)
            if twin is not None:
                store.set_image(tx, twin.id, {"origin": origin})
        if twin is None:
            return new
        drive(self.delete(new))
        return twin
