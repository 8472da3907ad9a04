"""The outbox: what changed, written by triggers in the transaction that changes it.

A service declares beside its tables which of them are watched (`Watched`) and calls `add_outbox(METADATA, *watched)`;
`Database.create` makes the triggers.  As the database itself writes the rows, no path of the code can forget one, none is lost between a
commit and its telling, and none tells of what was rolled back.  Rows are numbered from 1 without a gap in the order of their commits,
which the one writer at a time of each service makes possible on both engines; whoever reads them (`events.relay`) goes by the highest
number it has read.

Every row of a transaction has the time at which the transaction began, by the service's clock: SQLite's triggers ask a function of
the connection for it, PostgreSQL's read a setting of the transaction.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Dialect,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    literal_column,
)

from cumulet.core.db.types import Json

__all__ = [
    "MOMENT_FUNCTION",
    "MOMENT_SETTING",
    "OUTBOX",
    "Parent",
    "Trigger",
    "Value",
    "Watched",
    "add_outbox",
    "triggers",
]

OUTBOX = "outbox"
#: what tells the time of a transaction's beginning: to SQLite's triggers, and to PostgreSQL's
MOMENT_FUNCTION = "cumulet_moment"
MOMENT_SETTING = "cumulet.moment"
#: what the names of our triggers begin with; those with other digests are of an older program and go
PREFIX = "watch_"

#: a column of the row that changed, in an expression: `lambda value: value("project_id")`
Value = Callable[[str], ColumnElement[Any]]


@dataclass(frozen=True)
class Parent:
    """The row of another table that a watched one belongs to: `key` holds its `id`.  Its columns are named `parent.COLUMN`."""

    table: Table
    key: str


@dataclass(frozen=True, kw_only=True)
class Watched:
    """A table whose changes are events.

    kind: what the events are about; id, project: columns that name the object and its owner; shows: columns that an event carries and
    whose change makes one (`failure.message`: of a JSON document); also: columns whose change makes one, without being carried;
    about: the column with the id of another object it belongs to, so that whoever follows that one hears of this one; word: the column
    that says what happened, else it is created, changed or deleted; gone: the flag of rows that stay when the object is deleted;
    viewers: who sees it besides its project, as text: `*`, or ids of projects with spaces between.
    """

    table: Table
    kind: str
    shows: tuple[str, ...]
    also: tuple[str, ...] = ()
    id: str = "id"
    project: str | None = "project_id"
    about: str | None = None
    word: str | None = None
    gone: str | None = None
    parent: Parent | None = None
    viewers: Callable[[Value], ColumnElement[Any]] | None = None


@dataclass(frozen=True)
class Trigger:
    """Its name holds the digest of its statements, so that a changed declaration replaces it."""

    name: str
    table: str
    statements: tuple[str, ...]


def add_outbox(metadata: MetaData, *watched: Watched) -> Table:
    """Give a service's database an outbox for these tables."""
    metadata.info["watched"] = watched
    number = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers the rows itself, PostgreSQL's triggers do
    return Table(
        OUTBOX,
        metadata,
        Column("n", number, primary_key=True, autoincrement=False),
        Column("kind", String(32), nullable=False),
        Column("object_id", String(64), nullable=False),
        Column("project_id", String(255)),
        Column("about", String(64)),
        Column("word", String(16), nullable=False),
        Column("viewers", Text),
        # a JSON document, carried as it is
        Column("data", Text, nullable=False),
        Column("at", String(26), nullable=False),
    )


def triggers(metadata: MetaData, dialect: Dialect) -> list[Trigger]:
    """What `Database.create` makes for the declarations of `add_outbox`."""
    watched: tuple[Watched, ...] = metadata.info.get("watched", ())
    return [trigger for one in watched for trigger in _Writer(one, dialect).triggers()]


class _Writer:
    """The triggers of one table, in one engine's words."""

    def __init__(self, watched: Watched, dialect: Dialect) -> None:
        self._watched = watched
        self._dialect = dialect
        self._sqlite = dialect.name == "sqlite"

    def triggers(self) -> Iterator[Trigger]:
        yield self._trigger("INSERT", "new", "'created'")
        yield self._trigger("UPDATE", "new", "'changed'")
        yield self._trigger("DELETE", "old", "'deleted'")

    def _trigger(self, operation: str, row: str, word: str) -> Trigger:
        watched, table = self._watched, self._watched.table.name
        when = ""
        of = ""
        if operation == "UPDATE":
            columns = list(dict.fromkeys(self._changing()))
            differs = "IS NOT" if self._sqlite else "IS DISTINCT FROM"
            when = " OR ".join(f"old.{self._quoted(name)} {differs} new.{self._quoted(name)}" for name in columns)
            of = " OF " + ", ".join(self._quoted(name) for name in columns)
        if watched.gone is not None and operation == "UPDATE":
            word = f"CASE WHEN new.{watched.gone} THEN 'deleted' ELSE {word} END"
        if watched.gone is not None and operation == "DELETE":
            when = f"NOT old.{watched.gone}"
        if watched.word is not None and operation != "DELETE":
            word = self._value(watched.word, row)
        insert = self._insert(row, word, viewers=self._viewers(row, operation))
        condition = f" WHEN ({when})" if when else ""
        digest = hashlib.sha256(f"{of}{condition}{insert}".encode()).hexdigest()[:10]
        name = f"{PREFIX}{table}_{operation.lower()}_{digest}"
        event = f'AFTER {operation}{of} ON "{table}" FOR EACH ROW{condition}'
        if self._sqlite:
            return Trigger(name, table, (f'CREATE TRIGGER "{name}" {event} BEGIN {insert}; END',))
        body = f"BEGIN {insert}; RETURN NULL; END"
        function = f'CREATE OR REPLACE FUNCTION "{name}"() RETURNS trigger LANGUAGE plpgsql AS $watch${body}$watch$'
        return Trigger(name, table, (function, f'CREATE TRIGGER "{name}" {event} EXECUTE FUNCTION "{name}"()'))

    def _changing(self) -> Iterator[str]:
        watched = self._watched
        if watched.gone is not None:
            yield watched.gone
        for name in (*watched.shows, *watched.also, watched.word, watched.project, watched.about):
            if name is not None and not name.startswith("parent."):
                yield name.partition(".")[0]

    def _insert(self, row: str, word: str, *, viewers: str) -> str:
        watched = self._watched
        values = {
            "kind": f"'{watched.kind}'",
            "object_id": self._value(watched.id, row),
            "project_id": "NULL" if watched.project is None else self._value(watched.project, row),
            "about": "NULL" if watched.about is None else self._value(watched.about, row),
            "word": word,
            "viewers": viewers,
            "data": self._document(row),
        }
        if self._sqlite:
            values["at"] = f"{MOMENT_FUNCTION}()"
        else:
            values["at"] = f"coalesce(current_setting('{MOMENT_SETTING}', true), '')"
            values["n"] = f"(SELECT coalesce(max(n), 0) + 1 FROM {OUTBOX})"  # noqa: S608 - our own names
        source = ""
        if watched.parent is not None:
            source = f' FROM "{watched.parent.table.name}" AS parent WHERE parent.id = {row}.{watched.parent.key}'
        return f"INSERT INTO {OUTBOX} ({', '.join(values)}) SELECT {', '.join(values.values())}{source}"

    def _document(self, row: str) -> str:
        pairs = ", ".join(
            f"'{name.removeprefix('parent.').partition('.')[0]}', {self._shown(name, row)}"
            for name in self._watched.shows
        )
        return f"json_object({pairs})" if self._sqlite else f"json_build_object({pairs})::text"

    def _shown(self, name: str, row: str) -> str:
        """A value as it stands in the document."""
        value = self._value(name, row)
        if name.startswith("parent."):
            return value
        column, _, key = name.partition(".")
        kind = self._watched.table.c[column].type
        if key:
            value = f"{row}.{self._quoted(column)}"
            return f"json_extract({value}, '$.{key}')" if self._sqlite else f"({value}::json)->>'{key}'"
        if isinstance(kind, Json):
            return f"json({value})" if self._sqlite else f"{value}::json"
        if isinstance(kind, Boolean) and self._sqlite:
            return f"json(CASE {value} WHEN 1 THEN 'true' WHEN 0 THEN 'false' ELSE 'null' END)"
        return value

    def _viewers(self, row: str, operation: str) -> str:
        watched = self._watched
        viewers = "NULL"
        if watched.viewers is not None:
            found = watched.viewers(lambda name: literal_column(f"{row}.{self._quoted(name)}"))
            compiled = cast("Any", found).compile(dialect=self._dialect, compile_kwargs={"literal_binds": True})
            viewers = f"({compiled})"
        project = watched.project
        if operation == "UPDATE" and project is not None and not project.startswith("parent."):
            # who owned it before hears that it went
            quoted = self._quoted(project)
            differs = "IS NOT" if self._sqlite else "IS DISTINCT FROM"
            viewers = f"CASE WHEN old.{quoted} {differs} new.{quoted} THEN old.{quoted} ELSE {viewers} END"
        return viewers

    def _value(self, name: str, row: str) -> str:
        if name.startswith("parent."):
            return f"parent.{self._quoted(name.removeprefix('parent.'))}"
        return f"{row}.{self._quoted(name)}"

    def _quoted(self, name: str) -> str:
        return f'"{name}"'
