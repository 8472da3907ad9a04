"""Debian packages: those that the build needs here, and those that the guest is made of.

The guest's own packages are fetched and unpacked, never installed: the host's programs stay as they are (busybox-static
would push out a host's busybox, and nobody's host needs another sudo), and the guest gets the archive's newest ones
whatever the host has.
"""

import re
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

__all__ = [
    "PACKAGES",
    "STATIC",
    "CommandFailed",
    "GuestBuildError",
    "PackagesUnavailable",
    "fetch",
    "missing_packages",
    "run",
    "unpack",
]

#: What the build needs installed: whoever prepares a host reads this.
PACKAGES = ("dosfstools", "e2fsprogs", "kmod", "lz4", "mtools", "qemu-utils", "syslinux", "syslinux-common")

#: Depends on whatever is the newest kernel for virtual machines.
_KERNEL = "linux-image-cloud-amd64"

#: The package whose content is kept in a folder of its own.
STATIC = "busybox-static"

#: Of these and of the libraries they depend on the guest is made.
_GUEST = (
    "busybox",  # the commands of users
    STATIC,  # boot: its shell runs most commands by a fork alone
    "curl",
    "dosfstools",
    "dropbear-bin",
    "e2fsprogs",
    "iproute2",
    "iputils-ping",  # works without root
    "libpam-modules",  # pam_permit, for sudo
    "openssh-sftp-server",  # scp
    "socat",
    "sudo",
    "util-linux",
    "wget",
)

_FETCH_S_MAX = 900
_ERROR_CHARS_SHOWN = 2000


class GuestBuildError(Exception):
    """The guest image cannot be made; the message says why."""


class CommandFailed(GuestBuildError):
    """One of the build's programs ended badly."""


class PackagesUnavailable(GuestBuildError):
    """A Debian package is missing here, or the archive does not hand it out."""


class _Fetched(msgspec.Struct, frozen=True):
    wanted: tuple[str, ...]
    files: tuple[str, ...]


def run(*command: str | Path, cwd: Path | None = None, text: str | None = None, timeout_s: float = 120) -> str:
    """What `command` printed, having been given `text`.  Raises CommandFailed with its last words."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words, cwd=cwd, input=text, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except FileNotFoundError:
        raise CommandFailed(f"{words[0]}: not found; needed are the Debian packages {' '.join(PACKAGES)}") from None
    except subprocess.TimeoutExpired:
        raise CommandFailed(f"{words[0]}: not done after {timeout_s:.0f} s") from None
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()[-_ERROR_CHARS_SHOWN:]
        raise CommandFailed(f"{' '.join(words)[:200]}: status {done.returncode}: {said}")
    return done.stdout


def missing_packages() -> tuple[str, ...]:
    """Those of PACKAGES that are not installed, in their order.  All of them where there is no dpkg."""
    try:
        answer = subprocess.run(
            ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n", *PACKAGES],
            capture_output=True,
            text=True,
            check=False,  # it fails when it does not know one of the names; what it knows is still printed
        )
    except FileNotFoundError:
        return PACKAGES
    installed = {line.split()[0] for line in answer.stdout.splitlines() if line.endswith(" installed")}
    return tuple(package for package in PACKAGES if package not in installed)


def fetch(folder: Path, *, refresh: bool = False) -> tuple[Path, ...]:
    """The guest's packages as files in `folder`, fetched unless they are there; with `refresh` the newest in any case.

    Raises PackagesUnavailable.
    """
    record = folder / "fetched.json"
    wanted = (_KERNEL, *_GUEST)
    if record.exists() and not refresh:
        had = msgspec.json.decode(record.read_bytes(), type=_Fetched)
        files = tuple(folder / name for name in had.files)
        if had.wanted == wanted and all(file.exists() for file in files):
            return files
    folder.mkdir(parents=True, exist_ok=True)
    record.unlink(missing_ok=True)
    for old in folder.glob("*.deb"):
        old.unlink()
    try:
        names = _closure(wanted)
        # The archive's own user may not write here, and need not: apt checks the signatures either way.
        options = ("--quiet=2", "--option=APT::Sandbox::User=root")
        run("apt-get", *options, "download", *names, cwd=folder, timeout_s=_FETCH_S_MAX)
    except CommandFailed as failed:
        message = f"cannot fetch the guest's packages; does `apt-get update` help? {failed}"
        raise PackagesUnavailable(message) from failed
    files = tuple(sorted(folder.glob("*.deb")))
    record.write_bytes(msgspec.json.encode(_Fetched(wanted, tuple(file.name for file in files))))
    return files


def _closure(wanted: Sequence[str]) -> list[str]:
    """`wanted` with the kernel's real name, and every library package that these depend on."""
    left_out = ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")
    text = run("apt-cache", "depends", "--recurse", *(f"--no-{kind}" for kind in left_out), *wanted)
    depends: dict[str, list[str]] = {}
    for line in text.splitlines():
        if not line.startswith(" "):
            here = depends.setdefault(line.strip(), [])
        elif found := re.match(r" [ |](?:Pre)?Depends: ([a-z0-9][a-z0-9+.-]*)$", line):
            here.append(found[1])
    kernels = depends.get(_KERNEL, [])
    if not kernels:
        raise PackagesUnavailable(f"the package lists of this machine do not know {_KERNEL}")
    chosen = {*wanted, kernels[0]} - {_KERNEL}
    heads = list(chosen)
    while heads:
        for name in depends.get(heads.pop(), ()):
            if name.startswith(("lib", "zlib")) and name in depends and name not in chosen:
                chosen.add(name)
                heads.append(name)
    return sorted(chosen)


def unpack(files: Iterable[Path], target: Path) -> None:
    """All of `files` into one tree, but apart the two busyboxes, which own one path.  No script of theirs runs."""
    (target / STATIC).mkdir(parents=True)
    for file in files:
        run("dpkg-deb", "--extract", file, target / STATIC if file.name.startswith(f"{STATIC}_") else target)
