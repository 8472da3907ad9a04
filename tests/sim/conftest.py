"""A cloud of the simulated world, for tests that look at one thing in it."""

from collections.abc import Iterator

import pytest

from cumulet.dev.chaos.proofs import Stage
from cumulet.dev.chaos.world import World, template


@pytest.fixture
def stage() -> Iterator[Stage]:
    """A cloud of three hosts where nothing goes wrong by itself."""
    with template() as made:
        world = World(1, template=made)
        world.perils.on = False
        world.start()
        yield Stage(world)
        world.close()
