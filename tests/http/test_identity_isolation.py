"""Every row of the API, tried by nobody and by a stranger: a new row is in this test by being in the table."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.http.harness import ApiClient
from tests.http.identity_cloud import Cloud

from cumulet.core.web import ANYONE, PUBLIC, Route
from cumulet.identity.api.application import ROUTES
from cumulet.identity.policy import RULES

#: what anybody with a token may see: nothing in it belongs to somebody
OPEN = {
    "GET /v3/auth/catalog",
    "GET /v3/auth/projects",
    "GET /v3/auth/domains",
    "GET /v3/auth/system",
    "GET /v3/regions",
    "GET /v3/regions/{region_id}",
    "GET /v3/registered_limits",
    "GET /v3/registered_limits/{limit_id}",
    "GET /v3/limits",
    "GET /v3/limits/model",
    "GET /v3/credentials",
    "GET /v3/domains/{domain_id}/config/security_compliance",
    "GET /v3/domains/{domain_id}/config/security_compliance/{option}",
}

BODIES: dict[str, Any] = {
    "user": {"name": "x", "domain_id": "default"},
    "group": {"name": "x", "domain_id": "default"},
    "project": {"name": "x", "domain_id": "default"},
    "domain": {"name": "x"},
    "role": {"name": "x"},
    "region": {"description": "x"},
    "service": {"type": "x"},
    "endpoint": {"service_id": "x", "interface": "public", "url": "http://x"},
    "endpoint_group": {"name": "x", "filters": {}},
    "application_credential": {"name": "x"},
    "policy": {"type": "x", "blob": "x"},
    "consumer": {"description": "x"},
    "registered_limit": {"default_limit": 1},
    "limit": {"resource_limit": 1},
}


class World:
    """A cloud with one of everything that belongs to others, and a stranger."""

    def __init__(self, folder: Path, url: str) -> None:
        self.cloud = cloud = Cloud(folder, url=url)
        admin = cloud.admin
        first = cloud.first

        def make(path: str, key: str, body: dict[str, Any]) -> str:
            answer = admin.post(path, {key: body})
            assert answer.status == 201, answer.json
            return str(answer.json[key]["id"])

        service = make("/v3/services", "service", {"type": "moon"})
        region = make("/v3/regions", "region", {"id": "moon"})
        group = make("/v3/groups", "group", {"name": "g", "domain_id": "default"})
        admin.put(f"/v3/groups/{group}/users/{first.demo_user_id}")
        registered = {"service_id": service, "resource_name": "r", "default_limit": 1}
        admin.post("/v3/registered_limits", {"registered_limits": [registered]})
        limit = {"service_id": service, "resource_name": "r", "resource_limit": 1, "project_id": first.demo_project_id}
        demo = cloud.demo
        credential = demo.post(
            f"/v3/users/{first.demo_user_id}/application_credentials",
            {
                "application_credential": {
                    "name": "c",
                    "access_rules": [{"service": "compute", "method": "GET", "path": "/x"}],
                }
            },
        ).json["application_credential"]
        secret = {"user_id": first.demo_user_id, "type": "cert", "blob": "b"}
        keys = demo.post(
            f"/v3/users/{first.demo_user_id}/credentials/OS-EC2", {"tenant_id": first.demo_project_id}
        ).json["credential"]
        self.trust = {
            "trustor_user_id": first.demo_user_id,
            "trustee_user_id": first.admin_user_id,
            "impersonation": True,
            "project_id": first.demo_project_id,
            "roles": [{"name": "reader"}],
        }
        role = make("/v3/roles", "role", {"name": "r"})
        admin.put(f"/v3/projects/{first.demo_project_id}/users/{first.demo_user_id}/roles/{role}")
        admin.put("/v3/domains/default/config", {"config": {"identity": {"driver": "sql"}}})
        issued = cloud.log_in("demo", "demo-secret")
        self.subject = issued.headers["x-subject-token"]
        self.ids = {
            "user_id": first.demo_user_id,
            "project_id": first.demo_project_id,
            "domain_id": "default",
            "group_id": group,
            "role_id": role,
            "prior_id": cloud.role("admin"),
            "implied_id": cloud.role("manager"),
            "service_id": service,
            "region_id": region,
            "endpoint_id": admin.get("/v3/endpoints").json["endpoints"][0]["id"],
            "tag": "t",
            "trust_id": demo.post("/v3/OS-TRUST/trusts", {"trust": self.trust}).json["trust"]["id"],
            "rule_id": credential["access_rules"][0]["id"],
            "access": keys["access"],
            "limit_id": admin.post("/v3/limits", {"limits": [limit]}).json["limits"][0]["id"],
            "policy_id": make("/v3/policies", "policy", {"type": "x", "blob": "x"}),
            "consumer_id": make("/v3/OS-OAUTH1/consumers", "consumer", {"description": "x"}),
            "audit_id": issued.json["token"]["audit_ids"][0],
            "group": "identity",
            "option": "driver",
        }
        self.credentials = {
            "application_credentials": credential["id"],
            "credentials": demo.post("/v3/credentials", {"credential": secret}).json["credential"]["id"],
        }
        other = cloud.domain("other")
        elsewhere = cloud.project("elsewhere", domain_id=other)
        cloud.person("stranger", role="member", project=elsewhere, domain=other)
        self.stranger = cloud.as_(cloud.token("stranger", "password", {"project": {"id": elsewhere}}, domain=other))

    def send(self, client: ApiClient, route: Route) -> int:
        path = route.path
        for name in re.findall(r"\{(\w+)\}", path):
            path = path.replace(f"{{{name}}}", self._value(path, name))
        headers = {"x-subject-token": self.subject}
        return client(route.method, path, self._body(route), headers=headers).status

    def _value(self, path: str, name: str) -> str:
        if name == "credential_id":
            return self.credentials["application_credentials" if "application" in path else "credentials"]
        if name == "group_id" and "endpoint_groups" in path:
            return "0" * 32
        return self.ids[name]

    def _body(self, route: Route) -> Any:
        if route.body != "json":
            return None
        takes = route.takes
        if isinstance(takes, dict):
            if "tags" in takes["properties"]:
                return {"tags": []}
            if "tenant_id" in takes["properties"]:
                return {"tenant_id": self.ids["project_id"]}
            if "config" in takes["properties"]:
                return {"config": {"identity": {"driver": "x"}}}
            plural = next(iter(takes["properties"]))
            one = {"service_id": self.ids["service_id"], "resource_name": "q", "default_limit": 1}
            if plural == "limits":
                one = {"service_id": self.ids["service_id"], "resource_name": "r", "resource_limit": 1}
            return {plural: [one]}
        name = takes.name  # type: ignore[union-attr]  # every other row takes a resource
        if name == "trust":
            return {"trust": self.trust}
        if name == "credential":
            return {"credential": {"user_id": self.ids["user_id"], "type": "cert", "blob": "b"}}
        return {name: BODIES[name]}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> Iterator[World]:
    """One world for all rows: nothing in it is changed."""
    world = World(tmp_path_factory.mktemp("identity"), module_database_url)
    yield world
    world.cloud.close()


def _name(route: Route) -> str:
    return f"{route.method} {route.path}"


GUARDED = [route for route in ROUTES if route.may != PUBLIC]


@pytest.mark.parametrize("route", GUARDED, ids=_name)
def test_nothing_is_open_without_a_token(world: World, route: Route) -> None:
    """401, whatever else may be wrong with the request."""
    assert world.send(world.cloud.anyone, route) == 401


@pytest.mark.parametrize("route", [route for route in GUARDED if _name(route) not in OPEN], ids=_name)
def test_a_stranger_reaches_nothing_of_others(world: World, route: Route) -> None:
    """A member of another project, on things that exist: 403, or 404; and nothing has changed."""
    revision = world.cloud.service.realm.revision()
    assert world.send(world.stranger, route) in {403, 404}
    assert world.cloud.service.realm.revision() == revision


@pytest.mark.parametrize("route", [route for route in GUARDED if _name(route) in OPEN], ids=_name)
def test_what_is_open_shows_nothing_of_others(world: World, route: Route) -> None:
    """Lists are the stranger's own: none of the others' ids is in an answer."""
    path = (
        route.path.replace("{region_id}", "moon")
        .replace("{domain_id}", "default")
        .replace("{option}", "password_regex")
    )
    if "{" in path:
        return
    answer = world.stranger.get(path)
    assert answer.status == 200
    text = answer.content.decode()
    for name in ("user_id", "project_id", "group_id", "trust_id", "limit_id"):
        assert world.ids[name] not in text


def test_every_row_names_a_rule_that_exists(world: World) -> None:
    """Nothing is guarded by a rule that nobody wrote; only tokens themselves are guarded by their handler alone."""
    names = {rule.name for rule in RULES}
    assert {route.may for route in ROUTES} - {PUBLIC, ANYONE} <= names
    assert {route.path for route in ROUTES if route.may == ANYONE} == {
        "/v3/auth/tokens",
        "/v3/auth/token_issues/{audit_id}",
    }
