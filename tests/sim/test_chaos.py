"""The simulated world: one seed is one story, it finds what is wrong, and what it has found stays found."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from cumulet.dev.chaos import broken, run
from cumulet.dev.chaos.cases import CASES, Case
from cumulet.dev.chaos.outside import Template
from cumulet.dev.chaos.proofs import prove
from cumulet.dev.chaos.world import template

SEEDS = range(20)


@pytest.fixture(scope="session")
def made() -> Iterator[Template]:
    """A cloud that has been started once."""
    with template() as one:
        yield one


def test_a_seed_is_the_same_story_again(made: Template) -> None:
    """Line by line: what fails can be looked at."""
    first, lines = run.play(2, made, keep=True)
    second, again = run.play(2, made, keep=True)
    assert lines == again
    assert first.sum == second.sum
    assert run.play(3, made)[0].sum != first.sum


def test_enough_happens_in_a_story(made: Template) -> None:
    """Thirty sagas and ten faults at least, on three hosts."""
    verdict, lines = run.play(4, made, keep=True)
    assert verdict.sagas >= 30
    assert verdict.faults >= 10
    assert {line.partition("/")[0].split()[-1] for line in lines if " + " in line} == {
        "control",
        "alder",
        "birch",
        "cedar",
    }


@pytest.mark.parametrize("name", broken.FLOWS)
def test_a_step_that_is_wrong_is_found(name: str, made: Template) -> None:
    """An undo that is missing, an action that is not idempotent, an effect before its record: each within a few seeds, by name."""
    for seed in SEEDS:
        verdict, _ = run.play(seed, made, flows=broken.FLOWS[name])
        if not verdict.well:
            assert any("port" in line for line in (*verdict.leaked, *verdict.doubled))
            return
    raise AssertionError(f"{name} was not found in {len(SEEDS)} seeds")


def test_what_was_found_stays_cured() -> None:
    """The seeds that showed it end well; in a process of its own, as the order of sets is part of a seed."""
    command = [sys.executable, "-m", "cumulet.dev", "chaos", "--cases", "--jobs", "1"]
    played = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    assert played.returncode == 0, played.stdout + played.stderr
    assert played.stdout.splitlines()[-1].endswith("0 stuck, 0 leaked, 0 doubled")
    assert f"{len(run.found())} seeds" in played.stdout


@pytest.mark.parametrize("case", [case for case in CASES if case.proof is not None], ids=lambda case: case.what)
def test_the_moment_that_showed_it_ends_well(case: Case, made: Template) -> None:
    """Without dice; what came too late, or was forgotten, may be named by the leak check and mended."""
    assert case.proof is not None
    named = case.proof.late is not None or case.proof.forgotten is not None
    assert prove(case.proof, made, named=named) == []
