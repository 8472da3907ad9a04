"""The second half of `./dev`, inside the checkout's environment: its subcommands."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click

_PASS_ON = {"ignore_unknown_options": True, "help_option_names": []}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """The one script of this repository."""


@main.command("help", hidden=True)
@click.pass_context
def show_help(context: click.Context) -> None:
    """Say what there is."""
    click.echo((context.parent or context).get_help())


@main.command(context_settings=_PASS_ON)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def test(arguments: tuple[str, ...]) -> None:
    """Run the tests; arguments go to pytest."""
    from cumulet.dev import testing

    testing.run(arguments)


@main.command()
def check() -> None:
    """Lint, format, types, import rules, locks."""
    from cumulet.dev import checks

    sys.exit(0 if checks.run() else 1)


@main.command()
@click.option("--upgrade", is_flag=True, help="Take the newest versions.")
def lock(upgrade: bool) -> None:
    """Compile the requirements*.txt files anew."""
    from cumulet.dev import locks
    from cumulet.dev.checkout import ROOT

    locks.lock(ROOT, upgrade=upgrade)


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("command", nargs=-1, type=click.UNPROCESSED, required=True)
def engines(command: tuple[str, ...]) -> None:
    """Run COMMAND with a private PostgreSQL and RabbitMQ in CUMULET_DATABASE_URL and CUMULET_BUS_URL."""
    from cumulet.dev.engines import serve

    with _failures_in_a_line("engines"):
        sys.exit(serve.around(command))


def _place(command: Callable[..., None]) -> Callable[..., None]:
    """Options that say where the demonstration's cloud is."""
    port = click.option("--port", type=int, default=8780, show_default=True)
    state = click.option(
        "--state", type=click.Path(path_type=Path, file_okay=False), default=Path("/var/lib/cumulet"), show_default=True
    )
    return state(port(command))


@main.command()
@_place
def demo(state: Path, port: int) -> None:
    """A real cloud, and in it a real server that one has logged in to."""
    from cumulet.dev import demo as demonstration
    from cumulet.dev.standing import Place

    with _failures_in_a_line("demo"):
        demonstration.run(Place(state.absolute(), port))


@main.command()
@_place
def down(state: Path, port: int) -> None:
    """End the cloud that the demonstration left running, or what a killed one left."""
    from cumulet.dev import standing

    with _failures_in_a_line("down"):
        standing.end(standing.Place(state.absolute(), port))


@main.command()
@click.argument("tier", type=int)
@click.option("--cloud", help="Judge this running cloud of your clouds.yaml (an admin) instead of starting one.")
@click.option("--concurrency", type=int, help="Tests at once; tier 0 runs one at a time unless this is given.")
@click.option("--timeout", "timeout_s", default=600, show_default=True, help="Seconds a server or volume may take.")
@click.argument("up", nargs=-1, type=click.UNPROCESSED)
def conformance(tier: int, cloud: str | None, concurrency: int | None, timeout_s: int, up: tuple[str, ...]) -> None:
    """Run a tier of the third-party suites; UP (after --) goes to `cumulet up`."""
    from cumulet.dev import conformance as suites

    with _failures_in_a_line("conformance"):
        good = suites.run(tier, cloud=cloud, concurrency=concurrency, timeout_s=timeout_s, up=up)
        sys.exit(0 if good else 1)


@main.command()
@click.argument("rows", nargs=-1)
@click.option("--real", is_flag=True, help="The rows on real drivers too; with `start`, real drivers.")
@click.option("--json", "file", type=click.Path(path_type=Path, dir_okay=False), help="Write every figure there.")
@click.option("--profile", "profiles", type=click.Path(path_type=Path, file_okay=False), help="Write profiles there.")
def bench(rows: tuple[str, ...], real: bool, file: Path | None, profiles: Path | None) -> None:
    """Measure from outside, beside the reference and the targets.

    ROWS: all (the default) or some of the table; or `start`, `launch`, `real`: those alone, each against one limit.
    """
    from cumulet.dev.bench import limits, run, targets

    alone = {"start": lambda: limits.start("--real" if real else "--sim"), "launch": limits.launch, "real": limits.real}
    known = {*targets.SECTIONS["sim"], *targets.SECTIONS["real"]}
    with _failures_in_a_line("bench"):
        if len(rows) == 1 and rows[0] in alone:
            if file is not None or profiles is not None or (real and rows[0] != "start"):
                raise click.UsageError(f"neither --json nor --profile goes with {rows[0]}, and --real with start only")
            good = alone[rows[0]]()
        else:
            if unknown := [row for row in rows if row not in known | {"all"}]:
                raise click.UsageError(
                    f"no row {unknown[0]}; there are {', '.join(sorted(known))}; alone {', '.join(alone)}"
                )
            good = run.run([] if "all" in rows else rows, real=real, file=file, profiles=profiles)
        sys.exit(0 if good else 1)


@main.command()
@click.option("--hosts", type=click.IntRange(1), multiple=True, help="How many; may be given several times.  [10000]")
@click.option("--servers", type=click.IntRange(4), default=20_000, show_default=True, help="Launched on them.")
@click.option("--decisions", type=click.IntRange(1), help="No launches: so many decisions of the scheduler alone.")
@click.option("--schedulers", type=click.IntRange(1), help="With --decisions: so many at once, instead of 1, 2 and 4.")
@click.option("--json", "file", type=click.Path(path_type=Path, dir_okay=False), help="Write every figure there.")
def scale(
    hosts: tuple[int, ...], servers: int, decisions: int | None, schedulers: int | None, file: Path | None
) -> None:
    """How a cloud of many simulated hosts goes: launches per second, decisions, memory, lists."""
    from cumulet.dev.scale import run as scales

    with _failures_in_a_line("scale"):
        good = scales.run(
            hosts=list(hosts) or [10_000], servers=servers, alone=decisions or 0, schedulers=schedulers, file=file
        )
        sys.exit(0 if good else 1)


@main.command()
@click.option("--sim", is_flag=True, help="With simulated drivers: only the program itself is killed.")
@click.option("--only", metavar="PATTERN", help="Rows that match, as of file names: 'launch.*libvirtd'.")
@click.option("--rows", "count", type=click.IntRange(1), help="So many of them, evenly spread.")
@click.option("--state", type=click.Path(path_type=Path, file_okay=False), help="A state folder to use and keep.")
def crash(sim: bool, only: str | None, count: int | None, state: Path | None) -> None:
    """Kill the cloud or its daemons at each step of launches and deletions; look for what is left."""
    from cumulet.dev import crash as crashes

    with _failures_in_a_line("crash"):
        table = crashes.run("--sim" if sim else "--real", only=only, count=count, state=state)
        sys.exit(0 if table.good else 1)


@main.command("watch-proof")
@click.option("--launches", default=1000, show_default=True)
@click.option("--reconnects", default=100, show_default=True)
@click.option("--seed", default=1, show_default=True)
def watch_proof(launches: int, reconnects: int, seed: int) -> None:
    """A reader that loses its connection again and again sees every event of many launches once, in order."""
    from cumulet.dev import watch_proof as proof

    with _failures_in_a_line("watch-proof"):
        proof.run(launches=launches, reconnects=reconnects, seed=seed)


@main.command()
@click.option("--seeds", default=100, show_default=True, help="How many stories.")
@click.option("--first", default=0, show_default=True, help="The first of them.")
@click.option("--seed", type=int, help="Play this one again.")
@click.option("--trace", is_flag=True, help="With --seed: print its story.")
@click.option("--cases", is_flag=True, help="Play the seeds that have found something.")
@click.option("--jobs", default=2, show_default=True, help="Processes.")
@click.option(
    "--broken",
    "broken_step",
    type=click.Choice(["undo-missing", "not-idempotent", "recorded-late"]),
    help="With a step that is wrong on purpose: this must not end well.",
)
def chaos(
    seeds: int, first: int, seed: int | None, trace: bool, cases: bool, jobs: int, broken_step: str | None
) -> None:
    """Play stories in a simulated world where everything that can fails; say what was left."""
    from cumulet.dev.chaos import run as stories

    if seed is not None:
        good = stories.one(seed, trace=trace, broken_step=broken_step)
    else:
        good = stories.run(
            stories.found() if cases else range(first, first + seeds), jobs=jobs, broken_step=broken_step
        )
    sys.exit(0 if good else 1)


@contextlib.contextmanager
def _failures_in_a_line(name: str) -> Iterator[None]:
    """What went wrong outside is told in words; a traceback is for what is wrong in here."""
    from cumulet.dev.cloud import CloudFailed, Refused
    from cumulet.dev.demo import DemoFailed
    from cumulet.dev.engines import EngineFailed
    from cumulet.host.errors import HostError

    try:
        yield
    except (CloudFailed, DemoFailed, EngineFailed, HostError, Refused) as error:
        sys.exit(f"./dev {name}: {error}")


main(prog_name="./dev")
