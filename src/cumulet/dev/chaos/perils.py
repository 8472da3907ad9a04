"""What may go wrong, and the dice that say when: one place for all of it, so that a seed owns it.

Two kinds of fault.  Dice at every boundary (a message, a call of a door or a driver, a transaction) with the rates of the seed; and
planned ones, armed by the story at a moment of its own, which strike at the next fitting boundary.  `on` is turned off at the story's end.
"""

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from cumulet.dev.chaos.agenda import Agenda, Death, Life

__all__ = ["Guarded", "Perils", "Rates"]


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """How often, of a thousand."""

    #: a call is refused before its effect, or its answer is lost after it
    call: int = 0
    verb: int = 0
    database: int = 0
    message_lost: int = 0
    message_doubled: int = 0
    message_late: int = 0
    #: a slow piece takes minutes
    stall: int = 0
    #: a process ends
    death: int = 0
    #: a port's `up` never comes
    never_up: int = 0


MILD = Rates(call=2, verb=2, database=1, message_lost=10, message_doubled=20, message_late=20, stall=5, never_up=5)
ROUGH = Rates(
    call=8, verb=8, database=4, message_lost=40, message_doubled=60, message_late=60, stall=15, death=1, never_up=20
)
CALM = Rates()


class Perils:
    """Dice, arms, and the count of what struck."""

    def __init__(self, rng: random.Random, agenda: Agenda, rates: Rates) -> None:
        self.rng = rng
        self.rates = rates
        self.on = True
        self.struck: Counter[str] = Counter()
        self._agenda = agenda
        #: by process: at how many boundaries from now it ends
        self._deaths: dict[str, int] = {}
        #: by kind: how many more of the next fitting boundaries go wrong
        self._armed: Counter[str] = Counter()
        #: (process, where, effect) → whether the effect is held back, and comes when its caller has given up: for proofs
        self.late: Callable[[Life, str, Callable[[], Any]], bool] | None = None
        #: (queue, message) → whether it is lost on its way: for proofs
        self.swallows: Callable[[str, str], bool] | None = None

    def count(self, kind: str, where: str) -> None:
        self.struck[kind] += 1
        self._agenda.say(f"! {kind}: {where}")

    def kill(self, process: str, boundaries: int) -> None:
        """Let a process end at one of its next boundaries."""
        self._deaths[process] = boundaries

    def arm(self, kind: str, times: int = 1) -> None:
        """Let the next boundaries of a kind go wrong."""
        self._armed[kind] += times

    def calm(self) -> None:
        """From now on nothing goes wrong."""
        self.on = False
        self._deaths.clear()
        self._armed.clear()

    # --- asked at boundaries ---------------------------------------------------------------------------------------

    def boundary(self, life: Life, where: str) -> None:
        """Between two effects of a process: it may end here."""
        life.check(where)
        if not self.on:
            return
        left = self._deaths.get(life.name)
        if left is not None:
            self._deaths[life.name] = left - 1
        if left == 0 or (self.rates.death and self.rng.randrange(20_000) < self.rates.death):
            self._deaths.pop(life.name, None)
            life.alive = False
            self.count("death", f"{life} at {where}")
            raise Death(life, where)

    def strikes(self, kind: str, where: str, rate: int) -> bool:
        if not self.on:
            return False
        if self._armed[kind] > 0:
            self._armed[kind] -= 1
        elif not rate or self.rng.randrange(1000) >= rate:
            return False
        self.count(kind, where)
        return True

    def side(self, kind: str, where: str, rate: int) -> str:
        """Whether and where a call goes wrong: "", "before" its effect, or "after" it."""
        if not self.strikes(kind, where, rate):
            return ""
        return "after" if self.rng.random() < 0.5 else "before"

    def deliveries(self, where: str) -> list[float]:
        """When a message arrives: once, twice, late, or never."""
        if not self.on:
            return [self.rng.uniform(0.0001, 0.002)]
        if self.strikes("message lost", where, self.rates.message_lost):
            return []
        delay = self.rng.uniform(0.0001, 0.002)
        if self.strikes("message delayed", where, self.rates.message_late):
            delay = self.rng.choice([0.05, 1.0, 5.0, 70.0]) * self.rng.random()
        if self.strikes("message doubled", where, self.rates.message_doubled):
            return [delay, delay + self.rng.choice([0.0, 0.01, 1.0, 30.0]) * self.rng.random()]
        return [delay]

    def durations(self, pool: str) -> tuple[float, float]:
        """How long a slow piece waits for its turn, and how long its answer takes."""
        begins, takes = self.rng.uniform(0.0001, 0.02), self.rng.uniform(0.0001, 0.05)
        if pool != "passwords" and self.strikes("stall", pool, self.rates.stall):
            if self.rng.random() < 0.5:
                begins = self.rng.uniform(1, 400)
            else:
                takes = self.rng.uniform(1, 400)
        return begins, takes


class Guarded:
    """A driver as one process sees it: every verb is a boundary before and after, and may be refused or lose its answer."""

    #: what is no effect and fails by itself only
    QUIET = frozenset({"close", "tap_name", "find_base", "root_disk", "extra_disk", "config_drive", "console_log"})

    def __init__(
        self, driver: Any, *, kind: str, life: Life, perils: Perils, error: Callable[[], Exception], agenda: Agenda
    ) -> None:
        self._driver = driver
        self._kind = kind
        self._life = life
        self._perils = perils
        self._error = error
        self._agenda = agenda
        self._stops: list[Callable[[], None]] = []

    def __getattr__(self, verb: str) -> Any:
        found = getattr(self._driver, verb)
        if not callable(found) or verb in self.QUIET or verb in {"snapshot_path", "base_of"}:
            return found

        def call(*values: Any, **named: Any) -> Any:
            where = f"{self._kind}.{verb}"
            perils = self._perils
            perils.boundary(self._life, f"{where} before")
            side = perils.side(f"{self._kind} fails", where, perils.rates.verb)
            if side == "before":
                raise self._error()
            self._agenda.say(f"  {self._life} {where}")
            if perils.late is not None and perils.late(self._life, where, lambda: found(*values, **named)):
                raise self._error()
            value = found(*values, **named)
            perils.boundary(self._life, f"{where} after")
            if side == "after":
                raise self._error()
            return value

        self.__dict__[verb] = call
        return call

    def subscribe(self, callback: Callable[[Any], None], /) -> Callable[[], None]:
        """Events come in their own time, and to the living only."""
        rng = self._perils.rng

        def hear(event: Any) -> None:
            self._agenda.at(rng.uniform(0, 0.01), self._life, f"{self._kind} event", lambda: callback(event))

        stop: Callable[[], None] = self._driver.subscribe(hear)
        self._stops.append(stop)
        return stop

    def let_go(self) -> None:
        """The process is gone, and its subscriptions with it."""
        for stop in self._stops:
            stop()
