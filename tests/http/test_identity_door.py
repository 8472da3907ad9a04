"""The door: what another service learns of identity, in this process and over the API."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.http.identity_cloud import Cloud

from cumulet.core.errors import Unauthorized
from cumulet.core.web import Request, Response
from cumulet.core.web.client import Client, LocalTransport
from cumulet.identity.door import REMEMBER_S, IdentityRest, ServiceUser, TokenValidator


class Counted:
    """The application without a socket, with a count of the calls."""

    def __init__(self, cloud: Cloud) -> None:
        self._inner = LocalTransport(cloud.app, base_url="http://cloud.test/identity")
        self.sent: list[str] = []

    def send(self, request: Request) -> Response:
        self.sent.append(f"{request.method} {request.path}")
        # as over a socket: bytes, not objects
        response = self._inner.send(request)
        return Response(response.status, response.content(), response.headers)


@pytest.fixture
def cloud(tmp_path: Path, database_url: str) -> Iterator[Cloud]:
    """An identity service of the test's own."""
    cloud = Cloud(tmp_path, url=database_url)
    yield cloud
    cloud.close()


@pytest.fixture
def transport(cloud: Cloud) -> Counted:
    """The way to identity, counted."""
    return Counted(cloud)


def door(cloud: Cloud, transport: Counted) -> IdentityRest:
    """The door as the compute service has it."""
    user = ServiceUser(name="nova", secret=cloud.first.service_secrets["nova"])
    return IdentityRest(Client("identity", transport, cloud.clock), user=user, clock=cloud.clock)


def test_a_service_keeps_its_token_until_near_its_end(cloud: Cloud, transport: Counted) -> None:
    """One login serves many calls; in the last minutes of its time it is renewed before it is used."""
    nova = door(cloud, transport)
    first = nova.token()
    assert nova.token() == first
    assert transport.sent == ["POST /v3/auth/tokens"]
    cloud.clock.pass_seconds(3290)
    assert nova.token() == first
    cloud.clock.pass_seconds(20)
    second = nova.token()
    assert second != first
    assert cloud.valid(second)


def test_a_token_is_validated_over_the_api_as_in_the_process(cloud: Cloud, transport: Counted) -> None:
    """Both ways give the same caller."""
    nova = door(cloud, transport)
    for name, password, scope in (
        ("demo", "demo-secret", None),
        ("admin", "admin-secret", {"system": {"all": True}}),
        ("admin", "admin-secret", "unscoped"),
    ):
        token = cloud.token(name, password, scope)
        assert nova.validate(token) == cloud.service.validate(token)
    with pytest.raises(Unauthorized):
        nova.validate("rubbish")


def test_a_service_logs_in_again_when_its_token_is_refused(cloud: Cloud, transport: Counted) -> None:
    """A revoked service token costs one more login, not a failure."""
    nova = door(cloud, transport)
    cloud.service.tokens.revoke(cloud.service.tokens.validate(nova.token()))
    assert nova.project(cloud.first.demo_project_id) is not None
    assert transport.sent.count("POST /v3/auth/tokens") == 2


def test_names_of_projects_and_users(cloud: Cloud, transport: Counted) -> None:
    """By id; None where there is none."""
    nova = door(cloud, transport)
    project, user = nova.project(cloud.first.demo_project_id), nova.user(cloud.first.demo_user_id)
    assert project is not None
    assert user is not None
    assert (project.name, project.domain_id, project.enabled) == ("demo", "default", True)
    assert user.name == "demo"
    assert nova.project("0" * 32) is None
    assert nova.user("../projects") is None


def test_a_tokens_issue_is_on_record_for_a_day(cloud: Cloud, transport: Counted) -> None:
    """When the request came, when it was answered, with which methods: found by the token's audit id."""
    nova = door(cloud, transport)
    before = cloud.clock.now()
    token = cloud.token("demo", "demo-secret")
    after = cloud.clock.now()
    audit_id = cloud.service.validate(token).audit_ids[0]
    issue = nova.token_issue(audit_id)
    assert issue is not None
    assert before < issue.started < issue.finished < after
    assert issue.methods == ("password",)
    assert cloud.demo.get(f"/v3/auth/token_issues/{audit_id}").status == 200
    assert nova.token_issue("nothing") is None
    cloud.clock.pass_seconds(86_500)
    cloud.token("demo", "demo-secret")
    assert nova.token_issue(audit_id) is None


def test_the_validator_asks_once_and_remembers_briefly(cloud: Cloud, transport: Counted) -> None:
    """Elsewhere than identity: within seconds the same token is not asked for again, and its own end is always seen."""
    validate = TokenValidator(door(cloud, transport), cloud.clock)
    token = cloud.token("demo", "demo-secret")
    asked = "GET /v3/auth/tokens"
    assert validate(token, None).user_name == validate(token, None).user_name == "demo"
    assert transport.sent.count(asked) == 1
    cloud.clock.pass_seconds(REMEMBER_S + 1)
    validate(token, None)
    assert transport.sent.count(asked) == 2
    cloud.clock.pass_seconds(3590 - REMEMBER_S)
    validate(token, None)
    cloud.clock.pass_seconds(10)
    with pytest.raises(Unauthorized):
        validate(token, None)


@pytest.mark.parametrize("local", [True, False], ids=["in the process", "over the API"])
def test_a_service_token_adds_its_roles_and_lets_an_expired_token_pass(
    cloud: Cloud, transport: Counted, *, local: bool
) -> None:
    """A service acts for a user who may be gone; a token that is no service's does not help; an invalid one is 401."""
    identity = door(cloud, transport)
    validate = TokenValidator(identity, cloud.clock, local=cloud.service.validate if local else None)
    user = cloud.token("demo", "demo-secret")
    both = validate(user, identity.token())
    assert both.user_name == "demo"
    assert "service" not in both.roles
    assert {"service", "admin"} <= both.service_roles
    assert validate(user, None).service_roles == frozenset()
    cloud.clock.pass_seconds(3700)
    assert validate(user, identity.token()).user_name == "demo"
    with pytest.raises(Unauthorized):
        validate(user, cloud.token("admin", "admin-secret"))
    with pytest.raises(Unauthorized):
        validate(user, None)
    with pytest.raises(Unauthorized):
        validate(cloud.token("demo", "demo-secret"), "rubbish")


def test_access_rules_cross_the_api(cloud: Cloud, transport: Counted) -> None:
    """A validator elsewhere knows them too, and so keeps the credential to them."""
    rule = {"service": "compute", "method": "GET", "path": "/v2.1/servers"}
    body = {"application_credential": {"name": "ci", "access_rules": [rule]}}
    credential = cloud.demo.post(f"/v3/users/{cloud.first.demo_user_id}/application_credentials", body).json
    given = {key: credential["application_credential"][key] for key in ("id", "secret")}
    answer = cloud.authenticate({"methods": ["application_credential"], "application_credential": given})
    token = answer.headers["x-subject-token"]
    context = TokenValidator(door(cloud, transport), cloud.clock)(token, None)
    assert context == TokenValidator(None, cloud.clock, local=cloud.service.validate)(token, None)
    assert context.access_rules is not None
    assert [r.path for r in context.access_rules] == ["/v2.1/servers"]
