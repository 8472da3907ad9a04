"""A whole cloud with many simulated hosts in this process: the product's own services, steps and agents, in real time, without sockets.

Where a cloud of many hosts has a process per host and a conductor's queue between them, here all hosts share the worker thread.  What is
measured is therefore the work of conductor, scheduler, services and hosts together, on one core.
"""

import contextlib
import gc
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Self

import msgspec

from cumulet.compute.agent.hypervisor.sim import SimHypervisor
from cumulet.compute.agent.instances import SimInstances
from cumulet.compute.agent.vif.sim import SimVif
from cumulet.core.bus import LocalBus
from cumulet.core.clock import SystemClock
from cumulet.core.ids import SystemIds
from cumulet.core.saga.failing import failpoint_off
from cumulet.core.web.http import Request
from cumulet.core.work import Gate, Pools, Worker
from cumulet.metadata.door import NoMetadata
from cumulet.network.drivers.sim import SimNetwork
from cumulet.run import state
from cumulet.run.all_in_one import GARBAGE_AFTER, SWITCH_INTERVAL_S
from cumulet.run.config import UpConfig
from cumulet.run.first_image import add_first_image
from cumulet.run.host_part import HostPart
from cumulet.run.machine import Machine
from cumulet.run.services import Services
from cumulet.volume.drivers.sim import SimVolumes

__all__ = ["ManyHosts", "Refused", "User"]

#: what each host has
VCPUS, MEMORY_MIB, DISK_GIB = 64, 256 << 10, 4 << 10


class Refused(Exception):
    """A request was answered with 400 or more."""


class User:
    """Somebody with a token: calls the services' handlers as the edge would."""

    def __init__(self, services: Services, name: str, password: str, project: str) -> None:
        self._services = services
        domain = {"name": "Default"}
        user = {"name": name, "domain": domain, "password": password}
        scope = {"project": {"name": project, "domain": domain}}
        auth = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}}
        answer = services.apps["identity"].handle(Request("POST", "/v3/auth/tokens", json=auth))
        self.token = answer.headers["X-Subject-Token"]
        self.project_id = str(msgspec.json.decode(answer.content())["token"]["project"]["id"])

    def __call__(self, method: str, service: str, path: str, body: Any = None) -> Any:
        """The answer's document, through JSON as a client gets it.  Raises Refused."""
        path, _, query = path.partition("?")
        request = Request(
            method,
            path,
            query=query,
            headers={"x-auth-token": self.token, "openstack-api-version": "compute 2.96"},
            json=body,
            base_url=f"http://cloud/{service}",
        )
        request.outside = True
        answer = self._services.apps[service].handle(request)
        content = answer.content()
        document = msgspec.json.decode(content) if content else None
        if answer.status >= 400:
            msg = f"{method} {path}: {answer.status} {document}"
            raise Refused(msg)
        return document


class ManyHosts:
    """See the module's docstring."""

    def __init__(self, folder: Path, *, hosts: int) -> None:
        self.folder = folder
        (folder / "sim").mkdir()
        self._names = tuple(f"host-{number}" for number in range(hosts))
        config = UpConfig(state_dir=folder, drivers="sim", merge_clouds=False, bcrypt_rounds=4, port=1)
        self.clock, self.ids = SystemClock(), SystemIds()
        facts = state.load_facts(folder)
        self._gate = Gate()
        self._pools = Pools({"passwords": (1, 64), "uploads": (2, 64), "devices": (2, 10_000), "calls": (4, 1000)})
        self._workers: dict[str, Worker] = {}
        self._before = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self._bus = LocalBus()
        self._network = SimNetwork(hosts=self._names)
        self._volumes = SimVolumes(folder=folder / "volumes")
        self.services = Services(
            config,
            facts,
            self._machine("controller"),
            bus=self._bus,
            api=self._worker("api"),
            work=lambda role: self._worker("events" if role == "events" else "work"),
            clock=self.clock,
            ids=self.ids,
            # every host's steps wait on the one worker
            wake=lambda kind, thing_id, _: self._worker("work").signal((kind, thing_id)),
        )
        for worker in self._workers.values():
            worker.start()
        self.services.start()
        add_first_image(self.services.image, self.services.machine, say=lambda _: None)
        self.admin = User(self.services, "admin", facts.admin.reveal(), "admin")
        self.member = User(self.services, "demo", facts.demo.reveal(), "demo")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_workers()
        self._pools.close()
        self.services.close()
        sys.setswitchinterval(self._before)
        gc.unfreeze()

    def stop_workers(self) -> None:
        """Whatever goes on by itself; services that are called answer on."""
        for worker in self._workers.values():
            worker.stop()
        self._workers.clear()

    def _worker(self, name: str) -> Worker:
        if name not in self._workers:
            self._workers[name] = Worker(name, clock=self.clock, pools=self._pools, gate=self._gate)
        return self._workers[name]

    def _machine(self, host: str) -> Machine:
        return Machine(
            host=host,
            hypervisor=SimHypervisor(hostname=host, vcpus=VCPUS, memory_mib=MEMORY_MIB, disk_gib=DISK_GIB),
            virt_type="sim",
            network=self._network,
            vif=SimVif(),
            namespaces=None,
            volumes=self._volumes,
            instances=lambda files: SimInstances(self.folder / host),  # noqa: ARG005 - no config drive is written
            external_cidr="172.24.4.0/24",
            physical_network="public",
            lines=[],
            root=self.folder,
            quick=True,
        )

    def add_hosts(self, count: int) -> None:
        """So many of the hosts, reported and at work."""
        services, there = self.services, len(self.services.hosts)
        doors = {
            "image": services.image_door,
            "network": services.network_door,
            "volume": services.volume_door,
            "placement": services.placement_door,
            "service_token": services.nova.token,
        }
        for name in self._names[there : there + count]:
            part = HostPart(
                self._machine(name),
                flows=services.flows,
                bus=self._bus,
                worker=self._worker("work"),
                doors=doors,
                metadata=NoMetadata(),
                clock=self.clock,
                ids=self.ids,
                failpoint=failpoint_off,
            )
            services.hosts.append(part)
            self._worker("work").post(partial(_begin, part))
        self.idle()
        gc.freeze()  # as the program does once it has started: what lives as long as it does is not looked through again and again
        gc.set_threshold(GARBAGE_AFTER)

    def idle(self) -> None:
        """Wait until the worker has done what it was given so far."""
        done = threading.Event()
        self._worker("work").post(done.set)
        done.wait()

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        """A request is in hand: steps give way to it."""
        self._gate.enter()
        try:
            yield
        finally:
            self._gate.leave()


def _begin(part: HostPart) -> None:
    part.agent.start()
    part.agent.resume_guests()
