"""`./dev scale` on a small cloud: every launch comes to run, the figures are there, and the scheduler's copy of the hosts is true."""

from collections import Counter
from pathlib import Path

import msgspec
import pytest

from cumulet.dev.scale import decisions, launches
from cumulet.dev.scale.run import run


def test_a_small_fleet_is_filled(tmp_path: Path) -> None:
    """Fifty hosts, two hundred servers: none fails, the hosts share them evenly, and each part of the run has its figures."""
    said: list[str] = []
    found = launches.run(tmp_path, hosts=50, servers=200, say=said.append)
    assert (found.failed, found.hosts, found.servers) == (0, 50, 200)
    assert set(found.rates) == set(found.cpu_ms) == {"beginning", "middle", "end"}
    assert min(found.rates.values()) > 0
    assert found.decision["n"] == 200 + launches.WARM_UP
    assert found.rows["compute.servers"] == 200 + launches.WARM_UP
    assert all(read["n"] == launches.READS for read in found.reads.values())
    assert said


def test_schedulers_beside_each_other_hardly_meet(tmp_path: Path) -> None:
    """Three of them, a thousand decisions: each has a host, and fewer than one in a hundred has to choose again."""
    found = decisions.run(tmp_path, hosts=500, decisions=999, schedulers=(3,), say=lambda _: None)
    (decided,) = found.runs
    assert (decided.decisions, decided.refused) == (999, 0)
    assert decided.retried < 0.01
    assert decided.decision["n"] == 999


def test_a_run_prints_its_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And keeps every figure in a file, by the names that the targets have."""
    file = tmp_path / "scale.json"
    assert run(hosts=[20], servers=0, alone=60, schedulers=2, file=file)
    printed = capsys.readouterr().out
    assert "20 hosts" in printed
    assert "decisions, 10,000 hosts" in printed
    results = msgspec.json.decode(file.read_bytes())["results"]["scale"]["hosts_20"]
    assert results["decision"]["rps"] > 0
    assert Counter(one["schedulers"] for one in results["runs"]) == {2: 1}
