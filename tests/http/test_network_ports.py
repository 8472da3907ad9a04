"""Ports over HTTP: addresses without leaks, one bad attribute that fails alone, and a binding that takes a service."""

from collections.abc import Iterator
from typing import Any

import pytest
from tests.http.harness import OTHER_PROJECT, PROJECT
from tests.http.network_world import ABSENT, HOST, NetworkWorld, refused

from cumulet.core.db import Tx


@pytest.fixture
def world(database_url: str) -> Iterator[NetworkWorld]:
    """A network service of this test's own."""
    world = NetworkWorld(database_url)
    yield world
    world.close()


@pytest.fixture
def network(world: NetworkWorld) -> dict[str, Any]:
    """A network with the subnet 10.0.0.0/24."""
    network = world.network()
    network["subnet"] = world.subnet(network["id"], "10.0.0.0/24")
    return network


def attempt(world: NetworkWorld, network: dict[str, Any], **attributes: object) -> Any:
    """Ask for a port."""
    return world.member.post("/v2.0/ports", {"port": {"network_id": network["id"], **attributes}})


def test_a_new_port_has_address_mac_and_default_group(world: NetworkWorld, network: dict[str, Any]) -> None:
    """What it did not ask for is chosen: an address of the pool, a MAC of the cloud's prefix, the default group."""
    port = world.made("port", network_id=network["id"], name="p", dns_name="web")
    assert port["status"] == "DOWN"
    assert port["mac_address"].startswith("fa:16:3e:")
    (fixed,) = port["fixed_ips"]
    assert fixed["subnet_id"] == network["subnet"]["id"]
    (group,) = world.listed("security-groups")
    assert port["security_groups"] == [group["id"]]
    assert port["dns_assignment"] == [
        {"ip_address": fixed["ip_address"], "hostname": "web", "fqdn": "web.openstacklocal."}
    ]
    assert "binding:host_id" not in port
    assert port["binding:vnic_type"] == "normal"
    told = world.driver.ports[port["id"]]
    assert [ip.address for ip in told.fixed_ips] == [fixed["ip_address"]]
    assert told.security_group_ids == (group["id"],)


def test_a_port_on_a_network_without_subnets_has_no_address(world: NetworkWorld) -> None:
    """It is made all the same; asking it for an address is 400."""
    bare = world.network()
    assert world.made("port", network_id=bare["id"])["fixed_ips"] == []
    refused(attempt(world, bare, fixed_ips=[{"ip_address": "10.0.0.9"}]), 400, "InvalidInput")


def test_every_address_is_given_once_and_comes_back(world: NetworkWorld) -> None:
    """A small subnet gives each of its addresses to one port, then 409; what is deleted can be given again."""
    small = world.network()
    world.subnet(small["id"], "10.3.0.0/29", enable_dhcp=False)
    ports = [world.made("port", network_id=small["id"]) for _ in range(5)]
    given = {port["fixed_ips"][0]["ip_address"] for port in ports}
    assert given == {f"10.3.0.{n}" for n in range(2, 7)}
    refused(attempt(world, small), 409, "IpAddressGenerationFailure")
    assert len(world.addresses(small["id"])) == 5
    world.member.delete(f"/v2.0/ports/{ports[2]['id']}")
    assert world.made("port", network_id=small["id"])["fixed_ips"] == ports[2]["fixed_ips"]


@pytest.mark.parametrize(
    ("fixed_ips", "status", "kind"),
    [
        ([{"ip_address": "10.0.0.2"}], 409, "IpAddressAlreadyAllocated"),
        ([{"ip_address": "10.9.0.2"}], 400, "InvalidIpForNetwork"),
        ([{"subnet_id": "own", "ip_address": "10.9.0.2"}], 400, "InvalidIpForSubnet"),
        ([{"subnet_id": "own", "ip_address": "10.0.0.255"}], 400, "InvalidIpForSubnet"),
        ([{"ip_address": "10.0.0.0"}], 400, "InvalidIpForNetwork"),
        ([{"subnet_id": ABSENT}], 404, "SubnetNotFound"),
        ([{"subnet_id": "other"}], 400, "InvalidInput"),
        ([{"ip_address": "10.0.0.9"}, {"ip_address": "10.0.0.9"}], 400, "HTTPBadRequest"),
        ([{"ip": "10.0.0.9"}], 400, "HTTPBadRequest"),
        ([{"ip_address": "x"}], 400, "HTTPBadRequest"),
        ([{}], 400, "InvalidInput"),
        ([{"subnet_id": "own"}] * 17, 400, "InvalidInput"),
    ],
    ids=str,
)
def test_an_address_that_cannot_be_had_is_refused(
    world: NetworkWorld, network: dict[str, Any], fixed_ips: list[dict[str, str]], status: int, kind: str
) -> None:
    """In use, outside, edge, unknown, doubled: each has its own name, and leaves no port and no address behind."""
    other = world.subnet(world.network()["id"], "10.9.0.0/24")
    names = {"own": network["subnet"]["id"], "other": other["id"]}
    wanted = [
        {**ip, "subnet_id": names.get(ip["subnet_id"], ip["subnet_id"])} if "subnet_id" in ip else ip
        for ip in fixed_ips
    ]
    before = world.addresses(network["id"])
    refused(attempt(world, network, fixed_ips=wanted), status, kind)
    assert world.addresses(network["id"]) == before
    assert len(world.listed(f"ports?network_id={network['id']}")) == 1  # the metadata port


def test_addresses_change_and_those_still_wanted_stay(world: NetworkWorld, network: dict[str, Any]) -> None:
    """An update keeps the addresses it names, by address or by subnet, adds new ones and gives back the rest."""
    second = world.subnet(network["id"], "10.0.1.0/24")
    port = world.made("port", network_id=network["id"], fixed_ips=[{"ip_address": "10.0.0.50"}])
    path = f"/v2.0/ports/{port['id']}"
    both = [{"subnet_id": network["subnet"]["id"]}, {"subnet_id": second["id"], "ip_address": "10.0.1.60"}]
    changed = world.member.put(path, {"port": {"fixed_ips": both}}).json["port"]
    assert [ip["ip_address"] for ip in changed["fixed_ips"]] == ["10.0.0.50", "10.0.1.60"]
    left = world.member.put(path, {"port": {"fixed_ips": [{"ip_address": "10.0.1.60"}]}}).json["port"]
    assert [ip["ip_address"] for ip in left["fixed_ips"]] == ["10.0.1.60"]
    assert "10.0.0.50" not in world.addresses(network["id"])
    assert [ip.address for ip in world.driver.ports[port["id"]].fixed_ips] == ["10.0.1.60"]


def test_a_mac_is_used_once_on_a_network(world: NetworkWorld, network: dict[str, Any]) -> None:
    """A second port with it is 409, on another network it is fine; multicast and ill-formed ones are 400."""
    mac = "fa:16:3e:11:22:33"
    assert world.made("port", network_id=network["id"], mac_address=mac)["mac_address"] == mac
    refused(attempt(world, network, mac_address=mac.upper()), 409, "MacAddressInUse")
    world.made("port", network_id=world.network()["id"], mac_address=mac)
    for wrong in ("01:00:5e:00:00:01", "00:00:00:00:00:00", "fa:16:3e", "x"):
        refused(attempt(world, network, mac_address=wrong), 400, "HTTPBadRequest")


def test_many_ports_are_made_at_once_or_none(world: NetworkWorld, network: dict[str, Any]) -> None:
    """A bulk request gives each its own address; one that cannot be had and there is none of them."""
    body = {"ports": [{"network_id": network["id"], "name": f"p{n}", "tags": ["bulk"]} for n in range(20)]}
    ports = world.member.post("/v2.0/ports", body).json["ports"]
    assert len({port["fixed_ips"][0]["ip_address"] for port in ports}) == 20
    assert all(port["tags"] == ["bulk"] for port in ports)
    before = world.addresses(network["id"])
    bad = {
        "ports": [
            {"network_id": network["id"]},
            {"network_id": network["id"], "fixed_ips": [{"ip_address": "10.0.0.2"}]},
        ]
    }
    refused(world.member.post("/v2.0/ports", bad), 409, "IpAddressAlreadyAllocated")
    assert world.addresses(network["id"]) == before


def test_groups_of_a_port_are_its_projects_and_of_one_kind(world: NetworkWorld, network: dict[str, Any]) -> None:
    """An unknown or foreign group is 404, stateful with stateless is 409, and none at all is fine."""
    foreign = world.made("security_group", world.other, name="theirs")["id"]
    for id in (ABSENT, foreign):
        refused(attempt(world, network, security_groups=[id]), 404, "SecurityGroupNotFound")
    loose = world.made("security_group", name="loose", stateful=False)["id"]
    strict = world.made("security_group", name="strict")["id"]
    refused(attempt(world, network, security_groups=[loose, strict]), 409, "SecurityGroupConflict")
    port = world.made("port", network_id=network["id"], security_groups=[])
    assert port["security_groups"] == []
    changed = world.member.put(f"/v2.0/ports/{port['id']}", {"port": {"security_groups": [strict]}}).json["port"]
    assert changed["security_groups"] == [strict]
    refused(world.member.delete(f"/v2.0/security-groups/{strict}"), 409, "SecurityGroupInUse")
    assert [p["id"] for p in world.listed(f"ports?security_groups={strict}")] == [port["id"]]


def test_port_security_and_what_hangs_on_it(world: NetworkWorld, network: dict[str, Any]) -> None:
    """Without port security there are no groups and no address pairs, on creation and on change."""
    bare = world.made("port", network_id=network["id"], port_security_enabled=False)
    assert bare["security_groups"] == []
    (group,) = world.listed("security-groups?name=default")
    refused(
        attempt(world, network, port_security_enabled=False, security_groups=[group["id"]]),
        400,
        "PortSecurityAndIPRequiredForSecurityGroups",
    )
    pair = [{"ip_address": "10.0.0.77"}]
    refused(
        attempt(world, network, port_security_enabled=False, allowed_address_pairs=pair),
        409,
        "AddressPairAndPortSecurityRequired",
    )
    port = world.made("port", network_id=network["id"], allowed_address_pairs=pair)
    assert port["allowed_address_pairs"] == [{"ip_address": "10.0.0.77", "mac_address": port["mac_address"]}]
    path = f"/v2.0/ports/{port['id']}"
    refused(world.member.put(path, {"port": {"port_security_enabled": False}}), 409, "PortSecurityPortHasSecurityGroup")
    change = {"port_security_enabled": False, "security_groups": [], "allowed_address_pairs": []}
    assert world.member.put(path, {"port": change}).json["port"]["port_security_enabled"] is False
    assert world.driver.ports[port["id"]].port_security_enabled is False


@pytest.mark.parametrize(
    ("attribute", "value", "kind"),
    [
        ("allowed_address_pairs", [{"mac_address": "fa:16:3e:00:00:01"}], "HTTPBadRequest"),
        ("allowed_address_pairs", [{"ip_address": "x"}], "HTTPBadRequest"),
        ("allowed_address_pairs", [{"ip_address": "10.0.0.9"}] * 2, "DuplicateAddressPairInRequest"),
        ("allowed_address_pairs", [{"ip_address": f"10.0.0.{n}"} for n in range(11)], "AllowedAddressPairExhausted"),
        ("extra_dhcp_opts", [{"opt_name": "tftp\ndhcp-script=x", "opt_value": "1"}], "HTTPBadRequest"),
        ("extra_dhcp_opts", [{"opt_name": "mtu", "opt_value": "1\n2"}], "HTTPBadRequest"),
        ("extra_dhcp_opts", [{"opt_value": "1"}], "HTTPBadRequest"),
        ("extra_dhcp_opts", [{"opt_name": "mtu", "opt_value": "1", "ip_version": 5}], "HTTPBadRequest"),
        ("binding:vnic_type", "imaginary", "HTTPBadRequest"),
        ("dns_name", "not a name", "HTTPBadRequest"),
        ("security_groups", ["x"], "HTTPBadRequest"),
        ("device_id", 5, "HTTPBadRequest"),
    ],
    ids=str,
)
def test_an_attribute_that_makes_no_sense_is_refused(
    world: NetworkWorld, network: dict[str, Any], attribute: str, value: object, kind: str
) -> None:
    """It is refused by name, and the data plane never hears of it."""
    calls = list(world.driver.calls)
    words = refused(attempt(world, network, **{attribute: value}), 400, kind)
    assert attribute in words or kind != "HTTPBadRequest"
    assert world.driver.calls == calls or world.driver.calls[len(calls) :] == ["ensure_security_group"]


def test_dhcp_options_merge(world: NetworkWorld, network: dict[str, Any]) -> None:
    """An update sets the options it names, None takes one away, and the others stay."""
    options = [{"opt_name": "bootfile-name", "opt_value": "a"}, {"opt_name": "tftp-server", "opt_value": "b"}]
    port = world.made("port", network_id=network["id"], extra_dhcp_opts=options)
    change = [{"opt_name": "bootfile-name", "opt_value": "c"}, {"opt_name": "tftp-server", "opt_value": None}]
    changed = world.member.put(f"/v2.0/ports/{port['id']}", {"port": {"extra_dhcp_opts": change}}).json["port"]
    assert changed["extra_dhcp_opts"] == [{"opt_name": "bootfile-name", "opt_value": "c", "ip_version": 4}]


def test_only_a_service_says_where_a_port_is(world: NetworkWorld, network: dict[str, Any]) -> None:
    """The tenant alone may neither set nor see the binding; with a service token it may, for its own port only."""
    bind = {"port": {"binding:host_id": HOST, "device_owner": "compute:nova", "device_id": "server"}}
    port = world.made("port", network_id=network["id"])
    path = f"/v2.0/ports/{port['id']}"
    refused(world.member.put(path, bind), 403, "PolicyNotAuthorized")
    token = {"x-service-token": "service"}
    bound = world.member.put(path, bind, headers=token).json["port"]
    assert (bound["binding:host_id"], bound["binding:vif_type"]) == (HOST, "ovs")
    assert bound["binding:vif_details"]["port_filter"] is True
    assert "binding:host_id" not in world.show(f"ports/{port['id']}")
    # a service token does not open what the user's own may not reach
    assert world.other.put(path, bind, headers=token).status == 404
    assert world.other.get(path, headers=token).status == 404


def test_a_service_acts_for_a_project(world: NetworkWorld, network: dict[str, Any]) -> None:
    """With the service role a port is made for its owner, who sees it; with its own groups, not the service's."""
    body = {"network_id": network["id"], "project_id": PROJECT, "binding:host_id": HOST, "binding:profile": {"a": 1}}
    port = world.agent.post("/v2.0/ports", {"port": body}).json["port"]
    assert port["binding:profile"] == {"a": 1}
    assert world.show(f"ports/{port['id']}")["project_id"] == PROJECT
    (group,) = world.listed("security-groups?name=default")
    assert port["security_groups"] == [group["id"]]


def test_a_servers_port_is_not_its_owners_to_delete(world: NetworkWorld, network: dict[str, Any]) -> None:
    """While a server has it, the owner alone may not; compute, with a service token beside the user's, may."""
    port = world.made("port", network_id=network["id"], device_owner="compute:nova", device_id="server")
    path = f"/v2.0/ports/{port['id']}"
    refused(world.member.delete(path), 403, "PolicyNotAuthorized")
    assert world.member.delete(path, headers={"x-service-token": "service"}).status == 204
    assert port["id"] not in world.driver.ports
    refused(world.member.delete(path), 404, "PortNotFound")


def test_on_a_shared_network_a_guest_takes_what_it_is_given(world: NetworkWorld) -> None:
    """A tenant makes ports on a shared network, but chooses neither MAC nor address nor turns off port security."""
    id = world.network(world.admin, shared=True)["id"]
    subnet = world.admin.post(
        "/v2.0/subnets", {"subnet": {"network_id": id, "cidr": "10.6.0.0/24", "ip_version": 4}}
    ).json["subnet"]
    port = world.made("port", network_id=id, fixed_ips=[{"subnet_id": subnet["id"]}])
    assert world.show(f"ports/{port['id']}", world.admin)["project_id"] == PROJECT
    for attributes in (
        {"mac_address": "fa:16:3e:00:00:09"},
        {"fixed_ips": [{"ip_address": "10.6.0.77"}]},
        {"port_security_enabled": False},
        {"allowed_address_pairs": [{"ip_address": "10.6.0.1"}]},
        {"device_owner": "network:router_interface"},
    ):
        refused(
            world.member.post("/v2.0/ports", {"port": {"network_id": id, **attributes}}), 403, "PolicyNotAuthorized"
        )


def test_nobody_slips_a_port_into_a_router(world: NetworkWorld, network: dict[str, Any]) -> None:
    """A port for another's router, or past the router's own checks, is refused."""
    router = world.made("router", world.other, name="theirs")
    for owner in ("network:router_interface", ""):
        body = {"device_id": router["id"], "device_owner": owner}
        refused(attempt(world, network, **body), 409, "DeviceIDNotOwnedByTenant")
    refused(attempt(world, network, device_owner="network:distributed"), 409, "UnsupportedPortDeviceOwner")


def test_the_owner_of_a_network_sees_the_ports_on_it(world: NetworkWorld) -> None:
    """Those of others too, and may delete them; the others see only their own."""
    id = world.network(world.admin, shared=True)["id"]
    mine = world.made("port", network_id=id)
    theirs = world.made("port", world.other, network_id=id)
    assert theirs["project_id"] == OTHER_PROJECT
    assert {port["id"] for port in world.listed(f"ports?network_id={id}")} == {mine["id"]}
    assert {port["id"] for port in world.listed(f"ports?network_id={id}", world.admin)} == {mine["id"], theirs["id"]}
    assert world.other.get(f"/v2.0/ports/{mine['id']}").status == 404


def test_ports_are_found_by_address(world: NetworkWorld, network: dict[str, Any]) -> None:
    """By the whole address, by a part of it, by its subnet; by device; and by the empty device."""
    port = world.made("port", network_id=network["id"], fixed_ips=[{"ip_address": "10.0.0.123"}], device_id="server")
    for query in (
        "fixed_ips=ip_address=10.0.0.123",
        "fixed_ips=ip_address_substr=0.0.12&device_id=server",
        f"fixed_ips=subnet_id={network['subnet']['id']}&fixed_ips=ip_address=10.0.0.123",
        "device_id=server",
        f"mac_address={port['mac_address']}",
    ):
        assert [found["id"] for found in world.listed(f"ports?{query}")] == [port["id"]], query
    assert world.listed("ports?fixed_ips=ip_address=10.0.0.9") == []
    assert port["id"] not in {found["id"] for found in world.listed("ports?device_id=")}


def test_a_list_of_a_hundred_ports_is_one_query(
    world: NetworkWorld, network: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many ports there are, listing them asks the database once for them all."""
    body = {"ports": [{"network_id": network["id"], "device_id": "many"} for _ in range(100)]}
    assert world.member.post("/v2.0/ports", body).status == 201
    asked: list[Any] = []
    execute = Tx._execute

    def counted(tx: Tx, statement: Any, *more: Any, **named: Any) -> Any:
        asked.append(statement)
        return execute(tx, statement, *more, **named)

    monkeypatch.setattr(Tx, "_execute", counted)
    assert len(world.listed("ports?device_id=many")) == 100
    assert len(asked) == 1
