"""A run of `./dev scale`: launches, or decisions alone; the figures, the rows of the table of targets, and a document with all of it."""

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from cumulet.dev.bench import machine, table
from cumulet.dev.scale import decisions, launches

__all__ = ["run"]

SCHEDULERS = (1, 2, 4)


def run(*, hosts: list[int], servers: int, alone: int, schedulers: int | None, file: Path | None) -> bool:
    """servers: launched on each of `hosts`; alone: so many decisions without launches, in place of them."""
    results: dict[str, Any] = {"scale": {}}
    meta = {"started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())} | machine.describe()
    good = True
    for count in hosts:
        with tempfile.TemporaryDirectory(prefix="cumulet-scale-") as folder:
            if alone:
                decided = decisions.run(
                    Path(folder),
                    hosts=count,
                    decisions=alone,
                    schedulers=SCHEDULERS if schedulers is None else (schedulers,),
                    say=_say,
                )
                best = max(decided.runs, key=lambda one: one.rps)
                results["scale"][f"hosts_{count}"] = msgspec.to_builtins(decided) | {
                    "decision": decided.runs[0].decision | {"rps": best.rps}
                }
                _show_decisions(decided)
                good = good and not any(one.refused for one in decided.runs)
            else:
                found = launches.run(Path(folder), hosts=count, servers=servers, say=_say)
                results["scale"] |= {"flat": {"ratio": found.flat}, f"launches_{count}": msgspec.to_builtins(found)}
                _show_launches(found)
                good = good and not found.failed
    meta["load_after"] = machine.describe()["load"]
    lines, _ = table.lines(results, ["scale"])
    print("\n".join(lines))
    if file is not None:
        table.write(file, meta, results, [])
    return good


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


def _show_decisions(found: decisions.DecidedAt) -> None:
    print(f"\n{found.hosts:,} hosts; a new scheduler has read them in {found.load_s:.1f} s")
    print("schedulers  decisions/s   p50 ms   p99 ms   max ms   CPU us   retried  refused")
    for one in found.runs:
        times = one.decision
        print(
            f"{one.schedulers:>10} {one.rps:>12,.0f} {times['median_ms']:>8.3f} {times['p99_ms']:>8.3f} "
            f"{times['max_ms']:>8.1f} {one.cpu_us:>8.0f} {one.retried:>9.2%} {one.refused:>8}"
        )


def _show_launches(found: launches.Launched) -> None:
    print(f"\n{found.servers:,} servers on {found.hosts:,} hosts; {found.failed} failed")
    for name, rate in found.rates.items():
        print(f"  {name:<10} {rate:>8.1f} launches/s   {found.cpu_ms[name]:>6.2f} ms of CPU each")
    print(f"  end / beginning: {found.flat:.2f} by the clock, {found.flat_cpu:.2f} by CPU")
    times = found.decision
    print(f"  decision, claim included: p50 {times['median_ms']:.2f} ms, p99 {times['p99_ms']:.2f} ms")
    for name, value in found.memory.items():
        print(f"  memory, {name.replace('_', ' ')}: {value:,.1f}")
    print(f"  databases: {found.databases_kib_per_server:,.1f} KiB a server")
    print(f"  leak check: {found.leak_check_s:.1f} s every 30 s, beside the rest")
    for name, read in found.reads.items():
        print(f"  {name:<36} {read['median_ms']:>9.2f} ms")
    print("  rows: " + ", ".join(f"{name} {count:,}" for name, count in list(found.rows.items())[:8]))
