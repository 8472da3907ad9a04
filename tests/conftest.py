"""What the whole suite shares: the private engines, and the order and company in which tests run.

A test that uses `postgres_url` or `rabbitmq_url` is an engine test by that; one that asks for them while running says
so with `@pytest.mark.engines("postgres")` or `("rabbitmq")`.  Engine tests of one engine go to one process, so each
engine is started at most once; real tests go to one process as well, one after another, when everything else has been
handed out.
"""

import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from cumulet.dev.engines import PrivatePostgres, PrivateRabbitMQ

# a busy machine is no failure of a property: no example has to be quick
hypothesis.settings.register_profile(
    "house", hypothesis.settings(deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
)
hypothesis.settings.load_profile("house")

# a run in the background is begun deaf to interrupts, and all that its tests interrupt would be
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_ENGINE_OF_FIXTURE = {
    "postgres": "postgres",
    "postgres_url": "postgres",
    "rabbitmq": "rabbitmq",
    "rabbitmq_url": "rabbitmq",
}
_PLAIN, _ENGINES, _REAL = range(3)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options by which `./dev test` says what cannot run here."""
    parser.addoption(
        "--without-engines", metavar="WHY", help="skip the tests that need PostgreSQL or RabbitMQ, for this reason"
    )
    parser.addoption(
        "--without-real", metavar="WHY", help="skip the tests that need root and real daemons, for this reason"
    )


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in the same hook
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark, group and order: plain tests first, then engines, then the real things."""
    stages = {item: _stage(item) for item in items}
    for option, stage in (("without_engines", _ENGINES), ("without_real", _REAL)):
        if why := config.getoption(option):
            for item in items:
                if stages[item] == stage:
                    item.add_marker(pytest.mark.skip(reason=why))
    items.sort(key=lambda item: (stages[item], _engine(item) or ""))


def _stage(item: pytest.Item) -> int:
    if item.get_closest_marker("real"):
        item.add_marker(pytest.mark.xdist_group("real"))
        return _REAL
    if engine := _engine(item):
        item.add_marker(pytest.mark.engines(engine))
        item.add_marker(pytest.mark.xdist_group(engine))
        return _ENGINES
    return _PLAIN


def _engine(item: pytest.Item) -> str | None:
    """The engine by which a test is grouped: what it is marked with, or the last of those whose fixtures it asks
    for."""
    marker = item.get_closest_marker("engines")
    if marker and marker.args:
        return str(marker.args[0])
    asked = [_ENGINE_OF_FIXTURE[name] for name in getattr(item, "fixturenames", ()) if name in _ENGINE_OF_FIXTURE]
    return max(asked, default="postgres" if marker else None)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PrivatePostgres]:
    """A PostgreSQL of this process's own."""
    with PrivatePostgres() as engine:
        yield engine


@pytest.fixture
def postgres_url(postgres: PrivatePostgres) -> Iterator[str]:
    """The URL of an empty database of this test's own."""
    name = postgres.create_database()
    yield postgres.url(name)
    postgres.drop_database(name)


BOTH_ENGINES = ("sqlite", pytest.param("postgresql", marks=pytest.mark.engines("postgres")))


@pytest.fixture(params=BOTH_ENGINES)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a test's databases are, on each engine in turn: what asks for it tests the same of both."""
    if request.param == "sqlite":
        return f"sqlite://{tmp_path}"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture(scope="module", params=BOTH_ENGINES)
def module_database_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The same for a world that a module's tests share because they only look at it."""
    if request.param == "sqlite":
        yield f"sqlite://{tmp_path_factory.mktemp('databases')}"
        return
    engine: PrivatePostgres = request.getfixturevalue("postgres")
    name = engine.create_database()
    yield engine.url(name)
    engine.drop_database(name)


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[PrivateRabbitMQ]:
    """A RabbitMQ of this process's own."""
    with PrivateRabbitMQ() as engine:
        yield engine


@pytest.fixture
def rabbitmq_url(rabbitmq: PrivateRabbitMQ) -> Iterator[str]:
    """The URL of an empty virtual host of this test's own."""
    name = rabbitmq.create_vhost()
    yield rabbitmq.url(name)
    rabbitmq.delete_vhost(name)
