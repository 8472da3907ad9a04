"""The official clients, over a socket, through the edge: whoever uses openstacksdk must notice nothing."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openstack
import openstack.connection
import pytest
import uvicorn
from keystoneauth1 import exceptions, session
from keystoneauth1.identity import v3
from tests.http.identity_cloud import Cloud

from cumulet.core.clock import SystemClock
from cumulet.core.web.edge import Edge
from cumulet.core.work import Gate, Pools, Worker

# the SDK warns of its own plans
pytestmark = [
    pytest.mark.filterwarnings("ignore::openstack.warnings.RemovedInSDK50Warning"),
    pytest.mark.filterwarnings("ignore::openstack.warnings.RemovedInSDK60Warning"),
]


class Announced(uvicorn.Server):
    """A server that says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list[Any] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


class Served:
    """The identity application on a free port, as the whole program serves it."""

    def __init__(self, folder: Path) -> None:
        clock = SystemClock()
        self.pools = Pools({"passwords": (1, 8)})
        self.worker = Worker("api", clock=clock, pools=self.pools)
        self.cloud = Cloud(folder)
        self.cloud.service.authentication._signal = self.worker.signal
        # the clients look at the expiry by their own clock
        self.cloud.clock.pass_seconds(clock.epoch() - self.cloud.clock.epoch())
        edge = Edge({"identity": self.cloud.app}, worker=self.worker, clock=self.cloud.clock, gate=Gate())
        config = uvicorn.Config(edge, host="127.0.0.1", port=0, log_config=None, access_log=False, lifespan="off")
        self.server = Announced(config)
        self.thread = threading.Thread(target=self.server.run)  # noqa: TID251 - the test owns it
        self.worker.start()
        self.thread.start()
        assert self.server.ready.wait(timeout=10)
        port = self.server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/identity/v3"

    def connect(self, auth: Any) -> openstack.connection.Connection:
        return openstack.connection.Connection(session=session.Session(auth=auth), region_name="RegionOne")

    def password(self, name: str = "demo", **scope: Any) -> v3.Password:
        scope = scope or {"project_name": name, "project_domain_id": "default"}
        return v3.Password(
            auth_url=self.url, username=name, password=f"{name}-secret", user_domain_name="Default", **scope
        )

    def close(self) -> None:
        self.server.should_exit = True
        self.thread.join(timeout=10)
        self.worker.stop()
        self.pools.close()
        self.cloud.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One service for all clients."""
    served = Served(tmp_path_factory.mktemp("identity"))
    yield served
    served.close()


def test_a_password_logs_in_and_finds_the_services(served: Served) -> None:
    """Token, project and endpoints, by the catalogue's types and their aliases."""
    connection = served.connect(served.password())
    assert connection.current_project_id == served.cloud.first.demo_project_id
    base = served.url.removesuffix("/identity/v3")
    for kind, path in (("identity", "/identity"), ("compute", "/compute/v2.1"), ("block-storage", "/volume/v3")):
        assert connection.session.get_endpoint(service_type=kind, region_name="RegionOne") == base + path
    with pytest.raises(exceptions.EndpointNotFound):
        connection.session.get_endpoint(service_type="compute", region_name="Moon")


def test_a_token_and_an_application_credential_log_in(served: Served) -> None:
    """All three ways come to the same project; a wrong secret is the client's Unauthorized."""
    connection = served.connect(served.password())
    token = v3.Token(auth_url=served.url, token=connection.auth_token, project_id=connection.current_project_id)
    assert served.connect(token).current_project_id == connection.current_project_id
    made = connection.identity.create_application_credential(connection.current_user_id, "ci")
    credential = v3.ApplicationCredential(
        auth_url=served.url, application_credential_id=made.id, application_credential_secret=made.secret
    )
    assert served.connect(credential).current_project_id == connection.current_project_id
    wrong = v3.ApplicationCredential(
        auth_url=served.url, application_credential_id=made.id, application_credential_secret="wrong"
    )
    with pytest.raises(exceptions.Unauthorized):
        session.Session(auth=wrong).get_token()


def test_a_system_token_by_the_client(served: Served) -> None:
    """`system_scope=all`, which sees the whole catalogue."""
    connection = served.connect(served.password("admin", system_scope="all"))
    assert connection.session.auth.get_access(connection.session).system_scoped
    assert {service.type for service in connection.identity.services()} >= {"identity", "compute", "placement"}


def test_the_client_manages_people_and_projects(served: Served) -> None:
    """What `openstack user create`, `role add` and their kin do."""
    identity: Any = served.connect(served.password("admin")).identity
    project = identity.create_project(name="research", domain_id="default", description="lab")
    user = identity.create_user(name="ada", password="pw", default_project_id=project.id, domain_id="default")
    role = identity.find_role("member")
    identity.assign_project_role_to_user(project, user, role)
    assert identity.validate_user_has_project_role(project, user, role)
    assignments = list(identity.role_assignments(user_id=user.id, effective=True, include_names=True))
    assert {a.role["name"] for a in assignments} == {"member", "reader"}
    identity.update_user(user, is_enabled=False)
    assert identity.get_user(user.id).is_enabled is False
    assert identity.find_project("research").description == "lab"
    assert identity.find_user("nobody") is None
    group = identity.create_group(name="staff", domain_id="default")
    identity.add_user_to_group(user, group)
    assert [member.name for member in identity.group_users(group)] == ["ada"]
    region = identity.create_region(description="a second one")
    service = identity.create_service(type="moon", name="moon")
    endpoint = identity.create_endpoint(
        service_id=service.id, interface="public", url="http://moon", region_id=region.id
    )
    for act, thing in (
        (identity.delete_endpoint, endpoint),
        (identity.delete_service, service),
        (identity.delete_region, region),
        (identity.delete_group, group),
        (identity.delete_user, user),
        (identity.delete_project, project),
    ):
        act(thing)
    assert identity.find_project("research") is None


def test_pages_are_followed_by_the_client(served: Served) -> None:
    """More users than fit in a page come all the same, each once."""
    identity: Any = served.connect(served.password("admin")).identity
    made = [identity.create_user(name=f"many-{number}", domain_id="default") for number in range(5)]
    names = [user.name for user in identity.users(limit=2)]
    assert {user.name for user in made} <= set(names)
    assert len(names) == len(set(names))
