"""What processes use: CPU time and memory of a tree of them, and how busy the machine is besides."""

from __future__ import annotations

import os
import platform
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Cost", "Watch", "describe", "pss_mib", "tree"]

_PROFILE_WAIT_S = 20.0
_TICK = os.sysconf("SC_CLK_TCK")
_PSS = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)


@dataclass(frozen=True)
class Cost:
    """A moment: what has been used so far, in seconds."""

    at: float
    cloud: dict[int, float]
    own: float
    busy: float
    machine: float


class Watch:
    """The processes of one cloud."""

    def __init__(self, pid: int, profiles: Path | None = None) -> None:
        """`profiles`: it is `profiled`, and writes there."""
        self._pid = pid
        self._profiles = profiles

    def begin(self) -> Cost:
        """What is measured begins."""
        if self._profiles is not None:
            os.kill(self._pid, signal.SIGUSR1)
        return self._now()

    def _now(self) -> Cost:
        fields = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        idle = fields[3] + fields[4]
        cloud = {thread: seconds for pid in tree(self._pid) for thread, seconds in _threads(pid)}
        return Cost(time.monotonic(), cloud, time.process_time(), (sum(fields) - idle) / _TICK, sum(fields) / _TICK)

    def since(self, then: Cost, operations: int, what: str) -> dict[str, Any]:
        """What `operations` have cost since then.  A thread that ended in between is not counted."""
        now = self._now()
        if self._profiles is not None:
            self._keep_profile(self._profiles, what)
        cloud = sum(seconds - then.cloud.get(thread, 0.0) for thread, seconds in now.cloud.items())
        own = now.own - then.own
        machine = now.machine - then.machine
        others = max(0.0, now.busy - then.busy - own - cloud) / machine if machine else 0.0
        return {
            "wall_s": round(now.at - then.at, 3),
            "generator_cpu_s": round(own, 3),
            "other_cpu": round(others, 3),
            "cloud_cpu_s": round(cloud, 4),
            "cpu_ms_per_op": round(cloud / max(1, operations) * 1000, 3),
        }

    def _keep_profile(self, folder: Path, what: str) -> None:
        os.kill(self._pid, signal.SIGUSR2)
        written = folder / "written"
        ends = time.monotonic() + _PROFILE_WAIT_S
        while not written.exists() and time.monotonic() < ends:
            threading.Event().wait(0.01)
        written.unlink(missing_ok=True)
        for file in folder.glob("*.pst"):
            if "-" not in file.name:
                file.rename(folder / f"{what.replace(' ', '_').replace('/', '_')}-{file.name}")


def tree(pid: int) -> list[int]:
    """A process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):  # it ended
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def pss_mib(pids: list[int]) -> float:
    """Their share of the memory that they use."""
    total = 0
    for pid in pids:
        with suppress(OSError):  # it ended
            read = _PSS.search(Path(f"/proc/{pid}/smaps_rollup").read_text())
            total += int(read[1]) if read else 0
    return total / 1024


def describe() -> dict[str, Any]:
    """The machine that it ran on."""
    model = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = re.search(r"^MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return {
        "cpus": os.cpu_count(),
        "cpu": model[1] if model else platform.machine(),
        "memory_mib": int(memory[1]) // 1024 if memory else None,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "load": [round(load, 2) for load in os.getloadavg()],
    }


def _threads(pid: int) -> Iterator[tuple[int, float]]:
    """To the nanosecond, where the clock ticks of /proc/PID/stat are 10 ms."""
    with suppress(OSError):  # it ended
        for entry in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                yield int(entry.name), int((entry / "schedstat").read_text().split()[0]) / 1e9
