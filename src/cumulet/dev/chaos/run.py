"""`./dev chaos`: seeds, each a story of its own; one line for each that did not end well, and one for all."""

import logging
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Iterator, Sequence

import msgspec
import structlog

from cumulet.core.saga import Flow
from cumulet.dev.chaos import broken
from cumulet.dev.chaos.cases import CASES
from cumulet.dev.chaos.outside import Template, split
from cumulet.dev.chaos.perils import MILD, ROUGH, Rates
from cumulet.dev.chaos.story import Story
from cumulet.dev.chaos.verdict import Verdict, judge
from cumulet.dev.chaos.world import World, template
from cumulet.run.server_flows import FLOWS

__all__ = ["found", "one", "play", "run"]

#: a story's end comes much earlier; this is a net
STORY_S = 3600.0
#: seeds that a worker plays before it makes room for a fresh one
CHUNK = 25
#: what makes a story
SAGAS_MIN, FAULTS_MIN = 30, 10


def rates_of(seed: int) -> Rates:
    """Two seeds of three are mild: what goes wrong alone is understood, and most things do go on."""
    return ROUGH if seed % 3 == 2 else MILD


def play(seed: int, made: Template, *, keep: bool = False, flows: Sequence[Flow] = FLOWS) -> tuple[Verdict, list[str]]:
    """One seed: its verdict, and its story's lines if they are kept."""
    world = World(seed, template=made, rates=rates_of(seed), keep=keep, flows=flows)
    try:
        world.start()
        story = Story(world, split(random.Random(f"story {seed}")))  # noqa: S311 - reproducible on purpose
        story.begin()
        world.agenda.run(until_s=STORY_S, done=lambda: story.over)
        return judge(world, story, seed), world.agenda.lines
    finally:
        world.close()


def _silence() -> None:
    """The product's log would be all that one sees: in a world things fail all the time."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL), cache_logger_on_first_use=False
    )


def _some(seeds: Sequence[int], broken_step: str | None) -> list[bytes]:
    _silence()
    with template() as made:
        return [msgspec.json.encode(_played(seed, made, _flows(broken_step))) for seed in seeds]


def _flows(broken_step: str | None) -> Sequence[Flow]:
    return FLOWS if broken_step is None else broken.FLOWS[broken_step]


def _played(seed: int, made: Template, flows: Sequence[Flow]) -> Verdict:
    try:
        return play(seed, made, flows=flows)[0]
    except Exception as error:  # noqa: BLE001 - a seed that cannot be played is a finding like any other
        words = [f"could not be played: {error!r}"]
        nothing: list[str] = []
        return Verdict(
            seed=seed,
            launches=0,
            deletes=0,
            sagas=0,
            faults=0,
            stuck=words,
            leaked=nothing,
            doubled=nothing,
            sum="",
        )


def _verdicts(seeds: Sequence[int], jobs: int, broken_step: str | None) -> Iterator[Verdict]:
    chunks = [seeds[at : at + CHUNK] for at in range(0, len(seeds), CHUNK)]
    context = multiprocessing.get_context("spawn")
    with context.Pool(jobs, maxtasksperchild=4) as pool:
        for done in pool.imap(_Task(broken_step), chunks):
            yield from (msgspec.json.decode(raw, type=Verdict) for raw in done)


class _Task:
    """What a worker process does; found by name there."""

    def __init__(self, broken_step: str | None) -> None:
        self._broken = broken_step

    def __call__(self, seeds: Sequence[int]) -> list[bytes]:
        return _some(seeds, self._broken)


def _own_the_hashes() -> None:
    """The order of sets is part of what a seed must own: this program again, with hashes that are always the same."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "cumulet.dev", *sys.argv[1:]])  # noqa: S606 - as said


def found() -> list[int]:
    """The seeds of what was found."""
    return sorted({case.seed for case in CASES if case.seed is not None})


def one(seed: int, *, trace: bool, broken_step: str | None) -> bool:
    """Play one seed, with its story if that is asked for; whether it ended well."""
    _own_the_hashes()
    _silence()
    with template() as made:
        verdict, lines = play(seed, made, keep=trace, flows=_flows(broken_step))
    for line in lines:
        print(line)
    _tell(verdict)
    print(f"sum {verdict.sum}")
    return _close([verdict])


def run(seeds: Sequence[int], *, jobs: int, broken_step: str | None) -> bool:
    """Play them; whether all ended well."""
    _own_the_hashes()
    began = time.monotonic()
    verdicts = []
    for verdict in _verdicts(seeds, jobs, broken_step):
        verdicts.append(verdict)
        _tell(verdict)
    print(f"in {time.monotonic() - began:.0f} s")
    return _close(verdicts)


def _close(verdicts: Sequence[Verdict]) -> bool:
    sagas, faults = sum(one.sagas for one in verdicts), sum(one.faults for one in verdicts)
    print(f"{len(verdicts)} seeds, {sagas} sagas, {faults} faults")
    few = [one.seed for one in verdicts if one.sagas < SAGAS_MIN or one.faults < FAULTS_MIN]
    if few:
        print(f"too little happened in {few}: {SAGAS_MIN} sagas and {FAULTS_MIN} faults make a story")
    stuck, leaked, doubled = (
        sum(len(getattr(one, word)) for one in verdicts) for word in ("stuck", "leaked", "doubled")
    )
    launches, deletes = sum(one.launches for one in verdicts), sum(one.deletes for one in verdicts)
    print(f"{launches} launches, {deletes} deletes, {stuck} stuck, {leaked} leaked, {doubled} doubled")
    return not few and all(one.well for one in verdicts)


def _tell(verdict: Verdict) -> None:
    if verdict.well:
        return
    print(f"seed {verdict.seed}: ./dev chaos --seed {verdict.seed} --trace")
    for word in ("stuck", "leaked", "doubled"):
        for line in getattr(verdict, word):
            print(f"  {word}: {line}")
    sys.stdout.flush()
