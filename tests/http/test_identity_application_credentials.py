"""Application credentials, access rules and trusts: what is given on is never more than one has."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.http.harness import Answer, ApiClient
from tests.http.identity_cloud import Cloud

from cumulet.core.context import AccessRule


@pytest.fixture
def cloud(tmp_path: Path, database_url: str) -> Iterator[Cloud]:
    """An identity service of the test's own."""
    cloud = Cloud(tmp_path, url=database_url)
    yield cloud
    cloud.close()


def create(client: ApiClient, user_id: str, **given: Any) -> Answer:
    """Ask for a credential."""
    body = {"application_credential": {"name": "ci", **given}}
    return client.post(f"/v3/users/{user_id}/application_credentials", body)


def made(cloud: Cloud, **given: Any) -> dict[str, Any]:
    """A credential of the demo user."""
    answer = create(cloud.demo, cloud.first.demo_user_id, **given)
    assert answer.status == 201, answer.json
    credential: dict[str, Any] = answer.json["application_credential"]
    return credential


def log_in(cloud: Cloud, credential: dict[str, Any], **more: Any) -> Answer:
    """Log in with a credential."""
    given = {"id": credential["id"], "secret": credential["secret"], **more}
    return cloud.authenticate({"methods": ["application_credential"], "application_credential": given})


def holder(cloud: Cloud, credential: dict[str, Any]) -> ApiClient:
    """A client with a credential's token."""
    return cloud.as_(log_in(cloud, credential).headers["x-subject-token"])


def test_a_credential_logs_in_for_its_project_and_shows_its_secret_once(cloud: Cloud) -> None:
    """The token is the user's on the credential's project, and names the credential."""
    credential = made(cloud, description="for the pipeline")
    assert credential["roles"][0].keys() == {"id", "name", "domain_id"}
    assert (
        "secret" not in cloud.demo.get(f"/v3/users/{cloud.first.demo_user_id}/application_credentials").content.decode()
    )
    token = log_in(cloud, credential).json["token"]
    assert token["project"]["id"] == cloud.first.demo_project_id
    assert token["methods"] == ["application_credential"]
    assert token["application_credential"] == {"id": credential["id"], "name": "ci", "restricted": True}
    assert [role["name"] for role in token["roles"]] == ["member", "reader"]
    by_name = {"name": "ci", "user": {"name": "demo", "domain": {"id": "default"}}, "secret": credential["secret"]}
    identity = {"methods": ["application_credential"], "application_credential": by_name}
    assert cloud.authenticate(identity).status == 201


@pytest.mark.parametrize("wrong", [{"secret": "wrong"}, {"id": "0" * 32}, {"secret": ""}])
def test_a_wrong_secret_and_an_unknown_credential_are_answered_alike(cloud: Cloud, wrong: dict[str, Any]) -> None:
    """401 with the usual words."""
    answer = log_in(cloud, made(cloud), **wrong)
    assert answer.status == 401
    assert answer.json["error"]["message"] == "The request you have made requires authentication."


def test_a_credential_does_not_choose_its_scope(cloud: Cloud) -> None:
    """Neither at login nor by exchanging its token."""
    credential = made(cloud)
    given = {"id": credential["id"], "secret": credential["secret"]}
    identity = {"methods": ["application_credential"], "application_credential": given}
    scope = {"project": {"id": cloud.first.demo_project_id}}
    assert cloud.authenticate(identity, scope).status == 401
    token = log_in(cloud, credential).headers["x-subject-token"]
    assert cloud.authenticate({"methods": ["token"], "token": {"id": token}}, scope).status == 403
    again = cloud.authenticate({"methods": ["token"], "token": {"id": token}}).json["token"]
    assert again["application_credential"]["id"] == credential["id"]
    assert again["project"]["id"] == cloud.first.demo_project_id


def test_a_secret_of_ones_own_choice_works(cloud: Cloud) -> None:
    """Hashed as a password is, since it may be guessed."""
    credential = made(cloud, secret="my own words")
    assert credential["secret"] == "my own words"
    assert log_in(cloud, credential).status == 201
    assert log_in(cloud, credential, secret="my other words").status == 401


def test_a_credential_has_only_roles_that_the_token_has(cloud: Cloud) -> None:
    """Fewer is possible, more is 400; losing the role takes it from the credential, losing all ends it."""
    reader = made(cloud, name="look", roles=[{"name": "reader"}])
    assert [role["name"] for role in log_in(cloud, reader).json["token"]["roles"]] == ["reader"]
    assert create(cloud.demo, cloud.first.demo_user_id, name="x", roles=[{"name": "admin"}]).status == 400
    assert create(cloud.demo, cloud.first.demo_user_id, name="x", roles=[{"name": "nothing"}]).status == 400
    whole = made(cloud, name="whole")
    demo = f"/v3/projects/{cloud.first.demo_project_id}/users/{cloud.first.demo_user_id}/roles/"
    cloud.admin.put(demo + cloud.role("reader"))
    cloud.admin.delete(demo + cloud.role("member"))
    assert [role["name"] for role in log_in(cloud, whole).json["token"]["roles"]] == ["reader"]
    cloud.admin.delete(demo + cloud.role("reader"))
    assert log_in(cloud, whole).status == 401


def test_a_credential_ends_with_its_time_or_its_deletion(cloud: Cloud) -> None:
    """Its tokens too, at once."""
    soon = made(cloud, name="soon", expires_at="2026-01-31T12:30:00Z")
    assert soon["expires_at"] == "2026-01-31T12:30:00.000000"
    gone = made(cloud, name="gone")
    tokens = [log_in(cloud, credential).headers["x-subject-token"] for credential in (soon, gone)]
    path = f"/v3/users/{cloud.first.demo_user_id}/application_credentials/"
    assert cloud.demo.delete(path + gone["id"]).status == 204
    assert [cloud.valid(token) for token in tokens] == [True, False]
    cloud.clock.pass_seconds(1800)
    assert [cloud.valid(token) for token in tokens] == [False, False]
    assert log_in(cloud, soon).status == log_in(cloud, gone).status == 401
    assert create(cloud.demo, cloud.first.demo_user_id, expires_at="2020-01-01T00:00:00").status == 400
    assert create(cloud.demo, cloud.first.demo_user_id, expires_at="soon").status == 400


def test_a_restricted_credential_makes_nothing(cloud: Cloud) -> None:
    """No application credential, no trust, no EC2 keys, no other credential; nor does it delete itself."""
    credential = made(cloud)
    client = holder(cloud, credential)
    user = cloud.first.demo_user_id
    project = cloud.first.demo_project_id
    assert create(client, user, name="child").status == 403
    assert client.delete(f"/v3/users/{user}/application_credentials/{credential['id']}").status == 403
    assert client.post(f"/v3/users/{user}/credentials/OS-EC2", {"tenant_id": project}).status == 403
    blob = {"user_id": user, "project_id": project, "type": "cert", "blob": "x"}
    assert client.post("/v3/credentials", {"credential": blob}).status == 403
    assert client.post("/v3/OS-TRUST/trusts", {"trust": trust(cloud)}).status == 403


@pytest.mark.parametrize(
    ("parent", "child", "status"),
    [
        ({}, {}, 201),
        ({}, {"unrestricted": True}, 201),
        ({"roles": [{"name": "reader"}]}, {"roles": [{"name": "member"}]}, 400),
        ({"expires_at": "2026-01-31T12:30:00"}, {"expires_at": "2026-01-31T12:40:00"}, 403),
        ({"expires_at": "2026-01-31T12:30:00"}, {"expires_at": "2026-01-31T12:20:00"}, 201),
    ],
)
def test_an_unrestricted_credential_makes_none_wider_than_itself(
    cloud: Cloud, parent: dict[str, Any], child: dict[str, Any], status: int
) -> None:
    """Neither in roles nor in time."""
    client = holder(cloud, made(cloud, name="parent", unrestricted=True, **parent))
    assert create(client, cloud.first.demo_user_id, name="child", **child).status == status


def test_a_child_ends_with_its_parents_time(cloud: Cloud) -> None:
    """Without a time of its own it has that of the credential it was made with."""
    client = holder(cloud, made(cloud, name="parent", unrestricted=True, expires_at="2026-01-31T12:30:00"))
    child = create(client, cloud.first.demo_user_id, name="child").json["application_credential"]
    assert child["expires_at"] == "2026-01-31T12:30:00.000000"


RULE = {"service": "identity", "method": "GET", "path": "/v3/auth/projects"}


def test_a_credential_keeps_to_its_access_rules(cloud: Cloud) -> None:
    """Another path, another method, another service: 401, as if there were no token."""
    credential = made(cloud, access_rules=[RULE])
    assert {key: credential["access_rules"][0][key] for key in RULE} == RULE
    client = holder(cloud, credential)
    assert client.get("/v3/auth/projects").status == 200
    assert client.get("/v3/auth/catalog").status == 401
    assert client.post("/v3/projects", {"project": {"name": "x"}}).status == 401
    headers = {"x-subject-token": client.token or ""}
    assert cloud.admin.get("/v3/auth/tokens", headers=headers).status == 404, "who cannot check rules gets no answer"
    known = {**headers, "openstack-identity-access-rules": "1.0"}
    shown = cloud.admin.get("/v3/auth/tokens", headers=known).json["token"]["application_credential"]
    assert shown["access_rules"] == credential["access_rules"]


def test_a_credential_with_rules_makes_none_without(cloud: Cloud) -> None:
    """Even where it is unrestricted and its rules let it make credentials: the child has those rules or fewer."""
    user = cloud.first.demo_user_id
    rules = [{"service": "identity", "method": "POST", "path": "/v3/users/*/application_credentials"}, RULE]
    client = holder(cloud, made(cloud, name="parent", unrestricted=True, access_rules=rules))
    child = create(client, user, name="one").json["application_credential"]
    assert {rule["path"] for rule in child["access_rules"]} == {rule["path"] for rule in rules}
    wider = [{"service": "identity", "method": "GET", "path": "/v3/**"}]
    assert create(client, user, name="two", access_rules=wider).status == 403
    assert create(client, user, name="three", access_rules=[RULE]).status == 201


@pytest.mark.parametrize(
    ("rule", "path", "permits"),
    [
        ("/v2.1/servers", "/v2.1/servers", True),
        ("/v2.1/servers", "/v2.1/servers/1", False),
        ("/v2.1/servers/*", "/v2.1/servers/1", True),
        ("/v2.1/servers/*", "/v2.1/servers/1/action", False),
        ("/v2.1/servers/{server_id}/ips", "/v2.1/servers/1/ips", True),
        ("/v2.1/**", "/v2.1/servers/1/ips", True),
        ("/v2.1/servers.", "/v2.1/servers1", False),
    ],
)
def test_a_path_of_a_rule(rule: str, path: str, permits: bool) -> None:
    """`*` and `{name}` stand for one segment, `**` for any number; everything else for itself."""
    assert AccessRule("compute", "GET", rule).permits("compute", "GET", path) is permits
    assert not AccessRule("compute", "GET", rule).permits("image", "GET", path)
    assert not AccessRule("compute", "GET", rule).permits("compute", "POST", path)


def test_the_volume_service_goes_by_its_catalogue_types() -> None:
    """Rules name what stands in the catalogue."""
    for service in ("block-storage", "volumev3"):
        assert AccessRule(service, "GET", "/v3/**").permits("volume", "GET", "/v3/volumes")


def test_an_access_rule_outlives_its_credential_and_cannot_be_deleted_in_use(cloud: Cloud) -> None:
    """A rule is the user's; equal rules are one."""
    user = cloud.first.demo_user_id
    one = made(cloud, name="one", access_rules=[RULE])
    two = made(cloud, name="two", access_rules=[RULE])
    rule_id = one["access_rules"][0]["id"]
    assert two["access_rules"][0]["id"] == rule_id
    path = f"/v3/users/{user}/access_rules"
    assert [rule["id"] for rule in cloud.demo.get(path).json["access_rules"]] == [rule_id]
    assert cloud.demo.get(f"{path}/{rule_id}").json["access_rule"]["path"] == RULE["path"]
    assert cloud.demo.delete(f"{path}/{rule_id}").status == 403
    for credential in (one, two):
        cloud.demo.delete(f"/v3/users/{user}/application_credentials/{credential['id']}")
    assert cloud.demo.delete(f"{path}/{rule_id}").status == 204
    assert cloud.demo.get(f"{path}/{rule_id}").status == 404


def test_nobody_makes_or_sees_another_users_credentials(cloud: Cloud) -> None:
    """The path may name whom it will: who owns the credential decides."""
    project = cloud.project("else")
    other = cloud.person("other", role="member", project=project)
    client = cloud.as_(cloud.token("other", "password", {"project": {"id": project}}))
    credential = made(cloud)
    demo = cloud.first.demo_user_id
    assert create(client, demo).status == 403
    assert create(cloud.admin, demo).status == 403
    assert client.get(f"/v3/users/{demo}/application_credentials").status == 403
    for user in (demo, other):
        path = f"/v3/users/{user}/application_credentials/{credential['id']}"
        assert client.get(path).status == 403
        assert client.delete(path).status == 403
    assert cloud.admin.delete(f"/v3/users/{demo}/application_credentials/{credential['id']}").status == 204


def trust(cloud: Cloud, **more: Any) -> dict[str, Any]:
    """A trust of the demo user in the administrator."""
    return {
        "trustor_user_id": cloud.first.demo_user_id,
        "trustee_user_id": cloud.first.admin_user_id,
        "project_id": cloud.first.demo_project_id,
        "impersonation": True,
        "roles": [{"name": "member"}],
        **more,
    }


def as_trustee(cloud: Cloud, trust_id: str) -> Answer:
    """The administrator logs in with a trust."""
    return cloud.log_in("admin", "admin-secret", {"OS-TRUST:trust": {"id": trust_id}})


def test_a_trustee_acts_for_the_trustor_with_the_roles_given(cloud: Cloud) -> None:
    """As the trustor or as itself, as the trust says; its token makes no other, no credential and no trust."""
    made_ = cloud.demo.post("/v3/OS-TRUST/trusts", {"trust": trust(cloud)})
    assert made_.status == 201
    answer = as_trustee(cloud, made_.json["trust"]["id"])
    token = answer.json["token"]
    assert token["user"]["name"] == "demo"
    assert [role["name"] for role in token["roles"]] == ["member", "reader"]
    assert token["OS-TRUST:trust"]["trustee_user"]["id"] == cloud.first.admin_user_id
    client = cloud.as_(answer.headers["x-subject-token"])
    assert create(client, cloud.first.demo_user_id).status == 403
    assert client.post("/v3/OS-TRUST/trusts", {"trust": trust(cloud)}).status == 403
    rescope = cloud.authenticate({"methods": ["token"], "token": {"id": client.token}}, {"project": {"id": "x"}})
    assert rescope.status == 403
    itself = cloud.demo.post("/v3/OS-TRUST/trusts", {"trust": trust(cloud, impersonation=False)}).json["trust"]["id"]
    assert as_trustee(cloud, itself).json["token"]["user"]["name"] == "admin"


def test_a_trust_gives_only_what_the_trustor_has_and_ends_with_it(cloud: Cloud) -> None:
    """A role it has not is 404; when it loses the role, the trust's tokens are worth nothing."""
    client = cloud.demo
    assert client.post("/v3/OS-TRUST/trusts", {"trust": trust(cloud, roles=[{"name": "admin"}])}).status == 404
    assert client.post("/v3/OS-TRUST/trusts", {"trust": trust(cloud, roles=[])}).status == 403
    assert cloud.admin.post("/v3/OS-TRUST/trusts", {"trust": trust(cloud)}).status == 403
    trust_id = client.post("/v3/OS-TRUST/trusts", {"trust": trust(cloud)}).json["trust"]["id"]
    token = as_trustee(cloud, trust_id).headers["x-subject-token"]
    assert cloud.valid(token)
    demo = f"/v3/projects/{cloud.first.demo_project_id}/users/{cloud.first.demo_user_id}/roles/"
    cloud.admin.delete(demo + cloud.role("member"))
    assert not cloud.valid(token)
    assert as_trustee(cloud, trust_id).status in {401, 403}


def test_a_trust_can_be_used_up(cloud: Cloud) -> None:
    """As often as it says, and not once more; a deleted one not at all."""
    once = cloud.demo.post("/v3/OS-TRUST/trusts", {"trust": trust(cloud, remaining_uses=1)}).json["trust"]["id"]
    assert as_trustee(cloud, once).status == 201
    assert as_trustee(cloud, once).status in {401, 403}
    other = cloud.demo.post("/v3/OS-TRUST/trusts", {"trust": trust(cloud)}).json["trust"]["id"]
    assert cloud.demo.delete(f"/v3/OS-TRUST/trusts/{other}").status == 204
    assert as_trustee(cloud, other).status == 401
    assert cloud.demo.get(f"/v3/OS-TRUST/trusts/{other}").status == 404
