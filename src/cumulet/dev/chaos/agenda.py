"""Virtual time: what happens when, who it happens to, and what it means that a process dies.

Nothing here runs beside anything else.  Every act of every process is an entry of one list, in the order of its time; where two could
come at the same time, dice decide.  A process (a `Life`) dies by an exception that nothing of the product catches, and whatever it still
had in this list is dropped.
"""

import datetime
import hashlib
import heapq
import itertools
import random
from collections.abc import Callable
from typing import Any

import structlog

__all__ = ["Agenda", "Death", "Life", "WorldClock", "within"]

log = structlog.get_logger()

_EPOCH = datetime.datetime(2026, 1, 1)  # noqa: DTZ001 - stored times are UTC without a zone
#: two readings of the clock are never equal, as on a real machine
TICK_US = 1
#: an act is seen this long after it was asked for, at most
PASS_US_MAX = 400


class Death(BaseException):
    """A process ends here and now: no `except Exception` is asked."""

    def __init__(self, life: "Life", where: str) -> None:
        super().__init__(f"{life.name} dies at {where}")
        self.life = life


class Life:
    """One process, from its start to its death."""

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.number = number
        self.alive = True

    def check(self, where: str) -> None:
        """Whoever is dead does nothing more: no handler of an error, no `finally` has an effect."""
        if not self.alive:
            raise Death(self, where)

    def __str__(self) -> str:
        return f"{self.name}/{self.number}"


class Agenda:
    """The list of what is to come, the time, and the story so far."""

    def __init__(self, rng: random.Random, *, keep: bool = False, died: Callable[[Life], None]) -> None:
        """keep: keep the story's lines, and not their sum only.  died: told of a process that ended in an act."""
        self.rng = rng
        self.now_us = 0
        self.lines: list[str] = []
        self._keep = keep
        self._died = died
        self._order = itertools.count()
        self._entries: list[tuple[int, float, int, Life | None, str, Callable[[], None]]] = []
        self._sum = hashlib.sha256()

    def say(self, line: str) -> None:
        """A line of the story: part of what must be the same when the seed is played again."""
        text = f"{self.now_us / 1e6:12.6f} {line}"
        self._sum.update(text.encode())
        if self._keep:
            self.lines.append(text)

    @property
    def sum(self) -> str:
        """What two plays of one seed must have in common."""
        return self._sum.hexdigest()

    def at(self, delay_s: float, life: Life | None, what: str, act: Callable[[], None]) -> None:
        """Do `act` in `delay_s` seconds, unless `life` has ended by then."""
        when = self.now_us + int(delay_s * 1e6) + self.rng.randrange(1, PASS_US_MAX)
        heapq.heappush(self._entries, (when, self.rng.random(), next(self._order), life, what, act))

    def run(self, *, until_s: float, done: Callable[[], bool] | None = None) -> bool:
        """Let time pass until `done` or until that time; whether it is done."""
        end = int(until_s * 1e6)
        while self._entries and self._entries[0][0] <= end:
            if done is not None and done():
                return True
            when, _, _, life, what, act = heapq.heappop(self._entries)
            self.now_us = max(self.now_us, when)
            if life is None or life.alive:
                self._act(life, what, act)
        if done is not None and done():
            return True
        self.now_us = max(self.now_us, end)
        return False

    def _act(self, life: Life | None, what: str, act: Callable[[], None]) -> None:
        try:
            act()
        except Death as death:
            if death.life is not life:
                raise
            self._died(life)
        except Exception:  # as a worker's thread: one piece of work must not end what runs them all
            log.exception("work failed", work=what)

    @property
    def now_s(self) -> float:
        return self.now_us / 1e6


class WorldClock:
    """`Clock` of a world."""

    def __init__(self, agenda: Agenda) -> None:
        self._agenda = agenda

    def _tick(self) -> int:
        self._agenda.now_us += TICK_US
        return self._agenda.now_us

    def now(self) -> str:
        return (_EPOCH + datetime.timedelta(microseconds=self._tick())).isoformat(timespec="microseconds")

    def epoch(self) -> float:
        return _EPOCH.replace(tzinfo=datetime.UTC).timestamp() + self._tick() / 1e6

    def monotonic(self) -> float:
        return self._tick() / 1e6


def within(life: Life, died: Callable[[Life], None], call: Callable[[], Any], lost: Callable[[], Exception]) -> Any:
    """Make a call into another process: its death is an answer that never comes (`lost`)."""
    if not life.alive:
        raise lost()
    try:
        return call()
    except Death as death:
        if death.life is not life:
            raise
        died(life)
        raise lost() from None
