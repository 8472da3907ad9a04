"""With whom an image is shared: the owner offers, the member accepts or rejects."""

from cumulet.core.clock import Clock
from cumulet.core.db import Database, Duplicate
from cumulet.core.errors import Conflict, Forbidden
from cumulet.image import store
from cumulet.image.records import Image, Member, MemberNotFound, TooMany

__all__ = ["Members"]


class Members:
    """See the module's docstring."""

    def __init__(self, db: Database, *, clock: Clock, members_max: int) -> None:
        self._db = db
        self._clock = clock
        self._max = members_max

    def list(self, image: Image) -> list[Member]:
        with self._db.read() as tx:
            return store.members(tx, image.id)

    def get(self, image: Image, member_id: str) -> Member:
        with self._db.read() as tx:
            found = store.member(tx, image.id, member_id)
        if found is None:
            raise MemberNotFound(member_id=member_id, id=image.id)
        return found

    def add(self, image: Image, member_id: str) -> Member:
        """Offer an image to a project; it shows in that project's list once accepted."""
        self._require_shared(image)
        now = self._clock.now()
        new = Member(image_id=image.id, member_id=member_id, status="pending", created_at=now, updated_at=now)
        with self._db.write() as tx:
            count = len(store.members(tx, image.id)) + 1
            if count > self._max:
                raise TooMany(things="members", attempted=count, maximum=self._max)
            try:
                store.add_member(tx, new)
            except Duplicate:
                raise Conflict(f"Image member {member_id} already exists for image {image.id}") from None
        return new

    def set_status(self, image: Image, member_id: str, status: str) -> Member:
        self._require_shared(image)
        with self._db.write() as tx:
            if not store.set_member(tx, image.id, member_id, status=status, updated_at=self._clock.now()):
                raise MemberNotFound(member_id=member_id, id=image.id)
            found = store.member(tx, image.id, member_id)
        if found is None:
            raise MemberNotFound(member_id=member_id, id=image.id)
        return found

    def remove(self, image: Image, member_id: str) -> None:
        self._require_shared(image)
        with self._db.write() as tx:
            if not store.remove_member(tx, image.id, member_id):
                raise MemberNotFound(member_id=member_id, id=image.id)

    @staticmethod
    def _require_shared(image: Image) -> None:
        if image.visibility != "shared":
            raise Forbidden("Only shared images have members.")
