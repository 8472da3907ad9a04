"""The stream's tables.  An event's number is given once its change is committed, and never twice."""

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, String, Table, Text

__all__ = ["EVENTS", "METADATA", "POSITIONS"]

METADATA = MetaData()

_NUMBER = BigInteger().with_variant(Integer, "sqlite")  # SQLite's own row number has to be called INTEGER

EVENTS = Table(
    "events",
    METADATA,
    Column("number", _NUMBER, primary_key=True, autoincrement=False),
    # which outbox it came from, and its number there
    Column("source", String(16), nullable=False),
    Column("source_number", BigInteger, nullable=False),
    Column("at", String(26), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("object_id", String(64), nullable=False),
    Column("project_id", String(255)),
    Column("about", String(64)),
    Column("word", String(16), nullable=False),
    # projects that see it besides its own: `*`, or ids with spaces between
    Column("viewers", Text),
    Column("data", Text, nullable=False),
    Index("ix_events_at", "at"),
)

#: by service: the number up to which its outbox is in the stream.  By the empty name: the last number given
POSITIONS = Table(
    "positions",
    METADATA,
    Column("source", String(16), primary_key=True),
    Column("number", BigInteger, nullable=False),
)
