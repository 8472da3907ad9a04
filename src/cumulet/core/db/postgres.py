"""PostgreSQL: one schema per service in one database, one connection per thread and service.

A write transaction takes an advisory lock of its service first.  That gives up parallel writers within a service for the same
promise SQLite makes: what a transaction has counted stays true until it commits.
"""

import threading
import zlib
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from sqlalchemy import Dialect
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from cumulet.core.db.outbox import MOMENT_SETTING

__all__ = ["PostgresEngine"]


class _Number(Loader):
    """A `numeric`, which sums and averages are, as SQLite gives it: an int, or a float when it has a fraction."""

    def load(self, data: Buffer) -> int | float:
        text = bytes(data).decode()
        return int(text) if text.lstrip("-").isdigit() else float(text)


class PostgresEngine:
    """The schema of one service."""

    def __init__(self, url: str, name: str) -> None:
        self.dialect: Dialect = PGDialect_psycopg()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped
        self._url = url
        self._schema = name
        self._key = zlib.crc32(f"cumulet.{name}".encode())
        self._local = threading.local()
        self._all: list[psycopg.Connection[Any]] = []
        self._all_lock = threading.Lock()
        with psycopg.connect(url, autocommit=True) as connection:
            # two starters at once would race between the test and the creation
            connection.execute("SELECT pg_advisory_lock(%s)", (self._key,))
            connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{name}"'.encode())

    def _connect(self, *, read_only: bool) -> psycopg.Connection[Any]:
        options = f"-c search_path={self._schema}" + (" -c default_transaction_read_only=on" if read_only else "")
        connection = psycopg.connect(self._url, autocommit=True, options=options, prepare_threshold=3)
        connection.adapters.register_loader("numeric", _Number)
        with self._all_lock:
            self._all.append(connection)
        return connection

    def read(self) -> psycopg.Connection[Any]:
        connection: psycopg.Connection[Any] | None = getattr(self._local, "reader", None)
        if connection is None or connection.closed:
            connection = self._local.reader = self._connect(read_only=True)
        return connection

    def begin_write(self, moment: Callable[[], str] | None) -> psycopg.Connection[Any]:
        connection: psycopg.Connection[Any] | None = getattr(self._local, "writer", None)
        if connection is None or connection.closed:
            connection = self._local.writer = self._connect(read_only=False)
        connection.execute("BEGIN")
        try:
            if moment is None:
                connection.execute("SELECT pg_advisory_xact_lock(%s)", (self._key,))
            else:
                # one message for both; the time before the lock will do, as order within a service is by number
                lock = "SELECT pg_advisory_xact_lock(%s), set_config(%s, %s, true)"
                connection.execute(lock, (self._key, MOMENT_SETTING, moment()))
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        return connection

    def end_write(self, connection: psycopg.Connection[Any], *, commit: bool) -> None:
        done = connection.execute("COMMIT" if commit else "ROLLBACK").statusmessage
        if commit and done != "COMMIT":
            # after an error that somebody caught, COMMIT rolls back and says so in its tag only
            msg = f"a transaction of {self._schema} was to be committed after an error in it: {done}"
            raise psycopg.errors.InFailedSqlTransaction(msg)

    def unsynced(self) -> None:
        """Every commit is as durable as the server is set up to make it."""

    def is_duplicate(self, error: Exception) -> bool:
        return isinstance(error, psycopg.errors.UniqueViolation)

    def close(self) -> None:
        with self._all_lock:
            for connection in self._all:
                connection.close()
            self._all.clear()
