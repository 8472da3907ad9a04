"""Identity on PostgreSQL: the same answers as on SQLite, for everything its store does."""

from pathlib import Path

from tests.http.identity_cloud import Cloud


def test_a_life_on_postgresql(postgres_url: str, tmp_path: Path) -> None:
    """Domains, projects, users, groups, roles, assignments, tokens, credentials, limits: made, listed, used, deleted."""
    cloud = Cloud(tmp_path, url=postgres_url, shared_database=True)
    admin = cloud.admin
    domain = cloud.domain("shop")
    project = cloud.project("till", domain_id=domain, tags=["red"])
    user = cloud.person("ada", domain=domain)
    assert admin.post("/v3/users", {"user": {"name": "ada", "domain_id": domain}}).status == 409
    group = admin.post("/v3/groups", {"group": {"name": "g", "domain_id": domain}}).json["group"]["id"]
    assert admin.put(f"/v3/groups/{group}/users/{user}").status == 204
    assert admin.put(f"/v3/groups/{group}/users/{user}").status == 204
    member = cloud.role("member")
    grant = f"/v3/OS-INHERIT/domains/{domain}/groups/{group}/roles/{member}/inherited_to_projects"
    assert admin.put(grant).status == admin.put(grant).status == 204
    scope = {"project": {"id": project}}
    token = cloud.token("ada", "password", scope, domain=domain)
    client = cloud.as_(token)
    assert [p["id"] for p in client.get("/v3/auth/projects").json["projects"]] == [project]
    body = {"application_credential": {"name": "ci"}}
    credential = client.post(f"/v3/users/{user}/application_credentials", body).json["application_credential"]
    given = {key: credential[key] for key in ("id", "secret")}
    assert cloud.authenticate({"methods": ["application_credential"], "application_credential": given}).status == 201
    effective = admin.get(f"/v3/role_assignments?effective&user.id={user}&include_names").json["role_assignments"]
    assert {a["role"]["name"] for a in effective} == {"member", "reader"}
    assert admin.get("/v3/users?limit=2").json["links"]["next"]
    service = admin.get("/v3/services?type=compute").json["services"][0]["id"]
    registered = {"service_id": service, "resource_name": "servers", "default_limit": 1}
    assert admin.post("/v3/registered_limits", {"registered_limits": [registered]}).status == 201
    assert admin.post("/v3/registered_limits", {"registered_limits": [registered]}).status == 409
    other = Cloud(tmp_path, url=postgres_url, shared_database=True)
    assert other.first.first is False
    assert other.admin.delete(grant).status == 204
    assert client.get("/v3/auth/projects").status == 401
    audit_id = admin.get("/v3/auth/tokens", headers={"x-subject-token": admin.token or ""}).json["token"]["audit_ids"][
        0
    ]
    assert cloud.service.tokens.issued(audit_id) is not None
    assert admin.delete("/v3/auth/tokens", headers={"x-subject-token": admin.token or ""}).status == 204
    fresh = other.admin
    fresh.patch(f"/v3/domains/{domain}", {"domain": {"enabled": False}})
    assert fresh.delete(f"/v3/domains/{domain}").status == 204
    assert fresh.get(f"/v3/users/{user}").status == 404
    cloud.close()
    other.close()
