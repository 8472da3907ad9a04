"""Quotas, tags, discovery and agents over HTTP."""

from collections.abc import Iterator

import pytest
from tests.http.harness import OTHER_PROJECT, PROJECT
from tests.http.network_world import ABSENT, HOST, NetworkWorld, refused


@pytest.fixture
def world(database_url: str) -> Iterator[NetworkWorld]:
    """A network service of this test's own."""
    world = NetworkWorld(database_url)
    yield world
    world.close()


def test_a_full_quota_refuses_the_next(world: NetworkWorld) -> None:
    """The request that would go over is 409 and makes nothing, also when only its last item is too much."""
    quota = {"quota": {"network": 2, "port": "3"}}
    assert world.admin.put(f"/v2.0/quotas/{PROJECT}", quota).json["quota"]["network"] == 2
    network = world.network()
    two = {"networks": [{"name": "a"}, {"name": "b"}]}
    assert "network" in refused(world.member.post("/v2.0/networks", two), 409, "OverQuota")
    assert len(world.listed(f"networks?project_id={PROJECT}")) == 1
    ports = {"ports": [{"network_id": network["id"]}] * 4}
    assert "port" in refused(world.member.post("/v2.0/ports", ports), 409, "OverQuota")
    assert world.listed("ports") == []
    details = world.show(f"quotas/{PROJECT}/details")
    assert details["network"] == {"limit": 2, "used": 1, "reserved": 0}


def test_quotas_are_set_by_admins_and_read_by_their_project(world: NetworkWorld) -> None:
    """Everybody reads the own ones and the defaults; those of others, and every change, are the admin's."""
    own = world.show(f"quotas/{PROJECT}", world.reader)
    assert own["router"] == 100
    assert own["floatingip"] == 500
    assert world.show(f"quotas/{PROJECT}/default") == own
    assert world.member.get("/v2.0/quotas/tenant").json == {"tenant": {"tenant_id": PROJECT}}
    assert world.other.get(f"/v2.0/quotas/{PROJECT}").status == 403
    assert world.member.put(f"/v2.0/quotas/{PROJECT}", {"quota": {"port": 1}}).status == 403
    for quota in ({"port": -2}, {"port": "x"}, {"port": 2**31}, {"nothing": 1}):
        refused(world.admin.put(f"/v2.0/quotas/{PROJECT}", {"quota": quota}), 400, "HTTPBadRequest")
    world.admin.put(f"/v2.0/quotas/{OTHER_PROJECT}", {"quota": {"port": 7}})
    assert [(q["project_id"], q["port"]) for q in world.listed("quotas", world.admin)] == [(OTHER_PROJECT, 7)]
    assert world.admin.delete(f"/v2.0/quotas/{OTHER_PROJECT}").status == 204
    refused(world.admin.delete(f"/v2.0/quotas/{OTHER_PROJECT}"), 404, "ProjectQuotaNotFound")


def test_tags_are_set_looked_up_and_filtered_by(world: NetworkWorld) -> None:
    """One at a time or all at once; lists find all, any, not all or not any of them."""
    red, blue = world.network(name="red"), world.network(name="both")
    tags = f"/v2.0/networks/{blue['id']}/tags"
    assert world.member.put(tags, {"tags": ["red", "blue"]}).json == {"tags": ["blue", "red"]}
    assert world.member.put(f"/v2.0/networks/{red['id']}/tags/red").status == 201
    assert world.member.get(f"{tags}/red").status == 204
    refused(world.member.get(f"{tags}/green"), 404, "TagNotFound")

    def names(query: str) -> set[str]:
        return {network["name"] for network in world.listed(f"networks?project_id={PROJECT}&{query}")}

    assert names("tags=red") == {"red", "both"}
    assert names("tags=red,blue") == {"both"}
    assert names("tags-any=blue,green") == {"both"}
    assert names("not-tags=red,blue") == {"red"}
    assert names("not-tags-any=blue") == {"red"}
    assert world.member.delete(f"{tags}/red").status == 204
    assert world.member.delete(tags).status == 204
    assert world.show(f"networks/{blue['id']}")["tags"] == []
    assert world.reader.put(f"{tags}/x").status == 403
    assert world.other.get(tags).status == 404
    refused(world.member.put(tags, {"tags": ["a", "a"]}), 400, "InvalidInput")
    refused(world.member.put(tags, {"tags": [f"t{n}" for n in range(51)]}), 400, "BadRequest")


def test_what_is_claimed_is_listed_and_shown(world: NetworkWorld) -> None:
    """Every extension in the list can be shown; what is not built is not there."""
    listed = world.listed("extensions")
    aliases = {extension["alias"] for extension in listed}
    assert {"router", "security-group", "port-security", "quotas", "standard-attr-tag", "binding"} <= aliases
    assert not aliases & {"qos", "trunk", "dvr", "l3-ha"}
    assert all(world.show(f"extensions/{extension['alias']}") == extension for extension in listed)
    refused(world.member.get("/v2.0/extensions/qos"), 404, "ExtensionsNotFound")


def test_agents_are_the_admins_to_see(world: NetworkWorld) -> None:
    """The data plane's hosts are listed with their sign of life; a tenant's list is empty."""
    agent, metadata = world.listed("agents", world.admin)
    assert (agent["agent_type"], agent["host"], agent["alive"]) == ("OVN Controller Gateway agent", HOST, True)
    assert agent["configurations"]["bridge-mappings"] == "physnet1:br-ex"
    assert world.show(f"agents/{agent['id']}", world.admin) == agent
    assert world.listed(f"agents?host={HOST}&alive=true", world.admin) == [agent, metadata]
    assert world.listed("agents?host=elsewhere", world.admin) == []
    assert world.listed("agents") == []
    assert world.member.get(f"/v2.0/agents/{agent['id']}").status == 403
    refused(world.admin.get(f"/v2.0/agents/{ABSENT}"), 404, "AgentNotFound")


def test_each_host_has_a_metadata_agent(world: NetworkWorld) -> None:
    """It is listed beside the host's part of the data plane under an id that stays, lives as that lives, and cannot be changed."""
    _, agent = world.listed("agents", world.admin)
    assert (agent["agent_type"], agent["binary"]) == ("OVN Metadata agent", "neutron-ovn-metadata-agent")
    assert (agent["host"], agent["alive"], agent["availability_zone"]) == (HOST, True, "")
    assert agent["configurations"] == {}
    assert world.show(f"agents/{agent['id']}", world.admin) == agent
    assert world.listed("agents?binary=neutron-ovn-metadata-agent", world.admin) == [agent]
    change = {"agent": {"admin_state_up": False}}
    assert world.admin.put(f"/v2.0/agents/{agent['id']}", change).status == 400


def test_addresses_left_are_counted(world: NetworkWorld) -> None:
    """An admin sees how many addresses a network has and how many of them are given out."""
    network = world.network()
    world.subnet(network["id"], "10.0.0.0/28", enable_dhcp=False)
    world.made("port", network_id=network["id"])
    left = world.show(f"network-ip-availabilities/{network['id']}", world.admin)
    assert (left["total_ips"], left["used_ips"]) == (13, 1)
    assert left["subnet_ip_availability"][0]["cidr"] == "10.0.0.0/28"
    assert world.member.get("/v2.0/network-ip-availabilities").status == 403


def test_the_small_lists(world: NetworkWorld) -> None:
    """Availability zones, service providers and pools of floating IPs, as readers see them."""
    zones = world.listed("availability_zones", world.reader)
    assert {(zone["name"], zone["resource"]) for zone in zones} == {("nova", "network"), ("nova", "router")}
    assert world.listed("service-providers", world.reader)[0]["service_type"] == "L3_ROUTER_NAT"
    assert [pool["network_id"] for pool in world.listed("floatingip_pools", world.reader)] == [world.public.id]
