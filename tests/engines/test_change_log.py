"""The log of changes: a reader learns which keys changed since a number, or that it is too late for that; on both engines."""

from collections.abc import Callable

import pytest
from sqlalchemy import MetaData

from cumulet.core.db import ChangeLog, Changes, Database


def test_a_reader_learns_what_changed(database: Callable[[MetaData], Database]) -> None:
    """Each key once, in the order of the first change; then nothing; what was rolled back is no change."""
    metadata = MetaData()
    log = ChangeLog(metadata, "things")
    db = database(metadata)
    with db.read() as tx:
        assert log.newest(tx) == 0
        assert log.since(tx, 0) == Changes(0, ())
    with db.write() as tx:
        log.note(tx, ["a", "b"])

    def rolled_back() -> None:
        with db.write() as tx:
            log.note(tx, ["never"])
            raise LookupError

    with pytest.raises(LookupError):
        rolled_back()
    with db.write() as tx:
        log.note(tx, ["a", "c"])
    with db.read() as tx:
        found = log.since(tx, 0)
        assert found.keys == ("a", "b", "c")
        assert found.number == log.newest(tx)
        assert log.since(tx, found.number) == Changes(found.number, ())


def test_a_reader_that_comes_too_late_is_told(database: Callable[[MetaData], Database]) -> None:
    """Only so many are kept; who is among them loses nothing."""
    metadata = MetaData()
    log = ChangeLog(metadata, "things", kept=200)
    db = database(metadata)
    for first in range(0, 1000, 50):
        with db.write() as tx:
            log.note(tx, [str(key) for key in range(first, first + 50)])
    with db.read() as tx:
        newest = log.newest(tx)
        assert log.since(tx, 0).keys is None
        assert log.since(tx, newest - 150).keys == tuple(str(key) for key in range(850, 1000))
        assert log.since(tx, newest - 500) == Changes(newest, None)
        assert len(tx.values(log.table.select())) <= 300
