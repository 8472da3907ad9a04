"""SQLite's write-ahead log under constant load."""

import time
from pathlib import Path

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table

from cumulet.core.db import open_database, sqlite

METADATA = MetaData()
THINGS = Table("things", METADATA, Column("id", Integer, primary_key=True), Column("text", String(4000)))
#: of the log alone, were it never begun anew
WRITES_MAX = 20_000
PAGE = 4096


def test_the_log_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while somebody writes without a pause, it is begun anew once it is long: then it takes more without becoming longer."""
    monkeypatch.setattr(sqlite, "LOG_PAGES_MAX", 100)
    monkeypatch.setattr(sqlite, "CHECKPOINT_PAUSE_S", 0.01)
    db = open_database(f"sqlite://{tmp_path}", "log", METADATA)
    db.create()
    log, ends = tmp_path / "log.sqlite-wal", time.monotonic() + 20
    sizes, number = [0], 0
    while sizes[-1] < 100 * PAGE or sizes[-1] != sizes[-2]:
        assert time.monotonic() < ends
        assert number < WRITES_MAX
        for _ in range(50):
            number += 1
            with db.write() as tx:
                tx.insert(THINGS, {"id": number, "text": "x" * 4000})
        sizes.append(log.stat().st_size)
    with db.read() as tx:
        assert len(tx.find_all(THINGS, {})) == number
    db.close()
