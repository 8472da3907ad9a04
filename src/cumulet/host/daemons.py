"""What a supervised daemon is: how it is recognised, started, and cared for after each start."""

from collections.abc import Callable

import msgspec

from cumulet.host.config import HostConfig
from cumulet.host.process import Process, adopt, command_line, every_process, executable_of, open_process

__all__ = ["Daemon", "find", "log_of"]


class Daemon(msgspec.Struct, frozen=True, kw_only=True):
    """One daemon of a cloud."""

    name: str
    #: base name of the program in /proc/PID/exe
    executable: str
    #: on the command line of this daemon and of no other process with that executable
    marker: str
    pidfile: str
    #: daemons that must run before this one starts
    needs: tuple[str, ...] = ()
    #: starts it and returns when it is ready; raises DaemonDidNotStart
    launch: Callable[[], None]
    #: run after each start and each adoption, so it may be repeated; raises HostError
    care: Callable[[], None] | None = None


def find(daemon: Daemon) -> Process | None:
    """The running daemon.  The pid file is a hint only: without a true one the process table is searched."""
    return adopt(daemon.pidfile, daemon.executable, daemon.marker) or _search(daemon)


def _search(daemon: Daemon) -> Process | None:
    for pid in every_process():
        if executable_of(pid) == daemon.executable and daemon.marker in command_line(pid):
            process = open_process(pid)
            if process is not None and process.alive:
                return process
            if process is not None:
                process.close()
    return None


def log_of(config: HostConfig, name: str) -> str:
    """Where a daemon writes its log, and its starter its last words."""
    return f"{config.log_dir}/{name}.log"
