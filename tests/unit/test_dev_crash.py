"""The table of kills, and the tester that holds a step while something is killed."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cumulet.dev.crash import Outcome, Table, in_pairs
from cumulet.dev.kills import DAEMONS, PROGRAM, Holder, Row, choose, every_row
from cumulet.run.failpoints import failpoint_of

WAIT_S = 10.0
DIES = "import sys; from cumulet.run.failpoints import failpoint_of as of; f = of(sys.argv[1]); f('x'); f('a'); f('a')"


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Holder]:
    """A tester that listens."""
    with Holder(tmp_path / "holder.sock") as holder:
        yield holder


def test_the_table_has_every_victim_at_every_moment() -> None:
    """More than a hundred rows, none twice; each step is hit before, in and after; the program and each daemon at each."""
    rows = every_row(real=True)
    assert len(rows) == len(set(rows)) >= 100
    moments = {row.moment for row in rows}
    for step in ("launch.bind_ports", "launch.start_domain", "delete.destroy_domain", "delete.release_claim"):
        assert {f"{step}.before", f"{step}.during", f"{step}.after"} <= moments
    for victim in (PROGRAM, *DAEMONS):
        assert {row.moment for row in rows if row.victim == victim} == moments
    assert {row.victim for row in every_row(real=False)} == {PROGRAM}


def test_rows_are_chosen_by_pattern_and_count() -> None:
    """A pattern narrows, a count spreads over what is left, and pairs neither lose nor double a row."""
    rows = every_row(real=True)
    assert {row.victim for row in choose(rows, only="launch.*libvirtd", count=None)} == {"libvirtd"}
    some = choose(rows, only=None, count=10)
    assert len(set(some)) == 10
    assert {row.flow for row in some} == {"launch", "delete"}
    assert sorted(map(str, in_pairs(rows))) == sorted(map(str, rows))


@pytest.mark.parametrize("outcomes", [[], [True, False]])
def test_a_table_with_a_bad_row_or_none_is_not_good(outcomes: list[bool]) -> None:
    """The command ends with an error then, and the closing line counts what was not well."""
    table = Table([Outcome(Row("launch.a.before", PROGRAM), "complete", well, 1.0, 0) for well in outcomes])
    assert not table.good
    assert ("1 not well" in table.closing_line(1.0)) == bool(outcomes)


def test_a_step_is_held_while_the_deed_is_done(holder: Holder) -> None:
    """The process goes on after the deed only, and only the planned moment is held."""
    order: list[str] = []
    holder.plan("launch.b.before", lambda: order.append("deed"))
    failpoint = failpoint_of(holder.option)
    for moment in ("launch.a.after", "launch.b.before", "launch.b.before"):
        failpoint(moment)
        order.append(moment)
    assert holder.wait_done(WAIT_S)
    assert order == ["launch.a.after", "deed", "launch.b.before", "launch.b.before"]


def test_the_middle_of_a_step_is_after_its_beginning(holder: Holder) -> None:
    """The step is let go on, and the deed is done while it runs."""
    running = threading.Event()
    holder.plan("launch.b.during", lambda: seen.append(running.wait(WAIT_S)))
    seen: list[bool] = []
    failpoint_of(holder.option)("launch.b.before")
    running.set()
    assert holder.wait_done(WAIT_S)
    assert seen == [True]


def test_what_the_deed_raises_is_raised_to_who_waits(holder: Holder) -> None:
    """A victim that is not there is told, and the step goes on."""

    def deed() -> None:
        raise LookupError("no such daemon")

    holder.plan("launch.b.after", deed)
    failpoint_of(holder.option)("launch.b.after")
    with pytest.raises(LookupError, match="no such daemon"):
        holder.wait_done(WAIT_S)


@pytest.mark.parametrize(("spec", "killed"), [("a", True), ("a:2", True), ("a:3", False), ("b", False)])
def test_a_process_dies_at_its_moment(spec: str, killed: bool) -> None:
    """By SIGKILL, the first time or the Nth, and at no other moment."""
    done = subprocess.run([sys.executable, "-c", DIES, spec], check=False, timeout=30)
    assert done.returncode == (-signal.SIGKILL if killed else 0)
