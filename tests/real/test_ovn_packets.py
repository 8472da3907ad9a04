"""What guests see: addresses, routes, filters, translation, metadata; with namespaces as guests on a real OVN."""

from __future__ import annotations

import ipaddress
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from tests.real.ovn_lab import (
    BRIDGE,
    CHASSIS,
    CLOUD,
    EXTERNAL_HOST,
    Guest,
    OvnLab,
    listening,
    only_one,
    serving,
    wait_for,
)
from tests.unit.test_network_driver_contract import new_id, new_mac

from cumulet.compute.agent.vif.driver import METADATA_ADDRESS, MetadataPort
from cumulet.compute.agent.vif.netns import OvsNamespaces
from cumulet.network.drivers.driver import (
    AddressPair,
    FixedIp,
    FloatingIp,
    HostRoute,
    InterfaceAddress,
    Network,
    Port,
    Router,
    RouterGateway,
    RouterInterface,
    SecurityGroup,
    SecurityGroupRule,
    Subnet,
)
from cumulet.network.drivers.ovn import OvnNetwork

pytestmark = pytest.mark.real

SSH = SecurityGroupRule(
    id="r-ssh", direction="ingress", protocol="tcp", port_range_min=22, port_range_max=22, remote_ip_prefix="0.0.0.0/0"
)
ICMP = SecurityGroupRule(id="r-icmp", direction="ingress", protocol="icmp")


class Tenant:
    """Two networks with a router to the outside, a security group, and guests."""

    def __init__(self, lab: OvnLab, folder: Path) -> None:
        self.lab = lab
        self.folder = folder
        self.driver = OvnNetwork(northbound=lab.northbound, southbound=lab.southbound, cloud=CLOUD)
        self.namespaces = OvsNamespaces(
            ovsdb=lab.ovsdb,
            cloud=CLOUD,
            bridge=BRIDGE,
            name=lambda network_id: f"nt-m{network_id}",
            veth=lambda network_id: f"nt-m{network_id[:9]}",
        )
        self.group = SecurityGroup(
            id=new_id(), name="default", rules=(SecurityGroupRule(id=new_id(), direction="egress"), ICMP)
        )
        self.driver.ensure_security_group(self.group)
        self.networks = [Network(id=new_id(), name=name) for name in ("blue", "green")]
        self.subnets = []
        self.metadata = []
        for n, network in enumerate(self.networks, start=1):
            self.driver.ensure_network(network)
            self.subnets.append(
                Subnet(
                    id=new_id(), network_id=network.id, cidr=f"10.77.{n}.0/24", gateway_ip=f"10.77.{n}.1",
                    metadata_address=f"10.77.{n}.2", dns_nameservers=(f"10.77.{n}.2",), dns_domain="cloud.test",
                    host_routes=(HostRoute(destination="10.99.0.0/16", nexthop=f"10.77.{n}.9"),),
                )
            )  # fmt: skip
            self.driver.ensure_subnet(self.subnets[-1])
            port = Port(
                id=new_id(), network_id=network.id, mac=new_mac(), device_owner="network:distributed",
                fixed_ips=(FixedIp(subnet_id=self.subnets[-1].id, address=f"10.77.{n}.2"),),
            )  # fmt: skip
            self.metadata.append(port)
            self.driver.ensure_port(port)
        external = Network(id=new_id(), name="public", physical_network="physnet1", mtu=1500)
        self.driver.ensure_network(external)
        self.router = Router(
            id=new_id(),
            interfaces=tuple(
                RouterInterface(
                    port_id=new_id(), network_id=network.id, mac=new_mac(),
                    addresses=(InterfaceAddress(address=f"10.77.{n}.1", prefix=24),),
                )
                for n, network in enumerate(self.networks, start=1)
            ),
            gateway=RouterGateway(
                port_id=new_id(), network_id=external.id, mac=new_mac(), nexthops=(EXTERNAL_HOST,),
                addresses=(InterfaceAddress(address="172.30.77.10", prefix=24),),
            ),
        )  # fmt: skip
        self.driver.ensure_router(self.router)
        self.guests: dict[str, Guest] = {}
        self.ports: dict[str, Port] = {}

    def guest(self, name: str, network: int, host: int, **more: object) -> Guest:
        """A guest with a port of its own, up and addressed."""
        address = f"10.77.{network + 1}.{host}"
        port = Port(
            id=new_id(), network_id=self.networks[network].id, mac=new_mac(), device_owner="compute:nova",
            fixed_ips=(FixedIp(subnet_id=self.subnets[network].id, address=address),), binding_host=CHASSIS,
            security_group_ids=(self.group.id,),
        )  # fmt: skip
        port = msgspec.structs.replace(port, **more)
        self.driver.ensure_port(port)
        guest = Guest(self.lab, name, port.id, port.mac)
        self.ports[name], self.guests[name] = port, guest
        wait_for(lambda: self.driver.port_up(port.id))
        guest.address(f"{address}/24", f"10.77.{network + 1}.1")
        return guest

    def allow(self, *rules: SecurityGroupRule) -> None:
        self.driver.ensure_security_group(msgspec.structs.replace(self.group, rules=(*self.group.rules, *rules)))
        assert self.driver.settle(10)

    def close(self) -> None:
        for guest in self.guests.values():
            guest.close()
        for network in self.networks:
            self.namespaces.remove_namespace(network.id)
        remove = {
            "floating_ip": self.driver.remove_floating_ip, "router": self.driver.remove_router,
            "port": self.driver.remove_port, "subnet": self.driver.remove_subnet, "network": self.driver.remove_network,
            "security_group": self.driver.remove_security_group,
        }  # fmt: skip
        for thing in self.driver.owned():
            remove[thing.kind](thing.id)
        self.driver.close()


@pytest.fixture(scope="module")
def lab() -> Iterator[OvnLab]:
    """One OVN for all claims."""
    with only_one(), tempfile.TemporaryDirectory(prefix="nt-", dir="/tmp") as folder:
        made = OvnLab(Path(folder))
        try:
            made.start()
            yield made
        finally:
            made.stop()


@pytest.fixture
def tenant(lab: OvnLab, tmp_path: Path) -> Iterator[Tenant]:
    """A tenant of its own for each claim."""
    made = Tenant(lab, tmp_path)
    try:
        yield made
    finally:
        made.close()


def test_a_guest_is_given_its_address_by_dhcp(tenant: Tenant) -> None:
    """The lease carries address, MTU, resolver, domain, and routes: metadata, the subnet's own, and the default."""
    guest = tenant.guest("a", 0, 11)
    guest.ip("addr", "flush", "dev", "eth0", "scope", "global")
    lease = guest.lease(tenant.folder)
    assert (lease["ip"], lease["mask"], lease["router"]) == ("10.77.1.11", "24", "10.77.1.1")
    assert (lease["mtu"], lease["dns"], lease["domain"]) == ("1442", "10.77.1.2", "cloud.test")
    assert lease["staticroutes"] == "169.254.169.254/32 10.77.1.2 10.99.0.0/16 10.77.1.9 0.0.0.0/0 10.77.1.1"


def test_a_guest_without_any_rule_still_gets_its_address(tenant: Tenant) -> None:
    """Not even egress is allowed by its group, yet DHCP answers: as the other network back ends do it."""
    guest = tenant.guest("a", 0, 11, security_group_ids=())
    guest.ip("addr", "flush", "dev", "eth0", "scope", "global")
    assert guest.lease(tenant.folder)["ip"] == "10.77.1.11"


def test_a_subnet_without_dhcp_answers_nobody_until_it_is_turned_on(tenant: Tenant) -> None:
    """Turning DHCP off takes the answer away from ports that exist; turning it on gives it back to them."""
    guest = tenant.guest("a", 0, 11)
    off = msgspec.structs.replace(tenant.subnets[0], enable_dhcp=False)
    tenant.driver.ensure_subnet(off)
    assert tenant.driver.settle(10)
    with pytest.raises(RuntimeError):
        guest.lease(tenant.folder)
    tenant.driver.ensure_subnet(tenant.subnets[0])
    assert tenant.driver.settle(10)
    assert guest.lease(tenant.folder)["ip"] == "10.77.1.11"


def test_guests_reach_each_other_in_and_across_networks(tenant: Tenant) -> None:
    """A ping within the network and one across the router are answered; not across a router that lost its interface."""
    a, _, _ = tenant.guest("a", 0, 11), tenant.guest("b", 0, 12), tenant.guest("c", 1, 13)
    assert tenant.driver.settle(10)
    wait_for(lambda: a.pings("10.77.1.12"))
    wait_for(lambda: a.pings("10.77.2.13"))
    tenant.driver.ensure_router(msgspec.structs.replace(tenant.router, interfaces=tenant.router.interfaces[:1]))
    assert tenant.driver.settle(10)
    assert not a.pings("10.77.2.13")
    wait_for(lambda: a.pings("10.77.1.12"))


def test_a_security_group_lets_in_what_its_rules_say(tenant: Tenant) -> None:
    """TCP without a rule is dropped; a rule lets it in at once; without the rule it is dropped again."""
    a, b = tenant.guest("a", 0, 11), tenant.guest("b", 0, 12)
    with listening(b, 22), listening(b, 23):
        wait_for(lambda: a.pings("10.77.1.12"))
        assert not a.connects("10.77.1.12", 22)
        tenant.driver.ensure_security_group_rule(tenant.group.id, SSH)
        assert tenant.driver.settle(10)
        wait_for(lambda: a.connects("10.77.1.12", 22))
        assert not a.connects("10.77.1.12", 23)
        tenant.driver.remove_security_group_rule(tenant.group.id, SSH.id)
        assert tenant.driver.settle(10)
        # the switch has the new rules by now, and drops what it remembers of the old ones a moment later
        wait_for(lambda: not a.connects("10.77.1.12", 22))


def test_a_remote_group_lets_in_its_members_only(tenant: Tenant) -> None:
    """Members of the group named by a rule get in, others do not, and a port that leaves the group is out."""
    web = SecurityGroup(id=new_id(), rules=(SecurityGroupRule(id=new_id(), direction="egress"),))
    tenant.driver.ensure_security_group(web)
    a = tenant.guest("a", 0, 11, security_group_ids=(web.id,))
    b, c = tenant.guest("b", 0, 12), tenant.guest("c", 0, 13)
    tenant.allow(
        SecurityGroupRule(
            id=new_id(),
            direction="ingress",
            protocol="tcp",
            port_range_min=80,
            port_range_max=90,
            remote_group_id=web.id,
        )
    )
    with listening(b, 85):
        wait_for(lambda: a.connects("10.77.1.12", 85))
        assert not c.connects("10.77.1.12", 85)
        tenant.driver.ensure_port(msgspec.structs.replace(tenant.ports["a"], security_group_ids=(tenant.group.id,)))
        assert tenant.driver.settle(10)
        # the switch has the new flows, and revises a moment later what it had cached of the old ones
        wait_for(lambda: not a.connects("10.77.1.12", 85))


def test_a_guest_may_not_use_anothers_address(tenant: Tenant) -> None:
    """A foreign address is dropped at the port; an allowed pair, or port security off, lets it through."""
    a, b = tenant.guest("a", 0, 11), tenant.guest("b", 0, 12)
    wait_for(lambda: a.pings("10.77.1.12"))
    a.ip("addr", "add", "10.77.1.66/24", "dev", "eth0")
    assert not a.pings("10.77.1.12", source="10.77.1.66")
    paired = msgspec.structs.replace(tenant.ports["a"], allowed_address_pairs=(AddressPair(address="10.77.1.66"),))
    tenant.driver.ensure_port(paired)
    assert tenant.driver.settle(10)
    wait_for(lambda: a.pings("10.77.1.12", source="10.77.1.66"))
    tenant.driver.ensure_port(tenant.ports["a"])
    assert tenant.driver.settle(10)
    assert not a.pings("10.77.1.12", source="10.77.1.66")
    free = msgspec.structs.replace(tenant.ports["a"], port_security_enabled=False, security_group_ids=())
    tenant.driver.ensure_port(free)
    assert tenant.driver.settle(10)
    wait_for(lambda: a.pings("10.77.1.12", source="10.77.1.66"))
    wait_for(lambda: b.pings("10.77.1.66"))


def test_a_guest_may_not_use_anothers_mac(tenant: Tenant) -> None:
    """Frames under a MAC that is not the port's are dropped."""
    a, _ = tenant.guest("a", 0, 11), tenant.guest("b", 0, 12)
    wait_for(lambda: a.pings("10.77.1.12"))
    a.ip("link", "set", "eth0", "address", new_mac())
    assert not a.pings("10.77.1.12")


def test_a_disabled_port_passes_nothing(tenant: Tenant) -> None:
    """`admin_up` off stops all traffic, on brings it back."""
    a, _ = tenant.guest("a", 0, 11), tenant.guest("b", 0, 12)
    wait_for(lambda: a.pings("10.77.1.12"))
    tenant.driver.ensure_port(msgspec.structs.replace(tenant.ports["b"], admin_up=False))
    assert tenant.driver.settle(10)
    assert not a.pings("10.77.1.12")
    tenant.driver.ensure_port(tenant.ports["b"])
    wait_for(lambda: a.pings("10.77.1.12"))


def test_a_floating_ip_reaches_its_guest_and_follows_it(tenant: Tenant) -> None:
    """From outside the address answers for its guest, then for the other it was given to, then for nobody."""
    a, b = tenant.guest("a", 0, 11), tenant.guest("b", 1, 12)
    tenant.allow(SSH)
    floating = FloatingIp(
        id=new_id(), external_ip="172.30.77.50", router_id=tenant.router.id, port_id=tenant.ports["a"].id,
        fixed_ip="10.77.1.11",
    )  # fmt: skip
    with listening(a, 22, b"guest a"), listening(b, 22, b"guest b"):
        tenant.driver.ensure_floating_ip(floating)
        wait_for(lambda: said("172.30.77.50", 22) == b"guest a")
        moved = msgspec.structs.replace(floating, port_id=tenant.ports["b"].id, fixed_ip="10.77.2.12")
        tenant.driver.ensure_floating_ip(moved)
        wait_for(lambda: said("172.30.77.50", 22) == b"guest b")
        tenant.driver.remove_floating_ip(floating.id)
        assert tenant.driver.settle(10)
        assert said("172.30.77.50", 22) is None


def test_a_guest_goes_out_under_the_routers_address(tenant: Tenant) -> None:
    """Without a floating IP the outside sees the router's own; with `enable_snat` off nothing comes back."""
    a = tenant.guest("a", 0, 11)
    server = socket.create_server((EXTERNAL_HOST, 8099))
    with serving(server) as callers:
        wait_for(lambda: a.run(said, EXTERNAL_HOST, 8099) == b"here")
        assert set(callers) == {"172.30.77.10"}
        assert tenant.router.gateway is not None
        gateway = msgspec.structs.replace(tenant.router.gateway, enable_snat=False)
        tenant.driver.ensure_router(msgspec.structs.replace(tenant.router, gateway=gateway))
        assert tenant.driver.settle(10)
        assert not a.connects(EXTERNAL_HOST, 8099)


def test_metadata_answers_inside_each_network_by_itself(tenant: Tenant) -> None:
    """Sockets in two networks' namespaces answer at 169.254.169.254, each to its guests, seen by their address."""
    for port in tenant.metadata:
        n = tenant.metadata.index(port) + 1
        made = MetadataPort(network_id=port.network_id, port_id=port.id, mac=port.mac, addresses=(f"10.77.{n}.2/24",))
        tenant.namespaces.ensure_namespace(made)
        tenant.namespaces.ensure_namespace(made)
    assert set(tenant.namespaces.namespaces()) == {network.id for network in tenant.networks}
    a, b = tenant.guest("a", 0, 11), tenant.guest("b", 1, 11)
    for n, guest in ((1, a), (2, b)):
        guest.ip("route", "add", METADATA_ADDRESS, "via", f"10.77.{n}.2")
    sockets = [tenant.namespaces.listen_socket(network.id, METADATA_ADDRESS, 80) for network in tenant.networks]
    with serving(sockets[0], b"blue") as blue, serving(sockets[1], b"green") as green:
        wait_for(lambda: a.run(said, METADATA_ADDRESS, 80) == b"blue")
        wait_for(lambda: b.run(said, METADATA_ADDRESS, 80) == b"green")
        assert (set(blue), set(green)) == ({"10.77.1.11"}, {"10.77.2.11"})


def test_metadata_survives_a_restart_of_vswitchd(tenant: Tenant) -> None:
    """After the switch was killed and started, the same socket answers again, and the port is up as before."""
    port = tenant.metadata[0]
    made = MetadataPort(network_id=port.network_id, port_id=port.id, mac=port.mac, addresses=("10.77.1.2/24",))
    tenant.namespaces.ensure_namespace(made)
    a = tenant.guest("a", 0, 11)
    a.ip("route", "add", METADATA_ADDRESS, "via", "10.77.1.2")
    with serving(tenant.namespaces.listen_socket(port.network_id, METADATA_ADDRESS, 80)):
        wait_for(lambda: a.run(said, METADATA_ADDRESS, 80) == b"here")
        tenant.lab.kill("vswitchd")
        tenant.lab.start_daemon("vswitchd")
        wait_for(lambda: a.run(said, METADATA_ADDRESS, 80) == b"here")
        wait_for(lambda: tenant.driver.port_up(tenant.ports["a"].id))


def test_a_removed_metadata_namespace_leaves_nothing(tenant: Tenant) -> None:
    """Neither namespace nor device nor row is left, and removing again is no error."""
    port = tenant.metadata[0]
    made = MetadataPort(network_id=port.network_id, port_id=port.id, mac=port.mac, addresses=("10.77.1.2/24",))
    tenant.namespaces.ensure_namespace(made)
    for _ in range(2):
        tenant.namespaces.remove_namespace(port.network_id)
    assert tenant.namespaces.namespaces() == ()
    assert f"nt-m{port.network_id}" not in subprocess.check_output(["ip", "netns"], text=True)
    assert not Path(f"/sys/class/net/nt-m{port.network_id[:9]}").exists()


def test_guests_of_an_ipv6_network_make_their_address(tenant: Tenant) -> None:
    """The router advertises the prefix; a guest's own address in it is answered from the other network."""
    interfaces = tuple(
        msgspec.structs.replace(
            foot,
            addresses=(*foot.addresses, InterfaceAddress(address=f"fd77:{n}::1", prefix=64)),
            ipv6_address_mode="slaac",
        )
        for n, foot in enumerate(tenant.router.interfaces, start=1)
    )
    tenant.driver.ensure_router(msgspec.structs.replace(tenant.router, interfaces=interfaces))
    tenant.allow(
        SecurityGroupRule(id=new_id(), direction="egress", ethertype="IPv6"),
        SecurityGroupRule(id=new_id(), direction="ingress", ethertype="IPv6", protocol="ipv6-icmp"),
    )
    guests = []
    for n, name in ((1, "a"), (2, "b")):
        mac = new_mac()
        address = slaac(f"fd77:{n}::", mac)
        fixed_ips = (
            FixedIp(subnet_id=tenant.subnets[n - 1].id, address=f"10.77.{n}.11"),
            FixedIp(subnet_id=new_id(), address=address),
        )
        guests.append((tenant.guest(name, n - 1, 11, mac=mac, fixed_ips=fixed_ips), address))
    for guest, address in guests:
        # Down and up again: it asks for a router once more, now that its port is bound.
        guest.ip("link", "set", "eth0", "down")
        guest.ip("link", "set", "eth0", "up")
        wait_for(lambda guest=guest, address=address: address in usable(guest))  # type: ignore[misc]  # a lambda's defaults
    wait_for(lambda: guests[0][0].pings(guests[1][1]))


def slaac(prefix: str, mac: str) -> str:
    """The address a guest makes of the prefix and its MAC."""
    parts = [int(part, 16) for part in mac.split(":")]
    tail = bytes([parts[0] ^ 2, *parts[1:3], 0xFF, 0xFE, *parts[3:]])
    return str(ipaddress.IPv6Address(int(ipaddress.IPv6Address(prefix)) + int.from_bytes(tail, "big")))


def usable(guest: Guest) -> str:
    """Its IPv6 addresses, without those still looked for elsewhere."""
    return guest.ip("-6", "-o", "addr", "show", "dev", "eth0", "-tentative")


def said(address: str, port: int) -> bytes | None:
    """What a TCP server there says first; None when it cannot be reached within a second and a half."""
    try:
        with socket.create_connection((address, port), timeout=1.5) as sock:
            return sock.recv(100)
    except OSError:
        return None
