"""Workers and pools without threads: the interface of `core.work`, and everything an entry of the agenda."""

from collections import deque
from collections.abc import Callable, Hashable
from typing import Any

from cumulet.core.work import Pools, Slow, Worker
from cumulet.dev.chaos.agenda import Agenda, Life
from cumulet.dev.chaos.perils import Perils

__all__ = ["SimPools", "SimWorker"]

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
        self._agenda.at(0, self._life, self.name, self._run_next)

    post_new = post

    def _run_next(self) -> None:
        self._acts.popleft()()

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        self._agenda.at(seconds, self._life, f"{self.name} timer", lambda: self.post(act))

    _later = after
