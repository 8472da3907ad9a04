"""The thread that sagas run on: whatever a generator yields, its owner hears of its end."""

import os
import queue
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from cumulet.core.clock import SystemClock
from cumulet.core.errors import Unavailable
from cumulet.core.work import BEHIND, After, Begin, Pools, Slow, TimedOutError, Together, Until, Worker, drive

WAIT_S = 10

Ended = tuple[Any, BaseException | None]


@pytest.fixture
def worker() -> Iterator[Worker]:
    """A running worker with one pool of one thread."""
    pools = Pools({"slow": (1, 1)})
    made = Worker("worker", clock=SystemClock(), pools=pools)
    made.start()
    yield made
    made.stop()
    pools.close()


def run(worker: Worker, work: Generator[Any, Any, Any]) -> Ended:
    """Run a generator to its end."""
    ended: queue.SimpleQueue[Ended] = queue.SimpleQueue()
    worker.begin(work, lambda value, error: ended.put((value, error)))
    return ended.get(timeout=WAIT_S)


def test_slow_pieces_come_back_as_values_and_errors(worker: Worker) -> None:
    """The generator goes on with what the call returned, and may catch what it raised."""

    def work() -> Generator[Any, Any, Any]:
        first = yield Slow("slow", int, ("7",))
        try:
            yield Slow("slow", int, ("x",))
        except ValueError:
            return first
        return None

    assert run(worker, work()) == (7, None)


@pytest.mark.parametrize("piece", [Slow("no-such-pool", int), "not a piece"])
def test_a_piece_that_nobody_can_run_is_an_error_of_the_generator(worker: Worker, piece: object) -> None:
    """It is raised where it was yielded, so that the owner does not wait for ever."""

    def work() -> Generator[Any, Any, Any]:
        yield piece

    _, error = run(worker, work())
    assert isinstance(error, KeyError | TypeError)


def test_a_full_pool_refuses(worker: Worker) -> None:
    """503 at once, instead of a queue without end."""
    release: queue.SimpleQueue[int] = queue.SimpleQueue()
    ended: queue.SimpleQueue[Ended] = queue.SimpleQueue()

    def work() -> Generator[Any, Any, Any]:
        return (yield Slow("slow", release.get))

    for _ in range(3):
        worker.begin(work(), lambda value, error: ended.put((value, error)))
    refused = ended.get(timeout=WAIT_S)
    assert isinstance(refused[1], Unavailable)
    for number in (1, 2):
        release.put(number)
    assert [ended.get(timeout=WAIT_S)[0] for _ in range(2)] == [1, 2]


def test_waiting_for_a_signal_ends_with_it_or_in_time(worker: Worker) -> None:
    """The value of the signal, or TimedOutError."""
    ended: queue.SimpleQueue[Ended] = queue.SimpleQueue()

    def work(key: str, timeout_s: float) -> Generator[Any, Any, Any]:
        return (yield Until(key, timeout_s))

    worker.begin(work("port", WAIT_S), lambda value, error: ended.put((value, error)))
    worker.signal("port", "up")
    assert ended.get(timeout=WAIT_S) == ("up", None)
    _, error = run(worker, work("other", 0.01))
    assert isinstance(error, TimedOutError)


@pytest.mark.parametrize("there_first", [True, False])
def test_a_generator_waits_for_a_future_of_another_thread(worker: Worker, there_first: bool) -> None:
    """Its value comes back, or its error; on the worker and in a direct call."""
    good: Future[int] = Future()
    bad: Future[int] = Future()

    def work() -> Generator[Any, Any, Any]:
        value = yield After(good, WAIT_S)
        try:
            yield After(bad, WAIT_S)
        except ValueError:
            return value
        return None

    def settle() -> None:
        good.set_result(7)
        bad.set_exception(ValueError("no"))

    if there_first:
        settle()
    else:
        worker.after(0.01, settle)
    assert run(worker, work()) == (7, None)
    assert drive(work()) == 7


def test_a_future_that_nobody_settles_is_late(worker: Worker) -> None:
    """TimedOutError once, where it was yielded; what comes later finds nobody."""
    never: Future[int] = Future()

    def work() -> Generator[Any, Any, Any]:
        try:
            yield After(never, 0.01)
        except TimedOutError:
            return "late"

    assert run(worker, work()) == ("late", None)
    assert drive(work()) == "late"
    never.set_result(1)
    assert run(worker, iter_of("on")) == ("on", None)


def iter_of(value: Any) -> Generator[Any, Any, Any]:
    """A generator that ends at once."""
    yield from ()
    return value


def test_a_timer_comes_when_it_is_due_though_there_is_always_work(worker: Worker) -> None:
    """Heartbeats and deadlines are timers: a full inbox must not keep them back."""
    over: queue.SimpleQueue[str] = queue.SimpleQueue()
    ended: list[str] = []

    def again() -> None:
        if not ended:
            worker.post(again)

    def due() -> None:
        ended.append("due")
        over.put("due")

    worker.post(again)
    worker.post(again)
    worker.after(0.01, due)
    assert over.get(timeout=WAIT_S) == "due"


def test_calls_side_by_side_are_answered_in_their_order() -> None:
    """Each is under way before any has to end."""
    pools = Pools({"slow": (2, 1)})
    worker = Worker("worker", clock=SystemClock(), pools=pools)
    worker.start()
    met = threading.Barrier(2)

    def meet(word: str) -> str:
        met.wait(WAIT_S)
        return word

    def work() -> Generator[Any, Any, Any]:
        return (yield Together((Slow("slow", meet, ("first",)), Slow("slow", meet, ("second",)))))

    assert run(worker, work()) == (["first", "second"], None)
    worker.stop()
    pools.close()


def test_a_failing_call_waits_for_those_beside_it(worker: Worker) -> None:
    """The error comes when all have ended, so that what is undone then stays undone."""
    done: list[str] = []

    def work() -> Generator[Any, Any, Any]:
        try:
            yield Together((Slow("slow", int, ("x",)), Slow("slow", done.append, ("ended",))))
        except ValueError:
            return list(done)

    assert run(worker, work()) == (["ended"], None)


def test_shares_of_a_pool_take_turns() -> None:
    """Who comes last with one call does not wait for all that another asked for before; each one's own come in order."""
    pools = Pools({"slow": (1, 20)})
    began: queue.SimpleQueue[str] = queue.SimpleQueue()
    held: queue.SimpleQueue[int] = queue.SimpleQueue()
    pools.submit(Slow("slow", held.get), lambda *_: None)
    for name in ("a1", "a2", "a3", "b1", "b2", "c1"):
        pools.submit(Slow("slow", began.put, (name,), share=name[0]), lambda *_: None)
    held.put(1)
    assert [began.get(timeout=WAIT_S) for _ in range(6)] == ["a1", "b1", "c1", "a2", "b2", "a3"]
    pools.close()


def test_a_pool_that_computes_lets_other_threads_go_first() -> None:
    """Its threads run at a lower priority; those of another pool, and who asks, at the priority they had."""
    mine = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    pools = Pools({"hash": (1, 1), "other": (1, 1)}, behind={"hash"})
    found: queue.SimpleQueue[object] = queue.SimpleQueue()

    def priority() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    try:
        for pool, expected in (("hash", BEHIND), ("other", mine)):
            pools.submit(Slow(pool, priority), lambda value, error: found.put((value, error)))
            assert found.get(timeout=WAIT_S) == (expected, None)
    finally:
        pools.close()
    assert priority() == mine


def test_what_is_begun_goes_on_beside(worker: Worker) -> None:
    """Who begins a call goes on once it has begun, and may wait for its end, its value or its error; also in a direct call."""
    release: queue.SimpleQueue[int] = queue.SimpleQueue()

    def work(call: Callable[[], Any], then: Callable[[], None]) -> Generator[Any, Any, Any]:
        future = yield Begin(Slow("slow", call))
        then()
        return (yield After(future))

    assert run(worker, work(release.get, lambda: release.put(7))) == (7, None)
    assert drive(work(lambda: 8, lambda: None)) == 8
    _, error = run(worker, work(lambda: int("x"), lambda: None))
    assert isinstance(error, ValueError)
    with pytest.raises(ValueError, match="invalid literal"):
        drive(work(lambda: int("x"), lambda: None))


def test_what_a_full_pool_refuses_to_begin_has_ended(worker: Worker) -> None:
    """Whoever waits for it is told so, and nobody waits for ever."""
    release: queue.SimpleQueue[int] = queue.SimpleQueue()
    ended: queue.SimpleQueue[Ended] = queue.SimpleQueue()

    def work() -> Generator[Any, Any, Any]:
        future = yield Begin(Slow("slow", release.get))
        return (yield After(future))

    for _ in range(3):
        worker.begin(work(), lambda value, error: ended.put((value, error)))
    assert isinstance(ended.get(timeout=WAIT_S)[1], Unavailable)
    for number in (1, 2):
        release.put(number)
    assert [ended.get(timeout=WAIT_S)[0] for _ in range(2)] == [1, 2]
