"""Workers and pools without threads: the interface of `core.work`, and everything an entry of the agenda."""

from collections import deque
from collections.abc import Callable, Hashable
from typing import Any

import structlog

from cumulet.core.work import After, Pools, Slow, TimedOutError, Until, Worker
from cumulet.dev.chaos.agenda import Agenda, Life
from cumulet.dev.chaos.perils import Perils

__all__ = ["SimPools", "SimWorker"]

log = structlog.get_logger()

_Done = Callable[[Any, BaseException | None], None]


class SimPools(Pools):
    """Slow pieces, each at a moment of its own.  What may go wrong with one is the perils' affair."""

    def __init__(self, life: Life, agenda: Agenda, perils: Perils) -> None:
        self._life = life
        self._agenda = agenda
        self._perils = perils

    def submit(self, piece: Slow, done: _Done) -> None:
        name = getattr(piece.call, "__name__", "piece")
        begins, takes = self._perils.durations(piece.pool)

        def run() -> None:
            try:
                value, error = piece.call(*piece.args), None
            except Exception as raised:  # noqa: BLE001 - handed back to whoever asked
                value, error = None, raised
            self._agenda.at(takes, self._life, f"{name} ends", lambda: done(value, error))

        self._agenda.at(begins, self._life, name, run)

    def close(self) -> None:
        """No thread to end."""


class SimWorker(Worker):
    """One thread's work: its inbox in order, at moments that dice choose."""

    def __init__(self, name: str, *, life: Life, agenda: Agenda, pools: SimPools) -> None:
        self.name = name
        self._life = life
        self._agenda = agenda
        self._pools = pools
        self._acts: deque[Callable[[], None]] = deque()
        self._parked: dict[Hashable, list[_Done]] = {}

    def start(self) -> None:
        """No thread to start: the agenda has what was posted."""

    def stop(self) -> None:
        """No thread to end."""

    def post(self, act: Callable[[], None]) -> None:
        if not self._life.alive:
            return
        self._acts.append(act)
        self._agenda.at(0, self._life, self.name, self._next)

    def _next(self) -> None:
        self._acts.popleft()()

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        self._agenda.at(seconds, self._life, f"{self.name} timer", lambda: self.post(act))

    def _park(self, piece: Until, resume: _Done) -> None:
        self._parked.setdefault(piece.key, []).append(resume)

        def expire() -> None:
            there = self._parked.get(piece.key, [])
            if resume in there:
                there.remove(resume)
                resume(None, TimedOutError(f"{piece.key} did not come within {piece.timeout_s} s"))

        self.after(piece.timeout_s, expire)

    def _follow(self, piece: After, resume: _Done) -> None:
        waiting = [resume]

        def settled() -> None:
            if waiting:
                error = piece.future.exception()
                waiting.pop()(None if error else piece.future.result(), error)

        def expire() -> None:
            if waiting:
                waiting.pop()(None, TimedOutError(f"it did not end within {piece.timeout_s} s"))

        self.after(piece.timeout_s, expire)
        piece.future.add_done_callback(lambda _: self.post(settled))
