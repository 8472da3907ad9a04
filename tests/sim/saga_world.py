"""A small world for the saga engine: a flow whose steps leave marks, a coordinator, a host, and a way to crash them."""

import queue
import threading
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from typing import Any

import msgspec
from sqlalchemy import MetaData

from cumulet.core.bus import LocalBus
from cumulet.core.clock import SystemClock
from cumulet.core.context import Context
from cumulet.core.db import Database, Tx, open_database
from cumulet.core.errors import CloudError, Conflict
from cumulet.core.ids import SystemIds
from cumulet.core.saga import (
    Coordinator,
    Executor,
    Failure,
    Flow,
    Order,
    Run,
    Saga,
    SagaJournal,
    Step,
    StepRunner,
    saga_tables,
)
from cumulet.core.saga.journal import Journal, StepRow
from cumulet.core.work import Begin, Pools, Slow, Worker

WAIT_S = 15
HOST = "node-1"
CONTEXT = Context(user_id="u", project_id="p", request_id="req-1", token="secret")
METADATA = MetaData()
TABLES = saga_tables(METADATA)

#: the steps of the flow, in order, and where each runs
STEPS = {
    "reserve": "conductor",
    "prepare": "host",
    "connect": "host",
    "publish": "conductor",
    "boot": "host",
    "announce": "conductor",
}


class Crash(Exception):
    """The process ends here."""


class Input(msgspec.Struct, frozen=True):
    name: str


class Output(msgspec.Struct, frozen=True):
    made: str


class Effects:
    """What the steps did to the outside; it outlives a crash.  fail: how often an action or undo still fails, and how."""

    def __init__(self) -> None:
        self.there: set[str] = set()
        self.ran: list[str] = []
        #: the steps that were told that nothing of theirs is there
        self.firsts: list[str] = []
        self.fail: Counter[str] = Counter()
        self.error: type[CloudError] = Conflict
        self.gates: dict[str, threading.Event] = {}
        self.entered: dict[str, threading.Event] = {}

    def hold(self, name: str) -> threading.Event:
        """Make an action wait; returns the event that says that it waits."""
        self.gates[name], self.entered[name] = threading.Event(), threading.Event()
        return self.entered[name]

    def act(self, name: str, *, undo: bool = False) -> None:
        word = f"undo {name}" if undo else name
        self.ran.append(word)
        if undo:
            self.there.discard(name)
        else:
            self.there.add(name)
        if word in self.gates:
            self.entered[word].set()
            self.gates[word].wait(WAIT_S)
        # after the effect: a failed action may have worked
        if self.fail[word] > 0:
            self.fail[word] -= 1
            raise self.error(f"{word} is refused.")

    def began(self, run: Run, name: str) -> None:
        """A step that is told that it is the first run of itself has left nothing."""
        if run.first:
            assert self.times(name) == 0, f"{name} ran before"
            self.firsts.append(name)

    def times(self, word: str) -> int:
        return self.ran.count(word)


class Watcher:
    """The flow's outcome: what the subject's record would say."""

    def __init__(self) -> None:
        self.ends: list[str] = []

    def started(self, tx: Tx, saga: Saga, step: Step) -> None:
        assert tx.writes

    def recorded(self, tx: Tx, saga: Saga, step: Step, output: Any) -> None:
        assert output == {"made": step.name}

    def done(self, tx: Tx, saga: Saga, outputs: Mapping[str, Any]) -> None:
        self.ends.append(f"done {sorted(name for name, output in outputs.items() if output)}")

    def unwound(self, tx: Tx, saga: Saga, failure: Failure) -> None:
        self.ends.append(f"unwound {failure.message}")


def make_flow(
    effects: Effects,
    alive: Callable[[], None],
    *,
    forward_only: bool = False,
    timeouts: Mapping[str, float] | None = None,
    beside: bool = False,
    light: tuple[str, ...] = (),
) -> Flow:
    """The flow.  Actions that come second in their place are generators with a slow piece.

    light: those that leave nothing.  beside: the first step on the host begins something that nobody waits for, and whose undo is the
    step's.
    """

    def step(name: str, where: str) -> Step:
        def do(run: Run) -> Output:
            alive()
            effects.began(run, name)
            assert run.input(Input) == Input("thing")
            for earlier in list(STEPS)[: list(STEPS).index(name)]:
                assert run.output(earlier, Output) == Output(earlier)
            effects.act(name)
            return Output(name)

        def slowly(run: Run) -> Generator[Any, Any, Output]:
            effects.began(run, name)
            yield Slow("slow", effects.act, (name,))
            alive()
            return Output(name)

        def undo(_: Run) -> None:
            alive()
            effects.act(name, undo=True)

        def begins(run: Run) -> Generator[Any, Any, Output]:
            run.under_way["beside"] = yield Begin(Slow("slow", effects.act, ("beside",)))
            return do(run)

        def ends(_: Run) -> None:
            effects.act("beside", undo=True)
            effects.act(name, undo=True)

        if beside and name == "prepare":
            return Step(name=name, where=where, what=name, do=begins, undo=ends)
        slow = name in {"connect", "publish"}
        timeout_s = (timeouts or {}).get(name, 300.0)
        return Step(
            name=name,
            where=where,
            what=name,
            do=slowly if slow else do,
            undo=undo,
            timeout_s=timeout_s,
            light=lambda _: name in light,
        )

    return Flow(
        name="build",
        action="create",
        input=Input,
        steps=tuple(step(name, where) for name, where in STEPS.items()),
        forward_only=forward_only,
    )


class World:
    """One life of the processes, on a database and effects that outlive it.

    crash_at: the failpoint at which everything ends.  lose: how many orders get lost on their way.
    """

    def __init__(
        self,
        url: str,
        effects: Effects,
        *,
        crash_at: str = "",
        lose: int = 0,
        forward_only: bool = False,
        timeouts: Mapping[str, float] | None = None,
        beside: bool = False,
        light: tuple[str, ...] = (),
    ) -> None:
        self.effects = effects
        self.outcome = Watcher()
        self.crashed = threading.Event()
        self.orders: list[Order] = []
        self._crash_at = crash_at
        self._lose = lose
        self.db: Database = open_database(url, "sagas", METADATA)
        self.db.create()
        clock, ids = SystemClock(), SystemIds()
        self._pools = Pools({"slow": (2, 10)})
        self.workers = [Worker(name, clock=clock, pools=self._pools) for name in ("conductor", HOST)]
        self.bus = LocalBus()
        self.flow = make_flow(
            effects, self.alive, forward_only=forward_only, timeouts=timeouts, beside=beside, light=light
        )
        self.coordinator = Coordinator(
            self.db,
            Journal(TABLES),
            flows=[self.flow],
            outcomes={"build": self.outcome},
            describe=lambda _tx, saga: {"id": saga.subject_id},
            order=self._order,
            tools=None,
            worker=self.workers[0],
            clock=clock,
            ids=ids,
            owner="conductor-1",
            failpoint=self._failpoint,
        )
        self.executor = Executor(
            HOST,
            flows=[self.flow],
            journal=self.bus.client(SagaJournal),
            tools=None,
            worker=self.workers[1],
            clock=clock,
            ids=ids,
            failpoint=self._failpoint,
        )
        self.bus.serve(SagaJournal, self.coordinator, self.workers[0])
        self.bus.serve(StepRunner, self.executor, self.workers[1], host=HOST)
        for worker in self.workers:
            worker.start()

    def alive(self) -> None:
        if self.crashed.is_set():
            raise Crash

    def _failpoint(self, name: str) -> None:
        self.alive()
        if name == f"build.{self._crash_at}":
            self.crashed.set()
            raise Crash

    def _order(self, host: str, order: Order) -> None:
        self.orders.append(order)
        if self._lose:
            self._lose -= 1
            return
        self.bus.client(StepRunner, host=host).run(order)

    def begin(self) -> str:
        with self.db.write() as tx:
            return self.coordinator.begin(
                tx, self.flow, subject_id="thing-1", context=CONTEXT, input=Input("thing"), host=HOST
            )

    def saga(self, saga_id: str) -> Saga:
        with self.db.read() as tx:
            found = self.coordinator.journal.get(tx, saga_id)
        assert found is not None
        return found

    def steps(self, saga_id: str) -> dict[str, StepRow]:
        with self.db.read() as tx:
            return {row.name: row for row in self.coordinator.journal.steps(tx, saga_id)}

    def cancel(self, saga_id: str) -> None:
        with self.db.write() as tx:
            saga = self.coordinator.journal.get(tx, saga_id)
            assert saga is not None
            self.coordinator.cancel(tx, saga, Failure(message="Never mind."))

    def end(self, saga_id: str) -> Saga:
        """Wait for a saga's end."""
        ended: queue.SimpleQueue[Saga] = queue.SimpleQueue()
        self.coordinator.watch(saga_id, ended.put)
        return ended.get(timeout=WAIT_S)

    def close(self) -> None:
        for gate in self.effects.gates.values():
            gate.set()
        for worker in self.workers:
            worker.stop()
        self._pools.close()
        self.db.close()


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until it holds, within a bound."""
    pause = threading.Event()
    for _ in range(WAIT_S * 200):
        if condition():
            return
        pause.wait(0.005)
    raise AssertionError("it did not come true in time")
