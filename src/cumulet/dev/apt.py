"""Debian packages for the workshop: installed only when missing, with no service of theirs started.

Standard library only: this runs before anything else is installed.  A package's own scripts start its daemons unless
`/usr/sbin/policy-rc.d` forbids it; we put that file there for the time of the installation and take it away again, and never
touch one that somebody else has put there.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["CannotInstall", "ensure", "missing"]

_POLICY = Path("/usr/sbin/policy-rc.d")
_POLICY_TEXT = "#!/bin/sh\n# cumulet: no services are started while packages are installed; gone when that is done\nexit 101\n"
_LISTS = Path("/var/lib/apt/lists")
_LOCK = Path("/tmp/apt.lock")  # noqa: S108 - one well-known name, so that several checkouts wait for each other
_LOG_LINES_SHOWN = 25


class CannotInstall(Exception):
    """Packages are needed and cannot be installed; the message says which, and why."""


def missing(packages: Sequence[str]) -> list[str]:
    """Those of `packages` that are not installed, in their order.  All of them where there is no dpkg."""
    try:
        answer = subprocess.run(
            ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n", *packages],
            capture_output=True,
            text=True,
            check=False,  # it fails when it does not know one of the names; what it knows is still printed
        )
    except FileNotFoundError:
        return list(packages)
    installed = {line.split()[0] for line in answer.stdout.splitlines() if line.endswith(" installed")}
    return [package for package in packages if package not in installed]


def ensure(packages: Sequence[str], *, log: Path) -> list[str]:
    """Install what is missing and return it.  Raises CannotInstall.

    Everything apt says goes to `log`.  May be repeated: with nothing missing it costs one dpkg-query.
    """
    wanted = missing(packages)
    if not wanted:
        return []
    if os.geteuid() != 0:
        raise CannotInstall(f"not root, and these Debian packages are missing: {' '.join(wanted)}")
    log.parent.mkdir(parents=True, exist_ok=True)
    with _LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = missing(packages)  # another may have installed them while we waited
        if wanted:
            with _services_stay_down():
                _install(wanted, log)
    return wanted


def _install(packages: Sequence[str], log: Path) -> None:
    have_lists = any(_LISTS.glob("*_Packages*"))
    if have_lists and _apt(["install", "--yes", "--no-install-recommends", *packages], log):
        return
    # No lists yet, or lists so old that they name files which are gone.
    if not _apt(["update"], log) or not _apt(["install", "--yes", "--no-install-recommends", *packages], log):
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_LINES_SHOWN:])
        raise CannotInstall(f"apt-get could not install {' '.join(packages)}; the end of {log}:\n{tail}")


def _apt(arguments: Sequence[str], log: Path) -> bool:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "APT_LISTCHANGES_FRONTEND": "none", "LC_ALL": "C.UTF-8"}
    command = ["apt-get", "--option=DPkg::Lock::Timeout=600", "--option=Acquire::Retries=3", "--quiet", *arguments]
    with log.open("a") as out:
        out.write(f"$ {' '.join(command)}\n")
        out.flush()
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment, check=False)
    return done.returncode == 0


@contextlib.contextmanager
def _services_stay_down() -> Iterator[None]:
    with contextlib.suppress(FileNotFoundError):
        if _POLICY.read_text() == _POLICY_TEXT:
            _POLICY.unlink()  # ours, left by an installation that was killed
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text(_POLICY_TEXT)
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink(missing_ok=True)
