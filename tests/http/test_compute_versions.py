"""Every read of the compute API at every version, each answer held against the reference's schemas where the tester gives them."""

from collections.abc import Iterator

import pytest
from tests.http.compute_world import HOST, World
from tests.http.harness import PROJECT

VERSIONS = [f"2.{minor}" for minor in range(1, 97)]


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    """A compute API of its own."""
    world = World(database_url)
    yield world
    world.close()


def test_reads_answer_at_every_version(world: World) -> None:
    """What a version has is 200, what it has not is 404 or 405, and nothing is a fault of ours."""
    server = world.boot(metadata={"a": "b"}, networks=[{"uuid": world.networks.network.id}])
    volume = world.volumes.add()
    attached = world.client().post(
        f"/v2.1/servers/{server}/os-volume_attachments", {"volumeAttachment": {"volumeId": volume.id}}
    )
    assert attached.status == 200, attached.content
    nic = world.settle(server).interfaces[0].port_id
    admin = world.client("admin")
    action = admin.get(f"/v2.1/servers/{server}/os-instance-actions").json["instanceActions"][0]["request_id"]
    group = admin.post("/v2.1/os-server-groups", {"server_group": {"name": "g", "policies": ["affinity"]}}).json[
        "server_group"
    ]["id"]
    aggregate = admin.post("/v2.1/os-aggregates", {"aggregate": {"name": "a", "availability_zone": "z"}}).json[
        "aggregate"
    ]["id"]
    admin.post("/v2.1/os-keypairs", {"keypair": {"name": "k"}})
    admin.post("/v2.1/flavors/42/os-extra_specs", {"extra_specs": {"hw:cpu_policy": "shared"}})
    paths = [
        "/v2.1/servers",
        "/v2.1/servers?limit=1",
        "/v2.1/servers/detail?all_tenants=1",
        f"/v2.1/servers/{server}",
        *(
            f"/v2.1/servers/{server}/{what}"
            for what in (
                "ips",
                "ips/private",
                "metadata",
                "metadata/a",
                "tags",
                "os-instance-actions",
                f"os-instance-actions/{action}",
                "os-interface",
                f"os-interface/{nic}",
                "os-volume_attachments",
                f"os-volume_attachments/{volume.id}",
                "os-server-password",
                "diagnostics",
                "topology",
                "os-security-groups",
                "migrations",
            )
        ),
        "/v2.1/flavors",
        "/v2.1/flavors/detail",
        "/v2.1/flavors/42",
        "/v2.1/flavors/42/os-extra_specs",
        "/v2.1/os-keypairs",
        "/v2.1/os-keypairs/k",
        "/v2.1/limits",
        *(f"/v2.1/os-quota-sets/{PROJECT}{what}" for what in ("", "/detail", "/defaults")),
        "/v2.1/os-quota-class-sets/default",
        "/v2.1/os-services",
        "/v2.1/os-hosts",
        f"/v2.1/os-hosts/{HOST}",
        "/v2.1/os-hypervisors",
        "/v2.1/os-hypervisors/detail",
        "/v2.1/os-hypervisors/statistics",
        "/v2.1/os-hypervisors/1",
        f"/v2.1/os-hypervisors/{HOST}/search",
        f"/v2.1/os-hypervisors/{HOST}/servers",
        "/v2.1/os-aggregates",
        f"/v2.1/os-aggregates/{aggregate}",
        "/v2.1/os-availability-zone",
        "/v2.1/os-availability-zone/detail",
        "/v2.1/os-server-groups",
        f"/v2.1/os-server-groups/{group}",
        "/v2.1/os-simple-tenant-usage?detailed=1",
        f"/v2.1/os-simple-tenant-usage/{PROJECT}",
        "/v2.1/os-migrations",
        "/v2.1/os-instance_usage_audit_log",
        "/v2.1/os-instance_usage_audit_log/2026-01-01%2000:00:00",
        "/v2.1/extensions",
        "/v2.1/extensions/os-keypairs",
    ]
    wrong = []
    for version in VERSIONS:
        client = world.client("admin", version)
        for path in paths:
            answer = client.get(path)
            if answer.status not in {200, 404, 405} and not (
                answer.status == 400 and path.startswith("/v2.1/os-hypervisors/")
            ):
                wrong.append((version, path, answer.status, answer.content[:200]))
    assert wrong == []
    answered = {
        path for path in paths for version in ("2.1", "2.96") if world.client("admin", version).get(path).status == 200
    }
    assert set(paths) - answered == set()


def test_writes_answer_at_every_version(world: World) -> None:
    """Actions and creations in the shape of their version."""
    server = world.boot()
    wrong = []
    for number, version in enumerate(VERSIONS):
        client = world.client("admin", version)
        later = number + 1 >= 64
        group = {"name": "g", "policy": "affinity"} if later else {"name": "g", "policies": ["affinity"]}
        vnc = {"remote_console": {"protocol": "vnc", "type": "novnc"}}
        old_vnc = {"os-getVNCConsole": {"type": "novnc"}}
        is_old = number + 1 <= 5
        key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFMEvU3bA5cb2aL+EGhO3IVjtkz6qUGhyIiX77r0ia+1 me"
        calls = [
            ("POST", "/v2.1/os-server-groups", {"server_group": group}),
            ("POST", "/v2.1/os-keypairs", {"keypair": {"name": f"k{number}", "public_key": key}}),
            (
                "POST",
                "/v2.1/flavors",
                {"flavor": {"name": f"f{number}", "ram": 64, "vcpus": 1, "disk": 1, "id": f"f{number}"}},
            ),
            ("POST", "/v2.1/os-aggregates", {"aggregate": {"name": f"a{number}"}}),
            ("PUT", f"/v2.1/os-quota-sets/{PROJECT}", {"quota_set": {"cores": 100}}),
            ("PUT", "/v2.1/os-quota-class-sets/default", {"quota_class_set": {"cores": 100}}),
            ("PUT", f"/v2.1/servers/{server}", {"server": {"name": f"vm{number}"}}),
            ("POST", f"/v2.1/servers/{server}/action", {"os-getConsoleOutput": {"length": 3}}),
            ("POST", f"/v2.1/servers/{server}/action", old_vnc)
            if is_old
            else ("POST", f"/v2.1/servers/{server}/remote-consoles", vnc),
            ("POST", f"/v2.1/servers/{server}/action", {"rebuild": {"imageRef": world.image.id}}),
            (
                "POST",
                "/v2.1/os-server-external-events",
                {"events": [{"name": "network-changed", "server_uuid": server}]},
            ),
        ]
        for method, path, body in calls:
            answer = client(method, path, body)
            if answer.status >= 300:
                wrong.append((version, method, path, answer.status, answer.content[:200]))
        world.settle(server)
    assert wrong == []


def test_old_forms_of_the_path(world: World) -> None:
    """The project's id may stand in the path, if it is the caller's own; /v2 answers as 2.1 whatever version is asked for."""
    client = world.client()
    assert client.get(f"/v2.1/{PROJECT}/servers").status == 200
    refused = client.get(f"/v2.1/{'2' * 32}/servers")
    assert refused.status == 400
    assert "Malformed request URL" in refused.json["badRequest"]["message"]
    assert world.client(token=None).get(f"/v2.1/{PROJECT}/servers").status == 401
    old = world.client(version="2.96").get("/v2/flavors/42")
    assert old.status == 200
    assert "description" not in old.json["flavor"]


def test_version_documents(world: World) -> None:
    """Everybody may read which versions there are, and the links lead back."""
    stranger = world.client(token=None)
    versions = stranger.get("/").json["versions"]
    assert [one["id"] for one in versions] == ["v2.0", "v2.1"]
    assert versions[1]["version"] == "2.96"
    assert versions[1]["links"][0]["href"] == "http://cloud.test/compute/v2.1/"
    for path in ("/v2.1", "/v2.1/"):
        assert stranger.get(path).json["version"]["id"] == "v2.1"
    assert stranger.get("/v2/").json["version"]["id"] == "v2.0"
    answer = world.client(version="2.60").get("/v2.1/flavors")
    assert answer.headers["openstack-api-version"] == "compute 2.60"
    assert answer.headers["x-openstack-nova-api-version"] == "2.60"
    assert world.client(version="2.97").get("/v2.1/flavors").status == 406
