"""The few rtnetlink messages that ports and metadata namespaces need: texts of devices, a veth pair, and addresses.

Written out rather than by pyroute2, whose import takes 370 ms and 25 MiB of every host agent's memory for these few
messages; and rather than by /sys, which containers often have read-only, or from another network namespace.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
from collections.abc import Iterator
from typing import Final

__all__ = [
    "add_address",
    "addresses",
    "aliases",
    "delete_link",
    "make_veth",
    "no_link_local_address",
    "no_queue",
    "remove_address",
    "set_alias",
]

_NEWLINK: Final = 16
_DELLINK: Final = 17
_GETLINK: Final = 18
_NEWADDR: Final = 20
_DELADDR: Final = 21
_GETADDR: Final = 22
_NEWQDISC: Final = 36
_ERROR: Final = 2
_DONE: Final = 3
_REQUEST: Final = 0x1
_ACK: Final = 0x4
_EXCL: Final = 0x200
_CREATE: Final = 0x400
_REPLACE: Final = 0x100
_DUMP: Final = 0x300

_IFLA_ADDRESS: Final = 1
_IFLA_IFNAME: Final = 3
_IFLA_MTU: Final = 4
_IFLA_LINKINFO: Final = 18
_IFLA_IFALIAS: Final = 20
_IFLA_AF_SPEC: Final = 26
_IFLA_NET_NS_FD: Final = 28
_INET6_ADDR_GEN_MODE: Final = 8
_GEN_MODE_NONE: Final = 1
_TCA_KIND: Final = 1
_TC_H_ROOT: Final = 0xFFFFFFFF
_INFO_KIND: Final = 1
_INFO_DATA: Final = 2
_VETH_INFO_PEER: Final = 1
_IFA_ADDRESS: Final = 1
_IFA_LOCAL: Final = 2
#: no duplicate detection: an IPv6 address is of use at once
_IFA_F_NODAD: Final = 0x02
_LINK_SCOPE: Final = 253

_HEADER: Final = struct.Struct("=IHHII")
_LINK: Final = struct.Struct("=BxHiII")
_ADDRESS: Final = struct.Struct("=BBBBI")
_ATTRIBUTE: Final = struct.Struct("=HH")
_QDISC: Final = struct.Struct("=BxxxiIII")
_RECEIVE_MAX: Final = 1 << 17

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


def make_veth(name: str, *, peer: str, peer_mac: str, peer_namespace: int, mtu: int) -> None:
    """A pair, one end here, the other in the namespace of that open file, under its own name and address."""
    other = (
        _link(0)
        + _attribute(_IFLA_IFNAME, peer.encode() + b"\0")
        + _attribute(_IFLA_ADDRESS, bytes.fromhex(peer_mac.replace(":", "")))
        + _attribute(_IFLA_MTU, struct.pack("=I", mtu))
        + _attribute(_IFLA_NET_NS_FD, struct.pack("=I", peer_namespace))
    )
    info = _attribute(_INFO_KIND, b"veth") + _attribute(_INFO_DATA, _attribute(_VETH_INFO_PEER, other))
    body = (
        _link(0)
        + _attribute(_IFLA_IFNAME, name.encode() + b"\0")
        + _attribute(_IFLA_MTU, struct.pack("=I", mtu))
        + _attribute(_IFLA_LINKINFO, info)
    )
    _ask(_NEWLINK, _ACK | _CREATE | _EXCL, body)


def set_alias(index: int, alias: str) -> None:
    """A text that the kernel keeps with the device."""
    _ask(_NEWLINK, _ACK, _link(index) + _attribute(_IFLA_IFALIAS, alias.encode()))


def aliases() -> dict[str, str]:
    """Device → its text, for devices that have one."""
    found: dict[str, str] = {}
    for body in _ask(_GETLINK, _DUMP, _link(0)):
        attributes = dict(_attributes(body[_LINK.size :]))
        if _IFLA_IFALIAS in attributes:
            name = attributes[_IFLA_IFNAME].rstrip(b"\0").decode()
            found[name] = attributes[_IFLA_IFALIAS].rstrip(b"\0").decode(errors="replace")
    return found


def no_queue(index: int) -> None:
    """Frames for the device are handed over at once: it has a queue of its own behind it."""
    kind = _attribute(_TCA_KIND, b"noqueue\0")
    _ask(_NEWQDISC, _ACK | _CREATE | _REPLACE, _QDISC.pack(socket.AF_UNSPEC, index, 0, _TC_H_ROOT, 0) + kind)


def no_link_local_address(index: int) -> None:
    """Have the kernel make no IPv6 address for the device, without which it says nothing there."""
    mode = _attribute(_INET6_ADDR_GEN_MODE, bytes([_GEN_MODE_NONE]))
    _ask(_NEWLINK, _ACK, _link(index) + _attribute(_IFLA_AF_SPEC, _attribute(socket.AF_INET6, mode)))


def delete_link(index: int) -> None:
    _ask(_DELLINK, _ACK, _link(index))


def add_address(index: int, address: str) -> None:
    """The same again changes nothing."""
    _ask(_NEWADDR, _ACK | _CREATE | _REPLACE, _address_message(index, ipaddress.ip_interface(address)))


def remove_address(index: int, address: str) -> None:
    _ask(_DELADDR, _ACK, _address_message(index, ipaddress.ip_interface(address)))


def addresses(index: int) -> set[str]:
    """`ADDRESS/PREFIX` of one interface."""
    found: set[str] = set()
    for body in _ask(_GETADDR, _DUMP, _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0)):
        _, prefix, _, _, at = _ADDRESS.unpack_from(body)
        if at == index:
            attributes = dict(_attributes(body[_ADDRESS.size :]))
            raw = attributes.get(_IFA_LOCAL, attributes.get(_IFA_ADDRESS, b""))
            found.add(str(ipaddress.ip_interface(f"{ipaddress.ip_address(raw)}/{prefix}")))
    return found


def _address_message(index: int, interface: Interface) -> bytes:
    family = socket.AF_INET if interface.version == 4 else socket.AF_INET6
    scope = _LINK_SCOPE if interface.version == 6 and interface.is_link_local else 0
    flags = _IFA_F_NODAD if interface.version == 6 else 0
    packed = interface.ip.packed
    return (
        _ADDRESS.pack(family, interface.network.prefixlen, flags, scope, index)
        + _attribute(_IFA_LOCAL, packed)
        + _attribute(_IFA_ADDRESS, packed)
    )


def _link(index: int) -> bytes:
    return _LINK.pack(socket.AF_UNSPEC, 0, index, 0, 0)


def _ask(kind: int, flags: int, body: bytes) -> list[bytes]:
    """Send one request in the calling thread's namespace; the bodies of its answers, or OSError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.bind((0, 0))
        sock.send(_HEADER.pack(_HEADER.size + len(body), kind, _REQUEST | flags, 1, 0) + body)
        answers: list[bytes] = []
        while True:
            data = sock.recv(_RECEIVE_MAX)
            while data:
                length, answer_kind, *_ = _HEADER.unpack_from(data)
                answer, data = data[_HEADER.size : length], data[_aligned(length) :]
                if answer_kind == _DONE:
                    return answers
                if answer_kind == _ERROR:
                    (number,) = struct.unpack_from("=i", answer)
                    if number == 0:
                        return answers
                    raise OSError(-number, os.strerror(-number))
                answers.append(answer)


def _attribute(kind: int, value: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(value)
    return (_ATTRIBUTE.pack(length, kind) + value).ljust(_aligned(length), b"\0")


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        yield kind & 0x3FFF, data[_ATTRIBUTE.size : length]
        data = data[_aligned(length) :]


def _aligned(length: int) -> int:
    return (length + 3) & ~3
