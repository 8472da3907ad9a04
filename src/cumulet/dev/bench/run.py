"""A run of `./dev bench`: the clouds that the wanted rows need, one after the other; the table at the end."""

from __future__ import annotations

import asyncio
import compileall
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cumulet.dev.bench import machine, table
from cumulet.dev.bench.client import Client, login_document
from cumulet.dev.bench.limits import first_answer, first_login
from cumulet.dev.bench.load import Load, summary
from cumulet.dev.bench.machine import Watch
from cumulet.dev.bench.sim import Sim
from cumulet.dev.bench.targets import SECTIONS
from cumulet.dev.checkout import ROOT
from cumulet.dev.cloud import RunningCloud

__all__ = ["run"]

_STARTS = 5


def run(rows: Sequence[str], *, real: bool, file: Path | None, profiles: Path | None = None) -> bool:
    """Measure these rows, or all of them, and print the table; whether everything in it meets its target.

    `profiles`: a folder for profiles of the cloud's workers, one for each series; they make the figures worthless.
    """
    # an installed cloud has its compiled files; a checkout that was just edited may not
    compileall.compile_dir(ROOT / "src", quiet=1)
    every = (*SECTIONS["sim"], *(SECTIONS["real"] if real else ()))
    wanted = [row for row in (*SECTIONS["sim"], *SECTIONS["real"]) if row in (rows or every)]
    results: dict[str, Any] = {}
    errors: list[str] = []
    meta: dict[str, Any] = {"started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())} | machine.describe()
    kept = _Kept(file, meta, results, errors)
    try:
        _measure(wanted, results, errors, kept.tell, profiles)
    finally:  # a run that ends early has measured what it has measured
        meta["load_after"] = machine.describe()["load"]
        kept.write()
    made, good = table.lines(results, wanted if rows else None)
    print("\n".join(made))
    for error in errors[:10]:
        print(f"FAILED {error}")
    return good and not errors


def _measure(
    wanted: Sequence[str],
    results: dict[str, Any],
    errors: list[str],
    tell: Callable[[str], None],
    profiles: Path | None,
) -> None:
    """Row after row, each in its section's cloud."""
    if "start_up" in wanted:
        tell("start_up")
        start_up(results)
    on_sim = [row for row in wanted if row in SECTIONS["sim"] and row != "start_up"]
    if on_sim:
        through: list[str] = []
        if profiles is not None:
            profiles.mkdir(parents=True, exist_ok=True)
            through = [sys.executable, "-m", "cumulet.dev.bench.profiled", str(profiles)]
        with (
            tempfile.TemporaryDirectory(prefix="cumulet-bench-") as folder,
            RunningCloud(Path(folder), ["--sim"], quiet=True, through=through) as cloud,
            cloud.session("cumulet") as session,
        ):
            load = Load(Client(session), Watch(cloud.pid, profiles))
            try:
                asyncio.run(_on_sim(load, on_sim, results, tell))
            finally:
                errors += load.errors
    on_real = [row for row in wanted if row in SECTIONS["real"]]
    if on_real:
        from cumulet.dev.bench import real as real_rows  # its libraries are only there on a real host

        real_rows.run(on_real, results, tell)


class _Kept:
    """The file of a run, written anew before each row: whatever ends the run, the rows before are kept."""

    def __init__(self, file: Path | None, meta: dict[str, Any], results: dict[str, Any], errors: list[str]) -> None:
        self._file, self._meta, self._results, self._errors = file, meta, results, errors

    def tell(self, row: str) -> None:
        """A row begins."""
        print(f"{time.strftime('%H:%M:%S')} {row}", file=sys.stderr, flush=True)
        self.write()

    def write(self) -> None:
        if self._file is not None:
            table.write(self._file, self._meta, self._results, self._errors)


async def _on_sim(load: Load, rows: Sequence[str], results: dict[str, Any], tell: Callable[[str], None]) -> None:
    sim = Sim(load, results)
    await sim.prepare()
    for row in rows:
        tell(row)
        await sim.run(row)
    load.client.plain.close()


def start_up(results: dict[str, Any]) -> None:
    """From the start on an existing database to the first authenticated answer, and the memory then."""
    token, password, memory = list[float](), list[float](), list[float]()
    with tempfile.TemporaryDirectory(prefix="cumulet-bench-") as folder:
        state = Path(folder)
        with RunningCloud(state, ["--sim"], quiet=True) as cloud, cloud.session("cumulet") as session:
            url = f"{session.catalogue['compute']}/servers"
        port = cloud.port
        login = login_document(session.auth)
        for _ in range(_STARTS):
            began = time.monotonic()
            with RunningCloud(state, ["--sim"], port=port, quiet=True, wait=False) as cloud:
                first_answer(url, session.token)
                token.append(time.monotonic() - began)
                cloud.wait_until_ready()
                memory.append(machine.pss_mib(machine.tree(cloud.pid)))
        for _ in range(_STARTS):
            began = time.monotonic()
            with RunningCloud(state, ["--sim"], port=port, quiet=True, wait=False) as cloud:
                first_answer(url, first_login(session.auth_url, login))
                password.append(time.monotonic() - began)
                cloud.wait_until_ready()
    results["start_up"] = {"token": summary(token), "password": summary(password)}
    results.setdefault("memory", {})["sim"] = {"pss_mib": round(sorted(memory)[len(memory) // 2], 1)}
