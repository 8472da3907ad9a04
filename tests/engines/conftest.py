"""The two database engines, as a parameter: a store test that asks for `database` runs on both."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import MetaData

from cumulet.core.db import Database, open_database

MakeDatabase = Callable[[MetaData], Database]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.engines("postgres"))])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a test's databases are, on each engine in turn."""
    if request.param == "sqlite":
        return f"sqlite://{tmp_path}"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def database(database_url: str) -> Iterator[MakeDatabase]:
    """Makes an empty database with these tables; it is closed with the test."""
    made: list[Database] = []

    def make(metadata: MetaData) -> Database:
        made.append(open_database(database_url, f"service{len(made)}", metadata))
        made[-1].create()
        return made[-1]

    yield make
    for one in made:
        one.close()
