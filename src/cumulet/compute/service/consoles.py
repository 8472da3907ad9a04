"""Console tokens: a secret in a URL that opens one guest's screen once, within ten minutes.  Only its digest is kept."""

import hashlib
from typing import Any

from sqlalchemy import delete, select, update

from cumulet.compute.records import Server
from cumulet.compute.tables import CONSOLE_TOKENS as T
from cumulet.core.clock import Clock, add_seconds
from cumulet.core.db import Database
from cumulet.core.errors import NotFound
from cumulet.core.ids import Ids

__all__ = ["ConsoleTokens"]

LIFE_S = 600


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


class ConsoleTokens:
    """Issues tokens and takes them back."""

    def __init__(self, db: Database, *, clock: Clock, ids: Ids) -> None:
        self._db = db
        self._clock = clock
        self._ids = ids

    def issue(self, server: Server, console_type: str) -> str:
        """A token for a server's screen; tokens past their time are swept on the way."""
        token = self._ids.secret(32)
        now = self._clock.now()
        row: dict[str, Any] = {
            "digest": _digest(token),
            "server_id": server.id,
            "host": server.host,
            "console_type": console_type,
            "expires_at": add_seconds(now, LIFE_S),
            "used": False,
        }
        with self._db.write() as tx:
            tx.run(delete(T).where(T.c.expires_at < now))
            tx.insert(T, row)
        return token

    def take(self, token: str) -> tuple[str, str]:
        """(server, host) of a token, which is used up by this.  Raises NotFound for one that is unknown, used, or too old."""
        digest = _digest(token)
        with self._db.write() as tx:
            statement = update(T).where(T.c.digest == digest, T.c.used.is_(False), T.c.expires_at >= self._clock.now())
            if not tx.run(statement.values(used=True)):
                raise NotFound("The console token is unknown, used, or expired.")
            row = tx.one(select(T.c.server_id, T.c.host).where(T.c.digest == digest))
        assert row is not None  # noqa: S101 - updated just now
        return row["server_id"], row["host"]
