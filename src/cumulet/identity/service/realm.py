"""What all parts of identity stand on: database, clock, identifiers, settings, and the revision of everything a token
depends on.
"""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec

from cumulet.core.clock import Clock
from cumulet.core.db import Database, Tx
from cumulet.core.errors import Conflict, Forbidden, NotFound
from cumulet.core.ids import Ids
from cumulet.identity.config import IdentityConfig
from cumulet.identity.roles import RoleGraph
from cumulet.identity.store import access, revision, rows

__all__ = ["Realm", "immutable", "merged", "missing", "split_extra", "taken"]

T = TypeVar("T", bound=msgspec.Struct)


#: what the reference calls a record, where it is not the struct's own name
WORDS = {
    "AccessRule": "access rule",
    "ApplicationCredential": "application credential",
    "EndpointGroup": "endpoint group",
    "PolicyDocument": "policy",
    "RegisteredLimit": "registered limit",
}


class Realm:
    """Shared by the parts.  Writes go through `write`, which raises the revision in the same transaction."""

    def __init__(self, db: Database, *, clock: Clock, ids: Ids, config: IdentityConfig) -> None:
        self.db = db
        self.clock = clock
        self.ids = ids
        self.config = config
        self._lock = threading.Lock()
        #: raised before and after each commit, so that nothing read in between is taken for current
        self._local = 0
        self._graph: tuple[object, RoleGraph] | None = None

    @contextlib.contextmanager
    def write(self) -> Iterator[Tx]:
        """A change: whatever was validated before it is looked at anew."""
        with self.db.write() as tx:
            revision.bump(tx)
            tx.after_commit.append(self._raise)
            self._raise()
            yield tx

    def revision(self) -> object:
        """Equal as long as nothing has changed."""
        if not self.config.shared_database:
            return self._local
        with self.db.read() as tx:
            return (self._local, revision.read(tx))

    def _raise(self) -> None:
        with self._lock:
            self._local += 1

    def graph(self, tx: Tx) -> RoleGraph:
        """All roles and what they imply; kept as long as the revision stands."""
        now: object = (self._local, revision.read(tx)) if self.config.shared_database else self._local
        kept = self._graph
        if kept is not None and kept[0] == now and not tx.writes:
            return kept[1]
        graph = RoleGraph(access.roles(tx), access.implications(tx))
        if not tx.writes:
            self._graph = (now, graph)
        return graph

    def get(self, kind: type[T], id: str, word: str | None = None) -> T:
        """A record.  Raises NotFound in the reference's words."""
        with self.db.read() as tx:
            return self.need(tx, kind, id, word)

    def find(self, kind: type[T], *, limit: int | None = None, after: str | None = None, **where: Any) -> list[T]:
        """Every record that matches, by id; see `store.rows.find`."""
        with self.db.read() as tx:
            return rows.find(tx, kind, limit=limit, after=after, **where)

    def need(self, tx: Tx, kind: type[T], id: str, word: str | None = None) -> T:
        """The same inside a transaction."""
        found = rows.get(tx, kind, id)
        if found is None:
            raise missing(word or WORDS.get(kind.__name__, kind.__name__.lower()), id)
        return found


def missing(word: str, id: str) -> NotFound:
    return NotFound(f"Could not find {word}: {id}.")


def taken(word: str, name: str, domain_id: str | None = None) -> Conflict:
    """The reference's words for a name that somebody has."""
    where = f" at domain ID {domain_id}" if domain_id else ""
    return Conflict(f"Conflict occurred attempting to store {word} - Duplicate entry found with name {name}{where}.")


def immutable(kind: str, record: Any, changes: dict[str, Any] | None = None) -> None:
    """Raise Forbidden for a record that an operator has protected, unless the change takes that protection away."""
    if not record.options.get("immutable"):
        return
    if changes is not None and changes.get("options", {}).get("immutable", True) in {False, None}:
        return
    act = "delete" if changes is None else "update"
    msg = f"Cannot {act} {kind} {record.id}: the resource is marked immutable."
    raise Forbidden(msg)


def split_extra(given: dict[str, Any], known: frozenset[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What identity knows, and what it only keeps."""
    ours = {key: value for key, value in given.items() if key in known}
    extra = {key: value for key, value in given.items() if key not in known and key not in {"id", "links"}}
    return ours, extra


def merged(options: dict[str, Any], changes: dict[str, Any] | None) -> dict[str, Any]:
    """Options after a change: null takes one away."""
    return {key: value for key, value in {**options, **(changes or {})}.items() if value is not None}
