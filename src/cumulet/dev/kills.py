"""At which moments of a flow something can be killed, what there is to kill, and the tester whom the cloud asks at each moment."""

from __future__ import annotations

import fnmatch
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cumulet.flows.delete import DELETE
from cumulet.host.config import HostConfig
from cumulet.host.leftovers import guests
from cumulet.host.process import open_process
from cumulet.host.stack import HostStack
from cumulet.launch.flow import LAUNCH

__all__ = ["DAEMONS", "GUEST", "PROGRAM", "Holder", "Row", "Victims", "choose", "every_row"]

PROGRAM = "program"
GUEST = "guest"
DAEMONS = (
    "ovn-nb",
    "ovn-sb",
    "ovn-ovs",
    "ovn-northd",
    "ovn-vswitchd",
    "ovn-controller",
    "libvirtd",
    "virtlogd",
    "keeper",
)
#: moments that the scheduler, which is no step, adds to a launch
_OF_SCHEDULER = ("launch.claim_host.after", "launch.cast_to_host.before")
#: when a server has a guest
_WITH_GUEST = (
    "launch.start_domain.during",
    "launch.start_domain.after",
    "delete.settle_others.before",
    "delete.settle_others.after",
    "delete.destroy_domain.before",
)
_BEFORE, _DURING, _AFTER = ".before", ".during", ".after"
#: how long after its beginning the middle of a step is, when nobody has seen its end yet
_MIDDLE_S = 0.02
_GONE_S = 5.0
_GUEST_APPEARS_S = 20.0
_LOOK_S = 0.005


@dataclass(frozen=True)
class Row:
    """One kill."""

    moment: str
    victim: str

    @property
    def flow(self) -> str:
        return self.moment.partition(".")[0]

    def __str__(self) -> str:
        return f"{self.moment} {self.victim}"


def moments() -> list[str]:
    """Before, in and after each step of a launch and of a deletion, in their order."""
    found = [
        f"{flow.name}.{step.name}{when}"
        for flow in (LAUNCH, DELETE)
        for step in flow.steps
        for when in (_BEFORE, _DURING, _AFTER)
    ]
    place = found.index("launch.ask_scheduler.after")
    return [*found[:place], *_OF_SCHEDULER, *found[place:]]


def every_row(*, real: bool) -> list[Row]:
    """The whole table.  What follows one another are different victims: a daemon that dies often in a short time is started late."""
    victims = (PROGRAM, *DAEMONS, GUEST) if real else (PROGRAM,)
    return [
        Row(moment, victim)
        for moment in moments()
        for victim in victims
        if victim != GUEST or any(fnmatch.fnmatch(moment, pattern) for pattern in _WITH_GUEST)
    ]


def choose(rows: Sequence[Row], *, only: str | None, count: int | None) -> list[Row]:
    """Those that a pattern (as of file names) matches; of these so many, evenly spread."""
    chosen = [row for row in rows if only is None or fnmatch.fnmatch(str(row), f"*{only}*")]
    if count is None or count >= len(chosen):
        return chosen
    return [chosen[index * len(chosen) // count] for index in range(count)]


class Holder:
    """Whom the cloud asks at each moment: holds the step, does the deed that was planned, lets the step go on.  A context manager."""

    def __init__(self, path: Path) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(path))
        self._listener.listen(16)
        self._path = path
        self._plan: tuple[str, Callable[[], None]] | None = None
        self._done = threading.Event()
        self._error: Exception | None = None
        self._began: dict[str, float] = {}
        #: seconds that each step took when it was last seen
        self._took: dict[str, float] = {}
        self._thread = threading.Thread(target=self._serve, name="crash-holder", daemon=True)
        self._thread.start()

    @property
    def option(self) -> str:
        """The value of the cloud's --failpoint."""
        return f"@{self._path}"

    def plan(self, moment: str, deed: Callable[[], None]) -> None:
        """Do this when that moment is reached next, once."""
        self._done.clear()
        self._error = None
        self._plan = (moment, deed)

    def wait_done(self, timeout_s: float) -> bool:
        """Whether the planned deed was done within this time.  Raises what it raised."""
        done = self._done.wait(timeout_s)
        self._plan = None
        if self._error is not None:
            raise self._error
        return done

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # wakes the thread that accepts
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        self._path.unlink(missing_ok=True)

    def _serve(self) -> None:
        while True:
            try:
                asker, _ = self._listener.accept()
            except OSError:
                return
            with asker:
                moment = asker.recv(1024).decode()
                self._note(moment)
                planned, deed = self._plan or ("", None)
                if deed is None or not moment:
                    continue
                if moment == planned:
                    self._do(deed)
                elif planned.endswith(_DURING) and moment == planned.replace(_DURING, _BEFORE):
                    delay_s = self._took.get(moment.removesuffix(_BEFORE), 2 * _MIDDLE_S) / 2
                    threading.Timer(delay_s, self._do, (deed,)).start()
                    self._plan = None

    def _note(self, moment: str) -> None:
        """How long a step takes that nothing happens to."""
        now = time.monotonic()
        if moment.endswith(_BEFORE):
            self._began[moment.removesuffix(_BEFORE)] = now
        elif self._plan is None and (began := self._began.get(moment.removesuffix(_AFTER))) is not None:
            self._took[moment.removesuffix(_AFTER)] = now - began

    def _do(self, deed: Callable[[], None]) -> None:
        self._plan = None
        try:
            deed()
        except Exception as error:  # noqa: BLE001 - raised where it is waited for
            self._error = error
        self._done.set()


class Victims:
    """What of a real cloud can be killed, found on the machine and not by asking the cloud."""

    def __init__(self, config: HostConfig) -> None:
        self.config = config
        self._stack = HostStack(config, lambda _: None)
        #: guests that are nobody's victim
        self.bystanders: set[int] = set()

    def guests(self) -> list[int]:
        return [pid for pid in guests(self.config) if pid not in self.bystanders]

    def running(self) -> dict[str, int]:
        """The daemons' pids."""
        found = {}
        for name in DAEMONS:
            for process in self._stack.find(name):
                with closing(process):
                    found[name] = process.pid
        return found

    def kill(self, victim: str) -> None:
        """SIGKILL, and wait until it has gone.  Raises LookupError when there is no such process."""
        for pid in self._guest() if victim == GUEST else [self.running()[victim]]:
            process = open_process(pid)
            if process is not None:
                with closing(process):
                    process.send(signal.SIGKILL)
                    process.wait_gone(_GONE_S)

    def _guest(self) -> list[int]:
        """The guest, as soon as there is one."""
        ends = time.monotonic() + _GUEST_APPEARS_S
        while not (found := self.guests()):
            if time.monotonic() > ends:
                raise LookupError("no guest appeared")
            threading.Event().wait(_LOOK_S)
        return found
