"""Orders to hosts: what gets lost is sent again, what comes twice is done once, and a host that begins anew is told anew."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.sim.saga_world import HOST, STEPS, Effects, World, wait_for

from cumulet.core.bus.transport import BusTimeoutError
from cumulet.core.clock import add_seconds
from cumulet.core.reconcile import Row
from cumulet.core.saga import Entry, Fetch, Record, executor
from cumulet.core.saga.keeper import SagaKeeper
from cumulet.core.saga.orders import PAUSE_S_MAX, TAKEN_UP_S, Orders

MakeWorld = Callable[..., World]
START = "2026-01-01T00:00:00.000000"
UNHEARD = Row("order", "unheard", 30.0, "the host", "it is sent again", "send_again")
RUNNING = Row("saga", "running", 300.0, "the coordinator", "it goes on", "go_on")


@pytest.fixture
def effects() -> Effects:
    """What the steps leave behind."""
    return Effects()


@pytest.fixture
def world(tmp_path: Path, effects: Effects) -> Iterator[MakeWorld]:
    """Makes worlds."""
    made: list[World] = []

    def make(**how: Any) -> World:
        made.append(World(f"sqlite://{tmp_path}", effects, **how))
        return made[-1]

    yield make
    for one in made:
        one.close()


class _Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.s = 0.0

    def now(self) -> str:
        return add_seconds(START, self.s)

    def epoch(self) -> float:
        return self.s

    def monotonic(self) -> float:
        return self.s


def test_an_order_is_due_again_after_pauses_that_double() -> None:
    """Half a minute, one, two, and no pause longer than the longest; until its host is heard of."""
    clock = _Clock()
    orders = Orders(clock)
    orders.note("one", 1)
    sent = []
    while clock.s < 500:
        clock.s += 10
        if orders.unheard(30.0):
            sent.append(clock.s)
            orders.note("one", 1)
    assert sent == [30, 90, 210, 330, 450]
    assert PAUSE_S_MAX == 120
    assert orders.old("one")
    orders.heard("one", 2)  # of another generation
    clock.s += PAUSE_S_MAX
    assert orders.unheard(30.0) == ["one"]
    orders.heard("one", 1)
    assert orders.unheard(30.0) == []
    orders.note("one", 1)  # the next stretch of the same saga
    clock.s += 30
    assert orders.unheard(30.0) == ["one"]
    assert not orders.old("one")


def _keeper(one: World) -> SagaKeeper:
    return SagaKeeper(one.db, one.coordinator, kind="saga", orders="order")


def _later(one: World, monkeypatch: pytest.MonkeyPatch, seconds: float) -> str:
    """The orders' clock goes on; what it says."""
    now = add_seconds(one.coordinator._clock.now(), seconds)

    class Later(_Clock):
        def now(self) -> str:
            return now

    monkeypatch.setattr(one.coordinator.orders, "_clock", Later())
    return now


def test_a_lost_order_is_sent_again_long_before_its_step_must_be_done(
    world: MakeWorld, effects: Effects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keeper finds it, and the saga ends as if nothing had been; a look before its time finds nothing."""
    one = world(lose=1)
    keeper = _keeper(one)
    saga_id = one.begin()
    wait_for(lambda: one.orders)
    assert keeper.overdue([UNHEARD, RUNNING], one.coordinator._clock.now(), 50) == []
    now = _later(one, monkeypatch, 31)
    assert [(found.row.kind, found.id) for found in keeper.overdue([UNHEARD, RUNNING], now, 50)] == [("order", saga_id)]
    one.workers[0].post(lambda: keeper.send_again(saga_id))
    assert one.end(saga_id).state == "done"
    assert effects.ran == list(STEPS)
    assert keeper.send_again(saga_id) is False


def test_an_order_that_nobody_takes_up_is_given_up(
    world: MakeWorld, effects: Effects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The saga turns back with the step's words, and a host that comes to it later is refused."""
    one = world(lose=100)
    saga_id = one.begin()
    wait_for(lambda: one.orders)
    _later(one, monkeypatch, TAKEN_UP_S + 1)
    one.workers[0].post(lambda: _keeper(one).send_again(saga_id))
    saga = one.end(saga_id)
    assert saga.state == "unwound"
    assert saga.failure is not None
    assert saga.failure.message == "The host did not take up the step 'prepare' in time."
    fetch = Fetch(saga_id=saga_id, generation=one.orders[0].generation, host=HOST)
    assert one.coordinator.fetch(fetch) is None
    assert effects.there == set()


def test_a_host_whose_coordinator_is_out_of_reach_asks_again(
    world: MakeWorld, effects: Effects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its question or its record lost: the host begins its order anew by itself."""
    monkeypatch.setattr(executor, "AGAIN_S", 0.01)
    one = world()
    journal, lost = one.executor._journal, ["fetch", "record", "record"]

    class Away:
        def __getattr__(self, name: str) -> Any:
            if lost and lost[0] == name:
                lost.pop(0)
                raise BusTimeoutError(detail=name)
            return getattr(journal, name)

    monkeypatch.setattr(one.executor, "_journal", Away())
    assert one.end(one.begin()).state == "done"
    assert lost == []
    assert effects.there == set(STEPS)


def test_an_order_that_waits_for_its_turn_is_here_once_and_heard_of(
    world: MakeWorld, effects: Effects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the host is at work on the same subject an order waits, the same one again is dropped, and none is sent again."""
    monkeypatch.setattr(effects, "began", lambda *_: None)  # two sagas leave the same marks here
    one = world()
    held = effects.hold("connect")  # in a pool's thread, so the host still hears
    first = one.begin()
    assert held.wait(15)
    second = one.begin()
    wait_for(lambda: len(one.orders) == 2)
    for _ in range(3):
        one._order(HOST, one.orders[1])
    wait_for(lambda: one.coordinator.orders.stands(second, 1) is False)
    wait_for(lambda: [len(waiting) for waiting in one.executor._queues.values()] == [1])
    effects.gates["connect"].set()
    assert one.end(first).state == "done"
    assert one.end(second).state == "done"
    assert {name: effects.times(name) for name in STEPS} == dict.fromkeys(STEPS, 2)


def test_a_host_that_begins_anew_is_told_anew(world: MakeWorld, effects: Effects) -> None:
    """What its dead process had taken up is ordered again, under a generation that refuses the dead one's words; other hosts' is not."""
    one = world(lose=1)
    saga_id = one.begin()
    wait_for(lambda: one.orders)
    assert one.coordinator.fetch(Fetch(saga_id=saga_id, generation=1, host=HOST)) is not None  # and dies
    one.coordinator.host_started("another")
    assert one.saga(saga_id).generation == 1
    one.workers[0].post(lambda: one.coordinator.host_started(HOST))
    assert one.end(saga_id).state == "done"
    assert effects.ran == list(STEPS)
    assert [order.generation for order in one.orders][:2] == [1, 2]
    entry = Entry(step="prepare", event="done", at=START)
    assert one.coordinator.record(Record(saga_id=saga_id, generation=1, host=HOST, entries=[entry])) is False


@pytest.mark.parametrize("failing", ["connect", "beside"])
def test_an_undo_waits_for_what_a_step_has_begun(failing: str, world: MakeWorld, effects: Effects) -> None:
    """What goes on beside the steps has ended before anything of them is undone, however it ends."""
    one = world(beside=True)
    effects.fail["connect"] = effects.fail[failing] = 1
    held = effects.hold("beside")
    saga_id = one.begin()
    assert held.wait(15)
    wait_for(lambda: any(one.executor._queues.values()))  # the order to undo
    assert not any(word.startswith("undo") for word in effects.ran)
    effects.gates["beside"].set()
    assert one.end(saga_id).state == "unwound"
    assert effects.there == set()
    assert effects.ran[effects.ran.index("undo connect") :][:3] == ["undo connect", "undo beside", "undo prepare"]
