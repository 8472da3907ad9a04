"""Sagas are complete or gone: whatever fails, gets lost, is repeated or dies on the way."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.sim.saga_world import CONTEXT, HOST, STEPS, Effects, Input, World, wait_for

from cumulet.core.errors import Unavailable
from cumulet.core.saga import Entry, Fetch, Record, coordinator, executor

MakeWorld = Callable[..., World]
HOST_STEPS = [name for name, where in STEPS.items() if where == "host"]
BOUNDARIES = [f"{step}.{when}" for step in STEPS for when in ("before", "after")]


@pytest.fixture
def effects() -> Effects:
    """What the steps leave behind."""
    return Effects()


@pytest.fixture
def world(tmp_path: Path, effects: Effects, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeWorld]:
    """Makes worlds on one database, each the life after the one before."""
    monkeypatch.setattr(coordinator, "UNDO_RETRY_S", 0.01)
    made: list[World] = []

    def make(**how: Any) -> World:
        made.append(World(f"sqlite://{tmp_path}", effects, **how))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_saga_runs_every_step_once_and_in_order(world: MakeWorld, effects: Effects) -> None:
    """Conductor's and host's steps take turns; each one's output is there for the next; the log says all of it."""
    one = world()
    saga_id = one.begin()
    assert one.end(saga_id).state == "done"
    assert effects.ran == list(STEPS)
    assert effects.firsts == HOST_STEPS
    assert one.outcome.ends == [f"done {sorted(STEPS)}"]
    steps = one.steps(saga_id)
    assert {name: row.state for name, row in steps.items()} == dict.fromkeys(STEPS, "done")
    assert {name: row.attempts for name, row in steps.items()} == dict.fromkeys(STEPS, 1)
    assert [steps[name].host for name in ("reserve", "boot")] == ["conductor-1", HOST]


def test_the_users_token_travels_and_is_never_stored(world: MakeWorld) -> None:
    """Orders carry it, the saga's row does not, and it is forgotten at the end."""
    one = world()
    saga_id = one.begin()
    assert one.end(saga_id).context.token is None
    assert {order.token for order in one.orders} == {CONTEXT.token}
    assert one.coordinator._tokens == {}


def test_a_rolled_back_beginning_leaves_nothing(world: MakeWorld, effects: Effects) -> None:
    """A saga belongs to its caller's transaction, its token in memory too."""
    one = world()
    with pytest.raises(ZeroDivisionError), one.db.write() as tx:
        one.coordinator.begin(tx, one.flow, subject_id="t", context=CONTEXT, input=Input("thing"), host=HOST) and 1 / 0
    assert one.coordinator._tokens == {}
    assert one.end(one.begin()).state == "done"
    assert effects.ran == list(STEPS)


@pytest.mark.parametrize("step", STEPS)
def test_a_failing_step_unwinds_all_that_began(step: str, world: MakeWorld, effects: Effects) -> None:
    """In reverse, the failing step included, for it may have worked; nothing is left, and the tenant's words are kept."""
    one = world()
    effects.fail[step] = 1
    saga = one.end(one.begin())
    began = list(STEPS)[: list(STEPS).index(step) + 1]
    assert saga.state == "unwound"
    assert saga.failure is not None
    assert (saga.failure.message, saga.failure.code) == (f"{step} is refused.", 409)
    assert effects.there == set()
    assert effects.ran == [*began, *(f"undo {name}" for name in reversed(began))]
    assert one.outcome.ends == [f"unwound {step} is refused."]


@pytest.mark.parametrize("step", STEPS)
def test_an_undo_that_failed_runs_again(step: str, world: MakeWorld, effects: Effects) -> None:
    """Each undo may run twice; the others run once."""
    one = world()
    effects.fail["announce"] = 1
    effects.fail[f"undo {step}"] = 1
    assert one.end(one.begin()).state == "unwound"
    assert effects.there == set()
    assert {name: effects.times(f"undo {name}") for name in STEPS} == {**dict.fromkeys(STEPS, 1), step: 2}


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_a_crash_is_gone_on_from(boundary: str, world: MakeWorld, effects: Effects) -> None:
    """Killed at any boundary, the next life takes the saga over and finishes it; at most one action runs twice."""
    first = world(crash_at=boundary)
    saga_id = first.begin()
    assert first.crashed.wait(15)
    first.close()
    second = world()
    assert second.coordinator.adopt() == 1
    saga = second.end(saga_id)
    assert (saga.state, saga.generation) == ("done", 2)
    assert effects.there == set(STEPS)
    step, when = boundary.split(".")
    assert {name: effects.times(name) for name in STEPS} == {
        **dict.fromkeys(STEPS, 1),
        step: 2 if when == "after" else 1,
    }
    assert second.outcome.ends == [f"done {sorted(STEPS)}"]
    assert second.coordinator.adopt() == 0
    # a loss of power could have taken back what the log says of the first life: nothing in the second is known not to be there
    assert effects.firsts == [
        name for name in HOST_STEPS if BOUNDARIES.index(f"{name}.before") < BOUNDARIES.index(boundary)
    ]


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_a_crash_then_a_failure_leaves_nothing(boundary: str, world: MakeWorld, effects: Effects) -> None:
    """What the first life did is undone by the second, also when the log does not say that it was done."""
    first = world(crash_at=boundary)
    saga_id = first.begin()
    assert first.crashed.wait(15)
    first.close()
    second = world()
    effects.fail[boundary.partition(".")[0]] = 1
    second.coordinator.adopt()
    assert second.end(saga_id).state == "unwound"
    assert effects.there == set()


def told(one: World, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What the host records, a list for each transaction."""
    records: list[list[str]] = []

    def record(record: Record) -> bool:
        records.append([f"{entry.step} {entry.event}" for entry in record.entries])
        return one.coordinator.record(record)

    monkeypatch.setattr(one.executor._journal, "record", record)
    return records


def test_that_a_light_step_began_is_recorded_with_what_follows(
    world: MakeWorld, effects: Effects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One transaction less, and the log says the same; one that waits is recorded as begun before it does."""
    one = world(light=("prepare", "connect"))
    records = told(one, monkeypatch)
    held = effects.hold("connect")
    saga_id = one.begin()
    assert held.wait(15)
    assert records == [["prepare started", "prepare done", "connect started"]]
    assert one.steps(saga_id)["connect"].state == "started"
    effects.gates["connect"].set()
    assert one.end(saga_id).state == "done"
    assert records[1:] == [["connect done"], ["boot started"], ["boot done"]]
    assert {name: row.state for name, row in one.steps(saga_id).items()} == dict.fromkeys(STEPS, "done")


@pytest.mark.parametrize("step", ["prepare", "connect"])
def test_a_light_step_that_fails_unwinds_what_began(
    step: str, world: MakeWorld, effects: Effects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is recorded that it began, and undone like the others."""
    one = world(light=("prepare", "connect"))
    records = told(one, monkeypatch)
    effects.fail[step] = 1
    saga_id = one.begin()
    assert one.end(saga_id).state == "unwound"
    assert effects.there == set()
    assert [f"{step} {event}" for event in ("started", "failed")] == [
        word for record in records for word in record if word.startswith(step)
    ][:2]
    assert one.steps(saga_id)[step].state == "undone"


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_a_crash_around_a_light_step_is_gone_on_from(boundary: str, world: MakeWorld, effects: Effects) -> None:
    """What was not recorded of it is done again, and the saga ends as any other; also when it then fails."""
    first = world(light=("prepare", "connect"), crash_at=boundary)
    saga_id = first.begin()
    assert first.crashed.wait(15)
    first.close()
    second = world(light=("prepare", "connect"))
    effects.fail["announce"] = 1
    second.coordinator.adopt()
    assert second.end(saga_id).state == "unwound"
    assert effects.there == set()


def test_a_light_step_of_a_saga_that_was_taken_over_stops_where_it_waits(
    world: MakeWorld, effects: Effects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it waits its host asks whether the saga is still its own."""
    one = world(light=("prepare", "connect"))
    records = told(one, monkeypatch)
    held = effects.hold("prepare")
    saga_id = one.begin()
    assert held.wait(15)
    one.coordinator.adopt()
    wait_for(lambda: len(one.orders) == 2)
    effects.gates["prepare"].set()
    assert one.end(saga_id).state == "done"
    assert records[0][-1] == "connect started"
    assert [records.count(["connect done"]), one.steps(saga_id)["connect"].attempts] == [1, 1]


@pytest.mark.parametrize("step", ["prepare", "connect", "boot"])
def test_a_crash_amid_the_unwinding_is_gone_on_from(step: str, world: MakeWorld, effects: Effects) -> None:
    """The next life undoes the rest."""
    first = world(crash_at=f"{step}.undo")
    effects.fail["announce"] = 1
    saga_id = first.begin()
    assert first.crashed.wait(15)
    first.close()
    second = world()
    assert second.coordinator.adopt() == 1
    assert second.end(saga_id).state == "unwound"
    assert effects.there == set()
    assert {name: effects.times(f"undo {name}") for name in STEPS} == dict.fromkeys(STEPS, 1)


def test_a_lost_order_is_sent_again(world: MakeWorld, effects: Effects) -> None:
    """When nothing was heard by the deadline."""
    one = world(lose=1, timeouts={"prepare": 0.05})
    assert one.end(one.begin()).state == "done"
    assert effects.ran == list(STEPS)


def test_a_doubled_order_finds_nothing_to_do(world: MakeWorld, effects: Effects) -> None:
    """An order is a hint: what is due stands in the log."""
    one = world()
    held = effects.hold("prepare")
    saga_id = one.begin()
    assert held.wait(15)
    for _ in range(3):
        one._order(HOST, one.orders[0])
    effects.gates["prepare"].set()
    assert one.end(saga_id).state == "done"
    assert effects.ran == list(STEPS)


def test_a_host_that_never_answers_fails_the_step(world: MakeWorld, effects: Effects) -> None:
    """After some orders the saga turns back; the step's words name it."""
    one = world(lose=coordinator.ORDERS_MAX, timeouts={"prepare": 0.03})
    saga = one.end(one.begin())
    assert saga.state == "unwound"
    assert saga.failure is not None
    assert "prepare" in saga.failure.message
    assert len(one.orders) == coordinator.ORDERS_MAX
    assert effects.there == set()


def test_an_older_generation_is_told_to_stop(world: MakeWorld, effects: Effects) -> None:
    """A host whose saga was taken over meanwhile records nothing more and runs no further step."""
    one = world()
    held = effects.hold("prepare")
    saga_id = one.begin()
    assert held.wait(15)
    one.coordinator.adopt()
    wait_for(lambda: len(one.orders) == 2)
    entry = Entry(step="prepare", event="done", at="2026-01-01T00:00:00.000000")
    assert one.coordinator.record(Record(saga_id=saga_id, generation=1, host=HOST, entries=[entry])) is False
    fetch = Fetch(saga_id=saga_id, generation=1, host=HOST)
    assert one.coordinator.fetch(fetch) is None
    effects.gates["prepare"].set()
    assert one.end(saga_id).state == "done"
    # the superseded run stopped after its step; the new one ran it again and went on
    assert effects.ran == ["reserve", "prepare", "prepare", "connect", "publish", "boot", "announce"]


@pytest.mark.parametrize("step", ["prepare", "connect", "publish", "boot"])
def test_a_cancel_turns_back_after_the_step_at_work(step: str, world: MakeWorld, effects: Effects) -> None:
    """An undo never overtakes the action it undoes."""
    one = world()
    held = effects.hold(step)
    saga_id = one.begin()
    assert held.wait(15)
    one.cancel(saga_id)
    wait_for(lambda: one.saga(saga_id).state == "unwinding")
    assert not any(word.startswith("undo") for word in effects.ran)
    effects.gates[step].set()
    saga = one.end(saga_id)
    began = list(STEPS)[: list(STEPS).index(step) + 1]
    assert (saga.state, saga.failure and saga.failure.message) == ("unwound", "Never mind.")
    assert effects.ran == [*began, *(f"undo {name}" for name in reversed(began))]
    assert effects.there == set()


def test_a_cancel_after_the_end_changes_nothing(world: MakeWorld, effects: Effects) -> None:
    """What is done stays done."""
    one = world()
    saga_id = one.begin()
    one.end(saga_id)
    one.cancel(saga_id)
    assert one.saga(saga_id).state == "done"
    assert effects.there == set(STEPS)


@pytest.mark.parametrize("step", STEPS)
def test_a_flow_without_a_way_back_tries_again(step: str, world: MakeWorld, effects: Effects) -> None:
    """A failing step runs until it succeeds, and nothing is undone."""
    one = world(forward_only=True)
    effects.fail[step] = 3
    assert one.end(one.begin()).state == "done"
    assert {name: effects.times(name) for name in STEPS} == {**dict.fromkeys(STEPS, 1), step: 4}
    assert not any(word.startswith("undo") for word in effects.ran)


@pytest.mark.parametrize("step", ["reserve", "boot"])
def test_an_undo_that_keeps_failing_is_shown_as_stuck(
    step: str, world: MakeWorld, effects: Effects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After some tries; it is tried now and then all the same, and once it succeeds the saga ends."""
    monkeypatch.setattr(coordinator, "STUCK_RETRY_S", 3600.0)
    one = world()
    effects.fail["boot"] = 1
    effects.fail[f"undo {step}"] = 1000
    saga_id = one.begin()
    wait_for(lambda: one.saga(saga_id).state == "stuck")
    tries = effects.times(f"undo {step}")
    # a host's own word may hurry one try along
    assert coordinator.UNDO_TRIES_MAX <= tries <= coordinator.UNDO_TRIES_MAX + 1
    effects.fail[f"undo {step}"] = 0
    one.coordinator.kick(saga_id)
    assert one.end(saga_id).state == "unwound"
    assert effects.times(f"undo {step}") <= tries + 2
    assert effects.there == set()


@pytest.mark.parametrize("step", HOST_STEPS)
def test_what_is_away_for_a_moment_is_asked_again(step: str, world: MakeWorld, effects: Effects) -> None:
    """A host's step that meets something unavailable runs again; nothing is unwound."""
    one = world()
    effects.error = Unavailable
    effects.fail[step] = 2
    assert one.end(one.begin()).state == "done"
    assert effects.times(step) == 3
    assert effects.times(f"undo {step}") == 0
    assert effects.firsts == HOST_STEPS


def test_what_stays_away_is_a_failure(world: MakeWorld, effects: Effects, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while the step fails with the words of what was away, and all is unwound."""
    monkeypatch.setattr(executor, "AWAY_S", 0.5)
    one = world()
    effects.error = Unavailable
    effects.fail["connect"] = 1000
    saga = one.end(one.begin())
    assert (saga.state, saga.failure and saga.failure.code) == ("unwound", 503)
    assert 1 < effects.times("connect") < 10
    assert not effects.there
