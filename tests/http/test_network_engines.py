"""The network service on both databases: one tour through every table, and what must be unique."""

from collections.abc import Iterator

import pytest
from tests.http.harness import PROJECT
from tests.http.network_world import HOST, NetworkWorld, refused


@pytest.fixture
def world(database_url: str) -> Iterator[NetworkWorld]:
    """A network service of this test's own."""
    world = NetworkWorld(database_url)
    yield world
    world.close()


def test_a_tour_of_the_service(world: NetworkWorld) -> None:
    """Made, listed, filtered, sorted, paged, changed, refused and deleted alike on both engines."""
    network, subnet, router = world.joined()
    group = world.made("security_group", name="web")
    rule = {"security_group_id": group["id"], "direction": "ingress", "protocol": "tcp", "remote_group_id": group["id"]}
    world.made("security_group_rule", **rule)
    refused(
        world.member.post("/v2.0/security-group-rules", {"security_group_rule": rule}), 409, "SecurityGroupRuleExists"
    )
    body = {
        "network_id": network["id"],
        "project_id": PROJECT,
        "binding:host_id": HOST,
        "security_groups": [group["id"]],
    }
    port = world.agent.post("/v2.0/ports", {"port": body}).json["port"]
    assert world.show(f"ports/{port['id']}")["status"] == "ACTIVE"
    address = port["fixed_ips"][0]["ip_address"]
    assert [p["id"] for p in world.listed(f"ports?fixed_ips=ip_address={address}")] == [port["id"]]
    assert [
        p["id"] for p in world.listed(f"ports?fixed_ips=ip_address_substr={address[:-1]}&security_groups={group['id']}")
    ] == [port["id"]]
    floating = world.made("floatingip", floating_network_id=world.public.id, port_id=port["id"])
    assert floating["router_id"] == router["id"]
    world.made("subnetpool", name="p", prefixes=["10.8.0.0/16"])
    assert world.member.put(f"/v2.0/networks/{network['id']}/tags/red").status == 201
    assert [n["id"] for n in world.listed("networks?tags=red&admin_state_up=true")] == [network["id"]]
    assert world.admin.put(f"/v2.0/quotas/{PROJECT}", {"quota": {"network": 5}}).status == 200
    assert world.admin.put(f"/v2.0/quotas/{PROJECT}", {"quota": {"network": 6}}).json["quota"]["network"] == 6
    policy = {
        "object_type": "network",
        "object_id": network["id"],
        "action": "access_as_shared",
        "target_tenant": "2" * 32,
    }
    assert world.member.post("/v2.0/rbac-policies", {"rbac_policy": policy}).status == 201
    refused(world.member.post("/v2.0/rbac-policies", {"rbac_policy": policy}), 409, "DuplicateRbacPolicy")
    assert network["id"] in {n["id"] for n in world.listed("networks?shared=true", world.other)}
    sort = "networks?limit=1&sort_key=provider:physical_network&sort_dir=desc"
    page = world.admin.get(f"/v2.0/{sort}").json["networks"]
    assert len(world.admin.get(f"/v2.0/{sort}&marker={page[0]['id']}").json["networks"]) == 1
    taken = {"network_id": network["id"], "fixed_ips": [{"ip_address": address}]}
    refused(world.member.post("/v2.0/ports", {"port": taken}), 409, "IpAddressAlreadyAllocated")
    refused(
        world.member.post("/v2.0/ports", {"port": {"network_id": network["id"], "mac_address": port["mac_address"]}}),
        409,
        "MacAddressInUse",
    )
    assert world.service.resync().failed == 0
    assert world.member.delete(f"/v2.0/floatingips/{floating['id']}").status == 204
    assert world.agent.delete(f"/v2.0/ports/{port['id']}").status == 204
    path = f"/v2.0/routers/{router['id']}"
    assert world.member.put(f"{path}/remove_router_interface", {"subnet_id": subnet["id"]}).status == 200
    assert world.member.delete(path).status == 204
    assert world.member.delete(f"/v2.0/networks/{network['id']}").status == 204
    assert world.addresses(network["id"]) == world.addresses(world.public.id) == {}
