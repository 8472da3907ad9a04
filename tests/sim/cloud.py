"""A whole simulated cloud in the test's own process: the program's services and threads, without sockets, and a clock that can jump."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec
from sqlalchemy import func, select

from cumulet.compute.tables import HOSTS
from cumulet.core.bus import LocalBus
from cumulet.core.clock import SystemClock, add_seconds
from cumulet.core.faults import Faults
from cumulet.core.ids import SystemIds
from cumulet.core.web.http import Request
from cumulet.core.work import Gate, Pools, Worker
from cumulet.run import state
from cumulet.run.config import UpConfig
from cumulet.run.first_image import add_first_image
from cumulet.run.machine import choose
from cumulet.run.services import Services
from cumulet.volume.tables import POOLS

T = TypeVar("T")

WAIT_S = 20.0
LOOK_S = 0.005
#: a little longer than between two signs of life
SILENT_S = 30.0


class JumpingClock(SystemClock):
    """The machine's clock, and what was jumped over."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead = 0.0

    def now(self) -> str:
        return add_seconds(super().now(), self.ahead)

    def epoch(self) -> float:
        return super().epoch() + self.ahead

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


class Refused(Exception):
    """An answer of 400 or more."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(f"{status} {body}")
        self.status = status
        self.body = body


class User:
    """Somebody with a token: calls the services' handlers as the edge would."""

    def __init__(self, services: Services, name: str, password: str, project: str) -> None:
        self._services = services
        domain = {"name": "Default"}
        user = {"name": name, "domain": domain, "password": password}
        scope = {"project": {"name": project, "domain": domain}}
        auth = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}}
        answer = services.apps["identity"].handle(Request("POST", "/v3/auth/tokens", json=auth))
        assert answer.status == 201, answer.body
        self.token = answer.headers["X-Subject-Token"]
        self.project_id = str(msgspec.json.decode(answer.content())["token"]["project"]["id"])

    def __call__(self, method: str, service: str, path: str, body: Any = None, **headers: str) -> Any:
        """The answer's document.  Raises Refused."""
        path, _, query = path.partition("?")
        sent = {"x-auth-token": self.token} | {name.replace("_", "-").lower(): value for name, value in headers.items()}
        request = Request(method, path, query=query, headers=sent, json=body, base_url=f"http://cloud/{service}")
        request.outside = True
        answer = self._services.apps[service].handle(request)
        content = answer.content()
        document = msgspec.json.decode(content) if content else None
        if answer.status >= 400:
            raise Refused(answer.status, document)
        return document


class SimCloud:
    """See the module's docstring.  faults, database_url: as `cumulet up` takes them."""

    def __init__(self, folder: Path, *, faults: bool = False, database_url: str | None = None) -> None:
        config = UpConfig(
            state_dir=folder,
            drivers="sim",
            merge_clouds=False,
            bcrypt_rounds=4,
            port=1,
            faults=faults,
            database_url=database_url,
        )
        self.clock, self.ids = JumpingClock(), SystemIds()
        facts = state.load_facts(folder)
        self.machine: Any = choose(config, facts.cloud_id)
        self._gate = Gate()
        self._pools = Pools(
            {"passwords": (1, 64), "uploads": (2, 64), "devices": (2, 10_000), "calls": (4, 1000), "syncs": (2, 1000)}
        )
        self._workers: dict[str, Worker] = {}
        self.faults = Faults(clock=self.clock, ids=self.ids) if faults else None
        self.services = Services(
            config,
            facts,
            self.machine,
            bus=LocalBus(),
            api=self._worker("api"),
            work=lambda _: self._worker("work"),
            clock=self.clock,
            ids=self.ids,
            faults=self.faults,
        )
        for worker in self._workers.values():
            worker.start()
        self.services.start()
        add_first_image(self.services.image, self.machine, say=lambda _: None)
        self.admin = User(self.services, "admin", facts.admin.reveal(), "admin")
        self.member = User(self.services, "demo", facts.demo.reveal(), "demo")

    def _worker(self, name: str) -> Worker:
        if name not in self._workers:
            self._workers[name] = Worker(name, clock=self.clock, pools=self._pools, gate=self._gate)
        return self._workers[name]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers.values():
            worker.stop()
        self._pools.close()
        self.machine.stop(keep_guests=False)
        self.services.close()

    # --- time ------------------------------------------------------------------------------------------------------

    def jump(self, seconds: float) -> None:
        """Let this much time have passed; timers that became due run."""
        self.clock.ahead += seconds
        for worker in self._workers.values():
            worker.post(lambda: None)  # it looks at its timers anew

    def _heard(self) -> bool:
        """Whether the host and the volumes' back end have been heard of since the last jump."""
        with self.services.compute_db.read() as tx:
            host = tx.value(select(func.min(HOSTS.c.seen_at)))
        with self.services.volume.db.read() as tx:
            pool = tx.value(select(func.min(POOLS.c.seen_at)))
        return min(host, pool) > add_seconds(self.clock.now(), -SILENT_S)

    @staticmethod
    def until(look: Callable[[], T | None], what: str, timeout_s: float = WAIT_S) -> T:
        """Look until it is true: the public API has no event for it."""
        ends = time.monotonic() + timeout_s
        while not (found := look()):
            assert time.monotonic() < ends, f"not within {timeout_s} s: {what}"
            threading.Event().wait(LOOK_S)
        return found

    # --- things ----------------------------------------------------------------------------------------------------

    def network(self, cidr: str = "10.40.0.0/16") -> str:
        """A network with a subnet; its id."""
        made = self.member("POST", "network", "/v2.0/networks", {"network": {"name": "net"}})["network"]["id"]
        subnet = {"network_id": made, "ip_version": 4, "cidr": cidr}
        self.member("POST", "network", "/v2.0/subnets", {"subnet": subnet})
        return str(made)

    def image(self) -> str:
        return str(self.member("GET", "image", "/v2/images?visibility=public&status=active")["images"][0]["id"])

    def body(self, network: str, *, volume: bool = False) -> dict[str, Any]:
        """A launch request, perhaps with a blank volume beside the root disk."""
        flavors = self.member("GET", "compute", "/v2.1/flavors")["flavors"]
        nano = next(flavor["id"] for flavor in flavors if flavor["name"] == "m1.nano")
        image = self.image()
        server: dict[str, Any] = {"name": "one", "imageRef": image, "flavorRef": nano, "networks": [{"uuid": network}]}
        if volume:
            root = {"boot_index": 0, "uuid": image, "source_type": "image", "destination_type": "local"}
            data = {"boot_index": -1, "source_type": "blank", "destination_type": "volume", "volume_size": 1}
            server["block_device_mapping_v2"] = [one | {"delete_on_termination": True} for one in (root, data)]
        return {"server": server}

    def post(self, body: dict[str, Any]) -> str:
        return str(self.member("POST", "compute", "/v2.1/servers", body)["server"]["id"])

    def server(self, server_id: str) -> dict[str, Any] | None:
        """As the admin sees it, or None when it is gone."""
        try:
            shown: dict[str, Any] = self.admin("GET", "compute", f"/v2.1/servers/{server_id}")["server"]
        except Refused as refused:
            if refused.status == 404:
                return None
            raise
        return shown

    def settled(self, server_id: str, timeout_s: float = WAIT_S) -> dict[str, Any]:
        """The server once it is idle and no longer building."""

        def look() -> dict[str, Any] | None:
            shown = self.server(server_id)
            assert shown is not None, f"{server_id} is gone"
            return shown if shown["status"] != "BUILD" and shown["OS-EXT-STS:task_state"] is None else None

        return self.until(look, f"server {server_id} to settle", timeout_s)

    def launched(self, network: str, *, volume: bool = False) -> str:
        """A server that runs."""
        self.until(self._heard, "the host and its back end to be heard of")
        server_id = self.post(self.body(network, volume=volume))
        shown = self.settled(server_id)
        assert shown["status"] == "ACTIVE", shown.get("fault")
        return server_id

    def delete(self, server_id: str) -> None:
        """Delete it and wait until it is gone, with its volumes."""
        if self.server(server_id) is not None:
            self.member("DELETE", "compute", f"/v2.1/servers/{server_id}")
        self.gone(server_id)

    def gone(self, server_id: str) -> None:
        self.until(lambda: self.server(server_id) is None, f"server {server_id} to go")
