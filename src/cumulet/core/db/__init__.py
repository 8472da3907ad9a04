"""The database: one file per service embedded (SQLite), one schema per service on a server (PostgreSQL).

Statements are written with SQLAlchemy Core and compiled once; they run on the bare driver, which costs a tenth of SQLAlchemy's own
execution (6 against 57 us for a select by key).  Both engines give the same promises: one writer at a time per service, reads that
cannot write, no door or bus call inside an open transaction.
"""

from cumulet.core.db.changes import ChangeLog, Changes
from cumulet.core.db.database import (
    Commit,
    Database,
    Duplicate,
    RowCache,
    Tx,
    assert_no_transaction,
    deferring,
    open_database,
)
from cumulet.core.db.outbox import Parent, Watched, add_outbox
from cumulet.core.db.statements import Not
from cumulet.core.db.types import Json

__all__ = [
    "ChangeLog",
    "Changes",
    "Commit",
    "Database",
    "Duplicate",
    "Json",
    "Not",
    "Parent",
    "RowCache",
    "Tx",
    "Watched",
    "add_outbox",
    "assert_no_transaction",
    "deferring",
    "open_database",
]
