"""Snapshot in, plan out: which hosts could hold the server, best first, and why the others could not.  Pure."""

import random
from collections.abc import Sequence

import msgspec

from cumulet.compute.scheduler.decision import Refusal, Weighed
from cumulet.compute.scheduler.filters import FILTERS
from cumulet.compute.scheduler.filters.resources import short_of
from cumulet.compute.scheduler.snapshot import HostState, Wanted
from cumulet.compute.scheduler.weights import WEIGHTS

__all__ = ["Plan", "choose"]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """hosts: best first; weighed: likewise; refused: every other host with its reason."""

    hosts: tuple[HostState, ...]
    weighed: tuple[Weighed, ...]
    refused: tuple[Refusal, ...]


def choose(hosts: Sequence[HostState], wanted: Wanted, rng: random.Random) -> Plan:
    """Filter, then weigh.  Hosts of equal weight come in random order, so that like requests spread."""
    left: list[HostState] = []
    refused: list[Refusal] = []
    for host in hosts:
        for name, refuse in FILTERS:
            reason = refuse(host, wanted)
            if reason is not None:
                refused.append(Refusal(host=host.host, by=name, reason=reason))
                break
        else:
            short = short_of(host, wanted)
            refused += [Refusal(host=host.host, by=name, reason=reason) for name, reason in short.items()]
            if not short:
                left.append(host)
    parts: dict[str, dict[str, float]] = {host.host: {} for host in left}
    for weigher, weigh, multiplier in WEIGHTS:
        raw = {host.host: weigh(host, wanted) for host in left}
        low, high = min(raw.values(), default=0.0), max(raw.values(), default=0.0)
        for name, value in raw.items():
            parts[name][weigher] = multiplier * ((value - low) / (high - low) if high > low else 0.0)
    totals = {name: sum(by.values()) for name, by in parts.items()}
    order = sorted(left, key=lambda host: (-totals[host.host], rng.random()))
    weighed = tuple(Weighed(host=host.host, weight=totals[host.host], by=parts[host.host]) for host in order)
    return Plan(hosts=tuple(order), weighed=weighed, refused=tuple(refused))
