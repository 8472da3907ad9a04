"""Network devices by ioctl and rtnetlink: a tap, and what any device needs; microseconds each, no process, no library."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cumulet.compute.agent.vif import netlink

__all__ = [
    "exists",
    "ipv6_off",
    "make_tap",
    "remove_tap",
    "set_alias",
    "set_mtu",
    "set_up",
    "transmit_checksums_off",
]

NAME_MAX: Final = 15

_TUNSETIFF: Final = 0x400454CA
_TUNSETPERSIST: Final = 0x400454CB
_TUNSETOWNER: Final = 0x400454CC
_IFF_TAP: Final = 0x0002
_IFF_NO_PI: Final = 0x1000
_IFF_VNET_HDR: Final = 0x4000

_SIOCGIFFLAGS: Final = 0x8913
_SIOCSIFFLAGS: Final = 0x8914
_SIOCSIFMTU: Final = 0x8922
_SIOCETHTOOL: Final = 0x8946
_IFF_UP: Final = 0x1
_ETHTOOL_STXCSUM: Final = 0x17


def exists(name: str) -> bool:
    try:
        socket.if_nametoindex(name)
    except OSError:
        return False
    return True


def make_tap(name: str, *, owner_uid: int | None, alias: str, mtu: int) -> None:
    """A persistent tap, up, that speaks no IPv6 of its own.

    It is made persistent last: whatever is killed before, the kernel removes it.
    """
    with _tun(name) as tun:
        if owner_uid is not None:
            fcntl.ioctl(tun, _TUNSETOWNER, owner_uid)
        set_alias(name, alias)
        ipv6_off(name)
        set_mtu(name, mtu)
        set_up(name)
        # as libvirt would, by a process of `tc`: 5 ms of each start
        with contextlib.suppress(OSError):  # a kernel without it: frames wait in a queue more
            netlink.no_queue(socket.if_nametoindex(name))
        fcntl.ioctl(tun, _TUNSETPERSIST, 1)


def remove_tap(name: str) -> None:
    """Gone already is as good.  Raises OSError (EBUSY) while a guest holds it."""
    if not exists(name):
        return
    with _tun(name) as tun:
        fcntl.ioctl(tun, _TUNSETPERSIST, 0)


def set_up(name: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sH14x", name.encode(), 0)
        (flags,) = struct.unpack_from("H", fcntl.ioctl(sock, _SIOCGIFFLAGS, request), 16)
        if not flags & _IFF_UP:
            fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sH14x", name.encode(), flags | _IFF_UP))


def set_mtu(name: str, mtu: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, _SIOCSIFMTU, struct.pack("16si12x", name.encode(), mtu))


def transmit_checksums_off(name: str) -> None:
    """Let the kernel write whole checksums: the userspace datapath would carry half-made ones to the guest."""
    import ctypes

    value = ctypes.create_string_buffer(struct.pack("II", _ETHTOOL_STXCSUM, 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, _SIOCETHTOOL, struct.pack("16sP8x", name.encode(), ctypes.addressof(value)))


def ipv6_off(name: str) -> None:
    """No frame of the machine's own IPv6 leaves by it."""
    try:
        Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1", encoding="ascii")
    except FileNotFoundError:
        return  # where the kernel has no IPv6 there is nothing to turn off
    except OSError as error:
        if error.errno not in {errno.EROFS, errno.EACCES}:
            raise
        # a container whose settings are not ours to write: without an address of its own it is as silent
        netlink.no_link_local_address(socket.if_nametoindex(name))


def set_alias(name: str, alias: str) -> None:
    """A text the kernel keeps with the device."""
    netlink.set_alias(socket.if_nametoindex(name), alias)


@contextlib.contextmanager
def _tun(name: str) -> Iterator[int]:
    if len(name.encode()) > NAME_MAX:
        raise OSError(errno.EINVAL, f"device name longer than {NAME_MAX} bytes: {name}")
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    try:
        flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR
        fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
        yield tun
    finally:
        os.close(tun)
