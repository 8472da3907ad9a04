"""Security groups over HTTP: a default one for everybody, and rules of which a bad one fails alone."""

from collections.abc import Iterator
from typing import Any

import pytest
from tests.http.network_world import ABSENT, NetworkWorld, refused


@pytest.fixture
def world(database_url: str) -> Iterator[NetworkWorld]:
    """A network service of this test's own."""
    world = NetworkWorld(database_url)
    yield world
    world.close()


def rule(world: NetworkWorld, group_id: str, **attributes: object) -> Any:
    """Ask for a rule that lets in."""
    body = {"security_group_id": group_id, "direction": "ingress", **attributes}
    return world.member.post("/v2.0/security-group-rules", {"security_group_rule": body})


def test_each_project_has_a_default_group_on_first_use(world: NetworkWorld) -> None:
    """Even a reader's look makes it: out to all, in from itself; and it is made once."""
    (group,) = world.listed("security-groups", world.reader)
    assert group["name"] == "default"
    rules = {(r["direction"], r["ethertype"], r["remote_group_id"]) for r in group["security_group_rules"]}
    assert rules == {
        ("egress", "IPv4", None),
        ("egress", "IPv6", None),
        ("ingress", "IPv4", group["id"]),
        ("ingress", "IPv6", group["id"]),
    }
    assert all(r["belongs_to_default_sg"] for r in group["security_group_rules"])
    assert [g["id"] for g in world.listed("security-groups")] == [group["id"]]
    assert [g["id"] for g in world.listed("security-groups", world.other)] != [group["id"]]
    assert len(world.driver.security_groups[group["id"]].rules) == 4


def test_the_default_group_keeps_its_name_and_place(world: NetworkWorld) -> None:
    """No second one, no other name, no deletion but by an admin."""
    (group,) = world.listed("security-groups")
    path = f"/v2.0/security-groups/{group['id']}"
    for name in ("default", "DEFAULT"):
        body = {"security_group": {"name": name}}
        refused(world.member.post("/v2.0/security-groups", body), 409, "SecurityGroupDefaultAlreadyExists")
    refused(world.member.put(path, {"security_group": {"name": "mine"}}), 409, "SecurityGroupCannotUpdateDefault")
    assert world.member.put(path, {"security_group": {"description": "ok"}}).status == 200
    refused(world.member.delete(path), 409, "SecurityGroupCannotRemoveDefault")
    assert world.admin.delete(path).status == 204
    assert world.listed("security-groups")[0]["id"] != group["id"]


def test_a_rule_reaches_the_data_plane_and_leaves_it(world: NetworkWorld) -> None:
    """What is kept is what the data plane gets, with the network of its prefix; the group's revision rises."""
    group = world.made("security_group", name="web")
    made = rule(
        world, group["id"], protocol="TCP", port_range_min="80", port_range_max=81, remote_ip_prefix="10.1.2.3/24"
    )
    one = made.json["security_group_rule"]
    assert (one["protocol"], one["port_range_min"], one["port_range_max"]) == ("tcp", 80, 81)
    assert (one["remote_ip_prefix"], one["normalized_cidr"], one["ethertype"]) == ("10.1.2.3/24", "10.1.2.0/24", "IPv4")
    told = {r.id: r for r in world.driver.security_groups[group["id"]].rules}
    assert told[one["id"]].remote_ip_prefix == "10.1.2.0/24"
    assert world.show(f"security-groups/{group['id']}")["revision_number"] > group["revision_number"]
    assert world.member.delete(f"/v2.0/security-group-rules/{one['id']}").status == 204
    assert one["id"] not in {r.id for r in world.driver.security_groups[group["id"]].rules}
    refused(world.member.get(f"/v2.0/security-group-rules/{one['id']}"), 404, "SecurityGroupRuleNotFound")


@pytest.mark.parametrize(
    ("attributes", "status", "kind", "words"),
    [
        ({"protocol": "bogus"}, 400, "SecurityGroupRuleInvalidProtocol", "not supported"),
        ({"protocol": 256}, 400, "SecurityGroupRuleInvalidProtocol", "not supported"),
        ({"ethertype": "IPv5"}, 400, "SecurityGroupRuleInvalidEtherType", "not supported"),
        ({"direction": "sideways"}, 400, "HTTPBadRequest", "direction"),
        ({"protocol": "tcp", "port_range_min": -16, "port_range_max": 80}, 400, "SecurityGroupInvalidPortValue", "-16"),
        (
            {"protocol": "tcp", "port_range_min": 80, "port_range_max": 65536},
            400,
            "SecurityGroupInvalidPortValue",
            "65536",
        ),
        (
            {"protocol": "tcp", "port_range_min": 80, "port_range_max": 79},
            400,
            "SecurityGroupInvalidPortRange",
            "port_range_min must be <= port_range_max",
        ),
        (
            {"protocol": "tcp", "port_range_max": 6},
            400,
            "SecurityGroupInvalidPortRange",
            "port_range_min must be <= port_range_max",
        ),
        ({"protocol": "udp", "port_range_min": 0, "port_range_max": 5}, 400, "SecurityGroupInvalidPortValue", "0"),
        ({"port_range_min": 5, "port_range_max": 5}, 400, "SecurityGroupProtocolRequiredWithPorts", "protocol"),
        (
            {"protocol": "esp", "port_range_min": 5, "port_range_max": 5},
            400,
            "SecurityGroupInvalidProtocolForPort",
            "50",
        ),
        (
            {"protocol": "icmp", "port_range_min": 1, "port_range_max": 256},
            400,
            "SecurityGroupInvalidIcmpValue",
            "Invalid value for ICMP code",
        ),
        (
            {"protocol": "icmp", "port_range_min": 300, "port_range_max": 1},
            400,
            "SecurityGroupInvalidIcmpValue",
            "Invalid value for ICMP type",
        ),
        (
            {"protocol": "icmp", "port_range_max": 6},
            400,
            "SecurityGroupMissingIcmpType",
            "ICMP type (port-range-min) is missing",
        ),
        ({"protocol": "ipv6-icmp"}, 400, "SecurityGroupEthertypeConflictWithProtocol", "IPv4"),
        ({"remote_ip_prefix": "192.168.1./24"}, 400, "HTTPBadRequest", "remote_ip_prefix"),
        ({"remote_ip_prefix": "192.168.1.1/33"}, 400, "HTTPBadRequest", "remote_ip_prefix"),
        (
            {"remote_ip_prefix": "2001:db8::/48"},
            400,
            "SecurityGroupRuleParameterConflict",
            "Conflicting value ethertype",
        ),
        ({"remote_group_id": ABSENT}, 404, "SecurityGroupNotFound", ABSENT),
        ({"remote_group_id": "bad"}, 404, "SecurityGroupNotFound", "bad"),
        (
            {"remote_group_id": "own", "remote_ip_prefix": "10.0.0.0/8"},
            400,
            "SecurityGroupMultipleRemoteEntites",
            "Only one",
        ),
        ({"security_group_id": ABSENT}, 404, "SecurityGroupNotFound", ABSENT),
        ({"colour": "red"}, 400, "HTTPBadRequest", "colour"),
    ],
    ids=str,
)
def test_a_rule_that_makes_no_sense_is_refused(
    world: NetworkWorld, attributes: dict[str, Any], status: int, kind: str, words: str
) -> None:
    """Each wrong combination has the reference's name and words, keeps no rule, and never reaches the data plane."""
    group = world.made("security_group", name="web")
    if attributes.get("remote_group_id") == "own":
        attributes = {**attributes, "remote_group_id": group["id"]}
    told = world.driver.security_groups[group["id"]]
    assert words in refused(rule(world, group["id"], **attributes), status, kind)
    assert len(world.show(f"security-groups/{group['id']}")["security_group_rules"]) == 2
    assert world.driver.security_groups[group["id"]] == told


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"protocol": 17}, {"protocol": "17"}),
        ({"protocol": "any"}, {"protocol": None}),
        ({"protocol": "icmp", "ethertype": "ipv6"}, {"protocol": "ipv6-icmp", "ethertype": "IPv6"}),
        ({"protocol": "1", "ethertype": "IPv6"}, {"protocol": "58"}),
        ({"protocol": "icmp", "port_range_min": 8}, {"port_range_min": 8, "port_range_max": None}),
        ({"protocol": "icmp", "port_range_min": 0, "port_range_max": 0}, {"port_range_min": 0, "port_range_max": 0}),
        (
            {"protocol": "tcp", "port_range_min": 1, "port_range_max": 65535},
            {"port_range_min": None, "port_range_max": None},
        ),
        ({"remote_ip_prefix": "10.0.0.9"}, {"remote_ip_prefix": "10.0.0.9/32"}),
        ({"remote_ip_prefix": ""}, {"remote_ip_prefix": None}),
    ],
    ids=str,
)
def test_a_rule_is_kept_in_its_plain_form(
    world: NetworkWorld, given: dict[str, object], kept: dict[str, object]
) -> None:
    """Numbers, old names, all ports and bare addresses are kept as the reference keeps them."""
    group = world.made("security_group", name="web")
    one = rule(world, group["id"], **given).json["security_group_rule"]
    assert {key: one[key] for key in kept} == kept


def test_the_same_rule_twice_is_refused(world: NetworkWorld) -> None:
    """Also in other words: a number for a name, an everywhere for nothing; in one request as well."""
    group = world.made("security_group", name="web")["id"]
    first = rule(world, group, protocol="tcp", port_range_min=22, port_range_max=22).json["security_group_rule"]["id"]
    for protocol, prefix in (("6", None), ("tcp", "0.0.0.0/0")):
        answer = rule(world, group, protocol=protocol, port_range_min=22, port_range_max=22, remote_ip_prefix=prefix)
        assert first in refused(answer, 409, "SecurityGroupRuleExists")
    twice = [{"security_group_id": group, "direction": "ingress", "protocol": "udp"}] * 2
    many = {"security_group_rules": twice}
    refused(world.member.post("/v2.0/security-group-rules", many), 409, "DuplicateSecurityGroupRuleInPost")
    assert len(world.listed(f"security-group-rules?security_group_id={group}")) == 3


def test_many_rules_are_kept_or_none(world: NetworkWorld) -> None:
    """A list of rules of one group is kept whole; with one bad rule, or of two groups, nothing is."""
    group = world.made("security_group", name="web")["id"]
    other = world.made("security_group", name="db")["id"]

    def many(*rules: dict[str, object]) -> Any:
        body = [{"security_group_id": group, "direction": "ingress", **one} for one in rules]
        return world.member.post("/v2.0/security-group-rules", {"security_group_rules": body})

    assert len(many({"protocol": "tcp"}, {"protocol": "udp"}).json["security_group_rules"]) == 2
    refused(many({"protocol": "sctp"}, {"protocol": "x"}), 400, "SecurityGroupRuleInvalidProtocol")
    refused(many({"protocol": "sctp"}, {"security_group_id": other}), 400, "SecurityGroupNotSingleGroupRules")
    assert world.listed(f"security-group-rules?security_group_id={group}&protocol=sctp") == []


def test_a_group_that_goes_takes_the_rules_that_let_it_in(world: NetworkWorld) -> None:
    """Rules of other groups that name it as the remote side go too, from the data plane as well."""
    web = world.made("security_group", name="web")["id"]
    db = world.made("security_group", name="db")["id"]
    rule(world, db, protocol="tcp", remote_group_id=web)
    assert world.member.delete(f"/v2.0/security-groups/{web}").status == 204
    assert [r["direction"] for r in world.show(f"security-groups/{db}")["security_group_rules"]] == ["egress", "egress"]
    assert len(world.driver.security_groups[db].rules) == 2
    assert web not in world.driver.security_groups


def test_groups_are_their_projects_unless_shown(world: NetworkWorld) -> None:
    """Strangers find neither group nor rule; an RBAC policy lets another project use the group and not change it."""
    group = world.made("security_group", name="web")
    rule_id = group["security_group_rules"][0]["id"]
    path = f"/v2.0/security-groups/{group['id']}"
    for answer in (
        world.other.get(path),
        world.other.delete(path),
        world.other.get(f"/v2.0/security-group-rules/{rule_id}"),
        world.other.delete(f"/v2.0/security-group-rules/{rule_id}"),
    ):
        assert answer.status == 404
    policy = {"object_type": "security_group", "object_id": group["id"], "action": "access_as_shared"}
    body = {"rbac_policy": {**policy, "target_tenant": "2" * 32}}
    assert world.member.post("/v2.0/rbac-policies", body).status == 201
    assert world.show(f"security-groups/{group['id']}", world.other)["shared"] is True
    assert world.other.put(path, {"security_group": {"name": "x"}}).status == 403
    network = world.network(world.other)
    port = world.made("port", world.other, network_id=network["id"], security_groups=[group["id"]])
    assert port["security_groups"] == [group["id"]]


def test_statefulness_changes_only_without_ports(world: NetworkWorld) -> None:
    """A group with a port in it stays stateful or stateless as it is."""
    group = world.made("security_group", name="web")["id"]
    path, change = f"/v2.0/security-groups/{group}", {"security_group": {"stateful": False}}
    port = world.made("port", network_id=world.network()["id"], security_groups=[group])
    refused(world.member.put(path, change), 409, "SecurityGroupInUse")
    world.member.delete(f"/v2.0/ports/{port['id']}")
    assert world.member.put(path, change).json["security_group"]["stateful"] is False
    assert world.driver.security_groups[group].stateful is False
