"""Databases that outlive their processes: one SQLite in memory per service, refusing and dying as dice say."""

import sqlite3
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Dialect, MetaData
from sqlalchemy.dialects.sqlite.base import SQLiteDialect

from cumulet.core.clock import Clock
from cumulet.core.db import Database
from cumulet.core.db.outbox import MOMENT_FUNCTION
from cumulet.core.db.sqlite import SqliteEngine
from cumulet.core.db.statements import Compiler
from cumulet.dev.chaos.agenda import Life
from cumulet.dev.chaos.perils import Perils

__all__ = ["Stores", "WorldEngine"]

_DIALECT: Dialect = SQLiteDialect(paramstyle="qmark")
#: statements are compiled once for all worlds of this process: that is most of what a start costs
_COMPILERS: dict[str, Compiler] = {}


class _Connection(sqlite3.Connection):
    #: when its transaction began
    moment = ""


class Stores:
    """The database server: a connection per service, made from the bytes of a template or empty."""

    def __init__(self, template: Mapping[str, bytes] | None = None) -> None:
        self._template = dict(template or {})
        self.connections: dict[str, _Connection] = {}

    def connection(self, name: str) -> _Connection:
        found = self.connections.get(name)
        if found is None:
            found = _Connection(":memory:", isolation_level=None, check_same_thread=False, cached_statements=512)
            found.create_function(MOMENT_FUNCTION, 0, lambda: found.moment)
            if name in self._template:
                found.deserialize(self._template[name])
            found.execute("PRAGMA foreign_keys=ON")
            found.execute("PRAGMA case_sensitive_like=ON")
            self.connections[name] = found
        return found

    def template(self) -> dict[str, bytes]:
        return {name: connection.serialize() for name, connection in self.connections.items()}

    def database(self, name: str, metadata: MetaData, engine: "WorldEngine", clock: Clock) -> Database:
        db = Database(name, engine, metadata, clock)
        db._compiler = _COMPILERS.setdefault(name, db._compiler)  # noqa: SLF001 - see above
        return db

    def close(self) -> None:
        for connection in self.connections.values():
            connection.close()


class WorldEngine:
    """`Engine` of one database, as one process sees it; without a process (`life`), as an onlooker does."""

    def __init__(self, name: str, connection: _Connection, *, life: Life | None, perils: Perils) -> None:
        self.dialect = _DIALECT
        self._name = name
        self._connection = connection
        self._life = life
        self._perils = perils

    def read(self) -> Any:
        if self._life is not None:
            self._life.check(f"a read of {self._name}")
        return self._connection

    def begin_write(self, moment: Callable[[], str] | None) -> Any:
        if self._life is not None:
            self._perils.boundary(self._life, f"{self._name} begin")
            if self._perils.strikes("database refuses", f"{self._name} begin", self._perils.rates.database):
                raise sqlite3.OperationalError("database is locked")
        self._connection.execute("BEGIN")
        if moment is not None:
            self._connection.moment = moment()
        return self._connection

    def end_write(self, connection: Any, *, commit: bool) -> None:
        if not commit:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            return
        if self._life is not None:
            try:
                self._perils.boundary(self._life, f"{self._name} commit before")
                if self._perils.strikes("database refuses", f"{self._name} commit", self._perils.rates.database):
                    raise sqlite3.OperationalError("disk I/O error")
            except BaseException:
                connection.execute("ROLLBACK")
                raise
        connection.execute("COMMIT")
        if self._life is not None:
            self._perils.boundary(self._life, f"{self._name} commit after")

    def unsynced(self) -> None:
        """What is committed stays: the world kills processes and takes no power away."""

    is_duplicate = staticmethod(SqliteEngine.is_duplicate)

    def close(self) -> None:
        """The database server stays."""
