"""`python -m cumulet.dev.bench.profiled FOLDER up …`: the program, whose workers are profiled between two signals.

SIGUSR1 begins, SIGUSR2 ends: then each worker's calls are in FOLDER/WORKER.pst, as `pstats` reads them, and the file
FOLDER/written is there.  The profile makes Python three times slower: it tells shares, not times.
"""

from __future__ import annotations

import cProfile
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from cumulet.core.work import Worker
from cumulet.run.cli import main


class _Profiles:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._workers: list[Worker] = []
        self._running: list[tuple[Worker, cProfile.Profile]] = []

    def watch(self) -> None:
        """Have every worker that is made from now on known here."""
        made, workers = Worker.__init__, self._workers

        def making(worker: Worker, *arguments: Any, **named: Any) -> None:
            made(worker, *arguments, **named)
            workers.append(worker)

        Worker.__init__ = making  # type: ignore[method-assign, assignment]
        signal.signal(signal.SIGUSR1, self._begin)
        signal.signal(signal.SIGUSR2, self._end)

    def _begin(self, _signal: int, _frame: FrameType | None) -> None:
        self._running = [(worker, cProfile.Profile()) for worker in self._workers]
        for worker, profile in self._running:
            worker.post(profile.enable)

    def _end(self, _signal: int, _frame: FrameType | None) -> None:
        left = threading.Semaphore(0)
        for worker, profile in self._running:
            worker.post(lambda worker=worker, profile=profile: self._dump(worker, profile, left))  # type: ignore[misc]
        for _ in self._running:
            left.acquire(timeout=10)
        (self._folder / "written").touch()

    def _dump(self, worker: Worker, profile: cProfile.Profile, left: threading.Semaphore) -> None:
        profile.disable()
        if profile.getstats():
            profile.dump_stats(self._folder / f"{worker.name}.pst")
        left.release()


if __name__ == "__main__":
    _Profiles(Path(sys.argv[1])).watch()
    main(args=sys.argv[2:], prog_name="cumulet")
