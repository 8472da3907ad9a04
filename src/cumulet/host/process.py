"""Processes known by pidfd: found again, waited for and ended without ever meeting a reused pid.

A pidfd becomes readable at the moment a process ends, also while it is still a zombie: process 1 of a small machine may
take seconds to reap, and nothing here waits for that.
"""

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

__all__ = [
    "Process",
    "adopt",
    "command_line",
    "end",
    "every_process",
    "executable_of",
    "go_first",
    "open_process",
    "parent_of",
    "wait_all_gone",
]


class Process(msgspec.Struct, frozen=True):
    """A process that was alive when it was opened.  The holder closes it."""

    pid: int
    pidfd: int

    @property
    def alive(self) -> bool:
        return not _ended([self.pidfd], 0.0)

    def send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)

    def wait_gone(self, seconds: float) -> bool:
        return bool(_ended([self.pidfd], seconds))

    def close(self) -> None:
        os.close(self.pidfd)


def open_process(pid: int) -> Process | None:
    try:
        return Process(pid, os.pidfd_open(pid))
    except OSError:  # no such process, or a thread's id
        return None


def adopt(pidfile: str, executable: str, marker: str) -> Process | None:
    """The process of a pid file, if it lives, runs that executable and names the marker on its command line."""
    try:
        pid = int(Path(pidfile).read_text(encoding="ascii").strip() or "0")
    except (OSError, ValueError):
        return None
    return _open_if_ours(pid, executable, marker) if pid > 0 else None


def _open_if_ours(pid: int, executable: str, marker: str) -> Process | None:
    process = open_process(pid)
    if process is None:
        return None
    # looked at between opening and asking whether it still lives, so that the answers belong to the process that the
    # pidfd holds
    ours = executable_of(pid) == executable and marker in command_line(pid)
    if ours and process.alive:
        return process
    process.close()
    return None


def executable_of(pid: int) -> str:
    """Base name of the program a process runs, empty when it cannot be seen.  `pythonX.Y` is `python`."""
    try:
        name = Path(f"/proc/{pid}/exe").readlink().name.removesuffix(" (deleted)")
    except OSError:
        return ""
    return "python" if name.startswith("python") else name


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def parent_of(pid: int) -> int:
    """0 when there is no such process."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    return int(status.rpartition(")")[2].split()[1])  # a process may have any name, parentheses too


def every_process() -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            yield int(entry.name)


def go_first(pid: int) -> None:
    """Let each thread that a process has now run as soon as it wakes, before what computes.  What it starts does not.

    For one that works shortly and is waited for.  Where a container may not, it is as before.
    """
    threads = Path(f"/proc/{pid}/task")
    for thread in threads.iterdir() if threads.is_dir() else ():
        with contextlib.suppress(OSError):  # not permitted; or it ended
            os.sched_setscheduler(int(thread.name), os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))


def end(processes: Sequence[Process], patience_s: float) -> None:
    """Ask all to end, wait together, then kill what is left.  The processes stay open."""
    for process in processes:
        process.send(signal.SIGTERM)
    if wait_all_gone(processes, patience_s):
        return
    for process in processes:
        process.send(signal.SIGKILL)
    wait_all_gone(processes, patience_s)


def wait_all_gone(processes: Iterable[Process], seconds: float) -> bool:
    """Whether all ended within the time."""
    waiting = {process.pidfd for process in processes}
    # poll(2) has no deadline of its own: count down by what each wait took
    remaining = seconds
    while waiting:
        started = time.monotonic()
        ended = _ended(waiting, remaining)
        if not ended:
            return False
        waiting -= ended
        remaining = max(0.0, remaining - (time.monotonic() - started))
    return True


def _ended(pidfds: Iterable[int], seconds: float) -> set[int]:
    poll = select.poll()
    for pidfd in pidfds:
        poll.register(pidfd, select.POLLIN)
    return {pidfd for pidfd, _ in poll.poll(seconds * 1000)}
