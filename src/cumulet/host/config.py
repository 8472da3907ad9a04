"""Names, paths and ranges of one cloud on one machine, all derived from its state directory.

Nothing here touches the machine.  The default directory gets the names every tutorial uses (`br-int`, `br-ex`,
172.24.4.0/24); any other gets names that carry a tag of the directory, so that clouds do not meet.  Interfaces given to
guests carry the tag in every case: the guard drops frames by name prefix, and must never match an interface that is not
ours.
"""

import hashlib
import ipaddress
import os
import socket

import msgspec

__all__ = ["DEFAULT_STATE_DIR", "RUN_ROOT", "Endpoints", "HostConfig", "PortRange"]

DEFAULT_STATE_DIR = "/var/lib/cumulet"
RUN_ROOT = "/run/cumulet"

#: IFNAMSIZ without the closing zero
INTERFACE_NAME_MAX = 15
#: TCP ports for consoles: slots of clouds that are not the default one, below the ephemeral range
_PORT_SLOTS = 10
_PORTS_PER_SLOT = 2048
_FIRST_SLOT_PORT = 10240


class PortRange(msgspec.Struct, frozen=True):
    first: int
    last: int


class Endpoints(msgspec.Struct, frozen=True, kw_only=True):
    """Where the cloud's daemons answer.  Every path is short and works inside and outside the mount namespace, for
    root."""

    #: `unix:PATH`, as ovsdbapp and the OVS tools take it
    nb: str
    sb: str
    ovs: str
    #: for `libvirt.open` and `virsh -c`
    libvirt_uri: str
    #: name of this host in OVN's southbound database
    chassis: str
    #: the physical network that `bridge_ex` carries
    physical_network: str
    #: "netdev" (in user space) or "system" (the kernel's)
    datapath: str


class HostConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One cloud's place on this machine."""

    #: real path of the state directory
    state_dir: str
    #: eight hex digits of the state directory
    tag: str
    #: the state directory under a name that fits into a socket address and that QEMU may enter
    short: str
    hostname: str
    bridge_int: str
    bridge_ex: str
    external_cidr: str
    vnc_ports: PortRange
    websocket_ports: PortRange
    encap_ip: str = "127.0.0.1"
    physical_network: str = "physnet1"
    #: let guests reach what this machine reaches, by masquerading behind its default route
    reach_outside: bool = True
    #: guests run by KVM; where not, libvirt must not see it (`probe.py` decides)
    kvm: bool = False

    @classmethod
    def for_state_dir(
        cls,
        state_dir: str,
        *,
        hostname: str | None = None,
        external_cidr: str | None = None,
        default_state_dir: str = DEFAULT_STATE_DIR,
        reach_outside: bool = True,
        kvm: bool = False,
    ) -> "HostConfig":
        """The configuration that belongs to a directory: the same directory always gives the same names."""
        real = os.path.realpath(state_dir)
        digest = hashlib.sha256(real.encode()).digest()
        tag = digest[:4].hex()
        if real == os.path.realpath(default_state_dir):
            bridges = ("br-int", "br-ex")
            cidr = "172.24.4.0/24"
            vnc, websocket = PortRange(5900, 6899), PortRange(6900, 7899)
        else:
            bridges = (f"br-int-{tag}", f"br-ex-{tag}")
            cidr = f"172.{25 + digest[4] % 7}.{digest[5]}.0/24"
            start = _FIRST_SLOT_PORT + digest[6] % _PORT_SLOTS * _PORTS_PER_SLOT
            half = _PORTS_PER_SLOT // 2
            vnc, websocket = PortRange(start, start + half - 1), PortRange(start + half, start + 2 * half - 1)
        return cls(
            state_dir=real,
            tag=tag,
            short=f"{RUN_ROOT}/{tag}",
            hostname=hostname or socket.gethostname(),
            bridge_int=bridges[0],
            bridge_ex=bridges[1],
            external_cidr=str(ipaddress.ip_network(external_cidr or cidr)),
            vnc_ports=vnc,
            websocket_ports=websocket,
            reach_outside=reach_outside,
            kvm=kvm,
        )

    @property
    def system_id(self) -> str:
        """The chassis' name in OVN: the host's, as each cloud has databases of its own."""
        return self.hostname

    @property
    def external_gateway(self) -> str:
        """This machine's address on the external bridge: the first of the subnet."""
        return str(ipaddress.ip_network(self.external_cidr)[1])

    @property
    def external_prefix(self) -> int:
        return ipaddress.ip_network(self.external_cidr).prefixlen

    @property
    def tap_prefix(self) -> str:
        """Begins the name of every tap given to a guest."""
        return f"t{self.tag[:5]}"

    @property
    def veth_prefix(self) -> str:
        """Begins the name of every veth that leads into a metadata namespace."""
        return f"m{self.tag[:5]}"

    @property
    def datapath_link(self) -> str:
        """Our name for the interface that every userspace datapath makes as `ovs-netdev`."""
        return f"ovs-{self.tag}"

    @property
    def netns_prefix(self) -> str:
        return f"cumulet-{self.tag}-"

    @property
    def nft_table(self) -> str:
        return f"cumulet_{self.tag}"

    @property
    def link_alias(self) -> str:
        """Marks our bridges in the kernel, so that a name alone never makes an interface ours."""
        return f"cumulet {self.tag}"

    def tap_name(self, port_id: str) -> str:
        """The tap of a port: the prefix and as much of the port's id as a name holds."""
        return (self.tap_prefix + port_id.replace("-", ""))[:INTERFACE_NAME_MAX]

    def veth_name(self, network_id: str) -> str:
        """The host's end of the veth into a network's metadata namespace."""
        return (self.veth_prefix + network_id.replace("-", ""))[:INTERFACE_NAME_MAX]

    def netns_name(self, network_id: str) -> str:
        return self.netns_prefix + network_id

    # Folders below the short path.

    @property
    def ovn_dir(self) -> str:
        """Databases, sockets and pid files of OVN and Open vSwitch."""
        return f"{self.short}/ovn"

    @property
    def log_dir(self) -> str:
        return f"{self.short}/log"

    @property
    def run_dir(self) -> str:
        return f"{self.short}/run"

    @property
    def libvirt_dir(self) -> str:
        return f"{self.short}/libvirt"
