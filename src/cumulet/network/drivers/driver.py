"""What a network data plane must be able to do: the Protocol `NetworkDriver`, its structs and its errors.

The network API decides and records; a driver makes the world agree.  Every `ensure_…` verb takes **one frozen
struct** with the whole desired state of one thing and may be repeated: it creates what is missing, changes what
differs and removes what the struct no longer names.  Every `remove_…` verb takes an id, and finds nothing to do the
second time.  The alternative, verbs for each change (add an address, drop a rule), was turned down: a repeated or
reordered change then needs its own record of what was already done.

    driver.ensure_network(Network(id=…, name="blue", mtu=1442))
    driver.ensure_subnet(Subnet(id=…, network_id=…, cidr="10.0.1.0/24", gateway_ip=…, metadata_address="10.0.1.2"))
    driver.ensure_security_group(SecurityGroup(id=…, rules=(SecurityGroupRule(id=…, direction="ingress", …),)))
    stop = driver.subscribe(post_key)                       # subscribe, then read the level, then write
    driver.ensure_port(Port(id=…, network_id=…, mac=…, fixed_ips=(FixedIp(subnet_id=…, address=…),), …))
    driver.port_up(port_id)                                 # the level, from the driver's own copy: costs nothing
    driver.ensure_router(Router(id=…, interfaces=(RouterInterface(…),), gateway=RouterGateway(…)))
    driver.ensure_floating_ip(FloatingIp(id=…, external_ip=…, router_id=…, port_id=…, fixed_ip=…))

Order: a network before its subnets and ports, the two ends before a router; anything else in any order.  A security
group named by a port before it was ensured exists empty, which lets nothing in.  Ids are the API's own, chosen and
committed before the verb is called; every object carries the cloud's id, so that `owned()` shows what has no record.

Which `device_owner` makes what of a port: `network:distributed` the network's metadata port, present on every host;
`network:router_interface` and `network:router_gateway` the router's side of a network (also made by `ensure_router`);
`network:floatingip` nothing at all; everything else a port for a guest.

Verbs may be called from any thread.  Each answers or raises `NetworkBackendDown` within the driver's timeout (2.5 s
unless told otherwise), and never hangs.  A call that raised may still have worked: repeat it, or remove.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

import msgspec

from cumulet.core.errors import ServerFault, Unavailable

__all__ = [
    "CLOUD_KEY",
    "AddressPair",
    "Agent",
    "DhcpOption",
    "FixedIp",
    "FloatingIp",
    "HostRoute",
    "InterfaceAddress",
    "Network",
    "NetworkBackendDown",
    "NetworkDriver",
    "NetworkMissing",
    "NetworkRefused",
    "Owned",
    "OwnedKind",
    "Port",
    "PortEvent",
    "Router",
    "RouterGateway",
    "RouterInterface",
    "SecurityGroup",
    "SecurityGroupRule",
    "Subnet",
]

#: the key in `external_ids` (and in a tap's row) that says which cloud an object belongs to
CLOUD_KEY = "cumulet:cloud"


class NetworkBackendDown(Unavailable):
    """The data plane's database does not answer.  The call may be repeated."""

    default = "The network backend is not available at this time."


class NetworkMissing(ServerFault):
    """A verb named a network, router or port that was never ensured, or was removed meanwhile."""

    default = "The network data plane does not know {kind} {id}."


class NetworkRefused(ServerFault):
    """The data plane refused the change.  Repeating it will not help."""

    default = "The network data plane refused the change."


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """A layer-2 network.  With `physical_network` it is joined to the host's network of that name."""

    id: str
    name: str = ""
    mtu: int = 1442
    #: `physnet1` and the like, for provider networks
    physical_network: str | None = None
    #: VLAN id on the physical network; None is flat
    vlan: int | None = None


class HostRoute(msgspec.Struct, frozen=True, kw_only=True):
    """A static route, told to guests by DHCP (subnets) or set in a router (routers)."""

    #: CIDR
    destination: str
    nexthop: str


class Subnet(msgspec.Struct, frozen=True, kw_only=True):
    """An address range of a network, and what its DHCP answers."""

    id: str
    network_id: str
    cidr: str
    ip_version: Literal[4, 6] = 4
    gateway_ip: str | None = None
    enable_dhcp: bool = True
    dns_nameservers: tuple[str, ...] = ()
    dns_domain: str = ""
    host_routes: tuple[HostRoute, ...] = ()
    #: address of the network's metadata port in this subnet: DHCP tells the route to 169.254.169.254 through it
    metadata_address: str | None = None
    mtu: int = 1442
    ipv6_ra_mode: Literal["slaac", "dhcpv6-stateful", "dhcpv6-stateless"] | None = None
    ipv6_address_mode: Literal["slaac", "dhcpv6-stateful", "dhcpv6-stateless"] | None = None


class FixedIp(msgspec.Struct, frozen=True, kw_only=True):
    """An address of a port."""

    subnet_id: str
    address: str


class AddressPair(msgspec.Struct, frozen=True, kw_only=True):
    """A further address or CIDR the port may use; `mac` None is the port's own."""

    address: str
    mac: str | None = None


class DhcpOption(msgspec.Struct, frozen=True, kw_only=True):
    """One extra DHCP option of a port, by its dnsmasq name or number, as Neutron's API has it."""

    name: str
    value: str
    ip_version: Literal[4, 6] = 4


class Port(msgspec.Struct, frozen=True, kw_only=True):
    """A port of a network."""

    id: str
    network_id: str
    mac: str
    name: str = ""
    fixed_ips: tuple[FixedIp, ...] = ()
    device_id: str = ""
    device_owner: str = ""
    project_id: str = ""
    admin_up: bool = True
    port_security_enabled: bool = True
    security_group_ids: tuple[str, ...] = ()
    allowed_address_pairs: tuple[AddressPair, ...] = ()
    extra_dhcp_opts: tuple[DhcpOption, ...] = ()
    #: the host that may claim the port (its chassis name or host name); empty: unbound, and the port stays down
    binding_host: str = ""


class SecurityGroupRule(msgspec.Struct, frozen=True, kw_only=True):
    """One rule; what no rule allows is dropped."""

    id: str
    direction: Literal["ingress", "egress"]
    ethertype: Literal["IPv4", "IPv6"] = "IPv4"
    #: name or number as the API keeps it; None is any
    protocol: str | None = None
    #: port range of tcp, udp, sctp; type and code of icmp
    port_range_min: int | None = None
    port_range_max: int | None = None
    remote_ip_prefix: str | None = None
    remote_group_id: str | None = None


class SecurityGroup(msgspec.Struct, frozen=True, kw_only=True):
    """A named set of rules that ports may join."""

    id: str
    name: str = ""
    stateful: bool = True
    rules: tuple[SecurityGroupRule, ...] = ()


class InterfaceAddress(msgspec.Struct, frozen=True, kw_only=True):
    """An address of a router in one of its networks."""

    address: str
    #: prefix length of the subnet
    prefix: int


class RouterInterface(msgspec.Struct, frozen=True, kw_only=True):
    """A router's foot in a tenant network."""

    port_id: str
    network_id: str
    mac: str
    addresses: tuple[InterfaceAddress, ...]
    mtu: int = 1442
    #: how the router's advertisements tell guests to get an IPv6 address; None: it sends none
    ipv6_address_mode: Literal["slaac", "dhcpv6-stateful", "dhcpv6-stateless"] | None = None


class RouterGateway(msgspec.Struct, frozen=True, kw_only=True):
    """A router's foot in an external network."""

    port_id: str
    network_id: str
    mac: str
    addresses: tuple[InterfaceAddress, ...]
    #: the `gateway_ip` of the external subnets, next hops of the default routes
    nexthops: tuple[str, ...] = ()
    #: guests without a floating IP go out under the router's own address
    enable_snat: bool = True


class Router(msgspec.Struct, frozen=True, kw_only=True):
    """A router with everything that belongs to it; floating IPs are things of their own."""

    id: str
    name: str = ""
    admin_up: bool = True
    interfaces: tuple[RouterInterface, ...] = ()
    gateway: RouterGateway | None = None
    routes: tuple[HostRoute, ...] = ()


class FloatingIp(msgspec.Struct, frozen=True, kw_only=True):
    """An external address for a port.  Without `router_id` or `fixed_ip` it is associated with nothing."""

    id: str
    external_ip: str
    router_id: str | None = None
    port_id: str | None = None
    fixed_ip: str | None = None
    #: the floating IP's own MAC, used only where floating IPs are distributed
    mac: str | None = None


class PortEvent(msgspec.Struct, frozen=True):
    """The level of a port as the driver has just read it."""

    port_id: str
    up: bool


OwnedKind = Literal["network", "subnet", "port", "security_group", "router", "floating_ip"]


class Owned(msgspec.Struct, frozen=True):
    """An object in the data plane that carries this cloud's id."""

    kind: OwnedKind
    id: str
    #: a port's `device_id`: the server, router or floating IP it was made for
    owner: str = ""


class Agent(msgspec.Struct, frozen=True, kw_only=True):
    """A host's part of the data plane, for the agents API."""

    #: chassis name
    id: str
    host: str
    #: `OVN Controller agent`, or `OVN Controller Gateway agent` where external networks are reached
    agent_type: str
    alive: bool
    #: physical network → bridge
    bridge_mappings: dict[str, str] = {}
    #: seconds since 1970 of the last sign of life; 0 where none was seen
    seen_at: float = 0.0


class NetworkDriver(Protocol):
    """A data plane.  Every verb may be repeated and then changes nothing."""

    def ensure_network(self, network: Network, /) -> None: ...
    def remove_network(self, network_id: str, /) -> None:
        """Takes its subnets and ports with it."""

    def ensure_subnet(self, subnet: Subnet, /) -> None: ...
    def remove_subnet(self, subnet_id: str, /) -> None: ...

    def ensure_port(self, port: Port, /) -> None:
        """Raises `NetworkMissing` when its network is not there."""

    def remove_port(self, port_id: str, /) -> None: ...

    def ensure_security_group(self, group: SecurityGroup, /) -> None:
        """Make the group's rules exactly these."""

    def remove_security_group(self, group_id: str, /) -> None: ...
    def ensure_security_group_rule(self, group_id: str, rule: SecurityGroupRule, /) -> None: ...
    def remove_security_group_rule(self, group_id: str, rule_id: str, /) -> None: ...

    def ensure_router(self, router: Router, /) -> None:
        """Raises `NetworkMissing` when a network of an interface or of the gateway is not there."""

    def remove_router(self, router_id: str, /) -> None: ...

    def ensure_floating_ip(self, floating_ip: FloatingIp, /) -> None:
        """Raises `NetworkMissing` when its router is not there.  Moves it, or takes it away, when its port changed."""

    def remove_floating_ip(self, floating_ip_id: str, /) -> None: ...

    def port_up(self, port_id: str, /) -> bool:
        """Whether a host has bound the port and its flows are in place.  False for an unknown port."""

    def subscribe(self, callback: Callable[[PortEvent], None], /) -> Callable[[], None]:
        """Be told of every change of a port's level; returns the way to stop it.

        The callback may run on any thread, even inside a verb of this driver, and must only note the event and return:
        it must not call the driver.  Events are hints that may be repeated (after a reconnection every port is told
        anew); the truth is `port_up`.
        """

    def owned(self) -> tuple[Owned, ...]:
        """Everything that carries this cloud's id, for the leak check."""

    def agents(self) -> tuple[Agent, ...]:
        """The hosts' parts of the data plane, as last heard of."""

    def heartbeat(self) -> None:
        """Ask every agent for a sign of life.  Called at intervals; the answers show in a later `agents()`."""

    def ready(self) -> bool:
        """Whether the data plane's database answers now.  Never raises."""

    def settle(self, timeout_s: float, /) -> bool:
        """Wait until every host has put in place all that was written before this call; False when time is up."""

    def close(self) -> None:
        """Let go of connections and threads.  The data plane itself stays as it is."""
