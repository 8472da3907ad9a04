"""The private PostgreSQL that store tests run on."""

import psycopg

from cumulet.dev.engines import PrivatePostgres


def test_each_database_is_empty_and_alone(postgres: PrivatePostgres, postgres_url: str) -> None:
    """What one test writes, the next does not see."""
    with psycopg.connect(postgres_url) as connection:
        connection.execute("CREATE TABLE things (id int)")
    other = postgres.create_database()
    with psycopg.connect(postgres.url(other)) as connection:
        tables = connection.execute("SELECT count(*) FROM pg_tables WHERE tablename = 'things'").fetchone()
    postgres.drop_database(other)
    assert tables == (0,)


def test_a_database_is_cloned_from_a_template_that_is_filled_once(postgres: PrivatePostgres) -> None:
    """Two clones hold what the template held, and the template was filled for the first only."""
    fillings = []

    def fill(url: str) -> None:
        fillings.append(url)
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE things AS SELECT 7 AS id")

    clones = [postgres.create_database(template=postgres.template("with_things", fill)) for _ in range(2)]
    found = []
    for clone in clones:
        with psycopg.connect(postgres.url(clone)) as connection:
            found.append(connection.execute("SELECT id FROM things").fetchall())
        postgres.drop_database(clone)
    assert found == [[(7,)], [(7,)]]
    assert len(fillings) == 1


def test_committed_rows_survive_a_crash(postgres: PrivatePostgres, postgres_url: str) -> None:
    """After `restart` a client has lost its connection and none of its commits."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE things AS SELECT 1 AS id")
        connection.execute("CHECKPOINT")  # commits are not synchronous here
    postgres.restart()
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("SELECT id FROM things").fetchall() == [(1,)]


def test_nothing_stays_behind() -> None:
    """A stopped engine has no folder, and its server is gone."""
    with PrivatePostgres() as engine:
        folder = engine.folder
        assert (folder / "data/postmaster.pid").exists()
        with psycopg.connect(engine.url()) as connection:
            assert connection.info.server_version >= 150000
    assert not folder.exists()
