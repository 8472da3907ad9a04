"""Columns in, plan out: which hosts could hold the server, the best of them, and why the others could not.  Pure.

Several schedulers that decide at the same moment see the same hosts.  So that they do not all take the best one, each takes one of the
hosts near to it by its own dice: `NEAR` of the widest difference there can be.  In a large cloud these are hundreds; of a few hosts
that differ it is the best.
"""

import random
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np

from cumulet.compute.scheduler.columns import Column, Columns, Mask
from cumulet.compute.scheduler.decision import ALL_NAMED, NAMED_OF_MANY, Refusal, Weighed
from cumulet.compute.scheduler.filters import FILTERS
from cumulet.compute.scheduler.filters.resources import short_of
from cumulet.compute.scheduler.filters.resources import why as why_short
from cumulet.compute.scheduler.snapshot import HostState, Wanted
from cumulet.compute.scheduler.weights import WEIGHTS

__all__ = ["NEAR", "Plan", "WhyNot", "choose", "examples", "largest", "pass_filters", "why_short_of"]

#: of the sum of all multipliers
NEAR = 0.02
#: among so many at most the best are put in order; beyond, they are found without
SORTED_MAX = 512

_Why = Callable[[HostState, Wanted], str]
#: a filter or resource, how many hosts it refused, which, and the words for one of them
WhyNot = tuple[str, int, Mask, _Why]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """chosen: the host's place, or None; near: how many it was chosen among.

    weighed: the best first, and the chosen one; refused: the first of each reason; reasons: by filter or resource all of them.
    """

    chosen: int | None
    near: int
    fitting: int
    #: as many like servers as all hosts would hold
    fits: int
    weighed: tuple[Weighed, ...]
    refused: tuple[Refusal, ...]
    reasons: dict[str, int]


def choose(
    hosts: Columns, wanted: Wanted, rng: random.Random, *, without: Sequence[int] = (), rooms: bool = False
) -> Plan:
    """Filter, then weigh.  Hosts of equal weight come in random order.

    without: hosts that were taken by others, and are neither chosen nor counted as refused; rooms: whether to count `fits`.
    """
    left, why_nots = _filter(hosts, wanted)
    left[list(without)] = False
    fitting = int(np.count_nonzero(left))
    named_max = ALL_NAMED if hosts.size <= ALL_NAMED else NAMED_OF_MANY
    chosen, near, weighed = _weigh(hosts, wanted, left, fitting, named_max, rng) if fitting else (None, 0, ())
    return Plan(
        chosen=chosen,
        near=near,
        fitting=fitting,
        fits=_fits(hosts, wanted, left) if rooms and fitting else 0,
        weighed=weighed,
        refused=examples(hosts, wanted, why_nots, named_max),
        reasons={name: count for name, count, _, _ in why_nots},
    )


def _filter(hosts: Columns, wanted: Wanted) -> tuple[Mask, list[WhyNot]]:
    """Who is left; by filter or resource how many were refused, which, and the words for it."""
    left, why_nots = pass_filters(hosts, wanted)
    full = None
    for name in wanted.resources:
        short = short_of(hosts, wanted, name)
        short &= left  # a host that is refused already has its reason; one that is short of several things has several
        if count := int(np.count_nonzero(short)):
            why_nots.append((name, count, short, why_short_of(name)))
            full = short if full is None else full | short
    if full is not None:
        left &= ~full
    return left, why_nots


def pass_filters(hosts: Columns, wanted: Wanted) -> tuple[Mask, list[WhyNot]]:
    """As `_filter`, but for room."""
    left: Mask = ~hosts.nobody()
    why_nots: list[WhyNot] = []
    for one in FILTERS:
        refused = one.refused(hosts, wanted)
        if refused is not None:
            refused &= left
            if count := int(np.count_nonzero(refused)):
                why_nots.append((one.name, count, refused, one.why))
                left ^= refused
    return left, why_nots


def why_short_of(resource: str) -> _Why:
    """The words for a host that has too little of it."""
    return lambda host, wanted: why_short(host, wanted, resource)


def _weigh(
    hosts: Columns, wanted: Wanted, left: Mask, fitting: int, named_max: int, rng: random.Random
) -> tuple[int, int, tuple[Weighed, ...]]:
    """The chosen host, among how many, and the best with what each weigher gave."""
    places = None if fitting == hosts.size else np.flatnonzero(left)
    total, scaled = hosts.scratch(fitting)
    total[:] = 0.0
    parts: list[tuple[str, Column, float, float]] = []
    for name, weigh, multiplier in WEIGHTS:
        raw = weigh(hosts, wanted)
        if places is not None:
            raw = raw.take(places)
        low, high = float(raw.min()), float(raw.max())
        scale = multiplier / (high - low) if high > low else 0.0
        parts.append((name, raw, low, scale))
        if scale:
            total += np.multiply(raw, scale, out=scaled)
    best = float(total.max())
    near = np.flatnonzero(total >= best - NEAR * sum(multiplier for *_, multiplier in WEIGHTS))
    chosen = int(near[int(rng.random() * near.size)])
    shown = _first(total, near, best, min(named_max, fitting), rng)
    if chosen not in shown:
        shown[named_max - 1 :] = [chosen]
    given = [((raw.take(shown) - low) * scale).tolist() for _, raw, low, scale in parts]
    names = [name for name, *_ in parts]
    weighed = tuple(
        Weighed(
            host=hosts.names[index if places is None else places[index]],
            weight=sum(by),
            by=dict(zip(names, by, strict=True)),
        )
        for index, *by in zip(shown, *given, strict=True)
    )
    return chosen if places is None else int(places[chosen]), near.size, weighed


def _first(total: Column, near: Any, best: float, count: int, rng: random.Random) -> list[int]:
    """The best so many, in order; those alike in random order."""
    among = near
    if near.size < count:
        among = largest(total, count)
    elif near.size > SORTED_MAX:
        among = np.flatnonzero(total == best)
        if among.size < count:
            among = near.take(largest(total.take(near), count))
    if among.size > SORTED_MAX:  # all alike
        return [int(among[index]) for index in rng.sample(range(among.size), count)]
    return sorted(among.tolist(), key=lambda index: (-total[index], rng.random()))[:count]


def largest(total: Column, count: int) -> Any:
    """Where the largest so many are, in no order."""
    return np.argpartition(total, total.size - count)[total.size - count :]


def _fits(hosts: Columns, wanted: Wanted, left: Mask) -> int:
    rooms = [hosts.free(name)[left] // amount for name, amount in wanted.resources.items()]
    return int(np.minimum.reduce(rooms).sum()) if rooms else 0


def examples(hosts: Columns, wanted: Wanted, why_nots: Sequence[WhyNot], named_max: int) -> tuple[Refusal, ...]:
    """Of every reason the first hosts, in the order of the hosts."""
    if not why_nots:
        return ()
    each = named_max if hosts.size <= named_max else max(1, named_max // len(why_nots))
    found = [
        (int(place), order)
        for order, (_, _, refused, _) in enumerate(why_nots)
        for place in np.flatnonzero(refused)[:each]
    ]
    return tuple(
        Refusal(
            host=hosts.names[place],
            by=why_nots[order][0],
            reason=why_nots[order][3](hosts.state(place, wanted), wanted),
        )
        for place, order in sorted(found)
    )
