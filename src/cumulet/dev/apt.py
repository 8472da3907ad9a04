"""Debian packages for the workshop, by name, only when they are missing; `cumulet.host.packages` does the installing.

Standard library only: this runs before anything else is installed.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cumulet.host import packages as host
from cumulet.host.errors import InstallFailed
from cumulet.host.packages import install

__all__ = ["InstallFailed", "ensure", "ensure_lists", "missing"]

_LISTS = Path("/var/lib/apt/lists")
_LOCK = Path("/run/lock/cumulet-apt.lock")
_UPDATE_TIMEOUT_S = 600.0


def missing(names: Sequence[str]) -> list[str]:
    """Those of `names` that are not installed, in their order.  All of them where there is no dpkg."""
    try:
        answer = subprocess.run(
            ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n", *names],
            capture_output=True,
            text=True,
            check=False,  # it fails when it does not know one of the names; what it knows is still printed
        )
    except FileNotFoundError:
        return list(names)
    installed = {line.split()[0] for line in answer.stdout.splitlines() if line.endswith(" installed")}
    return [name for name in names if name not in installed]


def ensure(names: Sequence[str], *, log: Path) -> list[str]:
    """Install what is missing, with no service started, and return it.  Raises InstallFailed.  May be repeated."""
    wanted = missing(names)
    if not wanted:
        return []
    with _one_at_a_time():
        wanted = missing(names)  # another may have installed them while we waited
        install(wanted, log)
    return wanted


def ensure_real_host(*, log: Path) -> None:
    """Have this machine able to be a real host: its packages, those that the guest image is built with, libvirt's binding.

    Raises InstallFailed.
    """
    # not at the top: this module is also read before any dependency is installed
    from cumulet.guest.packages import PACKAGES as GUEST_PACKAGES

    ensure_lists(log=log)  # the guest image is made of packages that are fetched, not installed
    wanted = [*host.PACKAGES, *GUEST_PACKAGES]
    if missing(wanted):
        print("installing Debian packages ...", file=sys.stderr, flush=True)
    ensure(wanted, log=log)
    host.link_libvirt_binding()


def ensure_lists(*, log: Path) -> None:
    """Have apt know what there is, for those who fetch packages without installing them.  Raises InstallFailed."""
    if any(_LISTS.glob("*_Packages*")):
        return
    if os.geteuid() != 0:
        raise InstallFailed("apt has no package lists yet, and fetching them needs root")
    log.parent.mkdir(parents=True, exist_ok=True)
    with _one_at_a_time(), log.open("ab") as out:
        command = ["apt-get", "--quiet", "update"]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=_UPDATE_TIMEOUT_S, check=False
        )
    if done.returncode != 0:
        raise InstallFailed(f"apt-get update failed; see {log}")


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Two installations at once would undo each other's policy on services."""
    if os.geteuid() != 0:
        yield  # `install` will say that it needs root
        return
    _LOCK.parent.mkdir(parents=True, exist_ok=True)
    with _LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
