"""A worker's order, and how it gives way to requests."""

import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, Table

from cumulet.core.clock import SystemClock
from cumulet.core.db import open_database
from cumulet.core.work import HERE, Gate, Pools, Slow, Together, Worker, give_way

WAIT_S = 20.0


class Asked(Gate):
    """A gate that counts how often somebody would give way."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def give_way(self) -> None:
        self.count += 1
        super().give_way()


@pytest.fixture
def gate() -> Asked:
    """Open."""
    return Asked()


@pytest.fixture
def worker(gate: Asked) -> Iterator[Worker]:
    """One that gives way at `gate`."""
    made = Worker("work", clock=SystemClock(), pools=Pools({}), gate=gate)
    yield made
    made.stop()


def test_what_has_begun_goes_on_before_what_is_new(worker: Worker) -> None:
    """New things begin in the order in which they came, once nothing else waits; what a running piece begins is a part of it."""
    ran, ended = list[str](), threading.Event()

    def note(name: str) -> Callable[[], None]:
        return lambda: ran.append(name)

    def first() -> None:
        ran.append("first")
        worker.post(note("its next piece"))
        worker.post_new(note("its child"))

    worker.post_new(first)
    worker.post_new(note("second"))
    worker.post_new(ended.set)
    worker.post(note("a message"))
    assert worker.waiting == 4
    worker.start()
    assert ended.wait(WAIT_S)
    assert ran == ["a message", "first", "its next piece", "its child", "second"]


def test_what_is_new_is_left_when_the_worker_ends(worker: Worker) -> None:
    """What was in the inbox is done; what had not begun is the next start's."""
    ran = list[str]()
    worker.post_new(lambda: ran.append("new"))
    worker.post(lambda: ran.append("posted"))
    worker.post(worker.stop)
    worker.start()
    worker.stop()
    assert ran == ["posted"]


def test_a_step_lets_a_request_go_first_where_it_reads_and_writes(worker: Worker, gate: Asked, tmp_path: Path) -> None:
    """Not only before a piece: at each transaction, on this worker alone."""
    metadata = MetaData()
    Table("things", metadata, Column("id", Integer, primary_key=True))
    db = open_database(f"sqlite://{tmp_path}", "things", metadata)
    db.create()
    counts, ended = list[int](), threading.Event()

    def look() -> None:
        counts.append(gate.count)

    def step() -> None:
        look()
        with db.read():
            look()
        with db.write():
            look()
        ended.set()

    worker.post(step)
    worker.start()
    assert ended.wait(WAIT_S)
    assert counts == [1, 2, 3]
    with db.read():
        give_way()
    assert gate.count == 3  # this thread answers requests
    db.close()


def test_a_step_goes_on_when_the_last_request_is_answered(gate: Asked) -> None:
    """It waits for those in hand, and not for its own patience to end."""
    gate.enter()
    gate.enter()
    gate.leave()
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(gate.give_way)
        gate.leave()
        waiting.result(WAIT_S)


def test_requests_without_an_end_leave_half_of_the_time(gate: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a wait that was in vain nobody gives way for as long."""
    waits = list[float]()

    class Never:
        def wait(self, seconds: float) -> bool:
            waits.append(seconds)
            return False

    gate.enter()
    monkeypatch.setattr(gate, "_idle", Never())
    monkeypatch.setattr("cumulet.core.work.GATE_WAIT_S", WAIT_S)
    gate.give_way()
    gate.give_way()
    assert waits == [WAIT_S]


def test_only_what_stays_goes_on_in_the_pools_thread() -> None:
    """A generator comes back to its worker after a slow piece, unless the piece says that it need not."""
    pools = Pools({"syncs": (1, 1)})
    worker = Worker("api", clock=SystemClock(), pools=pools)
    threads, ended = list[str](), threading.Event()

    def work() -> Generator[Slow, Any, None]:
        for stays in (False, True):
            yield Slow("syncs", int, stays=stays)
            threads.append(threading.current_thread().name)

    worker.begin(work(), lambda _value, _error: ended.set())
    worker.start()
    assert ended.wait(WAIT_S)
    assert threads == ["api", "syncs_0"]
    worker.stop()
    pools.close()


def test_what_takes_no_time_runs_where_it_is_asked_for(worker: Worker) -> None:
    """On the worker's own thread, without a pool; its answer, or its error, comes after what waits there already."""
    ran, ended = list[object](), threading.Event()

    def work() -> Generator[Any, Any, None]:
        worker.post(lambda: ran.append("what waits"))
        ran.append((yield Slow(HERE, threading.current_thread)).name)
        ran.append((yield Together((Slow(HERE, len, ("ab",)), Slow(HERE, len, ("abc",))))))
        try:
            yield Slow(HERE, int, ("x",))
        except ValueError:
            ran.append("refused")

    worker.begin(work(), lambda _, error: (ran.append(error), ended.set())[1])
    worker.start()
    assert ended.wait(WAIT_S)
    assert ran == ["what waits", "work", [2, 3], "refused", None]
