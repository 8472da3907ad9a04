"""From a bare machine to a working environment: the first half of `./dev`, run by the system's Python.

Standard library only.  It makes the virtual environments that a command needs, from locks with hashes, and then
becomes `python -m cumulet.dev` inside `.venv`.  With nothing to do it costs a few milliseconds: a stamp in the
environment holds the digest of the locks it was made from.

There are three environments, so that the cloud's own holds nothing that the cloud does not import: `.venv` (the
product, and for developers the tests and checks), `.venv-clients` (the official clients; their commands are linked
into `.venv/bin`) and `.venv-conformance` (tempest and its plugins).
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cumulet.dev import apt

__all__ = ["ENVIRONMENTS", "NEEDS", "CannotPrepare", "Environment", "main", "prepare"]

_PYTHONS = ("/usr/bin/python3.11", "/usr/bin/python3")
_OLDEST_PYTHON = (3, 11)
_SYSTEM_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_LOG_LINES_SHOWN = 25


class CannotPrepare(Exception):
    """The environment could not be made; the message says why, for the person at the terminal."""


@dataclass(frozen=True)
class Environment:
    """One set of packages: the folder it lives in, the locks it is made from, whether the product itself goes in."""

    folder: str
    locks: tuple[str, ...]
    product: bool = False
    linked: tuple[str, ...] = ()  # commands of this environment to be found in .venv/bin as well


ENVIRONMENTS: Mapping[str, Environment] = {
    "run": Environment(".venv", ("requirements.txt",), product=True),
    "dev": Environment(".venv", ("requirements-dev.txt",)),
    "clients": Environment(".venv-clients", ("requirements-clients.txt",), linked=("openstack", "nova")),
    "conformance": Environment(".venv-conformance", ("requirements-conformance.txt",)),
}

#: what each subcommand needs, in this order; the others need all that developers need
NEEDS: Mapping[str, tuple[str, ...]] = {
    "demo": ("run", "clients"),
    "down": ("run",),
    "test": ("run", "dev", "clients"),
    "conformance": ("run", "dev", "conformance"),
}
_NEEDS_OF_THE_REST = ("run", "dev")


def main(root: Path, arguments: Sequence[str]) -> None:
    """Prepare what the subcommand needs, then become it.  Returns only by raising SystemExit."""
    command = arguments[0] if arguments else "help"
    try:
        prepare(root, NEEDS.get(command, _NEEDS_OF_THE_REST))
    except (CannotPrepare, apt.InstallFailed) as error:
        sys.exit(f"./dev: {error}")
    python = root / ".venv/bin/python"
    inside = _outside_any_environment()
    inside["CUMULET_CHECKOUT"] = str(root)
    sys.stdout.flush()
    os.execve(python, [str(python), "-P", "-m", "cumulet.dev", *arguments], inside)  # noqa: S606 - becoming it is the point


def prepare(root: Path, names: Sequence[str]) -> None:
    """Bring the named environments up to date.  Raises CannotPrepare or apt.InstallFailed.  May be repeated."""
    stale = [name for name in names if not _is_current(root, name)]
    if not stale:
        return
    work = root / ".cache/dev"
    work.mkdir(parents=True, exist_ok=True)
    with (work / "prepare.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in stale:
            if not _is_current(root, name):  # another ./dev may have done it while we waited
                began = time.monotonic()
                print(f"installing {name}: {' '.join(ENVIRONMENTS[name].locks)} ...", file=sys.stderr, flush=True)
                _make(root, name, work / f"install-{name}.log")
                print(f"installed {name} in {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)


def _stamp(root: Path, name: str) -> Path:
    return root / ENVIRONMENTS[name].folder / f".installed-{name}"


def _digest(root: Path, name: str) -> str:
    """All that an environment was made from: its place (scripts name it), its interpreter, its locks, our own
    metadata."""
    environment = ENVIRONMENTS[name]
    parts = [str(root), *(f"{number}" for number in sys.version_info[:2])]
    parts += [(root / lock).read_text() for lock in environment.locks]
    if environment.product:
        described = tomllib.loads((root / "pyproject.toml").read_text())
        parts.append(repr((described["project"], described["build-system"], described["tool"]["hatch"])))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _is_current(root: Path, name: str) -> bool:
    try:
        return _stamp(root, name).read_text() == _digest(root, name)
    except FileNotFoundError:
        return False


def _make(root: Path, name: str, log: Path) -> None:
    environment = ENVIRONMENTS[name]
    log.write_text("")
    python = _ensure_python(root, environment.folder, log)
    uv = root / ".venv/bin/uv"
    if environment.folder == ".venv" and name == "run":
        build = root / "requirements-build.txt"
        _run([str(python), "-m", "pip", "install", "--quiet", "--require-hashes", "--requirement", str(build)], log)
    install = [str(uv), "pip", "install", "--python", str(python), "--compile-bytecode", "--require-hashes"]
    install += [
        "--no-build-isolation-package",
        "ovs",
    ]  # there are no wheels of it; a build would fetch tools without a hash
    locks = [word for lock in environment.locks for word in ("--requirement", str(root / lock))]
    _run([*install, *locks], log)
    if environment.product:
        # What it is built with came from a lock above, so nothing is fetched here.
        build_here = ["--no-deps", "--no-build-isolation", "--offline", "--editable", str(root)]
        _run([str(uv), "pip", "install", "--python", str(python), *build_here], log)
        _run([str(python), "-m", "compileall", "-q", str(root / "src")], log)
    for command in environment.linked:
        link = root / ".venv/bin" / command
        link.unlink(missing_ok=True)
        link.symlink_to(root / environment.folder / "bin" / command)
    _stamp(root, name).write_text(_digest(root, name))


def _ensure_python(root: Path, folder: str, log: Path) -> Path:
    """The interpreter of an environment, which is made when it is absent, broken, or was made elsewhere and then
    moved."""
    python = root / folder / "bin/python"
    if _belongs_here(root / folder, python):
        return python
    if sys.version_info < _OLDEST_PYTHON:
        raise CannotPrepare(
            f"Python {'.'.join(map(str, _OLDEST_PYTHON))} or newer is needed, this is {sys.version.split()[0]}"
        )
    base = next((path for path in _PYTHONS if _is_new_enough(path)), sys.executable)
    if importlib.util.find_spec("ensurepip") is None:
        print("installing python3-venv ...", file=sys.stderr, flush=True)
        apt.ensure(["python3-venv"], log=log.with_name("apt.log"))
    shutil.rmtree(root / folder, ignore_errors=True)
    _run([base, "-m", "venv", str(root / folder)], log)
    return python


def _belongs_here(folder: Path, python: Path) -> bool:
    """Whether the interpreter runs, and the environment's scripts name this very folder."""
    try:
        first_line = (folder / "bin/pip").read_text().splitlines()[0]
        ran = subprocess.run([str(python), "-c", ""], capture_output=True, check=False)
    except (OSError, IndexError):
        return False
    return ran.returncode == 0 and first_line.removeprefix("#!").startswith(str(folder))


def _is_new_enough(python: str) -> bool:
    if not Path(python).exists():
        return False
    question = f"import sys; sys.exit(sys.version_info < {_OLDEST_PYTHON})"
    return subprocess.run([python, "-c", question], capture_output=True, check=False).returncode == 0


def _run(command: Sequence[str], log: Path) -> None:
    with log.open("a") as out:
        out.write(f"$ {' '.join(command)}\n")
        out.flush()
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=_installer_environment(), check=False
        )
    if done.returncode != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_LINES_SHOWN:])
        raise CannotPrepare(f"{Path(command[0]).name} failed; the end of {log}:\n{tail}")


def _installer_environment() -> dict[str, str]:
    """The machine's own choice of registry and certificates, for both installers: uv does not read pip's settings."""
    environment = _outside_any_environment()
    environment |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PIP_ROOT_USER_ACTION": "ignore"}
    environment["UV_NO_PROGRESS"] = "1"
    certificates = environment.get("PIP_CERT") or _pip_setting("cert")
    if certificates:
        environment.setdefault("SSL_CERT_FILE", certificates)
    elif _SYSTEM_CERTIFICATES.exists():
        environment["PIP_CERT"] = environment.get("SSL_CERT_FILE", str(_SYSTEM_CERTIFICATES))
    if certificates or _SYSTEM_CERTIFICATES.exists():
        environment.setdefault("UV_SYSTEM_CERTS", "1")
    if not {"UV_DEFAULT_INDEX", "UV_INDEX_URL"} & environment.keys():
        index = environment.get("PIP_INDEX_URL") or _pip_setting("index-url")
        if index:
            environment["UV_DEFAULT_INDEX"] = index
    return environment


def _outside_any_environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}}


def _pip_setting(name: str) -> str | None:
    """A setting of pip's own configuration files, in pip's order of strength."""
    import configparser

    home = Path.home()
    for file in (home / ".config/pip/pip.conf", home / ".pip/pip.conf", Path("/etc/pip.conf")):
        settings = configparser.ConfigParser(interpolation=None)
        try:
            settings.read(file)
        except configparser.Error:
            continue  # pip will say what is wrong with it
        found = settings.get("install", name, fallback=None) or settings.get("global", name, fallback=None)
        if found:
            return found
    return None
