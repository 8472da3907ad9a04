"""The cloud that a demonstration leaves standing: found, or started as a process that outlives the command, and ended.

Whose cloud it is says the state folder, never the port alone: the lock in it names the process.
"""

from __future__ import annotations

import fcntl
import os
import re
import select
import shlex
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

from cumulet.dev.checkout import WORK, program
from cumulet.dev.cloud import CloudFailed, Refused, Session, read_cloud
from cumulet.host.config import HostConfig
from cumulet.host.leftovers import leftovers
from cumulet.host.stack import HostStack

__all__ = ["CLOUD", "Place", "end", "ensure"]

#: the entry of clouds.yaml
CLOUD = "cumulet"
_START_TIMEOUT_S = 600.0
_STOP_TIMEOUT_S = 60.0
_ANSWER_TIMEOUT_S = 5.0
_PAUSE_S = 0.3
_LINES_SHOWN = 30


@dataclass(frozen=True)
class Place:
    """Where the demonstration's cloud is."""

    state: Path = Path("/var/lib/cumulet")
    port: int = 8780

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return WORK / f"demo-{self.port}.log"

    @property
    def key(self) -> Path:
        return WORK / f"demo-{self.port}.key"

    @property
    def options(self) -> str:
        """What says to `./dev demo` and `./dev down` that it is here, where that need be said."""
        usual = Place()
        words = [] if self.state == usual.state else [f" --state {shlex.quote(str(self.state))}"]
        words += [] if self.port == usual.port else [f" --port {self.port}"]
        return "".join(words)


def ensure(place: Place) -> None:
    """A real cloud there: the one that runs, or a new one that outlives this command.  Raises CloudFailed."""
    if _answers(place):
        print(f"a cloud is running at {place.url}")
        return
    command = [program("cumulet"), "up", "--real", "--state", str(place.state), "--port", str(place.port)]
    print(f"$ {shlex.join(command)} &", flush=True)
    WORK.mkdir(parents=True, exist_ok=True)
    with place.log.open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/"
        )
    ends = time.monotonic() + _START_TIMEOUT_S
    shown = 0
    while True:
        ended = process.poll() is not None
        text = place.log.read_text(errors="replace")
        complete = text[: text.rfind("\n") + 1]
        sys.stdout.write(complete[shown:])
        sys.stdout.flush()
        shown = len(complete)
        if re.search(r"\bready in [0-9.]+ s\b", complete):
            return
        if ended or time.monotonic() > ends:
            tail = "\n".join(text.splitlines()[-_LINES_SHOWN:])
            raise CloudFailed(f"the cloud {'ended' if ended else 'is not ready'}; the end of {place.log}:\n{tail}")
        threading.Event().wait(_PAUSE_S)  # it writes a file, and sends us no event


def _answers(place: Place) -> bool:
    """Whether the cloud of that state folder answers there, and is a real one.

    Raises CloudFailed when something else does.
    """
    elsewhere = "end it, or name another --port and --state"
    try:
        answer = httpx.get(f"{place.url}/healthz", timeout=_ANSWER_TIMEOUT_S)
        health = answer.json() if answer.status_code == 200 else None
    except httpx.ConnectError:
        return False
    except (httpx.HTTPError, ValueError):
        health = None
    if not isinstance(health, dict) or "hypervisor" not in health:
        raise CloudFailed(f"port {place.port} is taken by a program that is no cloud; {elsewhere}")
    if health["hypervisor"] == "sim":
        raise CloudFailed(f"the cloud that runs at {place.url} is a simulated one; {elsewhere}")
    try:
        Session(read_cloud(place.state / "clouds.yaml", CLOUD) | {"auth": _auth(place)}).close()
    except (OSError, Refused):
        raise CloudFailed(f"the cloud that runs at {place.url} is not that of {place.state}; {elsewhere}") from None
    return True


def _auth(place: Place) -> dict[str, str]:
    """How to log in at this very address, wherever the file leads."""
    auth: dict[str, str] = read_cloud(place.state / "clouds.yaml", CLOUD)["auth"]
    return auth | {"auth_url": f"{place.url}/identity/v3"}


def end(place: Place) -> None:
    """End the cloud of that state folder, or what a killed one has left.  Raises CloudFailed."""
    pid = _holder(place.state)
    config = HostConfig.for_state_dir(str(place.state))
    if pid is not None:
        _end_process(place, pid)
        print("the cloud has ended")
        if os.geteuid() == 0 and leftovers(config):
            print("its guests and daemons run on, as it was told; the same command again ends them too")
    elif os.geteuid() == 0 and (left := leftovers(config)):
        HostStack(config, lambda _: None).stop(keep_guests=False)
        print(f"the cloud did not run; {len(left)} things that it had left on this machine are taken away")
    else:
        print("the cloud does not run")


def _holder(state: Path) -> int | None:
    """The process that holds the state folder."""
    try:
        with (state / "lock").open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(lock.read())
    except FileNotFoundError:
        return None
    return None


def _end_process(place: Place, pid: int) -> None:
    handle = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(handle, signal.SIGTERM)
        poller = select.poll()
        poller.register(handle, select.POLLIN)
        if not poller.poll(_STOP_TIMEOUT_S * 1000):
            raise CloudFailed(
                f"the cloud (process {pid}) still runs {_STOP_TIMEOUT_S:.0f} s after SIGTERM; see {place.log}"
            )
    finally:
        os.close(handle)
