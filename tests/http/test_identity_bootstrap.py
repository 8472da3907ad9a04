"""The first rows, and the catalogue's addresses."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.http.harness import ApiClient
from tests.http.identity_cloud import Cloud

from cumulet.core.context import Secret


@pytest.fixture
def cloud(tmp_path: Path, database_url: str) -> Iterator[Cloud]:
    """An identity service of the test's own."""
    cloud = Cloud(tmp_path, url=database_url)
    yield cloud
    cloud.close()


def test_a_second_start_adds_nothing_and_keeps_passwords(cloud: Cloud) -> None:
    """The same ids, the passwords as people have set them; services get new secrets, the old ones are void."""
    kinds = ("users", "projects", "roles", "services", "endpoints", "regions", "domains", "role_assignments")
    admin = cloud.admin
    before = {kind: admin.get(f"/v3/{kind}").json[kind] for kind in kinds}
    admin.patch(f"/v3/users/{cloud.first.demo_user_id}", {"user": {"password": "my own"}})
    again = cloud.bootstrap()
    assert {kind: cloud.admin.get(f"/v3/{kind}").json[kind] for kind in kinds} == before
    assert cloud.first.first is True
    assert again.first is False
    assert (again.demo_user_id, again.admin_project_id) == (cloud.first.demo_user_id, cloud.first.admin_project_id)
    assert cloud.log_in("demo", "my own").status == 201
    assert cloud.log_in("demo", "demo-secret").status == 401
    scope = {"project": {"name": "service", "domain": {"id": "default"}}}
    assert cloud.log_in("nova", cloud.first.service_secrets["nova"].reveal(), scope).status == 401
    assert cloud.log_in("nova", again.service_secrets["nova"].reveal(), scope).status == 201
    assert "secret" not in repr(again).lower().replace("secret(***)", "").replace("service_secrets", "")


def test_several_processes_agree_on_the_services_secrets(cloud: Cloud) -> None:
    """Secrets that are given are the ones that count."""
    given = {"nova": Secret("a-secret-from-the-operator")}
    cloud.service.bootstrap(admin_password=Secret("x"), demo_password=Secret("x"), service_secrets=given)
    scope = {"project": {"name": "service", "domain": {"id": "default"}}}
    assert cloud.log_in("nova", "a-secret-from-the-operator", scope).status == 201


def test_a_role_that_was_changed_stays_so(cloud: Cloud) -> None:
    """An implication that an operator removed is not laid down again."""
    rule = f"/v3/roles/{cloud.role('member')}/implies/{cloud.role('reader')}"
    assert cloud.admin.delete(rule).status == 204
    cloud.bootstrap()
    assert cloud.admin.get(rule).status == 404


def test_the_catalogue_follows_the_address_the_client_came_by(cloud: Cloud) -> None:
    """Nothing is rewritten for another public address; links and endpoints follow it."""
    token = cloud.token("demo", "demo-secret")
    for base in ("http://cloud.test", "https://cloud.example.org:8443", "http://[::1]:8780"):
        client = ApiClient(cloud.app, token, base_url=f"{base}/identity")
        urls = {
            service["type"]: {endpoint["url"] for endpoint in service["endpoints"]}
            for service in client.get("/v3/auth/catalog").json["catalog"]
        }
        assert urls == {
            "identity": {f"{base}/identity"},
            "compute": {f"{base}/compute/v2.1"},
            "image": {f"{base}/image"},
            "network": {f"{base}/network"},
            "block-storage": {f"{base}/volume/v3"},
            "volumev3": {f"{base}/volume/v3"},
            "placement": {f"{base}/placement"},
        }
    listed = cloud.admin.get("/v3/endpoints").json["endpoints"]
    assert all(endpoint["url"].startswith("http://cloud.test/") for endpoint in listed)
    assert {endpoint["interface"] for endpoint in listed} == {"public", "internal", "admin"}


def test_an_endpoint_may_name_the_project(cloud: Cloud) -> None:
    """`$(project_id)s` is filled in a project's catalogue and leaves the endpoint out of a system's."""
    service = cloud.admin.get("/v3/services?type=compute").json["services"][0]["id"]
    url = "$(public_url)s/compute/v2.1/$(project_id)s"
    body = {"endpoint": {"service_id": service, "interface": "public", "url": "http://x", "region": "Moon"}}
    endpoint = cloud.admin.post("/v3/endpoints", body).json["endpoint"]["id"]
    cloud.admin.patch(f"/v3/endpoints/{endpoint}", {"endpoint": {"url": "http://x/%(tenant_id)s"}})
    assert cloud.admin.get("/v3/regions/Moon").status == 200

    def urls(client: ApiClient) -> set[str]:
        token = client.get("/v3/auth/tokens", headers={"x-subject-token": client.token or ""}).json["token"]
        return {e["url"] for s in token["catalog"] for e in s["endpoints"] if e["id"] == endpoint}

    assert url
    assert urls(cloud.demo) == {f"http://x/{cloud.first.demo_project_id}"}
    assert urls(cloud.system) == set()


def test_a_project_may_be_limited_to_some_endpoints(cloud: Cloud) -> None:
    """One by one or by a group; others see all of them."""
    endpoint = cloud.admin.get("/v3/endpoints?interface=public").json["endpoints"][0]
    path = f"/v3/OS-EP-FILTER/projects/{cloud.first.demo_project_id}/endpoints/{endpoint['id']}"
    assert cloud.admin.put(path).status == 204

    def shown(client: ApiClient) -> set[str]:
        catalog = client.get("/v3/auth/catalog").json["catalog"]
        return {e["id"] for service in catalog for e in service["endpoints"]}

    assert shown(cloud.demo) == {endpoint["id"]}
    assert len(shown(cloud.admin)) == 21
    group = {"name": "internal", "filters": {"interface": "internal"}}
    made = cloud.admin.post("/v3/OS-EP-FILTER/endpoint_groups", {"endpoint_group": group}).json["endpoint_group"]["id"]
    assert (
        cloud.admin.put(f"/v3/OS-EP-FILTER/endpoint_groups/{made}/projects/{cloud.first.demo_project_id}").status == 204
    )
    assert len(shown(cloud.demo)) == 8
    assert cloud.admin.delete(path).status == 204
    assert len(shown(cloud.demo)) == 7
