"""Processes found and ended by pidfd."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cumulet.host.process import Process, adopt, end, go_first, open_process, parent_of

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); signal.pause()"
)


@pytest.fixture
def sleeper() -> Iterator["subprocess.Popen[bytes]"]:
    """A process to be found: `sleep 98765.4321`."""
    process = subprocess.Popen(["sleep", "98765.4321"])
    yield process
    process.kill()
    process.wait()


def opened(pid: int) -> Process:
    """A process that is surely there."""
    process = open_process(pid)
    assert process is not None
    return process


def test_a_daemon_is_adopted_by_pid_file_program_and_command_line(
    sleeper: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    """All three agree, so it is ours."""
    pidfile = tmp_path / "pid"
    pidfile.write_text(f"{sleeper.pid}\n")
    process = adopt(str(pidfile), "sleep", "98765.4321")
    assert process is not None
    with contextlib.closing(process):
        assert process.pid == sleeper.pid


@pytest.mark.parametrize(("executable", "marker"), [("ovsdb-server", "98765.4321"), ("sleep", "/run/cumulet/other/")])
def test_a_reused_pid_is_not_adopted(
    sleeper: "subprocess.Popen[bytes]", tmp_path: Path, executable: str, marker: str
) -> None:
    """A stale pid file may name any process: another program, or another cloud's daemon, is left alone."""
    pidfile = tmp_path / "pid"
    pidfile.write_text(f"{sleeper.pid}\n")
    assert adopt(str(pidfile), executable, marker) is None


@pytest.mark.parametrize("content", ["", "0", "-1", "no number", "999999999"])
def test_a_pid_file_that_names_nobody_is_no_daemon(tmp_path: Path, content: str) -> None:
    """Empty, garbled and outdated pid files are met after every crash."""
    pidfile = tmp_path / "pid"
    pidfile.write_text(content)
    assert adopt(str(pidfile), "sleep", "") is None
    assert adopt(str(tmp_path / "absent"), "sleep", "") is None


def test_a_dead_process_counts_as_gone_before_it_is_reaped(sleeper: "subprocess.Popen[bytes]", tmp_path: Path) -> None:
    """A zombie is dead: nobody waits for process 1 to reap it."""
    with contextlib.closing(opened(sleeper.pid)) as process:
        sleeper.kill()
        assert process.wait_gone(5)
        pidfile = tmp_path / "pid"
        pidfile.write_text(f"{sleeper.pid}\n")
        assert adopt(str(pidfile), "sleep", "98765.4321") is None


def test_what_does_not_end_when_asked_is_killed(sleeper: "subprocess.Popen[bytes]") -> None:
    """One obedient and one stubborn process are both gone afterwards."""
    stubborn = subprocess.Popen([sys.executable, "-S", "-c", STUBBORN], stdout=subprocess.PIPE)
    with stubborn, contextlib.closing(opened(stubborn.pid)) as one, contextlib.closing(opened(sleeper.pid)) as two:
        assert stubborn.stdout is not None
        assert stubborn.stdout.readline() == b"ready\n"
        end([one, two], 0.2)
        assert not one.alive
        assert not two.alive


def test_who_goes_first_does_so_alone(tmp_path: Path) -> None:
    """A process that was let go first has what it starts later wait as others do, where this may be arranged at all."""
    try:
        before = os.sched_getscheduler(0)
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
        os.sched_setscheduler(0, before, os.sched_param(0))
    except PermissionError:
        pytest.skip("real-time priorities are not permitted here")
    told = tmp_path / "told"
    script = "import os, sys; sys.stdin.readline(); pid = os.fork(); "
    script += "open(sys.argv[1], 'a').write(f'{os.sched_getscheduler(0)}\\n'); pid and os.waitpid(pid, 0)"
    with subprocess.Popen([sys.executable, "-c", script, str(told)], stdin=subprocess.PIPE, text=True) as process:
        go_first(process.pid)
        process.communicate("go\n", timeout=20)
    assert sorted(told.read_text().split()) == [str(os.SCHED_OTHER), str(os.SCHED_RR | os.SCHED_RESET_ON_FORK)]


def test_a_process_that_has_gone_is_let_be() -> None:
    """Nobody to go first is no error."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    go_first(gone.pid)


def test_a_parent_is_known_until_its_child_has_gone(sleeper: "subprocess.Popen[bytes]") -> None:
    """Whatever the child is called."""
    assert parent_of(sleeper.pid) == os.getpid()
    sleeper.kill()
    sleeper.wait()
    assert parent_of(sleeper.pid) == 0
