"""Networks over HTTP: who sees what, what is refused, and how lists are cut into pages."""

from collections.abc import Iterator

import pytest
from tests.http.harness import PROJECT
from tests.http.network_world import ABSENT, NetworkWorld, refused

from cumulet.network.config import NetworkConfig


@pytest.fixture
def world(database_url: str) -> Iterator[NetworkWorld]:
    """A network service of this test's own."""
    world = NetworkWorld(database_url)
    yield world
    world.close()


def test_a_new_network_has_the_reference_shape(world: NetworkWorld) -> None:
    """A tenant sees its network without its provider side; an admin sees a geneve segment; the data plane has it."""
    network = world.network(description="mine")
    assert network["status"] == "ACTIVE"
    assert (network["project_id"], network["tenant_id"], network["mtu"]) == (PROJECT, PROJECT, 1442)
    assert network["router:external"] is network["shared"] is False
    assert "provider:network_type" not in network
    seen = world.show(f"networks/{network['id']}", world.admin)
    assert seen["provider:network_type"] == "geneve"
    assert seen["provider:segmentation_id"] >= 1
    assert world.driver.networks[network["id"]].mtu == 1442


def test_the_external_network_is_made_once(world: NetworkWorld) -> None:
    """A second bootstrap changes nothing; everybody sees the network, and it has no DHCP."""
    before = world.listed("networks?router:external=true")
    assert world.service.bootstrap("9" * 32).id == world.public.id
    assert world.listed("networks?router:external=true") == before
    subnet = world.show(f"subnets/{before[0]['subnets'][0]}")
    assert (subnet["enable_dhcp"], subnet["gateway_ip"], before[0]["is_default"]) == (False, "172.24.4.1", True)
    assert world.driver.networks[world.public.id].physical_network == "physnet1"


def test_another_project_does_not_see_it(world: NetworkWorld) -> None:
    """Show, change and deletion answer 404 to strangers, and the list leaves it out."""
    id = world.network()["id"]
    assert world.other.get(f"/v2.0/networks/{id}").status == 404
    assert world.other.put(f"/v2.0/networks/{id}", {"network": {"name": "x"}}).status == 404
    assert world.other.delete(f"/v2.0/networks/{id}").status == 404
    assert id not in {network["id"] for network in world.listed("networks", world.other)}


def test_a_reader_reads_and_changes_nothing(world: NetworkWorld) -> None:
    """A reader of the project may look; each change is 403 with the rule's name."""
    id = world.network()["id"]
    assert world.reader.get(f"/v2.0/networks/{id}").status == 200
    for answer in (
        world.reader.post("/v2.0/networks", {"network": {"name": "x"}}),
        world.reader.put(f"/v2.0/networks/{id}", {"network": {"name": "x"}}),
        world.reader.delete(f"/v2.0/networks/{id}"),
        world.reader.post("/v2.0/ports", {"port": {"network_id": id}}),
        world.reader.post("/v2.0/subnets", {"subnet": {"network_id": id, "cidr": "10.0.0.0/24", "ip_version": 4}}),
    ):
        assert "policy" in refused(answer, 403, "PolicyNotAuthorized").lower()


@pytest.mark.parametrize(
    "attributes",
    [
        {"shared": True},
        {"router:external": True},
        {"is_default": True},
        {"provider:network_type": "flat", "provider:physical_network": "physnet1"},
        {"provider:segmentation_id": 5},
    ],
    ids=str,
)
def test_what_only_admins_set_is_forbidden_to_tenants(world: NetworkWorld, attributes: dict[str, object]) -> None:
    """An attribute with a rule of its own is judged by it; its default may be named by anybody."""
    refused(world.member.post("/v2.0/networks", {"network": attributes}), 403, "PolicyNotAuthorized")
    assert world.member.post("/v2.0/networks", {"network": {"shared": False, "router:external": False}}).status == 201


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"network": {"nmae": "x"}}, "HTTPBadRequest"),
        ({"network": {"status": "ACTIVE"}}, "HTTPBadRequest"),
        ({"network": {"admin_state_up": "perhaps"}}, "HTTPBadRequest"),
        ({"network": {"name": "x" * 256}}, "HTTPBadRequest"),
        ({"network": {"mtu": 9000}}, "InvalidInput"),
        ({"network": {"tenant_id": "2" * 32}}, "HTTPBadRequest"),
        ({"net": {}}, "HTTPBadRequest"),
        ({"networks": []}, "HTTPBadRequest"),
        (["network"], "HTTPBadRequest"),
    ],
    ids=str,
)
def test_a_bad_body_is_refused_whole(world: NetworkWorld, body: object, kind: str) -> None:
    """Unknown, read-only, ill-formed and misplaced attributes answer 400, and nothing is made."""
    before = len(world.listed("networks"))
    refused(world.member.post("/v2.0/networks", body), 400, kind)
    assert len(world.listed("networks")) == before


def test_text_for_flags_and_numbers_is_taken(world: NetworkWorld) -> None:
    """`"False"` and `"1300"` are what they say, as with the reference."""
    network = world.network(admin_state_up="False", mtu="1300")
    assert (network["admin_state_up"], network["mtu"]) == (False, 1300)


def test_many_are_made_in_one_request_or_none(world: NetworkWorld) -> None:
    """A list in the body makes all its networks; one bad item and there is none of them."""
    answer = world.member.post("/v2.0/networks", {"networks": [{"name": "a"}, {"name": "b"}]})
    assert [network["name"] for network in answer.json["networks"]] == ["a", "b"]
    refused(world.member.post("/v2.0/networks", {"networks": [{"name": "c"}, {"mtu": -1}]}), 400, "HTTPBadRequest")
    assert world.listed("networks?name=c") == []


def test_provider_networks_keep_their_segments_apart(world: NetworkWorld) -> None:
    """A VLAN is used once on its physical network, and so is a flat network; wrong combinations are 400."""

    def create(**attributes: object) -> object:
        return world.admin.post("/v2.0/networks", {"network": {f"provider:{k}": v for k, v in attributes.items()}})

    made = create(network_type="vlan", physical_network="physnet2", segmentation_id=7)
    assert made.status == 201  # type: ignore[attr-defined]  # an Answer
    driver = world.driver.networks[made.json["network"]["id"]]  # type: ignore[attr-defined]  # an Answer
    assert (driver.physical_network, driver.vlan) == ("physnet2", 7)
    refused(create(network_type="vlan", physical_network="physnet2", segmentation_id=7), 409, "VlanIdInUse")
    refused(create(network_type="flat", physical_network="physnet1"), 409, "FlatNetworkInUse")
    refused(create(network_type="flat"), 400, "InvalidInput")
    refused(create(network_type="geneve", physical_network="physnet1"), 400, "InvalidInput")
    refused(create(network_type="vlan", physical_network="physnet2", segmentation_id=5000), 400, "InvalidInput")
    refused(create(physical_network="physnet2"), 400, "InvalidInput")


def test_sharing_ends_only_when_nobody_uses_it(world: NetworkWorld) -> None:
    """A shared network is seen by all; while another project has a port on it, it stays shared."""
    id = world.network(world.admin, shared=True)["id"]
    assert world.show(f"networks/{id}", world.other)["shared"] is True
    port = world.made("port", world.other, network_id=id)
    change = {"network": {"shared": False}}
    refused(world.admin.put(f"/v2.0/networks/{id}", change), 409, "InvalidSharedSetting")
    assert world.other.delete(f"/v2.0/ports/{port['id']}").status == 204
    assert world.admin.put(f"/v2.0/networks/{id}", change).json["network"]["shared"] is False
    assert world.other.get(f"/v2.0/networks/{id}").status == 404


def test_a_network_is_shown_to_one_project_by_a_policy(world: NetworkWorld) -> None:
    """An RBAC policy shows it to its target alone, who may put ports on it and holds the policy by them."""
    id = world.network()["id"]
    policy = world.member.post(
        "/v2.0/rbac-policies",
        {
            "rbac_policy": {
                "object_type": "network",
                "object_id": id,
                "action": "access_as_shared",
                "target_tenant": "2" * 32,
            }
        },
    ).json["rbac_policy"]
    assert world.show(f"networks/{id}", world.other)["shared"] is True
    assert world.show(f"networks/{id}")["shared"] is False
    port = world.made("port", world.other, network_id=id)
    refused(world.member.delete(f"/v2.0/rbac-policies/{policy['id']}"), 409, "RbacPolicyInUse")
    world.other.delete(f"/v2.0/ports/{port['id']}")
    assert world.member.delete(f"/v2.0/rbac-policies/{policy['id']}").status == 204
    assert world.other.get(f"/v2.0/networks/{id}").status == 404


def test_a_network_in_use_stays(world: NetworkWorld) -> None:
    """With a port on it deletion is 409 and names the port; without, its subnet and metadata port go along."""
    network = world.network()
    subnet = world.subnet(network["id"])
    port = world.made("port", network_id=network["id"])
    words = refused(world.member.delete(f"/v2.0/networks/{network['id']}"), 409, "NetworkInUse")
    assert "There are one or more ports still in use on the network" in words
    assert port["id"] in words
    world.member.delete(f"/v2.0/ports/{port['id']}")
    assert world.member.delete(f"/v2.0/networks/{network['id']}").status == 204
    assert world.member.get(f"/v2.0/subnets/{subnet['id']}").status == 404
    assert world.addresses(network["id"]) == {}
    assert network["id"] not in world.driver.networks
    assert not [port for port in world.driver.ports.values() if port.network_id == network["id"]]


def test_an_update_for_another_revision_is_refused(world: NetworkWorld) -> None:
    """`If-Match: revision_number=N` holds an update to the revision it was meant for; each change raises it."""
    network = world.network()
    path, change = f"/v2.0/networks/{network['id']}", {"network": {"name": "green"}}
    stale = {"If-Match": f"revision_number={network['revision_number'] + 3}"}
    lower = {key.lower(): value for key, value in stale.items()}
    refused(world.member.put(path, change, headers=lower), 412, "RevisionNumberConstraintFailed")
    current = {"if-match": f"revision_number={network['revision_number']}"}
    changed = world.member.put(path, change, headers=current).json["network"]
    assert (changed["name"], changed["revision_number"]) == ("green", network["revision_number"] + 1)
    assert world.driver.networks[network["id"]].name == "green"


def test_pages_go_forth_and_back(world: NetworkWorld) -> None:
    """Following the links in either direction meets every network once, in order."""
    names = [f"n{index}" for index in range(7)]
    for name in names:
        world.network(name=name)
    query, met = "project_id=" + PROJECT + "&limit=3&sort_key=name&sort_dir=asc", []
    path: str | None = f"/v2.0/networks?{query}"
    last = ""
    while path:
        page = world.member.get(path).json
        met += [network["name"] for network in page["networks"]]
        links = {link["rel"]: link["href"] for link in page.get("networks_links", [])}
        last = path
        path = links["next"].partition("/service")[2] if "next" in links else None
    assert met == names
    back, path = [], last
    while path:
        page = world.member.get(path).json
        back = [network["name"] for network in page["networks"]] + back
        links = {link["rel"]: link["href"] for link in page.get("networks_links", [])}
        path = links["previous"].partition("/service")[2] if "previous" in links else None
    assert back == names


@pytest.mark.parametrize(
    "query",
    [
        "limit=-1",
        "limit=x",
        "sort_key=nothing",
        "sort_key=name&sort_dir=up",
        "nothing=1",
        f"marker={ABSENT}&limit=1",
        "sort_key=name&sort_key=id&sort_dir=asc",
        "admin_state_up=perhaps",
    ],
)
def test_a_bad_query_is_refused(world: NetworkWorld, query: str) -> None:
    """Unknown filters, sort keys and directions, bad limits and markers answer 400."""
    refused(world.member.get(f"/v2.0/networks?{query}"), 400, "HTTPBadRequest")


def test_no_list_is_longer_than_the_largest_page(database_url: str) -> None:
    """A list without a limit ends at the largest page, and says how it goes on."""
    world = NetworkWorld(database_url, NetworkConfig(page_max=3))
    for index in range(4):
        world.network(name=f"n{index}")
    page = world.member.get(f"/v2.0/networks?project_id={PROJECT}").json
    assert len(page["networks"]) == 3
    assert [link["rel"] for link in page["networks_links"]] == ["next"]
    world.close()


def test_filters_and_fields(world: NetworkWorld) -> None:
    """Several values of a filter are alternatives, several filters hold together, and only the fields named are shown."""
    for name, up in (("a", True), ("b", False), ("c", True)):
        world.network(name=name, admin_state_up=up)
    assert {n["name"] for n in world.listed("networks?name=a&name=b")} == {"a", "b"}
    assert {n["name"] for n in world.listed("networks?name=a&name=b&admin_state_up=True")} == {"a"}
    assert world.listed("networks?name=a&fields=name&fields=mtu") == [{"name": "a", "mtu": 1442}]


def test_errors_of_others_have_the_same_envelope(world: NetworkWorld) -> None:
    """An unknown path, method or body answers with a NeutronError too, and without a token there is none but 401."""
    refused(world.member.get("/v2.0/nothing"), 404, "HTTPNotFound")
    assert world.member.patch("/v2.0/networks").status == 405
    refused(world.member.post("/v2.0/networks", body=b"{"), 400, "HTTPBadRequest")
    world.member.token = None
    assert world.member.get("/v2.0/networks").status == 401
    assert world.member.get("/").json["versions"][0]["id"] == "v2.0"
    assert {"network", "subnet", "port"} <= {r["name"] for r in world.member.get("/v2.0/").json["resources"]}
