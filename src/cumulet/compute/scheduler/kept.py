"""What a decision calculated, kept for the next one that asks for the same: only the hosts that changed are looked at again.

Most launches ask for one of a few shapes, and between two of them a handful of hosts change, in what is free alone.  For each shape is kept
who passed the filters, who is short of what, each weigher's numbers with their least and largest, the sums, and who is near to the best.
A change of anything but what is free (`Columns.era`), or a host that falls silent, has all of it calculated anew, by the same filters and
weights as in plan.py; a change of the least or largest number only the weights.  So a decision costs the same for 100,000 hosts as for a
thousand, nearly always.
"""

import math
import random
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from cumulet.compute.scheduler.columns import Column, Columns, Mask
from cumulet.compute.scheduler.decision import NAMED_OF_MANY, Refusal, Weighed
from cumulet.compute.scheduler.filters.resources import is_short, short_of
from cumulet.compute.scheduler.plan import NEAR, Plan, WhyNot, choose, examples, largest, pass_filters, why_short_of
from cumulet.compute.scheduler.snapshot import Wanted
from cumulet.compute.scheduler.weights import WEIGHTS, Weight

__all__ = ["HOSTS_MIN", "Shapes"]

#: with fewer it costs no less than to calculate everything; all of up to ALL_NAMED are named, which this cannot
HOSTS_MIN = 500
#: the newest so many shapes are kept: some 5 MB each for 100,000 hosts
SHAPES_MAX = 8
#: to look at one host that changed costs what calculating so many anew does; so few are always looked at one by one
COSTS_LIKE = 500
FEW = 16
#: so many of the best are kept in sight, of which the first are named
RANKED = 24


class Shapes:
    """Decisions of one copy of the hosts.  Whoever uses it holds the copy's lock."""

    def __init__(self) -> None:
        self._shapes: dict[bytes, _Shape] = {}

    def choose(self, hosts: Columns, wanted: Wanted, rng: random.Random) -> Plan:
        """As `plan.choose`."""
        own = wanted.host or wanted.exclude or wanted.same_host or wanted.different_host or wanted.group_policy
        if own or hosts.size < HOSTS_MIN:
            return choose(hosts, wanted, rng)
        key = msgspec.msgpack.encode(wanted)
        shape = self._shapes.pop(key, None) or _Shape(wanted)
        if len(self._shapes) >= SHAPES_MAX:
            del self._shapes[next(iter(self._shapes))]
        self._shapes[key] = shape  # the newest is the last
        return shape.choose(hosts, rng)


class _Numbers:
    """What one weigher gave: of each host; the least and largest of those that are left, and how many have them."""

    __slots__ = ("high", "highs", "low", "lows", "multiplier", "name", "of", "scale", "weigh")

    def __init__(self, name: str, weigh: Weight, multiplier: float) -> None:
        self.name, self.weigh, self.multiplier = name, weigh, multiplier
        self.of: Column = np.zeros(0)
        self.low = self.high = self.scale = 0.0
        self.lows = self.highs = 0

    def calculate(self, hosts: Columns, wanted: Wanted, left: Mask) -> None:
        self.of = self.weigh(hosts, wanted).copy()
        among = self.of[left]
        self.low, self.high = float(among.min()), float(among.max())
        self.lows, self.highs = int(np.count_nonzero(among == self.low)), int(np.count_nonzero(among == self.high))
        self.scale = self.multiplier / (self.high - self.low) if self.high > self.low else 0.0

    def change(self, place: int, new: float, *, was_left: bool, is_left: bool) -> bool:
        """A host's number is another one, or the host is left no more, or again.  False when the least or largest is not known now."""
        if was_left:
            old = self.of[place]
            self.lows -= old == self.low
            self.highs -= old == self.high
        self.of[place] = new
        if is_left:
            if not self.low <= new <= self.high:
                return False
            self.lows += new == self.low
            self.highs += new == self.high
        return self.lows > 0 and self.highs > 0


class _Short:
    """Who of those that passed the filters has too little of one resource."""

    __slots__ = ("count", "name", "these")

    def __init__(self, name: str, these: Mask) -> None:
        self.name, self.these = name, these
        self.count = int(np.count_nonzero(these))


class _Shape:
    """What is kept for one request.  See the module's docstring."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._era, self._moved = -1, 0
        self._from_s, self._until_s = math.inf, -math.inf
        self._why_nots: list[WhyNot] = []
        self._shorts: list[_Short] = []
        self._passed: Mask = np.zeros(0, dtype=np.bool_)
        self._left: Mask = self._passed
        self._fitting = 0
        #: None: not looked for yet
        self._examples: tuple[Refusal, ...] | None = None
        self._numbers = [_Numbers(*one) for one in WEIGHTS]
        self._known = False  # whether numbers and sums are
        #: of the scaled numbers; of who is not left, less than any
        self._sums: Column = np.zeros(0)
        #: the largest sum, how many have it, from where on a host is near to it, how many are; 0 bests: to be looked for
        self._best, self._bests, self._near_from, self._near = 0.0, 0, 0.0, 0
        #: who is near, the first so many; some may be so no more, which is found out when the dice fall on them
        self._listed: Any = np.zeros(0, dtype=np.intp)
        self._listed_count = 0
        self._is_listed: Mask = np.zeros(0, dtype=np.bool_)
        #: who has one of the largest sums: all that have more than the least of these; what puts them in order, those alike by the dice
        self._ranked: dict[int, tuple[float, float, int]] = {}
        self._ranked_from = math.inf
        #: what was said of hosts that have not changed since
        self._said: dict[int, Weighed] = {}

    def choose(self, hosts: Columns, rng: random.Random) -> Plan:
        self._follow(hosts, rng)
        chosen, weighed = None, tuple[Weighed, ...]()
        if self._fitting:
            if not self._known:
                self._add_up(hosts)
            if not self._bests:
                self._look_for_best()
            chosen = self._one_near(rng)
            weighed = self._weighed(hosts, chosen, rng)
        why_nots = self._all_why_nots()
        if self._examples is None:
            self._examples = examples(hosts, self._wanted, why_nots, NAMED_OF_MANY)
        return Plan(
            chosen=chosen,
            near=self._near if self._fitting else 0,
            fitting=self._fitting,
            fits=0,
            weighed=weighed,
            refused=self._examples,
            reasons={name: count for name, count, _, _ in why_nots},
        )

    # --- following the hosts -------------------------------------------------------------------------------------------------------

    def _follow(self, hosts: Columns, rng: random.Random) -> None:
        valid = hosts.era == self._era and self._from_s <= hosts.now_s < self._until_s
        if not valid or len(hosts.moved) - self._moved > max(FEW, hosts.size // COSTS_LIKE):
            self._begin(hosts)
        else:
            for place in hosts.moved[self._moved :]:
                self._look_at(hosts, place, rng)
        self._era, self._moved = hosts.era, len(hosts.moved)

    def _begin(self, hosts: Columns) -> None:
        self._from_s, self._until_s = hosts.now_s, hosts.up_until_s()
        self._passed, self._why_nots = pass_filters(hosts, self._wanted)
        self._shorts = [
            _Short(name, short_of(hosts, self._wanted, name) & self._passed) for name in self._wanted.resources
        ]
        self._left = self._passed.copy()
        for short in self._shorts:
            self._left &= ~short.these
        self._fitting = int(np.count_nonzero(self._left))
        self._known, self._examples = False, None

    def _look_at(self, hosts: Columns, place: int, rng: random.Random) -> None:
        """What is free on this host has changed."""
        if not self._passed[place]:
            return
        was_left, is_left = bool(self._left[place]), True
        for short in self._shorts:
            is_now = is_short(hosts, self._wanted, short.name, place)
            short.count += is_now - int(short.these[place])
            short.these[place] = is_now
            is_left = is_left and not is_now
        self._left[place] = is_left
        self._fitting += is_left - was_left
        if not (was_left and is_left):
            self._examples = None
        if not self._known:
            return
        total = 0.0
        for one in self._numbers:
            new = float(one.weigh(hosts, self._wanted)[place])
            self._known = one.change(place, new, was_left=was_left, is_left=is_left) and self._known
            if one.scale:
                total += new * one.scale
        if self._known:
            self._set_sum(place, total if is_left else -math.inf, rng)

    def _set_sum(self, place: int, new: float, rng: random.Random) -> None:
        old = float(self._sums[place])
        self._sums[place] = new
        self._said.pop(place, None)
        self._ranked.pop(place, None)
        if new >= self._ranked_from:
            self._ranked[place] = (-new, rng.random(), place)
        if new > self._best:
            self._bests = 0
        if not self._bests:
            return
        self._bests += (new == self._best) - (old == self._best)
        self._near += (new >= self._near_from) - (old >= self._near_from)
        if new >= self._near_from and not self._is_listed[place]:
            self._listed[self._listed_count] = place
            self._listed_count += 1
            self._is_listed[place] = True

    # --- over all hosts ------------------------------------------------------------------------------------------------------------

    def _add_up(self, hosts: Columns) -> None:
        sums = np.zeros(hosts.size)
        for one in self._numbers:
            one.calculate(hosts, self._wanted, self._left)
            if one.scale:
                sums += one.of * one.scale
        sums[~self._left] = -math.inf
        self._sums, self._known, self._bests = sums, True, 0
        self._ranked, self._ranked_from = {}, math.inf
        self._said = {}

    def _look_for_best(self) -> None:
        sums = self._sums
        self._best = float(sums.max())
        self._bests = int(np.count_nonzero(sums == self._best))
        self._near_from = self._best - NEAR * sum(multiplier for *_, multiplier in WEIGHTS)
        self._is_listed = sums >= self._near_from
        near = np.flatnonzero(self._is_listed)
        self._near = self._listed_count = near.size
        self._listed = np.empty(sums.size, dtype=np.intp)
        self._listed[: near.size] = near

    def _rank(self, rng: random.Random) -> None:
        ranked = [place for place in largest(self._sums, RANKED).tolist() if self._left[place]]
        sums = self._sums.take(ranked).tolist()
        self._ranked = {place: (-total, rng.random(), place) for place, total in zip(ranked, sums, strict=True)}
        self._ranked_from = min(sums) if len(ranked) == RANKED else -math.inf

    # --- one decision --------------------------------------------------------------------------------------------------------------

    def _one_near(self, rng: random.Random) -> int:
        while True:
            at = int(rng.random() * self._listed_count)
            place = int(self._listed[at])
            if self._sums[place] >= self._near_from:
                return place
            self._is_listed[place] = False
            self._listed_count -= 1
            self._listed[at] = self._listed[self._listed_count]

    def _weighed(self, hosts: Columns, chosen: int, rng: random.Random) -> tuple[Weighed, ...]:
        """The best, and the chosen one; those alike in random order."""
        count = min(NAMED_OF_MANY, self._fitting)
        if not count <= len(self._ranked) <= 2 * RANKED:
            self._rank(rng)
        shown = [place for _, _, place in sorted(self._ranked.values())[:count]]
        if chosen not in shown:
            shown[NAMED_OF_MANY - 1 :] = [chosen]
        return tuple([self._said.get(place) or self._say(hosts, place) for place in shown])

    def _say(self, hosts: Columns, place: int) -> Weighed:
        by = {one.name: (float(one.of[place]) - one.low) * one.scale for one in self._numbers}
        said = self._said[place] = Weighed(host=hosts.names[place], weight=sum(by.values()), by=by)
        return said

    def _all_why_nots(self) -> Sequence[WhyNot]:
        return [
            *self._why_nots,
            *(
                (short.name, short.count, short.these, why_short_of(short.name))
                for short in self._shorts
                if short.count
            ),
        ]
