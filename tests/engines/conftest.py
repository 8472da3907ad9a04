"""Databases with tables of a test's own, on both engines: a store test that asks for `database` runs on each."""

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import MetaData

from cumulet.core.db import Database, open_database

MakeDatabase = Callable[[MetaData], Database]


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
