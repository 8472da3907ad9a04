"""What a host must do for the network: plug guests into the integration bridge, serve metadata from inside networks.

Two Protocols, each with a `sim` twin.  Every verb may be repeated and then changes nothing.

`VifDriver`: a tap per port, made here and plugged **before** the guest starts, so that a start can wait for the port
to be up.  The tap, its port and its level outlive the guest's stop and crash; it goes when `unplug` is
called.  (libvirt's own bridge plugging was turned down: up 10 ms later, a process per port, and the host speaks IPv6
into the tap before it is told not to.)

`MetadataNamespaces`: for each network a namespace that is joined to the network's metadata port (OVN's localport:
there on every host, never leaves it), in which one process opens its listening sockets.
"""

from __future__ import annotations

import socket
from typing import Protocol

import msgspec

from cumulet.core.errors import ServerFault

__all__ = [
    "METADATA_ADDRESS",
    "METADATA_ADDRESS_V6",
    "MetadataNamespaces",
    "MetadataPort",
    "Plugged",
    "VifDown",
    "VifDriver",
    "VifFailed",
]

METADATA_ADDRESS = "169.254.169.254"
METADATA_ADDRESS_V6 = "fe80::a9fe:a9fe"


class VifFailed(ServerFault):
    """The host could not make, plug or remove a network device.  May be repeated."""

    default = "Virtual interface creation failed."


class VifDown(VifFailed):
    """The host's switch does not answer at this moment."""

    status = 503


class Plugged(msgspec.Struct, frozen=True, kw_only=True):
    """A tap of this cloud's on this host.  `complete` is False when its making was cut short: plug again, or unplug."""

    port_id: str
    server_id: str
    tap: str
    complete: bool = True


class VifDriver(Protocol):
    """Taps for guests."""

    def tap_name(self, port_id: str, /) -> str: ...

    def make(self, port_id: str, /, *, mac: str, server_id: str, mtu: int) -> None:
        """Make the port's tap, all that the making of a guest needs of it; `plug` does the rest."""

    def plug(self, port_id: str, /, *, mac: str, server_id: str, mtu: int) -> None:
        """Make the port's tap and put it on the integration bridge.  Does not wait for the port to be up."""

    def unplug(self, port_id: str, /) -> None: ...

    def plugged(self) -> tuple[Plugged, ...]:
        """Every tap of this cloud's, from the kernel and the bridge, so that a half-made one is seen too."""

    def ports_of(self, server_id: str, /) -> tuple[str, ...]:
        """The ids of the ports plugged for a server."""


class MetadataPort(msgspec.Struct, frozen=True, kw_only=True):
    """A network's metadata port, as its namespace must be made."""

    network_id: str
    #: name of the logical switch port: its id
    port_id: str
    mac: str
    #: `10.0.1.2/24`; one per subnet
    addresses: tuple[str, ...]
    mtu: int = 1442


class MetadataNamespaces(Protocol):
    """A namespace per network, and sockets opened inside."""

    def ensure_namespace(self, port: MetadataPort, /) -> None:
        """Make the namespace, with these addresses and the metadata address, and plug it into its network."""

    def remove_namespace(self, network_id: str, /) -> None:
        """Sockets opened inside stay open and hear nothing more."""

    def namespaces(self) -> tuple[str, ...]:
        """Ids of the networks that have one."""

    def listen_socket(self, network_id: str, address: str, port: int, /, *, datagram: bool = False) -> socket.socket:
        """A socket bound inside the network's namespace; a stream one listens already.  Raises `VifFailed`."""
