"""What this machine forbids: containers, chroots and small boards let root do less than a whole machine does.

Each is tried, in the way in which the cloud and libvirt will do it, and never guessed from what kind of machine this
seems to be.  Two of them end the matter: mount namespaces and network interfaces.  Without the others a cloud works, with
guests less closed in; the line that says so is the operator's to read.
"""

import contextlib
import errno
import fcntl
import os
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

__all__ = ["Confines", "look"]

_TUN = Path("/dev/net/tun")
_TUN_DEVICE = os.makedev(10, 200)
_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI = 0x0002, 0x1000
_TRIAL_S_MAX = 10.0
_CGROUP_KINDS = {"cgroup", "cgroup2"}
#: what libvirt uses of the first version's
_CGROUP_CONTROLLERS = {"cpu", "cpuacct", "cpuset", "memory", "devices", "blkio", "freezer", "net_cls", "perf_event"}


class Confines(msgspec.Struct, frozen=True, kw_only=True):
    """Why each is not possible here; empty where it is."""

    #: a mount namespace of the cloud's own
    namespaces: str = ""
    #: taps and bridges
    interfaces: str = ""
    #: a /dev of its own for each guest
    devices: str = ""
    #: a cgroup for each guest
    cgroups: str = ""

    @property
    def lines(self) -> list[str]:
        """What guests do without."""
        lines = []
        if self.devices:
            lines.append(f"guests: they see this machine's /dev, none of their own ({self.devices})")
        if self.cgroups:
            lines.append(f"guests: not in cgroups of their own ({self.cgroups})")
        return lines


def look() -> Confines:
    """Try all of it; needs root.  Leaves nothing behind but /dev/net/tun where that was missing and could be made."""
    act, reason = _try_devices()
    namespaces = devices = ""
    if act in {"namespace", "mount"}:
        namespaces = (
            f"mount namespaces are not permitted ({reason}): CAP_SYS_ADMIN is needed, and a profile that lets it mount"
        )
    elif act == "device":
        devices = f"devices cannot be made: {reason}"
    elif act == "enter":
        devices = f"a guest's namespace cannot be entered: {reason}; CAP_SYS_PTRACE is missing"
    return Confines(namespaces=namespaces, interfaces=_why_no_interfaces(), devices=devices, cgroups=_why_no_cgroups())


def _try_devices() -> tuple[str, str]:
    """By the keeper, in a process of its own, as a namespace once entered is not left again."""
    import cumulet.host.keeper

    with tempfile.TemporaryDirectory(prefix="cumulet-trial-") as folder:
        command = [sys.executable, "-I", "-S", cumulet.host.keeper.__file__, folder]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TRIAL_S_MAX, check=False
        )
    if done.returncode != 0:
        return "namespace", (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    act, _, reason = done.stdout.strip().partition(" ")
    return act, reason


def _why_no_interfaces() -> str:
    try:
        _have_tun()
        with _TUN.open("r+b", buffering=0) as tun:
            # the kernel chooses the name, and takes the interface away when the file is closed
            fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH22x", b"", _IFF_TAP | _IFF_NO_PI))
    except FileNotFoundError:
        return f"this machine has no {_TUN}"
    except OSError as error:
        if error.errno == errno.ENODEV:
            return f"the kernel has no tun driver behind {_TUN}"
        if error.filename is not None:
            return f"{_TUN} cannot be opened ({error.strerror}): a container must be given this device"
        return f"network interfaces cannot be made ({error.strerror}): CAP_NET_ADMIN is needed"
    return ""


def _have_tun() -> None:
    """Where no udev makes it, as in a chroot, the device's file is ours to make."""
    if not _TUN.exists():
        with contextlib.suppress(PermissionError):  # opening it says what is missing
            _TUN.parent.mkdir(mode=0o755, exist_ok=True)
            os.mknod(_TUN, 0o20600, _TUN_DEVICE)


def _why_no_cgroups() -> str:
    """Tried because libvirt uses every hierarchy that is mounted, and fails at a guest's start where it cannot write."""
    for kind, folder, options in _mounts():
        if kind == "cgroup2" or (kind == "cgroup" and _CGROUP_CONTROLLERS.intersection(options)):
            trial = Path(folder, f"cumulet-trial-{os.getpid()}")
            try:
                trial.mkdir()
            except OSError as error:
                return f"{folder}: {error.strerror}"
            trial.rmdir()
    return ""


def _mounts() -> list[tuple[str, str, list[str]]]:
    """Cgroup hierarchies: kind, folder, options."""
    with Path("/proc/self/mounts").open(encoding="utf-8", errors="replace") as file:
        fields = [line.split(" ") for line in file]
    return [(words[2], words[1], words[3].split(",")) for words in fields if words[2] in _CGROUP_KINDS]
