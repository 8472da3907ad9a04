"""What the operator does over HTTP: flavors, quotas, services, hypervisors, aggregates, groups, events from other services."""

from collections.abc import Iterator

import pytest
from tests.http.compute_world import HOST, World
from tests.http.harness import OTHER_PROJECT, PROJECT


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    """A compute API of its own."""
    world = World(database_url)
    yield world
    world.close()


def test_flavors(world: World) -> None:
    """The first flavors are there, others are made by admins only, and a private one shows to whom it was given."""
    admin, member = world.client("admin", "2.61"), world.client()
    names = {one["id"]: one["name"] for one in member.get("/v2.1/flavors").json["flavors"]}
    assert names["42"] == "m1.nano"
    assert names["84"] == "m1.micro"
    assert len(names) == 7
    world.service.bootstrap_flavors()
    assert len(member.get("/v2.1/flavors").json["flavors"]) == 7
    body = {"name": "secret", "ram": 64, "vcpus": 1, "disk": 1, "id": "s", "os-flavor-access:is_public": False}
    assert member.post("/v2.1/flavors", {"flavor": body}).status == 403
    assert admin.post("/v2.1/flavors", {"flavor": body}).status == 200
    assert admin.post("/v2.1/flavors", {"flavor": body}).status == 409
    assert admin.post("/v2.1/flavors", {"flavor": {**body, "id": "t"}}).status == 409
    assert member.get("/v2.1/flavors/s").status == 404
    share = {"addTenantAccess": {"tenant": PROJECT}}
    assert admin.post("/v2.1/flavors/s/action", share).json["flavor_access"] == [
        {"flavor_id": "s", "tenant_id": PROJECT}
    ]
    assert admin.post("/v2.1/flavors/s/action", share).status == 409
    assert member.get("/v2.1/flavors/s").status == 200
    assert "s" in {one["id"] for one in member.get("/v2.1/flavors").json["flavors"]}
    assert world.client("other").get("/v2.1/flavors/s").status == 404
    assert admin.post("/v2.1/flavors/s/action", {"removeTenantAccess": {"tenant": PROJECT}}).status == 200
    assert admin.post("/v2.1/flavors/s/action", {"removeTenantAccess": {"tenant": PROJECT}}).status == 404
    assert admin.post("/v2.1/flavors/42/action", share).status == 409
    assert [one["id"] for one in admin.get("/v2.1/flavors?is_public=False").json["flavors"]] == ["s"]
    page = member.get("/v2.1/flavors?limit=2&minRam=1000").json
    assert len(page["flavors"]) == 2
    assert "marker=" in page["flavors_links"][0]["href"]
    for query in ("limit=-1", "marker=none", "minRam=x", "sort_key=colour"):
        assert member.get(f"/v2.1/flavors?{query}").status == 400, query
    specs = "/v2.1/flavors/42/os-extra_specs"
    assert admin.post(specs, {"extra_specs": {"a": "1"}}).json == {"extra_specs": {"a": "1"}}
    assert admin.put(f"{specs}/a", {"a": "2"}).json == {"a": "2"}
    assert admin.put(f"{specs}/b", {"a": "2"}).status == 400
    assert admin.get("/v2.1/flavors/42").json["flavor"]["extra_specs"] == {"a": "2"}
    assert admin.delete(f"{specs}/a").status == 200
    assert admin.delete(f"{specs}/a").status == 404
    assert admin.delete("/v2.1/flavors/s").status == 202
    assert admin.delete("/v2.1/flavors/s").status == 404


def test_quotas(world: World) -> None:
    """A limit holds for launches, is shown with what is in use, and goes back to the default."""
    admin, member = world.client("admin"), world.client()
    where = f"/v2.1/os-quota-sets/{PROJECT}"
    assert admin.put(where, {"quota_set": {"instances": 1}}).json["quota_set"]["instances"] == 1
    world.boot()
    detail = member.get(f"{where}/detail").json["quota_set"]["instances"]
    assert detail == {"limit": 1, "in_use": 1, "reserved": 0}
    again = member.post("/v2.1/servers", {"server": {"name": "vm", "flavorRef": "42", "imageRef": world.image.id}})
    assert again.status == 403
    assert "Quota exceeded for instances" in again.json["forbidden"]["message"]
    assert admin.put(where, {"quota_set": {"cores": 0}}).status == 400
    assert admin.put(where, {"quota_set": {"cores": 0, "force": True}}).status == 200
    assert admin.put(where, {"quota_set": {"colour": 1}}).status == 400
    assert member.put(where, {"quota_set": {"cores": 1}}).status == 403
    assert member.get(f"/v2.1/os-quota-sets/{OTHER_PROJECT}").status == 403
    assert member.get("/v2.1/limits").json["limits"]["absolute"]["totalInstancesUsed"] == 1
    assert member.get(f"/v2.1/limits?tenant_id={OTHER_PROJECT}").status == 403
    assert admin.delete(where).status == 202
    assert member.get(where).json["quota_set"] == {**member.get(f"{where}/defaults").json["quota_set"], "id": PROJECT}


def test_services(world: World) -> None:
    """A compute service is disabled, enabled and forced down by name before 2.53, by id since; the others are not."""
    old, new = world.client("admin", "2.11"), world.client("admin", "2.96")
    binaries = [one["binary"] for one in old.get("/v2.1/os-services").json["services"]]
    assert binaries == ["nova-conductor", "nova-scheduler", "nova-compute"]
    body = {"host": HOST, "binary": "nova-compute", "disabled_reason": "broken"}
    assert old.put("/v2.1/os-services/disable-log-reason", body).json["service"]["disabled_reason"] == "broken"
    one = new.get("/v2.1/os-services?binary=nova-compute").json["services"][0]
    assert (one["status"], one["disabled_reason"], one["state"]) == ("disabled", "broken", "up")
    where = f"/v2.1/os-services/{one['id']}"
    assert new.put(where, {"status": "enabled"}).json["service"]["status"] == "enabled"
    assert new.put(where, {"forced_down": True}).json["service"]["state"] == "down"
    assert (
        old.put("/v2.1/os-services/force-down", {**body, "forced_down": False}).json["service"]["forced_down"] is False
    )
    assert new.put(where, {}).status == 400
    assert new.put(where, {"status": "enabled", "disabled_reason": "x"}).status == 400
    assert new.put("/v2.1/os-services/none", {"status": "enabled"}).status == 400
    assert new.put(f"/v2.1/os-services/{world.ids.uuid()}", {"status": "enabled"}).status == 404
    assert world.client().get("/v2.1/os-services").status == 403


def test_hypervisors(world: World) -> None:
    """A host shows what its servers take; names and ids that do not fit are told apart."""
    server = world.boot()
    old, new = world.client("admin"), world.client("admin", "2.53")
    shown = old.get("/v2.1/os-hypervisors/detail").json["hypervisors"][0]
    assert (shown["id"], shown["vcpus_used"], shown["running_vms"], shown["memory_mb_used"]) == (1, 1, 1, 128 + 512)
    assert old.get(f"/v2.1/os-hypervisors/{HOST}/servers").json["hypervisors"][0]["servers"][0]["uuid"] == server
    assert old.get("/v2.1/os-hypervisors/none/search").status == 404
    assert old.get("/v2.1/os-hypervisors/99").status == 404
    assert new.get("/v2.1/os-hypervisors/1").status == 400
    assert new.get("/v2.1/os-hypervisors?with_servers=true").json["hypervisors"][0]["servers"][0]["uuid"] == server
    assert new.get("/v2.1/os-hypervisors?hypervisor_hostname_pattern=none").status == 404
    assert world.client().get("/v2.1/os-hypervisors").status == 403


def test_aggregates(world: World) -> None:
    """An aggregate's zone is that of its hosts, and a launch may ask for it."""
    admin = world.client("admin", "2.41")
    made = admin.post("/v2.1/os-aggregates", {"aggregate": {"name": "rack", "availability_zone": "east"}})
    where = f"/v2.1/os-aggregates/{made.json['aggregate']['id']}"
    assert admin.post("/v2.1/os-aggregates", {"aggregate": {"name": "rack"}}).status == 409
    assert admin.post(f"{where}/action", {"add_host": {"host": "none"}}).status == 404
    assert admin.post(f"{where}/action", {"add_host": {"host": HOST}}).json["aggregate"]["hosts"] == [HOST]
    assert admin.post(f"{where}/action", {"add_host": {"host": HOST}}).status == 409
    zones = [one["zoneName"] for one in world.client().get("/v2.1/os-availability-zone").json["availabilityZoneInfo"]]
    assert zones == ["east"]
    world.boot(availability_zone="east")
    assert (
        world.client()
        .post(
            "/v2.1/servers",
            {"server": {"name": "vm", "flavorRef": "42", "imageRef": world.image.id, "availability_zone": "west"}},
        )
        .status
        == 400
    )
    metadata = admin.post(f"{where}/action", {"set_metadata": {"metadata": {"ssd": "true"}}}).json["aggregate"][
        "metadata"
    ]
    assert metadata == {"availability_zone": "east", "ssd": "true"}
    assert admin.delete(where).status == 400
    assert admin.post(f"{where}/action", {"remove_host": {"host": HOST}}).json["aggregate"]["hosts"] == []
    assert admin.post(f"{where}/action", {"remove_host": {"host": HOST}}).status == 404
    assert admin.put(where, {"aggregate": {"name": "shelf"}}).json["aggregate"]["name"] == "shelf"
    assert admin.delete(where).status == 200
    assert admin.get(where).status == 404
    assert world.client().get("/v2.1/os-aggregates").status == 403


def test_server_groups(world: World) -> None:
    """A group has one policy, shows its members, and is its project's own."""
    client = world.client(version="2.64")
    body = {"name": "pair", "policy": "anti-affinity", "rules": {"max_server_per_host": 2}}
    group = client.post("/v2.1/os-server-groups", {"server_group": body}).json["server_group"]
    assert group["rules"] == {"max_server_per_host": 2}
    answer = client.post(
        "/v2.1/servers",
        {
            "server": {"name": "vm", "flavorRef": "42", "imageRef": world.image.id, "networks": "none"},
            "os:scheduler_hints": {"group": group["id"]},
        },
    )
    assert answer.status == 202, answer.content
    server = answer.json["server"]["id"]
    assert client.get(f"/v2.1/os-server-groups/{group['id']}").json["server_group"]["members"] == [server]
    assert world.client("other").get(f"/v2.1/os-server-groups/{group['id']}").status == 404
    assert (
        client.post(
            "/v2.1/os-server-groups",
            {"server_group": {"name": "x", "policy": "affinity", "rules": {"max_server_per_host": 2}}},
        ).status
        == 400
    )
    assert (
        client.post("/v2.1/os-server-groups", {"server_group": {"name": "x", "policies": ["affinity"]}}).status == 400
    )
    assert (
        world.client("reader")
        .post("/v2.1/os-server-groups", {"server_group": {"name": "x", "policies": ["affinity"]}})
        .status
        == 403
    )
    assert client.delete(f"/v2.1/os-server-groups/{group['id']}").status == 204
    assert client.delete(f"/v2.1/os-server-groups/{group['id']}").status == 404


def test_events_and_usage(world: World) -> None:
    """Events of known servers are taken, others told apart; use is counted for the project and the operator."""
    server = world.boot()
    admin = world.client("admin")
    event = {"name": "network-changed", "server_uuid": server}
    assert admin.post("/v2.1/os-server-external-events", {"events": [event]}).json["events"][0]["code"] == 200
    strange = {**event, "server_uuid": world.ids.uuid()}
    mixed = admin.post("/v2.1/os-server-external-events", {"events": [event, strange]})
    assert mixed.status == 207
    assert [one["code"] for one in mixed.json["events"]] == [200, 404]
    assert admin.post("/v2.1/os-server-external-events", {"events": [strange]}).status == 404
    assert world.client().post("/v2.1/os-server-external-events", {"events": [event]}).status == 403
    usage = world.client().get(f"/v2.1/os-simple-tenant-usage/{PROJECT}").json["tenant_usage"]
    assert usage["server_usages"][0]["instance_id"] == server
    assert len(usage) == 8
    assert world.client().get(f"/v2.1/os-simple-tenant-usage/{OTHER_PROJECT}").status == 403
    assert admin.get("/v2.1/os-simple-tenant-usage?start=2030-01-01T00:00:00&end=2029-01-01T00:00:00").status == 400
    assert admin.get("/v2.1/os-instance_usage_audit_log/junk").status == 400


def test_old_hosts(world: World) -> None:
    """Hosts as they were shown until 2.42."""
    admin = world.client("admin", "2.42")
    assert len(admin.get("/v2.1/os-hosts").json["hosts"]) == 3
    assert admin.get("/v2.1/os-hosts?zone=none").json["hosts"] == []
    assert admin.get("/v2.1/os-hosts/none").status == 404
    assert admin.put(f"/v2.1/os-hosts/{HOST}", {"status": "odd"}).status == 400
    assert admin.put(f"/v2.1/os-hosts/{HOST}", {"status": "disable"}).json["status"] == "disabled"
    assert admin.get(f"/v2.1/os-hosts/{HOST}/reboot").status == 501
    assert admin.get("/v2.1/os-hosts/none/reboot").status == 404
    assert world.client("admin", "2.43").get("/v2.1/os-hosts").status == 404
