"""`./dev test`: installs what the tests need, then becomes pytest.

One pytest run with one closing line for everything.  Plain tests run on all cores; tests of an engine stay together
in one process; tests with real daemons come last, one after another (`tests/conftest.py`).

What cannot run here is skipped with its reason.  In CI (the environment variable CI is set) that is an error instead:
a test that silently stopped running proves nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence

from cumulet.dev import apt, engines
from cumulet.dev.checkout import APT_LOG, ROOT, program

__all__ = ["run", "why_no_engines", "why_no_real"]

_PROCESSES_MAX = 4
#: package -> the program by which tests look at guests from outside, or are a guest
_PROGRAMS = {"openssh-client": "ssh", "iputils-ping": "ping", "busybox": "busybox"}


def run(arguments: Sequence[str]) -> None:
    """Become pytest with `arguments`.  Raises SystemExit when something is missing in CI."""
    options = ["-n", str(min(os.cpu_count() or 1, _PROCESSES_MAX)), "--dist", "loadgroup"]
    for option, why_not in (("--without-engines", why_no_engines), ("--without-real", why_no_real)):
        options += _unless_possible(option, why_not)
    pytest = program("pytest")
    os.chdir(ROOT)
    sys.stdout.flush()
    os.execv(pytest, [pytest, *options, *arguments])  # noqa: S606 - becoming it is the point


def _unless_possible(option: str, why_not: Callable[[], str | None]) -> list[str]:
    reason = why_not()
    if reason is None:
        return []
    if os.environ.get("CI"):
        sys.exit(f"./dev test: in CI every test must run: {reason}")
    print(f"some tests cannot run here: {reason}", file=sys.stderr)
    return [option, reason.splitlines()[0]]


def why_no_engines() -> str | None:
    """Installs PostgreSQL and RabbitMQ; the reason if it cannot."""
    return _install(engines.PACKAGES)


def why_no_real() -> str | None:
    """Installs what a real host needs; the reason if it cannot, or if this machine does not let us be one."""
    if os.geteuid() != 0:
        return "not root"
    if subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True, check=False).returncode != 0:
        return "network and mount namespaces are not permitted here"
    try:
        apt.ensure_real_host(log=APT_LOG)
        apt.ensure([name for name, called in _PROGRAMS.items() if shutil.which(called) is None], log=APT_LOG)
    except apt.InstallFailed as error:
        return str(error)
    return None


def _install(packages: Sequence[str]) -> str | None:
    if apt.missing(packages):
        print("installing Debian packages ...", file=sys.stderr, flush=True)
    try:
        apt.ensure(packages, log=APT_LOG)
    except apt.InstallFailed as error:
        return str(error)
    return None
