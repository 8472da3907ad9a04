"""Watches the daemons and starts again whatever dies, in the right order and with its after-care.

One thread waits on the pidfds of all daemons; nothing is polled.  A daemon whose needs are dead as well waits for
them.  A daemon that keeps dying is started ever later and in the end given up for a while, so that a broken machine is
not kept busy by its cure, and one that was mended needs nobody to say so.
"""

import os
import selectors
import threading
import time
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from cumulet.host.daemons import Daemon, find
from cumulet.host.errors import HostError
from cumulet.host.process import Process

__all__ = ["HostEvent", "RestartLimits", "Supervisor"]


class HostEvent(msgspec.Struct, frozen=True):
    """Something happened to a daemon.

    After `restarted` of libvirtd or of a database, connections to it must be made anew; after `restarted` of virtlogd,
    the console logs of guests that run are lost until each guest's next start.
    """

    daemon: str
    what: Literal["adopted", "started", "died", "restarted", "failed", "given_up"]
    pid: int | None
    detail: str
    seconds: float


class RestartLimits(msgspec.Struct, frozen=True):
    """How often one daemon may die within the window before it is given up for as long, and how long each restart is put
    off until then."""

    deaths_max: int = 5
    window_s: float = 60.0
    delays_s: tuple[float, ...] = (0.0, 0.2, 1.0, 3.0, 8.0)


class Supervisor:
    """Keeps a set of daemons running."""

    def __init__(
        self, daemons: Sequence[Daemon], on_event: Callable[[HostEvent], None], limits: RestartLimits | None = None
    ) -> None:
        self._daemons = {daemon.name: daemon for daemon in daemons}
        self._on_event = on_event
        self._limits = limits or RestartLimits()
        self._lock = threading.Lock()
        self._running: dict[str, Process] = {}
        self._deaths: dict[str, list[float]] = {}
        self._due: dict[str, float] = {}
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe()
        self._selector.register(self._wake_read, selectors.EVENT_READ, None)
        self._thread: threading.Thread | None = None
        self._closed = False

    def bring_up(self, name: str) -> bool:
        """Adopt the daemon if it runs, else start it; then its after-care.  Returns whether it was started.

        Raises HostError.  For several daemons at once, each by its own thread.
        """
        began = time.monotonic()
        daemon = self._daemons[name]
        try:
            process = find(daemon)
            launched = process is None
            if process is None:
                daemon.launch()
                process = find(daemon)
        except OSError as error:
            raise HostError(f"{name}: {error}") from error
        if process is None:
            raise HostError(f"{name} reported ready and was gone; see its log")
        try:
            if daemon.care is not None:
                daemon.care()
        except Exception as error:
            process.close()  # it runs on; the next attempt finds it and cares for it again
            if isinstance(error, HostError | OSError):
                raise HostError(f"{name} runs, but not as it must: {error}") from error
            raise
        with self._lock:
            self._running[name] = process
            self._due.pop(name, None)
            self._selector.register(process.pidfd, selectors.EVENT_READ, name)
        what: Literal["adopted", "started", "restarted"] = "started" if launched else "adopted"
        if name in self._deaths:
            what = "restarted"
        self._tell(name, what, process.pid, "", began)
        return launched

    def pids(self) -> dict[str, int]:
        with self._lock:
            return {name: process.pid for name, process in self._running.items()}

    def watch(self) -> None:
        """Begin to watch, in a thread of its own."""
        self._thread = threading.Thread(target=self._loop, name="host-supervisor", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop watching.  The daemons run on.  May be repeated."""
        if self._closed:
            return
        self._closed = True
        os.write(self._wake_write, b"x")
        if self._thread is not None:
            self._thread.join()
        self._selector.close()
        os.close(self._wake_read)
        os.close(self._wake_write)
        for process in self._running.values():
            process.close()
        self._running.clear()

    def _loop(self) -> None:
        while True:
            for key, _ in self._selector.select(self._seconds_to_next()):
                if key.data is None:
                    return
                self._note_death(key.data)
            for name in self._ready_to_restart():
                self._restart(name)

    def _seconds_to_next(self) -> float | None:
        now = time.monotonic()
        times = [due - now for name, due in self._due.items() if self._needs_run(name)]
        return max(0.0, min(times)) if times else None

    def _ready_to_restart(self) -> list[str]:
        now = time.monotonic()
        return [name for name in self._daemons if name in self._due and self._due[name] <= now]

    def _needs_run(self, name: str) -> bool:
        return all(need in self._running and self._running[need].alive for need in self._daemons[name].needs)

    def _note_death(self, name: str) -> None:
        with self._lock:
            process = self._running.pop(name)
            self._selector.unregister(process.pidfd)
        process.close()
        self._tell(name, "died", process.pid, "", time.monotonic())
        self._put_off(name)

    def _put_off(self, name: str) -> None:
        """Decide when the daemon is started again."""
        now = time.monotonic()
        deaths = [moment for moment in self._deaths.get(name, []) if now - moment < self._limits.window_s]
        deaths.append(now)
        self._deaths[name] = deaths
        if len(deaths) > self._limits.deaths_max:
            self._due[name] = now + self._limits.window_s
            detail = f"{len(deaths)} failures within {self._limits.window_s:g} s; tried again after as long"
            self._tell(name, "given_up", None, detail, now)
            return
        delays = self._limits.delays_s
        self._due[name] = now + delays[min(len(deaths), len(delays)) - 1]

    def _restart(self, name: str) -> None:
        if not self._needs_run(name):
            return  # it stays due, and follows when its need is back
        began = time.monotonic()
        try:
            self.bring_up(name)
        except Exception as error:  # noqa: BLE001 - whatever it is: if this thread ended, nothing would be started again, and nobody told
            self._tell(name, "failed", None, str(error) if isinstance(error, HostError) else repr(error), began)
            self._put_off(name)

    def _tell(
        self,
        name: str,
        what: Literal["adopted", "started", "died", "restarted", "failed", "given_up"],
        pid: int | None,
        detail: str,
        began: float,
    ) -> None:
        self._on_event(HostEvent(name, what, pid, detail, time.monotonic() - began))
