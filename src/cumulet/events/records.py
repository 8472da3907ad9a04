"""An event, and what a reader wants of them."""

import msgspec

__all__ = ["Event", "Wanted"]


class _Shown(msgspec.Struct, frozen=True):
    """An event as readers see it."""

    number: int
    at: str
    kind: str
    id: str
    project_id: str | None
    change: str
    data: msgspec.Raw


_encode = msgspec.json.Encoder().encode


class Event(msgspec.Struct, frozen=True):
    """A row of the stream."""

    number: int
    source: str
    source_number: int
    at: str
    kind: str
    object_id: str
    project_id: str | None
    about: str | None
    word: str
    viewers: str | None
    data: str

    def frame(self) -> bytes:
        """The event as a message of the stream."""
        data = msgspec.Raw(self.data.encode())
        shown = _Shown(self.number, self.at, self.kind, self.object_id, self.project_id, self.word, data)
        return b"id: %d\ndata: %s\n\n" % (self.number, _encode(shown))


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a reader may and wants to see.  project_id: None for every project's.  object_id: of this object and what belongs to it."""

    project_id: str | None
    object_id: str | None = None

    def takes(self, event: Event) -> bool:
        """Whether an event that the project sees is wanted."""
        return self.object_id is None or self.object_id in {event.object_id, event.about}
