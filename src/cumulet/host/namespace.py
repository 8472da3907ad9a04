"""The short path and the keeper's mount namespace, seen from the cloud's own process.

`/run/cumulet/TAG` is a symbolic link to the state directory on the machine, and the state directory itself (bound) in
the keeper's namespace.  So one name serves everybody: the cloud and the operator's tools outside, as root, and QEMU
inside, as a user who could not walk the real path.  What survives a killed cloud: the link, the keeper, its namespace,
and all that the keeper started.  Should the keeper be killed too, a new one makes a new namespace of the same folders;
nothing depends on which of the two a process is in.
"""

import contextlib
import ctypes
import fcntl
import os
import socket
import stat
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from cumulet.host.config import RUN_ROOT, HostConfig
from cumulet.host.errors import DaemonDidNotStart, ShortPathTaken, StateDirectoryUnusable
from cumulet.host.keeper import LIBVIRT_BINDS, LIBVIRT_VOLATILE

__all__ = [
    "claim_short_path",
    "holding_run_root",
    "keeper_command",
    "keeper_environment",
    "keeper_marker",
    "make_folders",
    "mount_volatile",
    "other_clouds",
    "release_short_path",
    "run_in_keeper",
    "unmount_volatile",
    "volatile_folder",
]

#: made by us for the bind, as the package makes it only on machines with systemd
_RUN_LIBVIRT = LIBVIRT_BINDS["run"]
_MADE_MARK = f"{RUN_ROOT}/.made-run-libvirt"
_LOG_BYTES_MAX = 16 << 20
_MS_NOSUID, _MS_NODEV, _MNT_DETACH = 2, 4, 2


def make_folders(config: HostConfig) -> None:
    """The state directory and ours below it.  Others may walk through the state directory, as QEMU must, but not list
    it."""
    root = Path(config.state_dir)
    if root == Path(RUN_ROOT) or Path(RUN_ROOT) in root.parents:
        raise StateDirectoryUnusable(f"{root} lies in {RUN_ROOT}, which is kept for short paths")
    root.mkdir(mode=0o711, parents=True, exist_ok=True)
    mode = stat.S_IMODE(root.stat().st_mode)
    if mode & 0o011 != 0o011:
        root.chmod(mode | 0o011)
    for folder in ("ovn", "log", "run"):
        (root / folder).mkdir(mode=0o700, exist_ok=True)
    (root / "libvirt").mkdir(mode=0o711, exist_ok=True)
    for folder in LIBVIRT_BINDS:
        (root / "libvirt" / folder).mkdir(mode=0o755, exist_ok=True)
    for log in (root / "log").iterdir():
        if log.stat().st_size > _LOG_BYTES_MAX:
            log.replace(log.with_name(log.name + ".1"))


def volatile_folder(config: HostConfig) -> str:
    """Where libvirt keeps what is true until the machine's next start."""
    return f"{config.state_dir}/libvirt/{LIBVIRT_VOLATILE}"


def mount_volatile(config: HostConfig) -> None:
    """Put that folder in memory, where libvirt expects /run to be: it writes a guest's state six times as the guest starts,
    and syncs each time, 2 ms on our disk.  Where mounting is not permitted, the disk it is.  Before any daemon runs."""
    folder = volatile_folder(config)
    if not os.path.ismount(folder):
        libc = ctypes.CDLL(None, use_errno=True)
        flags = ctypes.c_ulong(_MS_NOSUID | _MS_NODEV)
        libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", flags, b"mode=0755,size=64m")


def unmount_volatile(config: HostConfig) -> None:
    """May be repeated."""
    folder = volatile_folder(config)
    if os.path.ismount(folder):
        ctypes.CDLL(None, use_errno=True).umount2(os.fsencode(folder), _MNT_DETACH)


def claim_short_path(config: HostConfig) -> None:
    """Put the link in place.  May be repeated."""
    with holding_run_root():
        if os.path.lexists(config.short):
            if os.path.realpath(config.short) != config.state_dir:
                raise ShortPathTaken(
                    f"{config.short} stands for {os.path.realpath(config.short)}, not for {config.state_dir}"
                )
        else:
            Path(config.short).symlink_to(config.state_dir)
        if not Path(_RUN_LIBVIRT).exists():
            Path(_RUN_LIBVIRT).mkdir(0o755)
            Path(_MADE_MARK).touch()


def release_short_path(config: HostConfig) -> None:
    """Take the link away, and with the last cloud's link what was made for all of them.  May be repeated."""
    if not Path(RUN_ROOT).is_dir():
        return
    with holding_run_root():
        Path(config.short).unlink(missing_ok=True)
        if other_clouds(config):
            return  # its namespace has a bind on /run/libvirt, which rmdir would tear off
        if Path(_MADE_MARK).exists():
            with contextlib.suppress(OSError):  # not empty: a system's own libvirt moved in
                Path(_RUN_LIBVIRT).rmdir()
            Path(_MADE_MARK).unlink()
        with contextlib.suppress(OSError):  # not empty: something of another's
            Path(RUN_ROOT).rmdir()


def other_clouds(config: HostConfig) -> bool:
    """Whether another cloud has its short path here.  Ask while holding the folder."""
    mine = Path(config.short).name
    return any(entry.is_symlink() and entry.name != mine for entry in Path(RUN_ROOT).iterdir())


@contextlib.contextmanager
def holding_run_root() -> Iterator[None]:
    """Hold the folder of all short paths, against clouds that come and go at the same time."""
    while True:
        Path(RUN_ROOT).mkdir(mode=0o755, exist_ok=True)
        try:
            descriptor = os.open(RUN_ROOT, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:  # removed by another cloud just now
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink > 0:
                yield
                return
        finally:
            os.close(descriptor)


def keeper_command(config: HostConfig) -> list[str]:
    """Isolated and without site packages: the keeper needs the standard library only, and less memory that way."""
    import cumulet.host.keeper

    return [
        sys.executable,
        "-I",
        "-S",
        cumulet.host.keeper.__file__,
        config.state_dir,
        config.short,
        "kvm" if config.kvm else "tcg",
    ]


def keeper_marker(config: HostConfig) -> str:
    """By which this cloud's keeper is known on a command line."""
    return f"keeper.py {config.state_dir} {config.short} "


def keeper_environment(config: HostConfig) -> dict[str, str]:
    """What every daemon inherits.  libvirt, too, must find our Open vSwitch and never the system's."""
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": "/root"}
    for prefix in ("OVS", "OVN"):
        for folder in ("RUNDIR", "DBDIR", "SYSCONFDIR"):
            environment[f"{prefix}_{folder}"] = config.ovn_dir
        environment[f"{prefix}_LOGDIR"] = config.log_dir
    return environment


def run_in_keeper(config: HostConfig, command: Sequence[str], *, log: str, seconds: float) -> None:
    """Run a command in the keeper's namespace until it ends.  A daemon's starter ends when the daemon is ready.

    Raises DaemonDidNotStart when it fails or takes too long; its words are in the log.
    """
    name = Path(command[2] if command[0] == "env" else command[0]).name
    deadline = time.monotonic() + seconds
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        try:
            connection.settimeout(seconds)
            connection.connect(f"{config.run_dir}/keeper.sock")
            connection.send("\0".join(["run", log, *command]).encode())
            connection.settimeout(max(0.01, deadline - time.monotonic()))
            answer = connection.recv(64).decode()
        except TimeoutError:
            connection.send(b"kill")
            raise DaemonDidNotStart(f"{name} was not ready within {seconds:g} s; see {log}") from None
        except OSError as error:
            raise DaemonDidNotStart(f"{name} cannot be started: the keeper does not answer ({error})") from error
    if answer != "exit 0":
        raise DaemonDidNotStart(f"{name} ended with {answer or 'the keeper'}; see {log}")
