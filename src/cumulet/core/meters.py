"""Counters and histograms, and Prometheus' text format of them.

The client library of Prometheus was turned down: it is a dependency more and takes 35 to 60 ms to import, for what is a page here.
"""

import bisect
import threading
from collections.abc import Iterable, Mapping

__all__ = ["Histogram", "Sample", "render"]

#: labels → value
Sample = Mapping[tuple[tuple[str, str], ...], float]


class Histogram:
    """How many observations were at most so large.  Any thread may observe."""

    def __init__(self, bounds: Iterable[float]) -> None:
        self.bounds = tuple(sorted(bounds))
        self._counts = [0] * (len(self.bounds) + 1)
        self._sum = 0.0
        self._lock = threading.Lock()

    def observe(self, value: float) -> None:
        with self._lock:
            self._counts[bisect.bisect_left(self.bounds, value)] += 1
            self._sum += value

    @property
    def count(self) -> int:
        return sum(self._counts)

    def lines(self, name: str) -> list[str]:
        with self._lock:
            counts, total = list(self._counts), self._sum
        lines, so_far = [], 0
        for bound, count in zip((*self.bounds, "+Inf"), counts, strict=True):
            so_far += count
            lines.append(f'{name}_bucket{{le="{bound}"}} {so_far}')
        return [*lines, f"{name}_sum {total:g}", f"{name}_count {so_far}"]


def render(name: str, kind: str, words: str, values: Sample | float | Histogram) -> list[str]:
    """One metric's lines.  kind: counter, gauge, histogram."""
    lines = [f"# HELP {name} {words}", f"# TYPE {name} {kind}"]
    if isinstance(values, Histogram):
        return lines + values.lines(name)
    if isinstance(values, (int, float)):
        return [*lines, f"{name} {values:g}"]
    for labels, value in sorted(values.items()):
        inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels)
        lines.append(f"{name}{{{inside}}} {value:g}" if inside else f"{name} {value:g}")
    return lines


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
