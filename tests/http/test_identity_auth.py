"""Logging in, and what the token then says."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.http.identity_cloud import Cloud


@pytest.fixture
def cloud(tmp_path: Path, database_url: str) -> Iterator[Cloud]:
    """An identity service of the test's own."""
    cloud = Cloud(tmp_path, url=database_url)
    yield cloud
    cloud.close()


def test_a_password_gives_a_token_for_the_default_project(cloud: Cloud) -> None:
    """Without a scope the token is for the user's default project, with its roles and what they imply."""
    answer = cloud.log_in("demo", "demo-secret")
    assert answer.status == 201
    token = answer.json["token"]
    assert token["user"]["name"] == "demo"
    assert token["user"]["domain"] == {"id": "default", "name": "Default"}
    assert token["methods"] == ["password"]
    assert token["project"] == {
        "id": cloud.first.demo_project_id,
        "name": "demo",
        "domain": {"id": "default", "name": "Default"},
    }
    assert token["is_domain"] is False
    assert [role["name"] for role in token["roles"]] == ["member", "reader"]
    assert token["expires_at"] == "2026-01-31T13:00:00" + token["issued_at"][19:]
    assert len(token["audit_ids"]) == 1
    assert len(answer.headers["x-subject-token"]) < 255


@pytest.mark.parametrize(
    "user",
    [
        {"name": "demo", "domain": {"name": "Default"}, "password": "wrong"},
        {"name": "nobody", "domain": {"name": "Default"}, "password": "demo-secret"},
        {"name": "demo", "domain": {"name": "Nowhere"}, "password": "demo-secret"},
        {"id": "0" * 32, "password": "demo-secret"},
        {"name": "demo", "domain": {"name": "Default"}, "password": "demo-secret" + "x" * 80},
        {"name": "demo", "domain": {"name": "Default"}, "password": ""},
    ],
)
def test_a_stranger_learns_nothing_from_a_failed_login(cloud: Cloud, user: dict[str, Any]) -> None:
    """Wrong password, unknown user, unknown domain, impossible password: one status, the same words."""
    answer = cloud.authenticate({"methods": ["password"], "password": {"user": user}})
    assert answer.status == 401
    assert answer.json["error"]["message"] == "The request you have made requires authentication."
    assert "x-subject-token" not in answer.headers


def test_an_unknown_user_is_hashed_for_as_long_as_a_known_one(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of a failed login does not tell whether the user exists: both check one hash of the same cost."""
    checked: list[str] = []
    monkeypatch.setattr("bcrypt.checkpw", lambda _password, stored: checked.append(stored.decode()[:7]) or False)
    cloud.log_in("demo", "wrong")
    cloud.log_in("nobody", "wrong")
    assert checked == ["$2b$04$", "$2b$04$"]


@pytest.mark.parametrize(
    ("auth", "status"),
    [
        ({}, 400),
        ({"identity": {}}, 400),
        ({"identity": {"methods": []}}, 400),
        ({"identity": {"methods": ["password"]}}, 400),
        ({"identity": {"methods": ["totp"], "totp": {}}}, 401),
        ({"identity": {"methods": ["password"], "password": {"user": {"name": "demo", "password": "x"}}}}, 400),
        ({"identity": {"methods": ["password"], "password": {"user": {"id": 7, "password": "x"}}}}, 400),
        ({"identity": {"methods": ["token"], "token": {"id": "rubbish"}}}, 404),
    ],
)
def test_a_login_that_makes_no_sense_is_refused(cloud: Cloud, auth: dict[str, Any], status: int) -> None:
    """What is missing is 400; a method that is not offered is 401; a token that is none is 404, as the reference says."""
    assert cloud.anyone.post("/v3/auth/tokens", {"auth": auth}).status == status


@pytest.mark.parametrize(
    ("scope", "key"),
    [
        ({"project": {"name": "admin", "domain": {"id": "default"}}}, "project"),
        ({"project": {"name": "admin", "domain": {"name": "Default"}}}, "project"),
        ({"system": {"all": True}}, "system"),
        ("unscoped", None),
        ({"unscoped": {}}, None),
    ],
)
def test_a_token_is_for_the_scope_that_was_asked(cloud: Cloud, scope: Any, key: str | None) -> None:
    """Exactly one scope, or none; roles and catalogue go with a scope only."""
    token = cloud.log_in("admin", "admin-secret", scope).json["token"]
    assert {"project", "domain", "system"} & set(token) == ({key} if key else set())
    assert ("roles" in token) is ("catalog" in token) is (key is not None)


@pytest.mark.parametrize(
    ("scope", "status"),
    [
        ({"project": {"name": "admin", "domain": {"id": "default"}}}, 401),
        ({"project": {"name": "nothing", "domain": {"id": "default"}}}, 401),
        ({"project": {"id": "default"}}, 401),
        ({"domain": {"id": "default"}}, 401),
        ({"system": {"all": True}}, 401),
        ({"project": {"name": "demo"}}, 400),
        ({"project": {}}, 400),
        ({"system": {"all": False}}, 400),
        ({"project": {"id": "x"}, "domain": {"id": "default"}}, 400),
        ({"nonsense": {}}, 400),
    ],
)
def test_a_scope_without_a_role_is_refused(cloud: Cloud, scope: Any, status: int) -> None:
    """Where the user has no role there is no token, whether the place exists or not."""
    assert cloud.log_in("demo", "demo-secret", scope).status == status


def test_a_domain_is_a_scope_of_its_own(cloud: Cloud) -> None:
    """A role on a domain gives a token for the domain, none for its projects."""
    domain = cloud.domain("shop")
    user = cloud.person("keeper", domain=domain)
    cloud.admin.put(f"/v3/domains/{domain}/users/{user}/roles/{cloud.role('manager')}")
    token = cloud.log_in("keeper", "password", {"domain": {"name": "shop"}}, domain=domain).json["token"]
    assert token["domain"] == {"id": domain, "name": "shop"}
    assert [role["name"] for role in token["roles"]] == ["manager", "member", "reader"]
    assert "project" not in token


def test_a_token_is_exchanged_for_another_scope_and_lives_no_longer(cloud: Cloud) -> None:
    """Rescoping keeps the expiry and the first token's audit id at the end of the chain, however often it is done."""
    first = cloud.log_in("admin", "admin-secret", "unscoped")
    cloud.clock.pass_seconds(600)
    scope = {"project": {"id": cloud.first.demo_project_id}}
    second = cloud.authenticate({"methods": ["token"], "token": {"id": first.headers["x-subject-token"]}}, scope)
    third = cloud.authenticate({"methods": ["token"], "token": {"id": second.headers["x-subject-token"]}}, scope)
    one, two, three = (answer.json["token"] for answer in (first, second, third))
    assert two["expires_at"] == three["expires_at"] == one["expires_at"]
    assert two["audit_ids"][1] == three["audit_ids"][1] == one["audit_ids"][0]
    assert len({token["audit_ids"][0] for token in (one, two, three)}) == 3
    assert set(three["methods"]) == {"token", "password"}


def test_a_system_token_does_not_become_a_projects(cloud: Cloud) -> None:
    """The wider scope is not traded for a project's."""
    system = cloud.token("admin", "admin-secret", {"system": {"all": True}})
    scope = {"project": {"id": cloud.first.admin_project_id}}
    assert cloud.authenticate({"methods": ["token"], "token": {"id": system}}, scope).status == 403


def test_a_token_is_looked_at_by_its_holder_by_services_and_by_the_administrator(cloud: Cloud) -> None:
    """Anybody else is refused; the answer is the token as it was issued."""
    issued = cloud.log_in("demo", "demo-secret")
    token = issued.headers["x-subject-token"]
    other = cloud.person("other", role="member", project=cloud.project("else"))
    assert other
    scope = {"project": {"name": "else", "domain": {"id": "default"}}}
    secret = cloud.first.service_secrets["nova"].reveal()
    service = cloud.as_(cloud.token("nova", secret, {"project": {"id": cloud.first.service_project_id}}))
    for client, status in (
        (cloud.demo, 200),
        (service, 200),
        (cloud.admin, 200),
        (cloud.as_(cloud.token("other", "password", scope)), 403),
        (cloud.anyone, 401),
    ):
        answer = client.get("/v3/auth/tokens", headers={"x-subject-token": token})
        assert answer.status == status
        if status == 200:
            assert answer.json == issued.json
            assert answer.headers["x-subject-token"] == token


def test_the_catalogue_can_be_left_out(cloud: Cloud) -> None:
    """`?nocatalog` on issue and on validation."""
    user = {"name": "demo", "domain": {"id": "default"}, "password": "demo-secret"}
    auth = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}}}
    issued = cloud.anyone.post("/v3/auth/tokens?nocatalog", auth)
    assert "catalog" not in issued.json["token"]
    headers = {"x-subject-token": issued.headers["x-subject-token"]}
    assert "catalog" in cloud.admin.get("/v3/auth/tokens", headers=headers).json["token"]
    assert "catalog" not in cloud.admin.get("/v3/auth/tokens?nocatalog", headers=headers).json["token"]


def test_a_revoked_token_is_gone_and_others_are_not(cloud: Cloud) -> None:
    """DELETE ends one token: 404 for whoever looks at it, 401 for whoever uses it."""
    token, other = cloud.token("demo", "demo-secret"), cloud.token("demo", "demo-secret")
    answer = cloud.as_(token).delete("/v3/auth/tokens", headers={"x-subject-token": token})
    assert answer.status == 204
    assert cloud.admin.get("/v3/auth/tokens", headers={"x-subject-token": token}).status == 404
    assert cloud.as_(token).get("/v3/auth/projects").status == 401
    assert cloud.authenticate({"methods": ["token"], "token": {"id": token}}).status == 404
    assert cloud.valid(other)


def test_a_token_ends_when_its_time_is_up(cloud: Cloud) -> None:
    """To the second, although its validation was remembered; later it is shown to who asks for the expired, in a window."""
    admin = cloud.token("admin", "admin-secret")
    cloud.clock.pass_seconds(3000)
    token = cloud.token("demo", "demo-secret")
    assert cloud.as_(admin).get("/v3/auth/tokens", headers={"x-subject-token": token}).status == 200
    cloud.clock.pass_seconds(599)
    assert cloud.as_(admin).get("/v3/auth/projects").status == 200
    cloud.clock.pass_seconds(1)
    assert cloud.as_(admin).get("/v3/auth/projects").status == 401
    cloud.clock.pass_seconds(3000)
    assert not cloud.valid(token)
    late = cloud.admin.get("/v3/auth/tokens?allow_expired=1", headers={"x-subject-token": token})
    assert late.status == 200
    cloud.clock.pass_seconds(172_800)
    assert cloud.admin.get("/v3/auth/tokens?allow_expired=1", headers={"x-subject-token": token}).status == 404


def test_an_expired_token_does_not_stand_in_the_way_of_a_new_one(cloud: Cloud) -> None:
    """Version documents and logging in stay open to who still carries an old token."""
    old = cloud.as_(cloud.token("demo", "demo-secret"))
    cloud.clock.pass_seconds(4000)
    assert old.get("/v3").status == 200
    user = {"name": "demo", "domain": {"id": "default"}, "password": "demo-secret"}
    auth = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}}}
    assert old.post("/v3/auth/tokens", auth).status == 201


def test_a_token_says_where_it_can_go(cloud: Cloud) -> None:
    """Projects, domains and system on which the user has a role; the catalogue of the token's project."""
    admin = cloud.admin
    assert [p["name"] for p in sorted(admin.get("/v3/auth/projects").json["projects"], key=str)] != []
    names = {project["name"] for project in admin.get("/v3/auth/projects").json["projects"]}
    assert names == {"admin", "demo"}
    assert admin.get("/v3/auth/system").json["system"] == [{"all": True}]
    assert cloud.demo.get("/v3/auth/system").json["system"] == []
    assert cloud.demo.get("/v3/auth/domains").json["domains"] == []
    types = {service["type"] for service in cloud.demo.get("/v3/auth/catalog").json["catalog"]}
    assert types == {"identity", "compute", "image", "network", "block-storage", "volumev3", "placement"}
    assert cloud.system.get("/v3/auth/catalog").status == 403


def test_version_documents_are_open_to_all(cloud: Cloud) -> None:
    """300 with a choice of one at the root, 200 below, links to where the client came."""
    root = cloud.anyone.get("/")
    assert root.status == 300
    assert root.json["versions"]["values"][0]["links"][0]["href"] == "http://cloud.test/identity/v3/"
    assert cloud.anyone.get("/v3").json["version"]["status"] == "stable"
    assert cloud.anyone.get("/v3/").status == 200
    assert cloud.anyone.get("/v2.0").status == 401
