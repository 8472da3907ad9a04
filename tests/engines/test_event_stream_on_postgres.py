"""The event stream of a whole cloud whose databases are in PostgreSQL."""

from pathlib import Path

import pytest

from cumulet.dev.watch_proof import every_event_once


@pytest.mark.slow
def test_every_event_once_on_postgresql(postgres_url: str, tmp_path: Path) -> None:
    """Nothing lost, doubled or reordered through ten launches and as many lost connections."""
    said = every_event_once(tmp_path, launches=10, reconnects=10, seed=5, database_url=postgres_url)
    assert said.startswith("10 launches and deletions")
    assert not list(tmp_path.rglob("*.sqlite"))
