"""What this machine forbids: containers, chroots and small boards let root do less than a whole machine does.

Each is tried, in the way in which the cloud will do it, and never guessed from what kind of machine this seems to be.
Without either there is no real cloud.
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


class Confines(msgspec.Struct, frozen=True, kw_only=True):
    """Why each is not possible here; empty where it is."""

    #: a mount namespace of the cloud's own
    namespaces: str = ""
    #: taps and bridges
    interfaces: str = ""


def look() -> Confines:
    """Try both; needs root.  Leaves nothing behind but /dev/net/tun where that was missing and could be made."""
    return Confines(namespaces=_why_no_namespaces(), interfaces=_why_no_interfaces())


def _why_no_namespaces() -> str:
    """By the keeper, in a process of its own, as a namespace once entered is not left again."""
    import cumulet.host.keeper

    with tempfile.TemporaryDirectory(prefix="cumulet-trial-") as folder:
        command = [sys.executable, "-I", "-S", cumulet.host.keeper.__file__, folder]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TRIAL_S_MAX, check=False
        )
    if done.returncode == 0:
        return ""
    reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    return f"mount namespaces are not permitted ({reason}): CAP_SYS_ADMIN is needed, and a profile that lets it mount"


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
