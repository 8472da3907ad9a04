"""Requests again and again: in a row, in a closed loop, at random moments; and what they took, in figures."""

from __future__ import annotations

import asyncio
import math
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from cumulet.dev.bench.client import Answer, Client
from cumulet.dev.bench.machine import Watch

__all__ = ["Load", "summary"]

_WARM_UPS = 5
_SERIES_S = 20.0
_SEED = 4
Ask = Callable[[], Awaitable[Answer]]


def summary(seconds: Sequence[float]) -> dict[str, Any]:
    """In milliseconds; percentiles are the nearest rank's."""
    if not seconds:
        return {"n": 0}
    ranked = sorted(one * 1000 for one in seconds)

    def rank(percent: float) -> float:
        return round(ranked[max(0, math.ceil(percent / 100 * len(ranked)) - 1)], 3)

    return {
        "n": len(ranked),
        "min_ms": round(ranked[0], 3),
        "median_ms": round(statistics.median(ranked), 3),
        "p95_ms": rank(95),
        "p99_ms": rank(99),
        "max_ms": round(ranked[-1], 3),
    }


class Load:
    """One cloud under load."""

    def __init__(self, client: Client, watch: Watch) -> None:
        self.client, self.watch = client, watch
        self.errors: list[str] = []

    def failed(self, what: str, answer: Answer) -> None:
        self.errors.append(f"{what}: {answer.status} {answer.body[:300].decode(errors='replace')}")

    async def series(self, what: str, ask: Ask, samples: int, *, warm_ups: int = _WARM_UPS) -> dict[str, Any]:
        """One after the other."""
        for _ in range(warm_ups):
            await ask()
        before, took, last = self.watch.begin(), [], None
        ends = time.monotonic() + _SERIES_S
        for _ in range(samples):
            answer = await ask()
            if answer.ok:
                took.append(answer.seconds)
                last = answer
            else:
                self.failed(what, answer)
            if time.monotonic() > ends:
                break
        found = summary(took) | self.watch.since(before, samples, what)
        if last is not None and last.body:
            found["bytes"] = len(last.body)
            lists = [value for value in last.json().values() if isinstance(value, list)]
            if lists:
                found["items"] = max(len(value) for value in lists)
        return found

    async def repeat(self, what: str, request: bytes, samples: int) -> dict[str, Any]:
        """The same request, made once."""
        return await self.series(what, lambda: self.client.plain.send(request), samples)

    async def closed_loop(self, what: str, request: bytes, workers: int, seconds: float) -> dict[str, Any]:
        """So many at once, each asking again as soon as it is answered."""
        send, took = self.client.plain.send, list[float]()
        await asyncio.gather(*(send(request) for _ in range(workers)))
        before = self.watch.begin()
        ends = time.monotonic() + seconds

        async def worker() -> None:
            while time.monotonic() < ends:
                answer = await send(request)
                if answer.ok:
                    took.append(answer.seconds)
                else:
                    self.failed(what, answer)

        await asyncio.gather(*(worker() for _ in range(workers)))
        cost = self.watch.since(before, len(took), f"{what} x{workers}")
        return summary(took) | cost | {"rps": round(len(took) / cost["wall_s"], 1)}

    async def open_loop(
        self, streams: Sequence[tuple[Callable[[], Awaitable[None]], float]], seconds: float
    ) -> list[float]:
        """Begin each stream's work at random moments (Poisson), so many times a second, whatever is not done yet.

        Returns by how many seconds each began too late: what the generator itself could not do in time.
        """
        chance = random.Random(_SEED)  # noqa: S311 - arrivals, the same in every run
        late, tasks = list[float](), list[asyncio.Task[None]]()

        async def stream(begin: Callable[[], Awaitable[None]], rate: float, start: float) -> None:
            due = start
            while (due := due + chance.expovariate(rate)) < start + seconds:
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                late.append(time.monotonic() - due)
                tasks.append(asyncio.ensure_future(begin()))

        start = time.monotonic()
        await asyncio.gather(*(stream(begin, rate, start) for begin, rate in streams))
        await asyncio.gather(*tasks)
        return late
