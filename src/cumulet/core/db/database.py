"""A service's database: transactions, connections per thread, and the rules that keep writers apart.

    with db.read() as tx:   tx.one(select(...))
    with db.write() as tx:  tx.insert(table, {...})

A write transaction holds the service's one write lock from BEGIN to COMMIT: on SQLite a lock in this process around BEGIN
IMMEDIATE (SQLite's own waiting is unfair), on PostgreSQL an advisory lock, so that both engines serialise a service's writers and a
quota counted inside a transaction stays true until its commit.
"""

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, Literal, Protocol, TypeVar

from sqlalchemy import Dialect, MetaData, Table, column, literal_column, select, table
from sqlalchemy.schema import CreateIndex, CreateTable

from cumulet.core.clock import Clock, SystemClock
from cumulet.core.db.outbox import OUTBOX, PREFIX, triggers
from cumulet.core.db.statements import Compiler, Ready
from cumulet.core.errors import CloudError
from cumulet.core.work import give_way

__all__ = [
    "Commit",
    "Database",
    "Duplicate",
    "Engine",
    "RowCache",
    "Tx",
    "assert_no_transaction",
    "deferring",
    "open_database",
]

T = TypeVar("T")

_local = threading.local()


class Duplicate(CloudError):
    """A row with the same key is there already; the store's caller turns it into its own conflict."""

    status = 409
    title = "Conflict"
    code = "conflictingRequest"
    default = "The object exists already."


class NestedTransactionError(RuntimeError):
    """A transaction was opened, or a door or the bus called, while this thread held one: a defect of ours."""


class ReadOnlyError(RuntimeError):
    """A read transaction was about to write: a defect of ours."""


def assert_no_transaction(doing: str) -> None:
    """Raise at once when this thread has an open transaction: a call out of it could wait for the lock it holds."""
    if getattr(_local, "open", None):
        msg = f"{doing} inside an open transaction of {_local.open}"
        raise NestedTransactionError(msg)


class Engine(Protocol):
    """What differs between SQLite and PostgreSQL.  One object per service's database."""

    dialect: Dialect

    def read(self) -> Any:
        """This thread's DB-API connection for reads."""

    def begin_write(self, moment: Callable[[], str] | None) -> Any:
        """Take the write lock, begin, and give this thread's writing connection.

        moment: what the time is; asked once the lock is held, and kept for the outbox's triggers.  None: there are none.
        """

    def end_write(self, connection: Any, *, commit: bool) -> None:
        """Commit or roll back, and release the lock."""

    def unsynced(self) -> Callable[[], None] | None:
        """What makes sure that no loss of power takes back what is committed by now; None: none can.  Any thread may call it."""

    def is_duplicate(self, error: Exception) -> bool:
        """Whether a driver's error says that a unique key exists."""

    def close(self) -> None:
        """Close every connection of every thread."""


class Commit:
    """A durable commit that is yet to be synced (`sync`, which blocks), and only then to be told (`announce`)."""

    __slots__ = ("_hooks", "sync")

    def __init__(self, sync: Callable[[], None] | None, hooks: Sequence[Callable[[], None]]) -> None:
        self.sync = sync
        self._hooks = hooks

    def announce(self) -> None:
        for hook in self._hooks:
            hook()


@contextlib.contextmanager
def deferring() -> Iterator[list[Commit]]:
    """Leave this thread's durable commits to the caller, who syncs them elsewhere and announces them; here, if there is an error."""
    outer, mine = getattr(_local, "deferred", None), list[Commit]()
    _local.deferred = mine
    try:
        yield mine
    except BaseException:
        for commit in mine:
            if commit.sync is not None:
                commit.sync()
            commit.announce()
        raise
    finally:
        _local.deferred = outer


class RowCache(Generic[T]):
    """Records made of rows, kept as long as their rows stay the same: exact, as each is compared with the row just read.

    Decoding a row with a dozen JSON columns costs twenty times what comparing it does.  The first column must be the key.
    """

    def __init__(self, make: Callable[[dict[str, Any]], T], *, size_max: int) -> None:
        self._make = make
        self._size_max = size_max
        self._kept: dict[Any, tuple[Any, T]] = {}

    def records(self, ready: Ready, raws: Sequence[Any]) -> list[T]:
        kept, made = self._kept, []
        for raw in raws:
            there = kept.get(raw[0])
            if there is None or there[0] != raw:
                there = (raw, self._make(ready.row(raw)))
                if len(kept) >= self._size_max:
                    # the oldest go; another thread may have been quicker
                    for key in list(itertools.islice(kept, self._size_max // 8)):
                        kept.pop(key, None)
                kept[raw[0]] = there
            made.append(there[1])
        return made


class Tx:
    """An open transaction.  Rows are dictionaries by column name; structs are made by the store."""

    __slots__ = ("_compiler", "_connection", "_engine", "after_commit", "durable", "writes")

    def __init__(self, connection: Any, engine: Engine, compiler: Compiler, *, writes: bool) -> None:
        self._connection = connection
        self._engine = engine
        self._compiler = compiler
        self.writes = writes
        #: whether the commit must outlive a loss of power, and not only of the process
        self.durable = False
        #: called in order once the commit is durable; for hints such as kicking a saga
        self.after_commit: list[Any] = []

    def all(self, statement: Any, **params: Any) -> list[dict[str, Any]]:
        ready, cursor = self._execute(statement, params)
        return ready.rows(cursor.fetchall())

    def one(self, statement: Any, **params: Any) -> dict[str, Any] | None:
        """The first row, or None."""
        ready, cursor = self._execute(statement, params)
        raw = cursor.fetchone()
        cursor.close()
        return None if raw is None else ready.row(raw)

    def value(self, statement: Any, **params: Any) -> Any:
        """The first column of the first row, or None."""
        row = self.one(statement, **params)
        return None if row is None else next(iter(row.values()))

    def values(self, statement: Any, **params: Any) -> list[Any]:
        """The first column of every row."""
        return [next(iter(row.values())) for row in self.all(statement, **params)]

    def records(self, statement: Any, cache: "RowCache[T]", **params: Any) -> list[T]:
        """The rows as the cache's records; one whose row is as it was is the same object as before."""
        ready, cursor = self._execute(statement, params)
        return cache.records(ready, cursor.fetchall())

    def find(self, table: Table, where: Mapping[str, Any]) -> dict[str, Any] | None:
        """A row that fits `where` (see `find_all`), or None."""
        ready, condition = self._compiler.find(table, where, ())
        cursor = self._bound(ready, condition)
        raw = cursor.fetchone()
        cursor.close()
        return None if raw is None else ready.row(raw)

    def find_all(self, table: Table, where: Mapping[str, Any], order: tuple[str, ...] = ()) -> list[dict[str, Any]]:
        """The rows that fit `where`, in the order of these columns.

        where: by column a value, None for NULL, `Not(value)`, or a tuple or list of values of which it is one.
        """
        ready, condition = self._compiler.find(table, where, order)
        return ready.rows(self._bound(ready, condition).fetchall())

    def run(self, statement: Any, **params: Any) -> int:
        """Execute; how many rows were touched.  The count makes a compare-and-set."""
        _, cursor = self._execute(statement, params)
        return int(cursor.rowcount)

    def insert(self, table: Table, row: Mapping[str, Any]) -> None:
        """One new row; raises Duplicate when its key exists."""
        cursor = self._bound(self._compiler.insert(table, tuple(row)), row)
        if cursor.rowcount == 0:  # on PostgreSQL, where an error would have ended the transaction
            raise Duplicate(detail=f"{table.name}: a row with the same key exists")

    def insert_many(self, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """New rows, all of the same columns; raises Duplicate when a key of theirs exists."""
        if not rows:
            return
        ready = self._compiler.insert(table, tuple(rows[0]))
        if not self.writes:
            raise ReadOnlyError(f"read-only transaction: {ready.text}")
        cursor = self._connection.cursor()
        try:
            cursor.executemany(ready.text, [ready.bind(row)[1] for row in rows])
        except Exception as error:
            if self._engine.is_duplicate(error):
                raise Duplicate(detail=str(error)) from error
            raise
        if cursor.rowcount != len(rows):  # as in `insert`
            raise Duplicate(detail=f"{table.name}: a row with the same key exists")

    def update(
        self, table: Table, where: Mapping[str, Any], values: Mapping[str, Any], *, one_more: tuple[str, ...] = ()
    ) -> int:
        """Write `values` into the rows that fit, and add one to the columns `one_more`; how many rows.

        The count makes a compare-and-set.
        where: as in `find_all`.
        """
        ready, condition = self._compiler.update(table, where, tuple(values), one_more)
        return int(self._bound(ready, {**values, **condition}).rowcount)

    def delete(self, table: Table, where: Mapping[str, Any]) -> int:
        """Remove the rows that fit `where`, as in `find_all`; how many."""
        ready, condition = self._compiler.delete(table, where)
        return int(self._bound(ready, condition).rowcount)

    def upsert(self, table: Table, row: Mapping[str, Any], key: Sequence[str]) -> None:
        """Insert, or overwrite the row with the same key."""
        self._bound(self._compiler.upsert(table, tuple(row), tuple(key)), row)

    def _execute(self, statement: Any, params: Mapping[str, Any]) -> tuple[Ready, Any]:
        ready, values = self._compiler.prepare(statement, params)
        return ready, self._bound(ready, values)

    def _bound(self, ready: Ready, values: Mapping[str, Any]) -> Any:
        if ready.writes and not self.writes:
            raise ReadOnlyError(f"read-only transaction: {ready.text}")
        text, bound = ready.bind(values)
        cursor = self._connection.cursor()
        try:
            cursor.execute(text, bound)
        except Exception as error:
            if self._engine.is_duplicate(error):
                raise Duplicate(detail=str(error)) from error
            raise
        return cursor


class Database:
    """One service's database.  Threads may share it."""

    def __init__(self, name: str, engine: Engine, metadata: MetaData, clock: Clock) -> None:
        self.name = name
        self.metadata = metadata
        #: called after each commit, whatever was written: a hint for whoever reads the outbox
        self.committed: Callable[[], None] | None = None
        self._engine = engine
        self._compiler = Compiler(engine.dialect)
        self._clock = clock
        #: the outbox's triggers need the time of each transaction
        self._moment: Callable[[], str] | None = None

    @property
    def dialect(self) -> str:
        return self._engine.dialect.name

    @contextlib.contextmanager
    def read(self) -> Iterator[Tx]:
        """A read transaction."""
        assert_no_transaction(f"a read of {self.name}")
        give_way()
        _local.open = self.name
        try:
            yield Tx(self._engine.read(), self._engine, self._compiler, writes=False)
        finally:
            _local.open = None

    @contextlib.contextmanager
    def write(self) -> Iterator[Tx]:
        """A write transaction: commits at the end, rolls back on any error."""
        assert_no_transaction(f"a write of {self.name}")
        give_way()
        connection = self._engine.begin_write(self._moment)
        _local.open = self.name
        tx = Tx(connection, self._engine, self._compiler, writes=True)
        try:
            yield tx
        except BaseException:
            _local.open = None
            self._engine.end_write(connection, commit=False)
            raise
        _local.open = None
        self._engine.end_write(connection, commit=True)
        commit = Commit(self._engine.unsynced() if tx.durable else None, [*self._told(), *tx.after_commit])
        deferred: list[Commit] | None = getattr(_local, "deferred", None)
        if commit.sync is not None and deferred is not None:
            deferred.append(commit)
            return
        if commit.sync is not None:
            commit.sync()
        commit.announce()

    def _told(self) -> list[Callable[[], None]]:
        return [] if self.committed is None else [self.committed]

    def create(self) -> bool:
        """Make the tables and triggers that are not there, and take away triggers of an older program.  True when it was empty."""
        with self.read() as tx:
            existing, there = self._names(tx, "table"), self._names(tx, "trigger")
        missing = [one for one in self.metadata.sorted_tables if one.name not in existing]
        wanted = triggers(self.metadata, self._engine.dialect)
        if missing or there.keys() != {one.name for one in wanted}:
            with self.write() as tx:
                cursor = tx._connection.cursor()  # noqa: SLF001 - DDL has no bound values, and Tx is this module's own
                for one in missing:
                    cursor.execute(str(CreateTable(one).compile(dialect=self._engine.dialect)))
                    for index in sorted(one.indexes, key=lambda i: str(i.name)):
                        cursor.execute(str(CreateIndex(index).compile(dialect=self._engine.dialect)))
                for name in there.keys() - {one.name for one in wanted}:
                    cursor.execute(
                        f'DROP TRIGGER "{name}"' + (f' ON "{there[name]}"' if self.dialect != "sqlite" else "")
                    )
                for trigger in wanted:
                    for statement in trigger.statements if trigger.name not in there else ():
                        cursor.execute(statement)
        if OUTBOX in self.metadata.tables:
            self._moment = self._clock.now
        return not existing

    def _names(self, tx: Tx, kind: Literal["table", "trigger"]) -> dict[str, str]:
        """The tables, or the outbox's triggers: names, and the table of each."""
        if self.dialect == "sqlite":
            master = table("sqlite_master", column("name"), column("type"), column("tbl_name"))
            found = select(master.c.name, master.c.tbl_name).where(master.c.type == kind)
        elif kind == "table":
            catalog = table("tables", column("table_name"), column("table_schema"), schema="information_schema")
            found = select(catalog.c.table_name, catalog.c.table_name.label("of")).where(
                catalog.c.table_schema == literal_column("current_schema()")
            )
        else:
            # information_schema shows a trigger to those only who may write its table
            catalog = table("pg_trigger", column("tgname"), column("tgrelid"))
            of = table("pg_class", column("oid"), column("relname"), column("relnamespace"))
            found = select(catalog.c.tgname, of.c.relname).where(
                catalog.c.tgrelid == of.c.oid,
                of.c.relnamespace == literal_column("current_schema()::regnamespace"),
            )
        rows = [tuple(row.values()) for row in tx.all(found)]
        return {name: of for name, of in rows if kind == "table" or name.startswith(PREFIX)}

    def close(self) -> None:
        self._engine.close()


def open_database(url: str, name: str, metadata: MetaData, clock: Clock | None = None) -> Database:
    """The database of service `name` at `url`: `sqlite:///DIR` (one file per service) or `postgresql://…` (one schema per service).

    clock: what its outbox goes by, if it has one.
    """
    clock = clock or SystemClock()
    if url.startswith("sqlite:"):
        from cumulet.core.db.sqlite import SqliteEngine

        return Database(name, SqliteEngine(url.removeprefix("sqlite://"), name), metadata, clock)
    from cumulet.core.db.postgres import PostgresEngine

    return Database(name, PostgresEngine(url, name), metadata, clock)
