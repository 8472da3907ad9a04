"""What happens at a named moment of a flow, for crash tests only: the process kills itself, or asks a tester and waits.

A tester that listens on a unix socket is told each moment's name and answers by hanging up.  Until then the step is held, so that it
can kill this process, or a daemon of the machine, exactly there.
"""

import os
import signal
import socket
from collections.abc import Callable

__all__ = ["failpoint_of"]

TESTER = "@"


def failpoint_of(spec: str) -> Callable[[str], None]:
    """`@PATH`: ask the tester there.  `NAME` or `NAME:N`: SIGKILL when that moment is reached, or the Nth time that it is."""
    if spec.startswith(TESTER):
        return _ask(spec.removeprefix(TESTER))
    name, _, count = spec.partition(":")
    return _kill_at(name, int(count or 1))


def _kill_at(name: str, count: int) -> Callable[[str], None]:
    left = [count]

    def failpoint(moment: str) -> None:
        if moment == name:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return failpoint


def _ask(path: str) -> Callable[[str], None]:
    def failpoint(moment: str) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as tester:
            tester.connect(path)
            tester.send(moment.encode())
            tester.recv(1)

    return failpoint
