"""The services of one process and their doors: who is handed what.

Every door is the client of a public API; here, where all live together, its transport is the neighbour's own request handler.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog

from cumulet.compute import tables as compute_tables
from cumulet.compute.agent.service import Agent
from cumulet.compute.api.application import application as compute_application
from cumulet.compute.conductor.service import ConductorService, describe
from cumulet.compute.conductor.tools import ConductorTools
from cumulet.compute.door import ComputeRest
from cumulet.compute.doors import Doors
from cumulet.compute.messages import ComputeHost, Conductor
from cumulet.compute.scheduler.messages import SchedulerInterface
from cumulet.compute.scheduler.service import Scheduler
from cumulet.compute.service.compute import ComputeConfig, ComputeService
from cumulet.compute.service.fitting import Fitting
from cumulet.compute.service.resolve import Resolver
from cumulet.compute.service.servers import ServerFlows
from cumulet.compute.store import servers
from cumulet.core.bus import Bus
from cumulet.core.clock import Clock, seconds_between
from cumulet.core.context import Secret
from cumulet.core.db import Database, open_database
from cumulet.core.errors import CloudError, NotFound
from cumulet.core.faults import Faults
from cumulet.core.ids import Ids
from cumulet.core.saga import Coordinator, Flow, OtherSagas, Outcome
from cumulet.core.saga.failing import failpoint_off
from cumulet.core.saga.journal import Journal
from cumulet.core.web import App
from cumulet.core.web.client import Client, Credentials, LocalTransport, Transport
from cumulet.core.work import Worker
from cumulet.events import tables as event_tables
from cumulet.events.api import application as event_application
from cumulet.events.readers import Readers
from cumulet.events.relay import Relay
from cumulet.identity import tables as identity_tables
from cumulet.identity.api.application import application as identity_application
from cumulet.identity.config import IdentityConfig
from cumulet.identity.door import IdentityRest, ServiceUser, TokenValidator
from cumulet.identity.service import IdentityService
from cumulet.image import tables as image_tables
from cumulet.image.api import application as image_application
from cumulet.image.door import ImageRest
from cumulet.image.records import ImageConfig
from cumulet.image.service import ImageService
from cumulet.network import tables as network_tables
from cumulet.network.api.application import application as network_application
from cumulet.network.config import NetworkConfig
from cumulet.network.door import NetworkRest
from cumulet.network.service import NetworkService
from cumulet.placement import tables as placement_tables
from cumulet.placement.api import application as placement_application
from cumulet.placement.door import PlacementRest
from cumulet.placement.service import PlacementService
from cumulet.run.admin import admin_application
from cumulet.run.config import UpConfig
from cumulet.run.faults_api import faults_application
from cumulet.run.faulty import HeldPorts, MortalHost, faulty, strike_request
from cumulet.run.guest_metadata import metadata_agent
from cumulet.run.host_part import HostPart, HostThings
from cumulet.run.leak_watch import LeakWatch, MeteredLaunch, Meters, metrics_application
from cumulet.run.machine import Machine
from cumulet.run.server_flows import FLOWS, outcomes
from cumulet.run.state import CloudFacts
from cumulet.run.upkeep import reconciler
from cumulet.volume import tables as volume_tables
from cumulet.volume.api.application import application as volume_application
from cumulet.volume.assemble import ALL_FLOWS as VOLUME_FLOWS
from cumulet.volume.assemble import assemble as assemble_volume
from cumulet.volume.door import VolumeRest

__all__ = ["Services"]

log = structlog.get_logger()

UPKEEP_S = 30.0
#: how often keys whose time is over are looked for
FORGET_S = 600.0
FORGET_MORE_S = 1.0


class Services:
    """All services of a cloud in this process.  `start` makes the first rows and adopts what an earlier process left unfinished."""

    def __init__(
        self,
        config: UpConfig,
        facts: CloudFacts,
        machine: Machine,
        *,
        bus: Bus,
        api: Worker,
        work: Callable[[str], Worker],
        clock: Clock,
        ids: Ids,
        failpoint: Callable[[str], None] = failpoint_off,
        checks: tuple[Callable[..., None], ...] = (),
        faults: Faults | None = None,
        flows: Sequence[Flow] = FLOWS,
        volume_flows: Sequence[Flow] = VOLUME_FLOWS,
        database: Callable[[str, Any], Database] | None = None,
        transport: Callable[[str, App, str], Transport] | None = None,
        wake: Callable[[str, str, bool], None] | None = None,
    ) -> None:
        """work(role): the worker thread of a role; one for all where the queues are in this process.

        database(name, metadata) opens a service's database, transport(name, app, base URL) carries the doors' calls, where these are
        not those of one process.  wake(kind, id, up): tells hosts that are elsewhere of a port or a volume that changed; with it
        this process is no host itself.
        """
        self._config = config
        self._facts = facts
        self.machine = machine
        self.clock, self.ids, self.bus, self.api = clock, ids, bus, api
        self._work = work
        self._failpoint = failpoint
        self.faults = faults
        self.flows, self._volume_flows = faulty(flows, faults), faulty(volume_flows, faults)
        self.meters = Meters()
        self._root = machine.root
        self.databases: list[Database] = []
        self._open = database or (lambda name, metadata: open_database(config.databases, name, metadata, clock))
        self._transport = transport or (lambda _, app, base_url: LocalTransport(app, base_url=base_url))
        self._wake_elsewhere = wake
        #: the hosts of this process, and those that the leak check looks at
        self.hosts: list[HostThings] = []
        self._events()
        self._identity()
        self._image()
        self._network()
        self._placement()
        self._volume()
        self._compute(checks)
        self.apps: dict[str, App] = {
            "identity": self.identity_app,
            "image": self.image_app,
            "network": self.network_app,
            "placement": self.placement_app,
            "volume": self.volume_app,
            "compute": self.compute_app,
            "cumulet": admin_application(self),
            "events": event_application(self.readers, authenticate=self.authenticate, clock=self.clock, ids=self.ids),
        }
        if faults is not None:
            self._let_fail(faults)
        self.leak_watch = LeakWatch(self, work("conductor"))
        self.apps["metrics"] = metrics_application(self)
        self.apps["admin"] = faults_application(self, faults)

    def _let_fail(self, faults: Faults) -> None:
        """Faults on demand: strike requests, ports and the host."""
        for app in self.apps.values():
            app.strike = strike_request(faults)
        held, host = HeldPorts(self.network, faults), self._mortal
        assert host is not None  # noqa: S101 - made with the agent
        self.network.levels.held = held
        faults.on_change(lambda: self._work("network").post(held.let_go))
        faults.on_change(lambda: self.host_part.worker.post(host.look))

    def worker(self, role: str) -> Worker:
        """The thread that owns a role's queue."""
        return self._work(role)

    def own(self) -> Credentials:
        """What compute's own user calls its neighbours with."""
        token = self.nova.token()
        return Credentials(token=token, service_token=token)

    def workers(self) -> list[Worker]:
        """Every thread with an inbox."""
        roles = ("conductor", "scheduler", "host", "network", "volume-conductor", "volume-scheduler", "volume-host")
        return list(dict.fromkeys([self.api, *(self._work(role) for role in roles)]))

    def _database(self, name: str, metadata: Any) -> Database:
        db = self._open(name, metadata)
        db.create()
        self.databases.append(db)
        if "watched" in metadata.info:
            self.relay.add(db)
        return db

    def _events(self) -> None:
        """Before every service: what these write is in the stream from their first row on."""
        db = self._database("events", event_tables.METADATA)
        self.relay = Relay(db, worker=self._work("events"), clock=self.clock)
        self.readers = Readers(self.relay, api=self.api)

    def _client(self, name: str, app: App) -> Client:
        base_url = f"{self._config.public_url or self._config.base_url}/{name}"
        return Client(name, self._transport(name, app, base_url), self.clock)

    def _web(self, name: str) -> dict[str, Any]:
        """What every service's application takes: who asks, the time, ids, and the operator's own rules where there are some."""
        rules = self._config.state_dir / "policy" / f"{name}.yaml"
        return {
            "authenticate": self.authenticate,
            "clock": self.clock,
            "ids": self.ids,
            "policy_overrides": rules if rules.exists() else None,
        }

    # --- identity ------------------------------------------------------------------------------------------------------------------

    def _identity(self) -> None:
        db = self._database("identity", identity_tables.METADATA)
        config = IdentityConfig(key_folder=self._config.state_dir / "keys", bcrypt_rounds=self._config.bcrypt_rounds)
        self.identity = IdentityService(db, clock=self.clock, ids=self.ids, config=config, signal=self.api.signal)
        self.authenticate = TokenValidator(None, self.clock, local=self.identity.validate)
        self.identity_app = identity_application(self.identity, **self._web("identity"))
        self.first_rows = self.identity.bootstrap(admin_password=self._facts.admin, demo_password=self._facts.demo)

    def _door_of_identity(self, user: str) -> IdentityRest:
        """Identity, as the service user `user` sees it."""
        secret: Secret = self.first_rows.service_secrets[user]
        return IdentityRest(
            self._client("identity", self.identity_app), user=ServiceUser(name=user, secret=secret), clock=self.clock
        )

    # --- image, network, placement, volume -----------------------------------------------------------------------------------------

    def _image(self) -> None:
        db = self._database("image", image_tables.METADATA)
        config = ImageConfig(folder=self._root / "images")
        self.image = ImageService(db, clock=self.clock, ids=self.ids, config=config)
        self.image_app = image_application(self.image, **self._web("image"))
        self.image_door = ImageRest(self._client("image", self.image_app))

    def _network(self) -> None:
        db = self._database("network", network_tables.METADATA)
        config = NetworkConfig(
            external_cidr=self.machine.external_cidr, external_physical_network=self.machine.physical_network
        )
        self.network = NetworkService(
            db, self.machine.network, clock=self.clock, ids=self.ids, config=config, post=self._work("network").post
        )
        self.network_app = network_application(self.network, **self._web("network"))
        self.network_door = NetworkRest(self._client("network", self.network_app))

    def _placement(self) -> None:
        db = self._database("placement", placement_tables.METADATA)
        self.placement = PlacementService(db, clock=self.clock, ids=self.ids)
        self.placement_app = placement_application(self.placement, **self._web("placement"))
        self.placement_door = PlacementRest(self._client("placement", self.placement_app))

    def _volume(self) -> None:
        cinder = self._door_of_identity("cinder")
        db = self._database("volume", volume_tables.METADATA)
        self.volume_parts = assemble_volume(
            db=db,
            bus=self.bus,
            worker=self._work("volume-conductor"),
            scheduler_worker=self._work("volume-scheduler"),
            host_worker=self._work("volume-host"),
            driver=self.machine.volumes,
            host=self.machine.host,
            image=self.image_door,
            service_token=cinder.token,
            upload_folder=self._root / "uploads",
            clock=self.clock,
            ids=self.ids,
            failpoint=self._failpoint,
            tell_extended=self._tell_extended,
            compute=lambda: self.compute_door,
            server_uses=self._server_uses,
            flows=self._volume_flows,
        )
        self.volume = self.volume_parts.service
        self.volume_app = volume_application(self.volume, **self._web("volume"))
        self.volume_door = VolumeRest(self._client("volume", self.volume_app))

    # --- compute -------------------------------------------------------------------------------------------------------------------

    def _compute(self, checks: tuple[Callable[..., None], ...]) -> None:
        db = self._database("compute", compute_tables.METADATA)
        self.compute_db = db
        nova = self._door_of_identity("nova")
        self.nova = nova
        journal = Journal(compute_tables.SAGAS)
        doors: dict[str, Any] = {
            "image": self.image_door,
            "network": self.network_door,
            "volume": self.volume_door,
            "placement": self.placement_door,
            "service_token": nova.token,
        }
        conductor = self._conductor(db, journal, doors)
        self._scheduler(db, journal)
        if self._wake_elsewhere is None:
            self._host(doors)
        resolver = Resolver(db, Doors(**doors), zones=("nova",), ids=self.ids)
        self.compute = ComputeService(
            db,
            flows=ServerFlows(
                db,
                conductor,
                limits=lambda *asked: self.compute.quotas.limits(*asked),  # noqa: PLW0108 - there is no compute yet
                default_zone="nova",
                clock=self.clock,
                ids=self.ids,
            ),
            resolver=resolver,
            doors=Doors(**doors),
            identity=nova,
            host=lambda host: self.bus.client(ComputeHost, host=host),
            service_token=nova.token,
            clock=self.clock,
            ids=self.ids,
            config=ComputeConfig(),
        )
        self.fitting = Fitting(
            db, resolver=resolver, quotas=self.compute.quotas, scheduler=self.bus.client(SchedulerInterface)
        )
        self.compute_app = compute_application(self.compute, checks=checks, **self._web("compute"))
        self.compute_door = ComputeRest(self._client("compute", self.compute_app))

    def _conductor(self, db: Database, journal: Journal, doors: dict[str, Any]) -> Coordinator:
        worker = self._work("conductor")
        tools = ConductorTools(scheduler=self.bus.client(SchedulerInterface), others=OtherSagas(db, journal), **doors)
        self.coordinator = Coordinator(
            db,
            journal,
            flows=self.flows,
            outcomes=self._metered(
                outcomes(self.clock, copied=lambda copy_id: self._work("volume-conductor").signal(("copy", copy_id)))
            ),
            describe=describe,
            order=lambda host, order: self.bus.client(ComputeHost, host=host).run(order),
            tools=tools,
            worker=worker,
            clock=self.clock,
            ids=self.ids,
            owner="conductor",
            failpoint=self._failpoint,
        )
        service = ConductorService(
            db,
            self.coordinator,
            placement=self.placement_door,
            credentials=self.nova.credentials,
            zone="nova",
            clock=self.clock,
            ids=self.ids,
        )
        self.bus.serve(Conductor, service, worker)
        return self.coordinator

    def _scheduler(self, db: Database, journal: Journal) -> None:
        scheduler = Scheduler(
            db,
            journal,
            placement=self.placement_door,
            credentials=lambda request_id: self.nova.credentials(request_id=request_id),
            host=lambda host: self.bus.client(ComputeHost, host=host),
            clock=self.clock,
            ids=self.ids,
            failpoint=self._failpoint,
        )
        self.bus.serve(SchedulerInterface, scheduler, self._work("scheduler"))

    def _host(self, doors: dict[str, Any]) -> None:
        """This process is the compute host of its machine."""
        self.metadata = metadata_agent(
            self.machine, network=self.network_door, compute_db=self.compute_db, credentials=self.own
        )
        self._mortal = None if self.faults is None else MortalHost(self, self.faults, self.machine.host)
        part = HostPart(
            self.machine,
            flows=self.flows,
            bus=self.bus,
            worker=self._work("host"),
            doors=doors,
            metadata=self.metadata,
            clock=self.clock,
            ids=self.ids,
            failpoint=self._failpoint,
            mortal=self._mortal,
        )
        self.hosts.append(part)
        self.host_part = part
        self.agent: Agent = part.agent

    # --- start and stop ------------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """First rows, subscriptions, the host's report, and every saga that had not ended."""
        self.relay.start()
        self.image.recover()
        self.network.resync()
        self.network.bootstrap(self.first_rows.admin_project_id)
        self.compute.bootstrap_flavors()
        self.network.on_port_up(lambda port_id, up: self._wake("port", port_id, up=up))
        self.network.floating_ips.on_change(
            lambda port_id: self._work("conductor").post(lambda: self._refresh_floating(port_id))
        )
        self.volume.on_change(lambda volume_id: self._wake("volume", volume_id))
        if self._wake_elsewhere is not None or self._work("conductor") is not self._work("host"):
            self.volume.on_change(lambda volume_id: self._work("conductor").signal(("volume", volume_id)))
        self._work("network").after(UPKEEP_S, self._upkeep)
        self._work("conductor").after(FORGET_S, self._forget_keys)
        if self._wake_elsewhere is None:
            self.agent.start()
        self.volume_parts.start()
        self.coordinator.adopt()
        self.reconciler = reconciler(self)
        self.reconciler.start()
        self.leak_watch.start()
        self.network.on_port_up(self._port_is_up)

    def _metered(self, by_flow: Mapping[str, Outcome]) -> Mapping[str, Outcome]:
        return {**by_flow, "launch": MeteredLaunch(by_flow["launch"], self.meters, self.clock)}

    def _port_is_up(self, port_id: str, up: bool) -> None:
        """How long it took: its last change was the binding."""
        bound_at = self.network.changed_at(port_id) if up else None
        if bound_at is not None:
            self.meters.port_up_seconds.observe(seconds_between(bound_at, self.clock.now()))

    def _wake(self, kind: str, id: str, *, up: bool = False) -> None:
        """A port or a volume has changed: a step on a host may wait for it."""
        if self._wake_elsewhere is not None:
            self._wake_elsewhere(kind, id, up)
        else:
            self.agent.wake(kind, id, up)

    def _tell_extended(self, volume_id: str, size_gib: int, server_ids: Sequence[str]) -> None:
        """An attached volume has grown: tell the guests that have it, each on its host.  Blocks."""
        for server_id in server_ids:
            with self.compute_db.read() as tx:
                server = servers.get(tx, server_id)
            if server is not None and server.host is not None:
                self.bus.client(ComputeHost, host=server.host).resize_disk(server_id, volume_id, size_gib << 30)

    def _server_uses(self, server_id: str, volume_id: str) -> bool:
        """Whether a server's record has a volume attached."""
        with self.compute_db.read() as tx:
            server = servers.get(tx, server_id)
        return server is not None and any(device.volume_id == volume_id for device in server.block_devices)

    def _upkeep(self) -> None:
        """Signs of life of the network's agents, and what the data plane is still owed."""
        try:
            self.network.upkeep()
        except CloudError as error:
            log.warning("network upkeep failed", detail=error.detail or error.message)
        self._work("network").after(UPKEEP_S, self._upkeep)

    def _forget_keys(self) -> None:
        """Keys of requests whose time is over."""
        again_in = FORGET_S
        try:
            if any(app.keys.forget() for app in self.apps.values() if app.keys is not None):
                again_in = FORGET_MORE_S
        finally:  # whatever a database has against it, later it is tried again
            self._work("conductor").after(again_in, self._forget_keys)

    def _refresh_floating(self, port_id: str) -> None:
        """The floating addresses of a port, onto the record of the server it belongs to."""
        credentials = self.own()
        try:
            server_id = self.network_door.get_port(credentials, port_id).device_id
            found = self.network_door.floating_ips(credentials, port_ids=[port_id])
        except NotFound:
            return
        by_fixed: dict[str, list[str]] = {}
        for floating in found:
            by_fixed.setdefault(floating.fixed_ip or "", []).append(floating.address)
        with self.compute_db.write() as tx:
            server = servers.get(tx, server_id) if server_id else None
            if server is not None:
                servers.set_floating(tx, server, port_id, by_fixed)

    def close(self) -> None:
        for db in self.databases:
            db.close()
