"""The words the OVN driver writes: matches of rules, DHCP options, addresses of ports.  Needs no OVN."""

from __future__ import annotations

import pytest

from cumulet.network.drivers import ovn_acl, ovn_dhcp, ovn_port
from cumulet.network.drivers.driver import (
    AddressPair,
    DhcpOption,
    FixedIp,
    HostRoute,
    NetworkRefused,
    Port,
    SecurityGroupRule,
    Subnet,
)

GROUP = "0a1b2c3d-1111-4222-8333-444455556666"


def rule(direction: str = "ingress", **more: object) -> SecurityGroupRule:
    """A rule with an id that does not matter."""
    return SecurityGroupRule(id="r1", direction=direction, **more)  # type: ignore[arg-type]  # the test's own words


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (rule(), "outport == @pg_x && ip4"),
        (rule("egress", ethertype="IPv6"), "inport == @pg_x && ip6"),
        (rule(protocol="tcp", port_range_min=22, port_range_max=22), "outport == @pg_x && ip4 && tcp && tcp.dst == 22"),
        (
            rule(protocol="17", port_range_min=5, port_range_max=9),
            "outport == @pg_x && ip4 && udp && udp.dst >= 5 && udp.dst <= 9",
        ),
        (rule(protocol="tcp", port_range_min=1, port_range_max=65535), "outport == @pg_x && ip4 && tcp"),
        (
            rule(protocol="icmp", port_range_min=8, port_range_max=0),
            "outport == @pg_x && ip4 && icmp4 && icmp4.type == 8 && icmp4.code == 0",
        ),
        (rule(protocol="ipv6-icmp", ethertype="IPv6"), "outport == @pg_x && ip6 && icmp6"),
        (rule(protocol="vrrp"), "outport == @pg_x && ip4 && ip.proto == 112"),
        (rule(protocol="112"), "outport == @pg_x && ip4 && ip.proto == 112"),
        (rule(protocol="any"), "outport == @pg_x && ip4"),
        (rule(remote_ip_prefix="10.0.0.7/8"), "outport == @pg_x && ip4 && ip4.src == 10.0.0.0/8"),
        (rule("egress", remote_ip_prefix="10.1.2.3"), "inport == @pg_x && ip4 && ip4.dst == 10.1.2.3/32"),
        (
            rule(remote_group_id=GROUP, ethertype="IPv6"),
            "outport == @pg_x && ip6 && ip6.src == $pg_0a1b2c3d_1111_4222_8333_444455556666_ip6",
        ),
    ],
)
def test_a_rule_in_ovns_words(given: SecurityGroupRule, expected: str) -> None:
    """Each field of a rule becomes one term; ingress filters towards the port, egress from it."""
    assert ovn_acl._match("pg_x", given) == expected


@pytest.mark.parametrize(
    "given",
    [
        rule(remote_ip_prefix="10.0.0.0/8 || ip4"),
        rule(remote_ip_prefix="::/0"),
        rule(protocol="tcp && udp"),
    ],
)
def test_a_rule_that_is_none_is_refused(given: SecurityGroupRule) -> None:
    """Words that OVN would read as its own never reach it."""
    with pytest.raises(NetworkRefused):
        ovn_acl._match("pg_x", given)


def subnet(**more: object) -> Subnet:
    """A small IPv4 subnet."""
    return Subnet(id="s1", network_id="n1", cidr="10.0.1.0/24", **more)  # type: ignore[arg-type]  # the test's own words


def test_dhcp_tells_all_routes_together() -> None:
    """A client that is given option 121 ignores the router option, so the default route stands there too."""
    options = ovn_dhcp._options(
        subnet(
            gateway_ip="10.0.1.1",
            metadata_address="10.0.1.2",
            dns_nameservers=("10.0.1.2", "9.9.9.9"),
            dns_domain="cloud.test.",
            host_routes=(HostRoute(destination="10.9.0.0/16", nexthop="10.0.1.7"),),
            mtu=1400,
        )
    )
    assert options is not None
    assert options.pop("server_mac").startswith("fa:16:3e:")
    assert options == {
        "server_id": "10.0.1.1",
        "lease_time": "43200",
        "mtu": "1400",
        "router": "10.0.1.1",
        "dns_server": "{10.0.1.2, 9.9.9.9}",
        "domain_name": '"cloud.test"',
        "classless_static_route": "{169.254.169.254/32,10.0.1.2, 10.9.0.0/16,10.0.1.7, 0.0.0.0/0,10.0.1.1}",
    }


def test_dhcp_without_a_gateway_speaks_from_the_metadata_address() -> None:
    """An isolated network still gets addresses and its way to metadata, but no default route."""
    options = ovn_dhcp._options(subnet(metadata_address="10.0.1.2"))
    assert options is not None
    assert options["server_id"] == "10.0.1.2"
    assert options["classless_static_route"] == "{169.254.169.254/32,10.0.1.2}"
    assert "router" not in options


@pytest.mark.parametrize(
    "given",
    [
        subnet(gateway_ip="10.0.1.1", enable_dhcp=False),
        subnet(),
        Subnet(id="s1", network_id="n1", cidr="fd00::/64", ip_version=6, ipv6_address_mode="slaac"),
    ],
)
def test_a_subnet_that_gives_no_addresses_has_no_options(given: Subnet) -> None:
    """DHCP off, no address to answer from, or guests that make their own."""
    assert ovn_dhcp._options(given) is None


def test_a_ports_own_options_by_name_or_number() -> None:
    """Dnsmasq's names and numbers become OVN's; text is quoted; unknown ones and the other version's are left out."""
    options = (
        DhcpOption(name="mtu", value="1300"),
        DhcpOption(name="67", value='boot "me"'),
        DhcpOption(name="dns-server", value="1.1.1.1,9.9.9.9"),
        DhcpOption(name="tftp-server", value="10.0.0.9"),
        DhcpOption(name="no-such-option", value="1"),
        DhcpOption(name="dns-server", value="fd00::1", ip_version=6),
    )
    assert ovn_dhcp._extra(options, 4) == {
        "mtu": "1300",
        "bootfile_name": '"boot \\"me\\""',
        "dns_server": "{1.1.1.1, 9.9.9.9}",
        "tftp_server": '"10.0.0.9"',
    }
    assert ovn_dhcp._extra((DhcpOption(name="dhcp_disabled", value="true"),), 4) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [("mtu", '1300); outport = "x"; output('), ("router", "10.0.0.1)"), ("hostname", "a\nb"), ("6", "{1.1.1.1)}")],
)
def test_an_option_that_is_no_value_is_refused(name: str, value: str) -> None:
    """What would end OVN's sentence never gets into it."""
    with pytest.raises(NetworkRefused):
        ovn_dhcp._extra((DhcpOption(name=name, value=value),), 4)


def port(**more: object) -> Port:
    """A guest's port."""
    fixed_ips = (FixedIp(subnet_id="s1", address="10.0.1.5"),)
    return Port(id="p1", network_id="n1", mac="fa:16:3e:00:00:01", fixed_ips=fixed_ips, **more)  # type: ignore[arg-type]


def test_a_secured_port_may_send_as_itself_and_its_pairs() -> None:
    """Pairs with the port's own MAC join its line, others have a line of their own; the group of drops is joined."""
    pairs = (AddressPair(address="10.0.1.6"), AddressPair(address="10.0.9.0/24", mac="fa:16:3e:00:00:02"))
    given = port(allowed_address_pairs=pairs, security_group_ids=(GROUP,), binding_host="h1")
    assert ovn_port._kind(given) == {
        "type": "",
        "addresses": ["fa:16:3e:00:00:01 10.0.1.5", "fa:16:3e:00:00:02"],
        "port_security": ["fa:16:3e:00:00:01 10.0.1.5 10.0.1.6", "fa:16:3e:00:00:02 10.0.9.0/24"],
        "options": {"requested-chassis": "h1"},
    }
    assert ovn_port._groups(given) == {"neutron_pg_drop", "pg_0a1b2c3d_1111_4222_8333_444455556666"}


def test_an_unsecured_port_receives_everything() -> None:
    """Any address may be behind it, and no group filters it."""
    given = port(port_security_enabled=False)
    assert ovn_port._kind(given)["addresses"] == ["fa:16:3e:00:00:01 10.0.1.5", "unknown"]
    assert ovn_port._kind(given)["port_security"] == []
    assert ovn_port._groups(given) == set()


@pytest.mark.parametrize(
    ("owner", "kind"),
    [
        ("network:distributed", "localport"),
        ("network:router_interface", "router"),
        ("network:router_gateway", "router"),
        ("compute:nova", ""),
        ("", ""),
    ],
)
def test_the_owner_of_a_port_says_what_it_is(owner: str, kind: str) -> None:
    """The network's own ports are trusted: neither anti-spoofing nor groups."""
    given = port(device_owner=owner)
    assert ovn_port._kind(given)["type"] == kind
    assert bool(ovn_port._groups(given)) == (kind == "")
