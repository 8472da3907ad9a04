"""A daemon of our own: started as an unprivileged user, ready when it says so, gone when its starter is.

Both engines speak systemd's notification protocol, so readiness is a datagram and not a guess: the daemon sends
`READY=1` to the socket named in NOTIFY_SOCKET.  `setpriv` gives up root and asks the kernel for a signal at its
parent's death.
"""

from __future__ import annotations

import os
import pwd
import selectors
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["Daemon", "EngineFailed", "folder_of", "free_ports"]

_LOG_LINES_SHOWN = 30


class EngineFailed(Exception):
    """A private engine did not start or stop; the message holds the end of its log."""


def folder_of(name: str, user: str) -> Path:
    """A new folder that only `user` enters, with a short path: socket names end at 108 bytes.

    Not under the caller's temporary folder, which another user may not enter.
    """
    path = Path(tempfile.mkdtemp(prefix=f"cumulet-{name}-", dir="/tmp"))
    give_to(path, user)
    return path


def give_to(path: Path, user: str) -> None:
    if os.geteuid() == 0:
        account = _account(user)
        os.chown(path, account.pw_uid, account.pw_gid)


def as_user(user: str, *, at_parents_death: signal.Signals | None = None) -> list[str]:
    """The words before a command that run it as `user` (as oneself when not root)."""
    words = ["setpriv"]
    if os.geteuid() == 0:
        account = _account(user)
        words += [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--init-groups"]
    if at_parents_death is not None:
        words.append(f"--pdeathsig={at_parents_death.name.removeprefix('SIG')}")
    return words if len(words) > 1 else []


def _account(user: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(user)
    except KeyError:
        raise EngineFailed(f"there is no user {user!r}: its Debian package is not installed") from None


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on now."""
    with_sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in with_sockets]
    for one in with_sockets:
        one.close()
    return ports


class Daemon:
    """One process that reports when it is ready."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        user: str,
        folder: Path,
        environment: Mapping[str, str],
        stop_signal: signal.Signals,
        start_timeout_s: float,
        stop_timeout_s: float = 20.0,
    ) -> None:
        """Start it and wait until it is ready.  Raises EngineFailed."""
        self.log = folder / "daemon.log"
        self._stop_signal = stop_signal
        self._stop_timeout_s = stop_timeout_s
        notify = folder / "notify"
        notify.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as inbox, self.log.open("ab") as log:
            inbox.bind(str(notify))
            give_to(notify, user)
            self._process = subprocess.Popen(
                [*as_user(user, at_parents_death=stop_signal), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**environment, "NOTIFY_SOCKET": str(notify)},
                cwd=folder,
                start_new_session=True,  # a Ctrl-C at the terminal is for the tests, which then stop the engine
            )
            try:
                self._wait_until_ready(inbox, start_timeout_s)
            except BaseException:
                self.stop()
                raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def _wait_until_ready(self, inbox: socket.socket, timeout_s: float) -> None:
        ends = time.monotonic() + timeout_s
        pidfd = os.pidfd_open(self._process.pid)
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(inbox, selectors.EVENT_READ)
                selector.register(pidfd, selectors.EVENT_READ)
                while True:
                    heard = {key.fileobj for key, _ in selector.select(max(0.0, ends - time.monotonic()))}
                    if inbox in heard and b"READY=1" in inbox.recv(4096).split(b"\n"):
                        return
                    if pidfd in heard:
                        raise EngineFailed(
                            f"ended with status {self._process.wait()} while starting:\n{self.log_tail()}"
                        )
                    if not heard:
                        raise EngineFailed(f"not ready after {timeout_s} s:\n{self.log_tail()}")
        finally:
            os.close(pidfd)

    def log_tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-_LOG_LINES_SHOWN:])

    def stop(self) -> None:
        """Ask it to end, and insist when it does not.  May be repeated."""
        if self._process.poll() is None:
            self._process.send_signal(self._stop_signal)
            try:
                self._process.wait(self._stop_timeout_s)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """End it without warning, as a crash would.  May be repeated."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
