"""The load generator and its table: what they count, and what they refuse to call good."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cumulet.dev.bench import load, machine, run, table
from cumulet.dev.bench.client import Plain
from cumulet.dev.bench.targets import SECTIONS, TARGETS
from cumulet.dev.cloud import CloudFailed

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world"
_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def _asked(pieces: list[bytes], count: int = 1) -> tuple[list[bytes], int]:
    """The bodies of `count` answers that come in these pieces, and over how many connections they came."""
    connections = 0
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            try:
                await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                break
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
        writer.close()
        await writer.wait_closed()
        over.set()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        plain = Plain("127.0.0.1", server.sockets[0].getsockname()[1])
        try:
            answers = [await plain.send(b"GET / HTTP/1.1\r\n\r\n") for _ in range(count)]
        finally:
            plain.close()
            await over.wait()
        return [answer.body for answer in answers], connections


def test_an_answer_is_whole_however_it_is_cut() -> None:
    """Its head and its body may come in any pieces."""
    for cut in range(1, len(_ANSWER)):
        assert asyncio.run(_asked([_ANSWER[:cut], _ANSWER[cut:]])) == ([b"hello world"], 1)


def test_a_connection_is_used_again() -> None:
    """A series pays for one connection, before its first sample."""
    assert asyncio.run(_asked([_ANSWER], count=5)) == ([b"hello world"] * 5, 1)


def test_an_answer_without_a_length_is_refused() -> None:
    """The client could not tell where it ends, so its time would be wrong: it says so instead of waiting."""
    with pytest.raises(CloudFailed):
        asyncio.run(_asked([_CHUNKED]))


def test_percentiles_are_the_nearest_rank() -> None:
    """In milliseconds; of a hundred, the 99th is the last but one."""
    found = load.summary([number / 1000 for number in range(100, 0, -1)])
    assert (found["median_ms"], found["p95_ms"], found["p99_ms"], found["max_ms"]) == (50.5, 95, 99, 100)
    assert load.summary([]) == {"n": 0}


def test_every_target_has_a_line_measured_or_not() -> None:
    """A figure that is missing is told, and what it takes to measure it; it is never left out."""
    lines, good = table.lines({})
    assert good
    assert [line[: len(target.what)] for line, target in zip(lines[1:], TARGETS, strict=True)] == [
        target.what for target in TARGETS
    ]
    assert all("not measured" in line for line in lines[1:])


def test_a_figure_is_held_against_its_target() -> None:
    """Times must be at most it, rates at least; one that is not makes the run fail."""
    slow = {"boot_seq": {"create": {"median_ms": 11.0}, "delete": {"median_ms": 9.0}}}
    lines, good = table.lines(slow, ["boot_seq"])
    assert not good
    assert [line.split()[-1] for line in lines if "ACTIVE" in line or "delete" in line] == ["NO", "yes"]
    rate = {"throughput_100": {"token_validate": {"c16": {"rps": 5001.0}}}}
    lines, good = table.lines(rate, ["throughput"])
    assert good
    assert "9.84x" in lines[1]


def test_every_row_is_measured_by_a_section() -> None:
    """But the scheduler's, which has a command of its own."""
    known = {*SECTIONS["sim"], *SECTIONS["real"], "scale"}
    assert {target.section for target in TARGETS} <= known


def test_cpu_time_of_a_process_is_counted_to_less_than_a_tick() -> None:
    """The clock ticks of the process table would count nothing here."""
    watch = machine.Watch(os.getpid())
    before = watch.begin()
    sum(range(100_000))
    assert watch.since(before, 1, "a sum")["cloud_cpu_s"] > 0
    assert machine.pss_mib([os.getpid()]) > 1


def test_the_document_counts_failures(tmp_path: Path) -> None:
    """Beside the figures, so that nobody reads those of a run that went wrong as good."""
    file = tmp_path / "figures.json"
    table.write(file, {"cpus": 2}, {"auth": {}}, ["POST: 500"])
    assert json.loads(file.read_text()) == {
        "meta": {"cpus": 2},
        "results": {"auth": {}},
        "failures": 1,
        "errors": ["POST: 500"],
    }


def test_what_a_run_measured_before_it_ended_early_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is written before each row, and when a row fails."""
    file = tmp_path / "figures.json"
    seen: list[object] = []

    def rows(results: dict[str, object]) -> None:
        results["start_up"] = {"token": {"median_ms": 1}}

    def fails(_wanted: object, results: dict[str, object], tell: Callable[[str], None]) -> None:
        tell("real_launch")
        seen.append(json.loads(file.read_text())["results"])
        results["real_launch"] = {"ratio": 1.25}
        raise CloudFailed("no port")

    monkeypatch.setattr(run, "start_up", rows)
    monkeypatch.setattr("cumulet.dev.bench.real.run", fails)
    monkeypatch.setattr("compileall.compile_dir", lambda *_, **__: True)
    with pytest.raises(CloudFailed):
        run.run(["start_up", "real_launch"], real=True, file=file)
    assert seen == [{"start_up": {"token": {"median_ms": 1}}}]
    assert json.loads(file.read_text())["results"]["real_launch"] == {"ratio": 1.25}
