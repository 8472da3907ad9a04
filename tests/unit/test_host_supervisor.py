"""The supervisor: restarts in order, with after-care, and not for ever.  Its daemons here are `sleep` processes."""

import contextlib
import itertools
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cumulet.host.daemons import Daemon, find
from cumulet.host.errors import HostError
from cumulet.host.process import command_line, open_process
from cumulet.host.supervisor import HostEvent, RestartLimits, Supervisor

NUMBERS = itertools.count(1)
QUICK = RestartLimits(deaths_max=3, window_s=60.0, delays_s=(0.0, 0.01))


class Events:
    """What the supervisor told, and a way to wait for more."""

    def __init__(self) -> None:
        self.seen: list[HostEvent] = []
        self._changed = threading.Condition()

    def __call__(self, event: HostEvent) -> None:
        with self._changed:
            self.seen.append(event)
            self._changed.notify_all()

    def wait(self, daemon: str, what: str, times: int = 1) -> HostEvent:
        def there() -> bool:
            return len([event for event in self.seen if (event.daemon, event.what) == (daemon, what)]) >= times

        with self._changed:
            assert self._changed.wait_for(there, timeout=10), self.seen
            return next(event for event in reversed(self.seen) if (event.daemon, event.what) == (daemon, what))


class Sleepers:
    """Makes daemons, and kills what is left of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: list[subprocess.Popen[bytes]] = []
        self._supervisors: list[Supervisor] = []
        self.launches: list[str] = []

    def daemon(
        self,
        name: str,
        *,
        needs: tuple[str, ...] = (),
        before: Callable[[], None] | None = None,
        care: Callable[[], None] | None = None,
    ) -> Daemon:
        argument = f"{1000000 + os.getpid()}.{next(NUMBERS)}"
        pidfile = self._folder / name

        def launch() -> None:
            self.launches.append(name)
            if before is not None:
                before()
            process = subprocess.Popen(["sleep", argument], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            self._started.append(process)
            # the kernel lets the parent go on before the new command line can be read; a daemon writes its pid file itself, later
            ends = time.monotonic() + 10
            while argument not in command_line(process.pid):
                assert time.monotonic() < ends
                os.sched_yield()
            pidfile.write_text(str(process.pid))

        return Daemon(
            name=name, executable="sleep", marker=argument, pidfile=str(pidfile), needs=needs, launch=launch, care=care
        )

    def supervise(self, *daemons: Daemon, events: Events, limits: RestartLimits = QUICK) -> Supervisor:
        supervisor = Supervisor(daemons, events, limits)
        self._supervisors.append(supervisor)
        for daemon in daemons:
            supervisor.bring_up(daemon.name)
        supervisor.watch()
        return supervisor

    def end(self) -> None:
        for supervisor in self._supervisors:
            supervisor.close()
        for process in self._started:
            process.kill()
            process.wait()


def runs(daemon: Daemon) -> bool:
    """Whether it can be found at this moment."""
    process = find(daemon)
    if process is not None:
        process.close()
    return process is not None


def kill_and_wait(pid: int) -> None:
    """SIGKILL, and until it has gone: a signal is on its way for as long as the machine is busy."""
    process = open_process(pid)
    assert process is not None
    with contextlib.closing(process):
        process.send(signal.SIGKILL)
        assert process.wait_gone(10)


@pytest.fixture
def sleepers(tmp_path: Path) -> Iterator[Sleepers]:
    """Daemons of this test."""
    made = Sleepers(tmp_path)
    yield made
    made.end()


@pytest.fixture
def events() -> Events:
    """What was told."""
    return Events()


def test_a_daemon_that_dies_is_started_again_and_cared_for(sleepers: Sleepers, events: Events) -> None:
    """After a kill there is a new process, and the after-care ran for it too."""
    cared: list[int] = []
    supervisor = sleepers.supervise(sleepers.daemon("switch", care=lambda: cared.append(1)), events=events)
    first = supervisor.pids()["switch"]
    os.kill(first, signal.SIGKILL)
    event = events.wait("switch", "restarted")
    supervisor.close()
    assert event.pid != first
    assert len(cared) == 2


def test_what_runs_already_is_adopted_not_started(sleepers: Sleepers, events: Events) -> None:
    """A second supervisor takes over the same process, and cares for it."""
    cared: list[int] = []
    daemon = sleepers.daemon("database", care=lambda: cared.append(1))
    one = sleepers.supervise(daemon, events=events)
    pid = one.pids()["database"]
    one.close()
    two = sleepers.supervise(daemon, events=events)
    assert two.pids() == {"database": pid}
    two.close()
    assert sleepers.launches == ["database"]
    assert len(cared) == 2


def test_a_daemon_is_found_although_its_pid_file_is_lost(sleepers: Sleepers, events: Events, tmp_path: Path) -> None:
    """A second copy beside the first would fight over its files."""
    daemon = sleepers.daemon("database")
    sleepers.supervise(daemon, events=events).close()
    (tmp_path / "database").unlink()
    again = sleepers.supervise(daemon, events=events)
    again.close()
    assert sleepers.launches == ["database"]


def test_a_daemon_follows_the_one_it_needs(sleepers: Sleepers, events: Events) -> None:
    """When both are dead and the needed one does not come up at once, the other waits for it."""
    both_dead = threading.Event()
    attempts = itertools.count()
    base_ran: list[bool] = []

    def once_too_early() -> None:
        if next(attempts) == 1:
            assert both_dead.wait(5)
            raise HostError("not yet")

    base = sleepers.daemon("base", before=once_too_early)
    top = sleepers.daemon("top", needs=("base",), before=lambda: base_ran.append(runs(base)))
    supervisor = sleepers.supervise(base, top, events=events)
    pids = supervisor.pids()
    # one after the other: on a busy machine the second may else be gone before the first, and be started beside it
    for name in ("base", "top"):
        kill_and_wait(pids[name])
    both_dead.set()
    events.wait("top", "restarted")
    assert [event.daemon for event in events.seen if event.what == "restarted"] == ["base", "top"]
    assert base_ran == [True, True]


def test_a_daemon_that_keeps_dying_is_given_up(sleepers: Sleepers, events: Events) -> None:
    """After so many deaths within the window there is no further start in it, and the operator is told."""
    supervisor = sleepers.supervise(sleepers.daemon("broken"), events=events)
    os.kill(supervisor.pids()["broken"], signal.SIGKILL)
    for times in range(1, QUICK.deaths_max + 1):
        pid = events.wait("broken", "restarted", times).pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    events.wait("broken", "given_up")
    assert supervisor.pids() == {}
    supervisor.close()
    assert len(sleepers.launches) == 1 + QUICK.deaths_max


def test_a_daemon_that_was_given_up_is_tried_again(sleepers: Sleepers, events: Events) -> None:
    """When the window is over: whoever mended the machine need not know of the cloud."""
    limits = RestartLimits(deaths_max=1, window_s=0.3, delays_s=(0.0,))
    supervisor = sleepers.supervise(sleepers.daemon("mended"), events=events, limits=limits)
    os.kill(supervisor.pids()["mended"], signal.SIGKILL)
    pid = events.wait("mended", "restarted").pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    events.wait("mended", "restarted", 2)


@pytest.mark.parametrize("kind", [HostError, ValueError])
def test_a_start_that_fails_is_tried_again(sleepers: Sleepers, events: Events, kind: type[Exception]) -> None:
    """A failure to start, foreseen or not, counts as a death: told, put off, repeated."""
    attempts = itertools.count()

    def sometimes() -> None:
        if next(attempts) == 1:
            raise kind("no room")

    supervisor = sleepers.supervise(sleepers.daemon("switch", before=sometimes), events=events)
    os.kill(supervisor.pids()["switch"], signal.SIGKILL)
    assert "no room" in events.wait("switch", "failed").detail
    events.wait("switch", "restarted")
    supervisor.close()


@pytest.mark.parametrize("kind", [HostError, ValueError])
def test_a_daemon_that_runs_without_its_care_is_cared_for_later(
    sleepers: Sleepers, events: Events, kind: type[Exception]
) -> None:
    """Failed after-care is repeated on the running process: the process is not started twice."""
    attempts = itertools.count()

    def sometimes() -> None:
        if next(attempts) == 1:
            raise kind("the database was gone")

    supervisor = sleepers.supervise(sleepers.daemon("switch", care=sometimes), events=events)
    os.kill(supervisor.pids()["switch"], signal.SIGKILL)
    events.wait("switch", "failed")
    events.wait("switch", "restarted")
    supervisor.close()
    assert sleepers.launches == ["switch", "switch"]


def test_closing_leaves_the_daemons_running(sleepers: Sleepers, events: Events) -> None:
    """Whoever ends the cloud decides about its daemons, not the watcher."""
    supervisor = sleepers.supervise(sleepers.daemon("database"), events=events)
    pid = supervisor.pids()["database"]
    supervisor.close()
    os.kill(pid, 0)
    assert [event.what for event in events.seen] == ["started"]
