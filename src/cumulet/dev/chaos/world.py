"""A world: the processes of a cloud, each with a life of its own, on things that outlive them, in one thread and one virtual time.

The control process is the product's `Services` without a host; each compute host is a `HostPart` in a process of its own.  Between them
are the bus and the doors, both of which the dice may cut.  Whatever dies is started again on what it left outside.
"""

import contextlib
import json
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import MetaData

from cumulet.compute import tables as compute_tables
from cumulet.compute.agent.hypervisor.driver import HypervisorDown
from cumulet.compute.agent.vif.driver import VifFailed
from cumulet.compute.messages import ComputeHost
from cumulet.core.db import Database
from cumulet.core.errors import Unavailable
from cumulet.core.ids import SeededIds
from cumulet.core.saga import Flow
from cumulet.core.web import App
from cumulet.core.web.client import Client, LocalTransport, Transport
from cumulet.core.web.http import Request, Response
from cumulet.dev.chaos.agenda import Agenda, Life, WorldClock, within
from cumulet.dev.chaos.bus import Exchange, SimBus
from cumulet.dev.chaos.outside import FACTS, HOSTS, HostOutside, Outside, Template, shm, split
from cumulet.dev.chaos.perils import CALM, Guarded, Perils, Rates
from cumulet.dev.chaos.store import WorldEngine
from cumulet.dev.chaos.workers import SimPools, SimWorker
from cumulet.image.door import ImageRest
from cumulet.metadata.door import NoMetadata
from cumulet.network.door import NetworkRest
from cumulet.network.drivers.driver import NetworkBackendDown
from cumulet.placement.door import PlacementRest
from cumulet.run.config import UpConfig
from cumulet.run.first_image import add_first_image
from cumulet.run.host_part import HostPart, HostThings
from cumulet.run.machine import Machine
from cumulet.run.server_flows import FLOWS
from cumulet.run.services import Services
from cumulet.volume.assemble import ALL_FLOWS as VOLUME_FLOWS
from cumulet.volume.door import VolumeRest
from cumulet.volume.drivers.driver import VolumeBackendDown
from cumulet.volume.tables import METADATA as VOLUME_METADATA

__all__ = ["Answer", "World"]

log = structlog.get_logger()

CONTROL = "control"
RESTART_S = (0.05, 3.0)
ROLES = ("conductor", "scheduler", "network", "volume-conductor", "volume-scheduler", "volume-host", "events", "api")


class Answer:
    """What the user got for a request."""

    def __init__(self, response: Response) -> None:
        self.status = response.status
        content = response.content() if response.body is not None else b""
        self.json: Any = json.loads(content) if content[:1] in {b"{", b"["} else None


class _Doors:
    """A door's calls from one process to the control process."""

    def __init__(self, world: "World", caller: Life, name: str, app: App | None, base_url: str) -> None:
        self._world = world
        self._caller = caller
        self._name = name
        self._app = app
        self._base_url = base_url

    def send(self, request: Request) -> Response:
        world, where = self._world, f"{self._name} {request.method} {request.path}"
        perils = world.perils
        perils.boundary(self._caller, f"{where} before")
        side = perils.side("door fails", where, perils.rates.call)
        request.base_url = self._base_url
        if side == "before":
            raise Unavailable(detail=f"{where}: refused")

        def lost() -> Unavailable:
            return Unavailable(detail=f"{where}: no answer")

        world.agenda.say(f"  {self._caller} {where}")
        if perils.late is not None and perils.late(self._caller, where, lambda: self._late(request)):
            raise lost()
        if self._app is not None:
            answer = self._app.handle(request)
        else:
            if world.services is None:
                raise lost()
            app, life = world.services.apps[self._name], world.control
            answer = within(life, world.died, lambda: app.handle(request), lost)
        perils.boundary(self._caller, f"{where} after")
        if side == "after":
            raise lost()
        return answer

    def _late(self, request: Request) -> None:
        """The request reaches its service after all."""
        if self._world.services is not None:
            self._world.services.apps[self._name].handle(request)


class _HostLife:
    """A host's process."""

    def __init__(self, life: Life, guards: list[Guarded]) -> None:
        self.life = life
        self.guards = guards
        self.part: HostPart | None = None


class World:
    """See the module's docstring."""

    def __init__(
        self,
        seed: int,
        *,
        template: Template | None,
        rates: Rates = CALM,
        keep: bool = False,
        flows: Sequence[Flow] = FLOWS,
        volume_flows: Sequence[Flow] = VOLUME_FLOWS,
    ) -> None:
        rng = random.Random(seed)  # noqa: S311 - reproducible on purpose
        self.rng = split(rng)
        self.agenda = Agenda(split(rng), keep=keep, died=self.died)
        self.clock = WorldClock(self.agenda)
        self.ids = SeededIds(rng.getrandbits(64))
        self.perils = Perils(split(rng), self.agenda, rates)
        self.exchange = Exchange(self.agenda, self.perils, self.died)
        self.outside = Outside(self.agenda, self.perils, template, self.ids.uuid)
        self.template = template
        self._flows, self._volume_flows = flows, volume_flows
        self._lives = 0
        self.control = Life(CONTROL, 0)
        self.control.alive = False
        self.services: Services | None = None
        self._guards: list[Guarded] = []
        self._api: SimWorker | None = None
        self.hosts: dict[str, _HostLife] = {}
        #: hosts that are away until this time
        self._away: dict[str, float] = {}
        self.things = [
            HostThings(self._machine(host, None, []), host.instances) for host in self.outside.hosts.values()
        ]

    def close(self) -> None:
        self.outside.close()

    # --- processes -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Every process."""
        self.start_control()
        for name in HOSTS:
            self.start_host(name)

    def _life(self, name: str) -> Life:
        self._lives += 1
        return Life(name, self._lives)

    def died(self, life: Life) -> None:
        """A process has ended: what it had subscribed to forgets it, and somebody starts it again."""
        life.alive = False
        self.agenda.say(f"x {life}")
        if life.name == CONTROL:
            if life is self.control:
                for guard in self._guards:
                    guard.let_go()
                self._again(RESTART_S, self.start_control)
        elif (there := self.hosts.get(life.name)) is not None and there.life is life:
            for guard in there.guards:
                guard.let_go()
            self._again(RESTART_S, lambda: self.start_host(life.name))

    def _again(self, between: tuple[float, float], start: Callable[[], None]) -> None:
        self.agenda.at(self.perils.rng.uniform(*between), None, "start", start)

    def vanish(self, host: str, seconds: float) -> None:
        """A host's process dies, and nobody starts it for a while."""
        there = self.hosts[host]
        self._away[host] = self.agenda.now_s + seconds
        if there.life.alive:
            self.died(there.life)
        self.agenda.at(seconds, None, "host is back", lambda: self.start_host(host))

    def _boot(self, life: Life, start: Callable[[], None]) -> bool:
        """Start a process; one that fails at it ends, as a program does, and is started again."""
        self.agenda.say(f"+ {life}")
        try:
            start()
        except BaseException as error:
            if not isinstance(error, Exception) and getattr(error, "life", None) is not life:
                raise
            if isinstance(error, Exception) and not self.perils.on:
                log.exception("process did not start", process=str(life))
            self.died(life)
            return False
        return True

    def _guard(
        self, driver: Any, kind: str, error: Callable[[], Exception], life: Life | None, guards: list[Guarded]
    ) -> Any:
        if life is None:
            return driver
        made = Guarded(driver, kind=kind, life=life, perils=self.perils, error=error, agenda=self.agenda)
        guards.append(made)
        return made

    def _machine(self, host: HostOutside, life: Life | None, guards: list[Guarded]) -> Machine:
        """A host's drivers as a process sees them; as the onlooker does without one."""
        outside = self.outside
        instances = self._guard(host.instances, "files", lambda: OSError(28, "No space left on device"), life, guards)
        return Machine(
            host=host.name,
            hypervisor=self._guard(host.hypervisor, "hypervisor", HypervisorDown, life, guards),
            virt_type="sim",
            network=self._guard(outside.network, "network", NetworkBackendDown, life, guards),
            vif=self._guard(host.vif, "vif", VifFailed, life, guards),
            namespaces=None,
            volumes=self._guard(outside.volumes, "volumes", VolumeBackendDown, life, guards),
            instances=lambda files: instances,  # noqa: ARG005 - no config drive is written
            external_cidr="172.24.4.0/24",
            physical_network="public",
            lines=[],
            root=outside.folder,
        )

    def start_control(self) -> None:
        """The services' process."""
        if self.control.alive:
            return
        life = self.control = self._life(CONTROL)
        self._guards = []

        def start() -> None:
            pools = SimPools(life, self.agenda, self.perils)
            workers = {role: SimWorker(role, life=life, agenda=self.agenda, pools=pools) for role in ROLES}
            self._api = workers["api"]
            bus = SimBus(self.exchange, life)
            self.services = Services(
                self._config(),
                FACTS,
                self._machine(self.outside.hosts[HOSTS[0]], life, self._guards),
                bus=bus,
                api=workers["api"],
                work=lambda role: workers[role],
                clock=self.clock,
                ids=self.ids,
                failpoint=lambda name: self.perils.boundary(life, name),
                flows=self._flows,
                volume_flows=self._volume_flows,
                database=lambda name, metadata: self._database(name, metadata, life),
                transport=lambda name, app, base_url: self._doors(life, name, app, base_url),
                wake=lambda kind, thing_id, up: self._wake(bus, kind, thing_id, up),
            )
            self.services.start()
            self.services.hosts.extend(self.things)

        self._boot(life, start)

    def _config(self) -> UpConfig:
        return UpConfig(state_dir=self.outside.folder, drivers="sim", bcrypt_rounds=4, public_url="http://world")

    def _database(self, name: str, metadata: MetaData, life: Life | None) -> Database:
        connection = self.outside.stores.connection(name)
        return self.outside.stores.database(
            name, metadata, WorldEngine(name, connection, life=life, perils=self.perils), self.clock
        )

    def _doors(self, life: Life, name: str, app: App | None, base_url: str) -> Transport:
        return _Doors(self, life, name, app, base_url)

    @staticmethod
    def _wake(bus: SimBus, kind: str, id: str, up: bool) -> None:
        for host in HOSTS:
            bus.client(ComputeHost, host=host).wake(kind, id, up)

    def start_host(self, name: str) -> None:
        """A compute host's process."""
        if self.agenda.now_s < self._away.get(name, 0.0) or (name in self.hosts and self.hosts[name].life.alive):
            return
        life = self._life(name)
        there = self.hosts[name] = _HostLife(life, [])

        def start() -> None:
            pools = SimPools(life, self.agenda, self.perils)
            clients = {
                service: Client(service, self._doors(life, service, None, f"http://world/{service}"), self.clock)
                for service in ("image", "network", "volume", "placement")
            }
            part = there.part = HostPart(
                self._machine(self.outside.hosts[name], life, there.guards),
                flows=self._flows,
                bus=SimBus(self.exchange, life),
                worker=SimWorker(name, life=life, agenda=self.agenda, pools=pools),
                doors={
                    "image": ImageRest(clients["image"]),
                    "network": NetworkRest(clients["network"]),
                    "volume": VolumeRest(clients["volume"]),
                    "placement": PlacementRest(clients["placement"]),
                    "service_token": self._service_token,
                },
                metadata=NoMetadata(),
                clock=self.clock,
                ids=self.ids,
                failpoint=lambda where: self.perils.boundary(life, where),
            )
            part.agent.start()
            part.agent.resume_guests()

        self._boot(life, start)

    def _service_token(self) -> str:
        """Hosts log in as nova does; the control process gives them its token."""
        services, life = self.services, self.control

        def lost() -> Unavailable:
            return Unavailable(detail="identity: no answer")

        if services is None:
            raise lost()
        token: str = within(life, self.died, services.nova.token, lost)
        return token

    # --- the onlooker ----------------------------------------------------------------------------------------------

    def look(self, name: str) -> Database:
        """A service's database, without any peril."""
        metadata = {"compute": compute_tables.METADATA, "volume": VOLUME_METADATA}[name]
        return self._database(name, metadata, None)

    def ask(
        self,
        service: str,
        method: str,
        path: str,
        *,
        token: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """A request that is answered at once: for onlookers, when nothing goes wrong."""
        assert self.services is not None  # noqa: S101 - started
        return Answer(
            LocalTransport(self.services.apps[service], base_url=f"http://world/{service}").send(
                self._request(method, path, token, body, headers)
            )
        )

    @staticmethod
    def _request(method: str, path: str, token: str, body: Any, headers: dict[str, str] | None) -> Request:
        path, _, query = path.partition("?")
        sent = {"x-auth-token": token, **(headers or {})} if token else dict(headers or {})
        return Request(method, path, query=query, headers=sent, json=body, base_url="http://world")

    def send(
        self,
        service: str,
        method: str,
        path: str,
        *,
        token: str,
        then: Callable[[Answer | None], None],
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        """A user's request to the control process.  then: the answer, or None where there is nobody (or never, if it dies)."""
        life, services, api = self.control, self.services, self._api
        if not life.alive or services is None or api is None:
            then(None)
            return
        app = services.apps[service]
        request = self._request(method, path, token, body, headers)
        request.base_url = f"http://world/{service}"

        def begin() -> None:
            result = app.begin(request)
            if isinstance(result, Response):
                then(Answer(result))
            else:
                api.go_on(result, lambda value, error: then(None if error is not None else Answer(value)))

        api.post(begin)


@contextlib.contextmanager
def template() -> Iterator[Template]:
    """A cloud that has been started once, for the worlds of this process."""
    world = World(0, template=None)
    folder = Path(tempfile.mkdtemp(prefix="cumulet-template-", dir=shm()))
    try:
        world.start()
        assert world.services is not None  # noqa: S101 - nothing goes wrong in it
        if not all(there.life.alive for there in world.hosts.values()) or not world.control.alive:
            raise RuntimeError("the template's processes did not start")
        add_first_image(world.services.image, world.things[0].machine, say=lambda _: None)
        ids = _first_things(world)
        world.agenda.run(until_s=5)
        shutil.copytree(world.outside.folder, folder, dirs_exist_ok=True)
        yield Template(databases=world.outside.stores.template(), folder=folder, ids=ids)
    finally:
        world.close()
        shutil.rmtree(folder, ignore_errors=True)


def login(user: str) -> dict[str, Any]:
    """A token request's body."""
    password = {"admin": FACTS.admin_password, "demo": FACTS.demo_password}[user]
    who = {"name": user, "domain": {"id": "default"}, "password": password}
    return {
        "auth": {
            "identity": {"methods": ["password"], "password": {"user": who}},
            "scope": {"project": {"name": user, "domain": {"id": "default"}}},
        }
    }


def token_of(world: World, user: str) -> str:
    """A token, now."""
    assert world.services is not None  # noqa: S101 - started
    request = Request("POST", "/v3/auth/tokens", json=login(user), base_url="http://world/identity")
    return world.services.identity_app.handle(request).headers["X-Subject-Token"]


def _first_things(world: World) -> dict[str, str]:
    token = token_of(world, "demo")
    ids: dict[str, str] = {}
    for name, cidr in (("blue", "10.1.0.0/20"), ("green", "10.2.0.0/20")):
        made = world.ask("network", "POST", "/v2.0/networks", token=token, body={"network": {"name": name}})
        ids[name] = made.json["network"]["id"]
        subnet = {"network_id": ids[name], "ip_version": 4, "cidr": cidr}
        world.ask("network", "POST", "/v2.0/subnets", token=token, body={"subnet": subnet})
    image = world.ask("image", "GET", "/v2/images", token=token).json["images"][0]
    ids["image"] = image["id"]
    for flavor in world.ask("compute", "GET", "/v2.1/flavors", token=token).json["flavors"]:
        ids[flavor["name"]] = flavor["id"]
    return ids
