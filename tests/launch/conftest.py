"""One simulated cloud for all launch tests of a process."""

from collections.abc import Iterator

import pytest
from tests.launch.world import World

from cumulet.dev.cloud import RunningCloud


@pytest.fixture(scope="session")
def launch_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A running cloud.  Cheap password hashes: logging in is not what is tested."""
    state = tmp_path_factory.mktemp("launch")
    with RunningCloud(state, ["--sim", "--bcrypt-rounds", "4"], quiet=True) as cloud, World(cloud) as world:
        yield world


@pytest.fixture
def world(launch_world: World) -> Iterator[World]:
    """The cloud; whatever a test did in it, nothing may be left that has no owner."""
    before = launch_world.holdings()
    yield launch_world
    launch_world.until_holdings_are(before)
    assert launch_world.leaks() == []
