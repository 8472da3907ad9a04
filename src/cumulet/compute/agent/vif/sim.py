"""Taps and namespaces in memory: remembered, failing on request, and without packets."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

from cumulet.compute.agent.vif.driver import MetadataPort, Plugged, VifFailed

__all__ = ["SimNamespaces", "SimVif"]


class SimVif:
    """`VifDriver` in memory."""

    def __init__(
        self, *, plugged: Callable[[str], None] | None = None, unplugged: Callable[[str], None] | None = None
    ) -> None:
        """`plugged` and `unplugged` are told port ids: where a simulated world lets its network know."""
        self._lock = threading.Lock()
        self._plugged: dict[str, Plugged] = {}
        self._failures: dict[str, list[Exception]] = {}
        self._on_plug = plugged
        self._on_unplug = unplugged

    def fail(self, verb: str, error: Exception | None = None, *, times: int = 1) -> None:
        """Let the next `times` calls of a verb raise, before they change anything."""
        if not hasattr(self, verb):
            raise AttributeError(verb)
        with self._lock:
            self._failures.setdefault(verb, []).extend([error or VifFailed()] * times)

    def tap_name(self, port_id: str, /) -> str:
        return f"tap{port_id[:11]}"

    def make(self, port_id: str, /, *, mac: str, server_id: str, mtu: int) -> None:
        """Plugs it too: here that is not worth a thread's while."""
        self.plug(port_id, mac=mac, server_id=server_id, mtu=mtu)

    def plug(self, port_id: str, /, *, mac: str, server_id: str, mtu: int) -> None:
        with self._lock:
            self._enter("plug")
            new = port_id not in self._plugged
            self._plugged[port_id] = Plugged(port_id=port_id, server_id=server_id, tap=self.tap_name(port_id))
        if new and self._on_plug is not None:
            self._on_plug(port_id)

    def unplug(self, port_id: str, /) -> None:
        with self._lock:
            self._enter("unplug")
            was = self._plugged.pop(port_id, None)
        if was is not None and self._on_unplug is not None:
            self._on_unplug(port_id)

    def plugged(self) -> tuple[Plugged, ...]:
        with self._lock:
            self._enter("plugged")
            return tuple(self._plugged.values())

    def ports_of(self, server_id: str, /) -> tuple[str, ...]:
        return tuple(tap.port_id for tap in self.plugged() if tap.server_id == server_id)

    def _enter(self, verb: str) -> None:
        planned = self._failures.get(verb)
        if planned:
            raise planned.pop(0)


class SimNamespaces:
    """`MetadataNamespaces` in memory: its sockets are bound to the loopback address, at any free port."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ports: dict[str, MetadataPort] = {}

    def ensure_namespace(self, port: MetadataPort, /) -> None:
        with self._lock:
            self._ports[port.network_id] = port

    def remove_namespace(self, network_id: str, /) -> None:
        with self._lock:
            self._ports.pop(network_id, None)

    def namespaces(self) -> tuple[str, ...]:
        with self._lock:
            return tuple(self._ports)

    def listen_socket(self, network_id: str, address: str, port: int, /, *, datagram: bool = False) -> socket.socket:
        with self._lock:
            if network_id not in self._ports:
                raise VifFailed(detail=f"network {network_id} has no namespace: cannot listen on {address} port {port}")
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if datagram else socket.SOCK_STREAM)
        made.bind(("127.0.0.1", 0))
        if not datagram:
            made.listen()
        return made
