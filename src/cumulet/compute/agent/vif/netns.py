"""A namespace per network for metadata, joined to the network's localport by a veth, never by an internal port.

An internal port moved into a namespace is lost for good when ovs-vswitchd restarts; a veth is taken up again by
itself.  Inside are the port's own addresses and 169.254.169.254 (and its IPv6 sibling where the network has IPv6),
nothing that listens, and no route out: one process opens its sockets there by `listen_socket` and serves all
networks.

A thread belongs to one namespace at a time.  What must happen inside happens on a thread of its own, which then ends:
a thread that had to find its way back could fail to, and would carry its later work into the wrong network.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from cumulet.compute.agent.vif import device, netlink
from cumulet.compute.agent.vif.bridge import Bridge
from cumulet.compute.agent.vif.driver import METADATA_ADDRESS, METADATA_ADDRESS_V6, MetadataPort, VifFailed

__all__ = ["OvsNamespaces", "namespace_name", "veth_name"]

T = TypeVar("T")

_NETNS: Final = Path("/run/netns")
_INSIDE: Final = "eth0"
_ALIAS: Final = "cumulet-metadata"
_BACKLOG: Final = 128

_CLONE_NEWNET: Final = 0x40000000
_MS_BIND: Final = 4096
_MS_REC: Final = 16384
_MS_SHARED: Final = 1 << 20
_MNT_DETACH: Final = 2
_IP_FREEBIND: Final = 15
_IPV6_FREEBIND: Final = 78


def namespace_name(network_id: str) -> str:
    """As Neutron's metadata agent calls it."""
    return f"ovnmeta-{network_id}"


def veth_name(network_id: str) -> str:
    return f"m-{network_id[:11]}"


class OvsNamespaces:
    """`MetadataNamespaces` on Open vSwitch."""

    def __init__(
        self,
        *,
        ovsdb: str,
        cloud: str,
        bridge: str = "br-int",
        name: Callable[[str], str] = namespace_name,
        veth: Callable[[str], str] = veth_name,
        timeout_s: float = 2.5,
    ) -> None:
        """`ovsdb`: `unix:/absolute/path`; `cloud`: this cloud's id, no spaces; `name`, `veth`: of a network's id."""
        self._bridge = Bridge(ovsdb, bridge, cloud=cloud, timeout_s=timeout_s)
        self._cloud = cloud
        self._name = name
        self._veth = veth
        # Two callers must not make the same namespace at once.
        self._lock = threading.Lock()

    def ensure_namespace(self, port: MetadataPort, /) -> None:
        veth = self._veth(port.network_id)
        path = _NETNS / self._name(port.network_id)
        with self._lock:
            try:
                if not os.path.ismount(path):
                    _on_own_thread(partial(_make_namespace, path))
                if not device.exists(veth):
                    self._make_veth(veth, path, port)
                _on_own_thread(partial(_inside, path, partial(_configure, port)))
            except OSError as error:
                raise VifFailed(detail=f"namespace {path.name}: {error}") from error
        ids = {"iface-id": port.port_id, "iface-status": "active", "attached-mac": port.mac}
        self._bridge.put(veth, {**ids, "cumulet:network": port.network_id})

    def remove_namespace(self, network_id: str, /) -> None:
        veth = self._veth(network_id)
        path = _NETNS / self._name(network_id)
        self._bridge.take(veth)
        with self._lock:
            try:
                if device.exists(veth):
                    netlink.delete_link(socket.if_nametoindex(veth))
                if os.path.ismount(path):
                    _checked(_libc().umount2(os.fsencode(path), _MNT_DETACH))
                path.unlink(missing_ok=True)
            except OSError as error:
                raise VifFailed(detail=f"namespace {path.name}: {error}") from error

    def namespaces(self) -> tuple[str, ...]:
        found = {
            alias.split(" ")[2] for alias in netlink.aliases().values() if alias.startswith(f"{_ALIAS} {self._cloud} ")
        }
        found |= {
            row.external_ids["cumulet:network"] for row in self._bridge.ours() if "cumulet:network" in row.external_ids
        }
        return tuple(sorted(found))

    def listen_socket(self, network_id: str, address: str, port: int, /, *, datagram: bool = False) -> socket.socket:
        path = _NETNS / self._name(network_id)
        try:
            return _on_own_thread(partial(_inside, path, partial(_listen, address, port, datagram=datagram)))
        except OSError as error:
            raise VifFailed(detail=f"namespace {path.name}: {address} port {port}: {error}") from error

    def _make_veth(self, veth: str, path: Path, port: MetadataPort) -> None:
        namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            netlink.make_veth(veth, peer=_INSIDE, peer_mac=port.mac, peer_namespace=namespace, mtu=port.mtu)
        finally:
            os.close(namespace)
        device.set_alias(veth, f"{_ALIAS} {self._cloud} {port.network_id}")
        device.ipv6_off(veth)
        device.set_up(veth)


def _on_own_thread(work: Callable[[], T]) -> T:
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(work())
        except BaseException as error:  # noqa: BLE001 - handed to the caller as it is
            answer.set_exception(error)

    thread = threading.Thread(target=run, name="netns", daemon=True)  # noqa: TID251 - it enters a namespace and ends there
    thread.start()
    thread.join()
    return answer.result()


def _make_namespace(path: Path) -> None:
    """A new namespace, kept by a mount, as `ip netns add` does it."""
    libc = _libc()
    _NETNS.mkdir(mode=0o755, parents=True, exist_ok=True)
    folder = os.fsencode(_NETNS)
    # Shared, so that removing it here removes it from the mount namespaces of other processes as well.
    if libc.mount(b"", folder, b"none", _MS_SHARED | _MS_REC, None) != 0:
        if ctypes.get_errno() != errno.EINVAL:
            _checked(-1)
        _checked(libc.mount(folder, folder, b"none", _MS_BIND | _MS_REC, None))
        _checked(libc.mount(b"", folder, b"none", _MS_SHARED | _MS_REC, None))
    path.touch(mode=0o444)
    _checked(libc.unshare(_CLONE_NEWNET))
    own = f"/proc/self/task/{threading.get_native_id()}/ns/net".encode()
    _checked(libc.mount(own, os.fsencode(path), b"none", _MS_BIND, None))


def _inside(path: Path, work: Callable[[], T]) -> T:
    """Only ever on a thread of its own."""
    namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _checked(_libc().setns(namespace, _CLONE_NEWNET))
    finally:
        os.close(namespace)
    return work()


def _configure(port: MetadataPort) -> None:
    """Checksums, addresses, up: in the namespace."""
    device.set_up("lo")
    device.transmit_checksums_off(_INSIDE)
    index = socket.if_nametoindex(_INSIDE)
    wanted = {*port.addresses, f"{METADATA_ADDRESS}/32"}
    if any(":" in address for address in port.addresses):
        wanted.add(f"{METADATA_ADDRESS_V6}/64")
    device.set_up(_INSIDE)
    present = netlink.addresses(index)
    for address in wanted - present:
        netlink.add_address(index, address)
    for address in present - wanted:
        # The kernel makes its own link-local address; it does no harm.
        if not address.startswith("fe80:"):
            netlink.remove_address(index, address)


def _listen(address: str, port: int, *, datagram: bool) -> socket.socket:
    version6 = ":" in address
    made = socket.socket(
        socket.AF_INET6 if version6 else socket.AF_INET, socket.SOCK_DGRAM if datagram else socket.SOCK_STREAM
    )
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if version6:
            made.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
            scope = socket.if_nametoindex(_INSIDE) if address.startswith("fe80:") else 0
            made.bind((address, port, 0, scope))
        else:
            made.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
            made.bind((address, port))
        if not datagram:
            made.listen(_BACKLOG)
    except BaseException:
        made.close()
        raise
    return made


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
