"""A request that may be sent twice: the client names it with `Idempotency-Key`, and however often it comes, it makes its objects once.

The key is a row of the service's own database, written in the transaction that makes the objects: either both are there or neither, so
a process that dies before it answers still gives the same objects to whoever asks again.  The row's primary key decides between two
that run at once, also in two processes; within one process the second waits for the first, and both get the same answer.  An answer is
not stored: it is built anew from the objects as they are, so nothing that is shown once only is ever kept.

Neither the key nor the body is stored.  The row has a digest of who asked, what kind of thing for, and the key; and a digest of the body
that cannot be tried out without the key.
"""

import hashlib
import hmac
import re
import threading
from concurrent.futures import Future
from typing import Any

import msgspec
from sqlalchemy import Column, Index, MetaData, String, Table, bindparam, select

from cumulet.core.clock import Clock, add_seconds
from cumulet.core.context import Context
from cumulet.core.db import Database, Json, Tx
from cumulet.core.errors import BadRequest, Conflict

__all__ = ["KEPT_S", "KEY_MAX", "WAIT_S", "Key", "Keys", "key_table"]

#: visible ASCII: a UUID is what a client should send
KEY_MAX = 255
KEPT_S = 24 * 3600.0
#: how long one waits for a twin that runs
WAIT_S = 60.0
#: how many old keys go in one transaction
FORGOTTEN_AT_ONCE = 1000

_ALLOWED = re.compile(rf"[!-~]{{1,{KEY_MAX}}}")
_encode = msgspec.json.Encoder(order="deterministic").encode


def key_table(metadata: MetaData) -> Table:
    """The keys' table, made part of a service's own database."""
    return Table(
        "idempotency_keys",
        metadata,
        Column("digest", String(64), primary_key=True),
        Column("body", String(64), nullable=False),
        # of the objects that were made, in order
        Column("ids", Json, nullable=False),
        Column("created_at", String(26), nullable=False),
        Index("ix_idempotency_keys_created", "created_at"),
    )


class Key:
    """The key of one request.  Who makes the objects says so with `keep`, in the same transaction."""

    __slots__ = ("_now", "_table", "body", "digest")

    def __init__(self, table: Table, digest: str, body: str, now: str) -> None:
        self._table = table
        self._now = now
        self.digest = digest
        self.body = body

    def keep(self, tx: Tx, ids: list[str]) -> None:
        """Raises Duplicate, which ends the transaction, when a twin was first."""
        tx.insert(self._table, {"digest": self.digest, "body": self.body, "ids": ids, "created_at": self._now})

    def drop(self, tx: Tx) -> None:
        """The objects are taken back: the request may be tried again."""
        tx.delete(self._table, {"digest": self.digest})


class Keys:
    """The keys of one service.  Threads may share it."""

    def __init__(self, db: Database, table: Table, clock: Clock) -> None:
        self._db = db
        self._table = table
        self._clock = clock
        self._running: dict[str, Future[None]] = {}
        self._lock = threading.Lock()
        self._old = (
            select(table.c.digest)
            .where(table.c.created_at < bindparam("before"))
            .order_by(table.c.created_at)
            .limit(FORGOTTEN_AT_ONCE)
        )

    def read(self, context: Context, kind: str, text: str, body: Any) -> Key:
        """The key of a request: the caller's own, for one kind of thing.  Raises BadRequest."""
        if not _ALLOWED.fullmatch(text):
            raise BadRequest(
                f"The header Idempotency-Key takes 1 to {KEY_MAX} visible ASCII characters without spaces."
            )
        who = "\n".join((context.project_id or "", context.user_id, kind, text))
        meant = hmac.new(text.encode(), _encode(body), hashlib.sha256)
        return Key(self._table, hashlib.sha256(who.encode()).hexdigest(), meant.hexdigest(), self._clock.now())

    def begin(self, key: Key) -> Future[None] | None:
        """None when nobody runs with this key: from now on the caller does, until `end`.  Else what is done when the other has ended."""
        with self._lock:
            other = self._running.get(key.digest)
            if other is None:
                self._running[key.digest] = Future()
            return other

    def end(self, key: Key) -> None:
        with self._lock:
            mine = self._running.pop(key.digest)
        mine.set_result(None)

    def made(self, key: Key) -> list[str] | None:
        """What was made with this key, or None.  Raises Conflict when that was with another body."""
        with self._db.read() as tx:
            row = tx.find(self._table, {"digest": key.digest})
        if row is None:
            return None
        if row["body"] != key.body:
            raise Conflict(
                "This Idempotency-Key was used before, with another request body. Use a new key for a new request."
            )
        ids: list[str] = row["ids"]
        return ids

    def forget(self) -> bool:
        """Remove keys whose time is over; whether there may be more of them.  To be called now and then."""
        before = add_seconds(self._clock.now(), -KEPT_S)
        with self._db.read() as tx:
            old = tx.values(self._old, before=before)
        if old:
            with self._db.write() as tx:
                tx.delete(self._table, {"digest": old})
        return len(old) == FORGOTTEN_AT_ONCE
