"""`./dev crash`: kill the cloud or a daemon of it at every step of launches and deletions, and see that nothing was lost or left.

One cloud takes all rows.  In each, a step of a launch or of a deletion is held at a moment, something gets SIGKILL, and the step goes
on; a program that was killed is started again.  By itself the server must then be ACTIVE and usable, or gone, or in ERROR with nothing
left of it, every daemon must run, a server that stood by must be reached as before, and the leak check must find nothing.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from cumulet.dev.cloud import CloudFailed, Refused
from cumulet.dev.crash_ground import Ground, SimGround
from cumulet.dev.kills import Row, choose, every_row

__all__ = ["Outcome", "Table", "run"]

#: from the kill until all is well again
CONVERGED_S = 30.0


@dataclass(frozen=True)
class Outcome:
    """How one kill ended."""

    row: Row
    #: complete, gone, ERROR with nothing left; or what is still wrong when the time is over
    end: str
    well: bool
    #: from the kill until it was so
    seconds: float
    #: what the leak check found at the end
    leaks: int

    def __str__(self) -> str:
        verdict = "well" if self.well else "NOT WELL"
        left, when = self.end, f"{self.seconds:.2f} s"
        return f"{self.row.moment:<32} {self.row.victim:<15} {when:>8} {self.leaks:>6}   {verdict:<8} {left}"


@dataclass
class Table:
    """What was found."""

    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return bool(self.outcomes) and all(outcome.well for outcome in self.outcomes)

    def closing_line(self, took_s: float) -> str:
        ends = Counter(outcome.end if outcome.well else "not well" for outcome in self.outcomes)
        counts = ", ".join(f"{count} {end}" for end, count in ends.most_common())
        slowest = max((outcome.seconds for outcome in self.outcomes), default=0.0)
        leaks = sum(outcome.leaks for outcome in self.outcomes)
        return f"{len(self.outcomes)} kills in {took_s:.0f} s: {counts}; slowest {slowest:.1f} s; {leaks} leaked"


def run(
    kind: str, *, only: str | None = None, count: int | None = None, rows: Sequence[Row] = (), state: Path | None = None
) -> Table:
    """The chosen rows of the table, or those given, printed as they come.  `kind` is `--sim` or `--real`."""
    chosen = list(rows) or choose(every_row(real=kind == "--real"), only=only, count=count)
    table = Table()
    began = time.monotonic()
    with ExitStack() as held:
        folder = state or Path(held.enter_context(tempfile.TemporaryDirectory(prefix="cumulet-crash-")))
        ground = held.enter_context((Ground if kind == "--real" else SimGround)(folder))
        print(f"{'step':<32} {'killed':<15} {'well in':>8} {'leaked':>6}", flush=True)
        try:
            for row in in_pairs(chosen):
                table.outcomes.append(_play(ground, row))
                print(table.outcomes[-1], flush=True)
        finally:
            print(table.closing_line(time.monotonic() - began), flush=True)
    return table


def in_pairs(rows: Sequence[Row]) -> Iterator[Row]:
    """A launch, then a deletion, which takes the server that the launch made; with different victims."""
    launches = [row for row in rows if row.flow == "launch"]
    deletions = [row for row in rows if row.flow == "delete"]
    half = next((n for n, row in enumerate(deletions) if launches and row.victim != launches[0].victim), 0)
    pairs = itertools.zip_longest(launches, deletions[half:] + deletions[:half])
    return (row for pair in pairs for row in pair if row is not None)


def _play(ground: SimGround, row: Row) -> Outcome:
    """One row.  The cloud is whole again afterwards, or CloudFailed is raised."""
    name = str(row).replace(" ", "-")
    killed_at = time.monotonic()
    try:
        killed_at = ground.kill_during_launch(row, name) if row.flow == "launch" else ground.kill_during_delete(row)
        left = ground.settled(row, name, killed_at + CONVERGED_S)
    except (CloudFailed, LookupError, Refused, httpx.TransportError) as error:
        left = str(error) or repr(error)
    seconds = time.monotonic() - killed_at
    outcome = Outcome(row, left or ground.end, well=not left, seconds=seconds, leaks=ground.leaked)
    if left:
        ground.show_log(name)
        ground.begin_afresh()
    return outcome
