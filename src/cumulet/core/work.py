"""Who runs what: a few threads, and how slow pieces leave them.

Handlers and saga steps are plain functions.  One that needs something slow (a password hash, a libvirt call, an answer over the
network) is a generator and yields it:

    digest = yield Slow("passwords", bcrypt.checkpw, (password, stored))
    up     = yield Until(("port-up", port_id), timeout_s=60)
    yield After(future, timeout_s=60)
    a, b = yield Together((Slow("devices", plug), Slow("devices", start)))
    future = yield Begin(Slow("devices", start))

The worker thread goes on with other work meanwhile; the generator continues on the same worker when the result is there.  Called in
process by a neighbour (a door), the same generator is driven on the caller's stack by `drive`.
"""

import heapq
import itertools
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Generator, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import msgspec
import structlog

from cumulet.core.clock import Clock
from cumulet.core.errors import Unavailable

__all__ = [
    "BEHIND",
    "HERE",
    "After",
    "Begin",
    "Gate",
    "Pools",
    "Slow",
    "TimedOutError",
    "Together",
    "Until",
    "Worker",
    "drive",
    "give_way",
]

log = structlog.get_logger()

GATE_WAIT_S = 0.02
#: the nice value of threads that let others first
BEHIND = 10
#: no pool: a call that takes no time runs where it is asked for, and its answer comes as any other's
HERE = ""


class TimedOutError(Exception):
    """What was waited for did not come in time."""


class Slow(msgspec.Struct, frozen=True):
    """A call to make in pool `pool`; the pools never touch the database.

    Calls of different `share` take turns when they wait: one who asks for a thousand things does not keep others waiting for all of them.
    `stays`: the generator goes on in the pool's thread, as what is left of it is little and belongs to no thread.
    """

    pool: str
    call: Callable[..., Any]
    args: tuple[Any, ...] = ()
    share: str = ""
    stays: bool = False


class Until(msgspec.Struct, frozen=True):
    """Wait for `worker.signal(key, value)`.  Check the condition itself before yielding: signals are levels read anew, not promises."""

    key: Hashable
    timeout_s: float


class After(msgspec.Struct, frozen=True):
    """Wait until somebody, on whichever thread, has settled a future.  Raises TimedOutError, without a time never."""

    future: Future[Any]
    timeout_s: float | None = None


class Begin(msgspec.Struct, frozen=True):
    """A call to begin and not to wait for: its future, once it has begun, as who goes on at once may keep the interpreter from it."""

    piece: Slow


class Together(msgspec.Struct, frozen=True):
    """Calls to make side by side: their answers in this order.  When one raised, the first such error, after all have ended."""

    pieces: tuple[Slow, ...]


Work = Generator[Any, Any, Any]


def drive(work: Work) -> Any:
    """Run a generator to its end on this stack: each slow piece in place."""
    value: Any = None
    error: BaseException | None = None
    while True:
        try:
            piece = work.send(value) if error is None else work.throw(error)
        except StopIteration as stop:
            return stop.value
        value, error = None, None
        if isinstance(piece, Slow):
            try:
                value = piece.call(*piece.args)
            except Exception as raised:  # noqa: BLE001 - handed back into the generator, which decides
                error = raised
        elif isinstance(piece, After):
            try:
                value = piece.future.result(piece.timeout_s)
            except Exception as raised:  # noqa: BLE001 - as above
                error = raised if piece.future.done() else _late(piece)
        elif isinstance(piece, Together):
            try:
                value = [one.call(*one.args) for one in piece.pieces]
            except Exception as raised:  # noqa: BLE001 - as above
                error = raised
        elif isinstance(piece, Begin):
            value = Future()
            try:
                value.set_result(piece.piece.call(*piece.piece.args))
            except Exception as raised:  # noqa: BLE001 - as above, to whom waits for it
                value.set_exception(raised)
        else:
            msg = f"{piece!r} cannot be waited for in a direct call"
            raise TypeError(msg)


def _late(piece: After) -> TimedOutError:
    return TimedOutError(f"what was waited for did not end within {piece.timeout_s} s")


def _let_others_first() -> None:
    """Whoever wakes on this thread's core gets it at once, and not after a slice of milliseconds."""
    thread = threading.get_native_id()
    # a process that is further behind stays there: to raise a priority takes a privilege
    os.setpriority(os.PRIO_PROCESS, thread, max(BEHIND, os.getpriority(os.PRIO_PROCESS, thread)))


class Pools:
    """Bounded pools by name.  A full queue is refused with 503, never grown."""

    def __init__(self, sizes: dict[str, tuple[int, int]], *, behind: Collection[str] = ()) -> None:
        """sizes: pool name → (threads, calls waiting at most).  behind: pools that compute, and let all other threads go first."""
        self._pools = {
            name: ThreadPoolExecutor(
                threads, thread_name_prefix=name, initializer=_let_others_first if name in behind else None
            )
            for name, (threads, _) in sizes.items()
        }
        self._room = {name: threading.BoundedSemaphore(threads + waiting) for name, (threads, waiting) in sizes.items()}
        self._waiting = {name: _Turns() for name in sizes}

    def submit(self, piece: Slow, done: Callable[[Any, BaseException | None], None]) -> None:
        if piece.pool == HERE:
            done(*_end(piece))
            return
        room, waiting = self._room[piece.pool], self._waiting[piece.pool]
        if not room.acquire(blocking=False):
            done(None, Unavailable(f"Too many {piece.pool} requests are waiting; try again later."))
            return

        def run() -> None:
            end = _end(piece)
            room.release()
            done(*end)

        waiting.put(piece.share, run)
        # a thread that is free runs whatever is next then; there are as many of these as calls that wait
        self._pools[piece.pool].submit(waiting.run_next)

    def close(self) -> None:
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)


def _end(piece: Slow) -> tuple[Any, BaseException | None]:
    try:
        return piece.call(*piece.args), None
    except Exception as raised:  # noqa: BLE001 - handed back to whoever asked
        return None, raised


class _Turns:
    """Calls that wait: the oldest of each share, in turn."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: dict[str, deque[Callable[[], None]]] = {}

    def put(self, share: str, call: Callable[[], None]) -> None:
        with self._lock:
            self._calls.setdefault(share, deque()).append(call)

    def run_next(self) -> None:
        with self._lock:
            share = next(iter(self._calls))
            calls = self._calls.pop(share)
            call = calls.popleft()
            if calls:
                self._calls[share] = calls  # behind the others
        call()


class Gate:
    """Lets saga steps give way to requests: closed while the API has requests in hand."""

    def __init__(self) -> None:
        self._count = 0
        self._lock = threading.Lock()
        self._idle = threading.Event()
        self._idle.set()
        #: until when nobody gives way, as requests have not ended for a whole wait
        self._hurried_until = 0.0

    def enter(self) -> None:
        with self._lock:
            self._count += 1
            self._idle.clear()

    def leave(self) -> None:
        with self._lock:
            self._count -= 1
            if self._count == 0:
                self._idle.set()

    def give_way(self) -> None:
        """Wait, briefly, until no request is in hand.  Where that never comes, half of the time is left to whoever waits here."""
        if self._count and time.monotonic() > self._hurried_until and not self._idle.wait(GATE_WAIT_S):
            self._hurried_until = time.monotonic() + GATE_WAIT_S


#: per thread the gate of the worker whose thread it is, if it gives way
_here = threading.local()


def give_way() -> None:
    """On a worker that gives way to requests: do so.  Called where a step is about to read or write, as a step is long for a request."""
    gate: Gate | None = getattr(_here, "gate", None)
    if gate is not None:
        gate.give_way()


class _New(msgspec.Struct, frozen=True):
    """In an inbox: the first piece of something."""

    act: Callable[[], None]


class Worker:
    """One thread with an inbox, timers and parked generators."""

    def __init__(self, name: str, *, clock: Clock, pools: Pools, gate: Gate | None = None) -> None:
        self.name = name
        self._clock = clock
        self._pools = pools
        self._gate = gate
        self._inbox: queue.SimpleQueue[Callable[[], None] | _New | None] = queue.SimpleQueue()
        self._new: deque[Callable[[], None]] = deque()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._parked: dict[Hashable, list[Callable[[Any, BaseException | None], None]]] = {}
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after what is in the inbox now; what is parked or has not begun is left to the next start."""
        self._inbox.put(None)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=10)

    def post(self, act: Callable[[], None]) -> None:
        """Run `act` on this worker, in order of arrival.  Any thread may call it."""
        self._inbox.put(act)

    def post_new(self, act: Callable[[], None]) -> None:
        """Begin something of its own with `act`: not before all that has begun here has gone on as far as it can.

        Of many that come at once, those that were first are then done early, and the last ones no later than if all went on in turns.
        """
        if threading.current_thread() is self._thread:  # it is part of what goes on
            self.post(act)
        else:
            self._inbox.put(_New(act))

    @property
    def waiting(self) -> int:
        """Pieces of work in the inbox."""
        return self._inbox.qsize() + len(self._new)

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Run `act` on this worker in `seconds`."""
        when = self._clock.monotonic() + seconds
        self.post(lambda: self._set(when, act))

    def _set(self, when: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (when, next(self._order), act))

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        """Like `after`; to be called on this worker only."""
        self._set(self._clock.monotonic() + seconds, act)

    def begin(self, work: Work, done: Callable[[Any, BaseException | None], None]) -> None:
        """Run a generator on this worker; `done(value, error)` at its end, on this worker."""
        self.post(lambda: self._step(work, None, None, done))

    def go_on(self, work: Work, done: Callable[[Any, BaseException | None], None]) -> None:
        """Like `begin`, at once; to be called on this worker only."""
        self._step(work, None, None, done)

    def signal(self, key: Hashable, value: Any = None) -> None:
        """Wake whoever waits for `key`.  Any thread may call it."""

        def wake() -> None:
            for resume in self._parked.pop(key, ()):
                resume(value, None)

        self.post(wake)

    def _step(
        self, work: Work, value: Any, error: BaseException | None, done: Callable[[Any, BaseException | None], None]
    ) -> None:
        try:
            piece = work.send(value) if error is None else work.throw(error)
        except StopIteration as stop:
            done(stop.value, None)
            return
        except Exception as raised:  # noqa: BLE001 - the end of the generator, told to its owner
            done(None, raised)
            return
        try:
            if isinstance(piece, Slow) and piece.stays:
                self._pools.submit(piece, lambda v, e: self._step(work, v, e, done))
            elif isinstance(piece, Slow):
                self._pools.submit(piece, lambda v, e: self.post(lambda: self._step(work, v, e, done)))
            elif isinstance(piece, Until):
                self._park(piece, lambda v, e: self._step(work, v, e, done))
            elif isinstance(piece, After):
                self._follow(piece, lambda v, e: self._step(work, v, e, done))
            elif isinstance(piece, Together):
                self._gather(piece, lambda v, e: self._step(work, v, e, done))
            elif isinstance(piece, Begin):
                self._begin(piece, lambda v, e: self._step(work, v, e, done))
            else:
                msg = f"{piece!r} cannot be waited for"
                raise TypeError(msg)
        except Exception as raised:  # noqa: BLE001 - handed back into the generator: its owner would wait for ever
            refused = raised
            self.post(lambda: self._step(work, None, refused, done))

    def _park(self, piece: Until, resume: Callable[[Any, BaseException | None], None]) -> None:
        waiting = self._parked.setdefault(piece.key, [])
        waiting.append(resume)

        def expire() -> None:
            there = self._parked.get(piece.key)
            if there and resume in there:
                there.remove(resume)
                if not there:
                    del self._parked[piece.key]
                resume(None, TimedOutError(f"{piece.key} did not come within {piece.timeout_s} s"))

        self._later(piece.timeout_s, expire)

    def _follow(self, piece: After, resume: Callable[[Any, BaseException | None], None]) -> None:
        waiting = [resume]  # whoever is first takes it out: the future or the time; both come on this worker

        def settled() -> None:
            if waiting:
                error = piece.future.exception()
                waiting.pop()(None if error else piece.future.result(), error)

        def expire() -> None:
            if waiting:
                waiting.pop()(None, _late(piece))

        if piece.timeout_s is not None:
            self._later(piece.timeout_s, expire)
        piece.future.add_done_callback(lambda _: self.post(settled))

    def _begin(self, piece: Begin, resume: Callable[[Any, BaseException | None], None]) -> None:
        future: Future[Any] = Future()
        # taken out when the call has begun; when it was refused, or has ended before its word came, then
        waiting = [resume]

        def begun() -> None:
            if waiting:
                waiting.pop()(future, None)

        def call(*args: Any) -> Any:
            self.post(begun)
            return piece.piece.call(*args)

        def ended(value: Any, error: BaseException | None) -> None:
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)
            self.post(begun)

        self._pools.submit(msgspec.structs.replace(piece.piece, call=call), ended)

    def _gather(self, piece: Together, resume: Callable[[Any, BaseException | None], None]) -> None:
        ends: dict[int, tuple[Any, BaseException | None]] = {}

        def ended(at: int, value: Any, error: BaseException | None) -> None:
            ends[at] = value, error
            if len(ends) == len(piece.pieces):  # nobody goes on, or undoes, while one is at work
                error = next((ends[one][1] for one in sorted(ends) if ends[one][1] is not None), None)
                resume(None if error else [ends[one][0] for one in sorted(ends)], error)

        for at, one in enumerate(piece.pieces):
            self._pools.submit(one, lambda v, e, at=at: self.post(lambda: ended(at, v, e)))  # type: ignore[misc]

    def _run(self) -> None:
        _here.gate = self._gate
        while (act := self._next()) is not None:
            give_way()
            try:
                act()
            except Exception:  # one piece of work must not end the thread that runs them all
                log.exception("work failed", worker=self.name)

    def _next(self) -> Callable[[], None] | None:
        """What to do now, once there is something; None: end."""
        while True:
            timeout = None
            if self._timers:
                timeout = self._timers[0][0] - self._clock.monotonic()
            # a timer that is due comes first: under load the inbox is never empty
            if timeout is not None and timeout <= 0:
                return heapq.heappop(self._timers)[2]
            try:
                act = self._inbox.get(not self._new, timeout)
            except queue.Empty:
                if self._new:
                    return self._new.popleft()
                continue
            if not isinstance(act, _New):
                return act
            self._new.append(act.act)
