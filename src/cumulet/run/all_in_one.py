"""A whole cloud in one process: all services, their queues, their database files, and the drivers of this machine.

Threads: the loop of the edge (sockets), one dispatcher that runs every request handler, one worker that runs the sagas' steps and the
queues' messages and gives way to requests, and bounded pools for what is slow.  docs/decisions/0001-web-edge-and-threads.md says why.
"""

import contextlib
import gc
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import structlog
import uvicorn

from cumulet.core.bus import Bus, LocalBus
from cumulet.core.clock import SystemClock
from cumulet.core.faults import Faults
from cumulet.core.ids import SystemIds
from cumulet.core.saga.failing import failpoint_off
from cumulet.core.web.edge import Edge
from cumulet.core.web.protocol import DroppableHttp
from cumulet.core.work import Gate, Pools, Worker
from cumulet.run import state
from cumulet.run.config import UpConfig
from cumulet.run.listen import take_address
from cumulet.run.machine import Machine, choose
from cumulet.run.services import Services

__all__ = ["Cloud"]

log = structlog.get_logger()

GUESTS_STOP_S = 10.0
#: how long a thread runs before another may: a pure-Python loop would otherwise hold requests up for 5 ms
SWITCH_INTERVAL_S = 0.0005
#: Python looks for garbage after so many new objects; almost all of ours goes without being looked for, and 700 are three launches'
GARBAGE_AFTER = 10_000
CLIENTS_TIMEOUT_S = 75


def say(line: str) -> None:
    """To the terminal that started the cloud."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class _Server(uvicorn.Server):
    """uvicorn's, but for its signals: it would raise a caught one again at its end, before the cloud has stopped its guests."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        def end(number: int, frame: Any) -> None:  # noqa: ARG001 - a signal handler's signature
            self.should_exit = True

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, end)
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Streams never end by themselves: their readers are let go first."""
        self.ending()
        await super().shutdown(sockets)

    def ending(self) -> None:
        """Called in the loop when the cloud is told to stop."""


class Cloud:
    """Start, serve until told to stop, stop."""

    def __init__(
        self, config: UpConfig, *, say: Callable[[str], None] = say, failpoint: Callable[[str], None] = failpoint_off
    ) -> None:
        self.config = config
        self._say = say
        self._failpoint = failpoint
        self._began = time.monotonic()
        self._clock = SystemClock()
        self._ids = SystemIds()
        self._workers: dict[str, Worker] = {}
        self._server: uvicorn.Server | None = None

    def run(self) -> None:
        """Start, print `ready`, serve until SIGTERM or SIGINT, stop."""
        config = self.config
        with contextlib.ExitStack() as held:
            held.callback(state.StateLock(config.state_dir).release)
            sockets = take_address(config.listen, config.port)
            for one in sockets:
                held.callback(one.close)
            self._open()
            try:
                self._serve(sockets)
            finally:
                self._stop()

    # --- start ---------------------------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        config = self.config
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        config.state_dir.chmod(0o711)
        self.facts = state.load_facts(config.state_dir)
        self.machine: Machine = choose(config, self.facts.cloud_id)
        try:
            for line in self.machine.lines:
                self._say(line)
            if config.faults:
                self._say("faults: admins may inject them at /admin/faults")
            self._open_services()
        except BaseException:  # raised again: whatever it is, the daemons must not outlive it
            self.machine.abandon()
            raise

    def _open_services(self) -> None:
        config = self.config
        self._gate = Gate()
        cores = os.cpu_count() or 2
        self._pools = Pools(
            {
                "passwords": (max(1, cores - 1), 64),
                "uploads": (4, 256),
                "devices": (max(2, cores), 10_000),
                "calls": (16, 1000),
                # one sync of a log at a time; those that come meanwhile share the next
                "syncs": (4, 10_000),
            },
            behind={"passwords"},
        )
        self._api = Worker("api", clock=self._clock, pools=self._pools)
        self._bus = self._open_bus()
        self.services = Services(
            config,
            self.facts,
            self.machine,
            bus=self._bus,
            api=self._api,
            work=self._worker,
            clock=self._clock,
            ids=self._ids,
            failpoint=self._failpoint,
            checks=self._checks(),
            faults=Faults(clock=self._clock, ids=self._ids) if config.faults else None,
        )
        self._api.start()
        for worker in self._workers.values():
            worker.start()
        self.services.start()
        self._first_image()
        resumed = self.services.agent.resume_guests()
        self.services.metadata.tidy()
        if resumed:
            self._say(f"guests: {len(resumed)} started again")
        url = config.public_url or config.base_url
        state.write_clients(config.state_dir, self.facts, url)
        if config.merge_clouds:
            state.merge_clouds(self.facts, url)

    def _open_bus(self) -> Bus:
        if self.config.bus_url is None:
            return LocalBus()
        from cumulet.core.bus.rabbit import RabbitBus

        return RabbitBus(self.config.bus_url)

    def _worker(self, role: str) -> Worker:
        """One thread for all roles where the queues are in this process; one each where a call waits for a broker's answer.

        The events have their own: nobody waits for it.
        """
        name = "work" if self.config.bus_url is None and role != "events" else role
        if name not in self._workers:
            self._workers[name] = Worker(name, clock=self._clock, pools=self._pools, gate=self._gate)
        return self._workers[name]

    def _checks(self) -> tuple[Callable[..., None], ...]:
        from cumulet.compute.api.oracle import checks_asked_for, schema_check

        if self.config.compute_schemas is None:
            return checks_asked_for()
        return (schema_check(self.config.compute_schemas),)

    def _first_image(self) -> None:
        """The guest image, built on a real machine; a simulated one gets an empty disk that says what it is."""
        if not self.config.guest_image:
            return
        from cumulet.run.first_image import add_first_image

        add_first_image(self.services.image, self.machine, say=self._say)

    # --- serve ---------------------------------------------------------------------------------------------------------------------

    def _serve(self, sockets: list[socket.socket]) -> None:
        edge = Edge(
            self.services.apps,
            worker=self._api,
            clock=self._clock,
            gate=self._gate,
            public_url=self.config.public_url,
            others=self._mounts(),
            root=self._root(),
            looks=self.config.databases.startswith("sqlite"),
        )
        server = _Server(
            uvicorn.Config(
                edge,
                host=self.config.listen,
                port=self.config.port,
                log_config=None,
                access_log=False,
                lifespan="off",
                server_header=False,
                date_header=True,
                http=DroppableHttp.answering(edge),  # type: ignore[arg-type]  # makes what the class would
                loop="asyncio",
                timeout_keep_alive=CLIENTS_TIMEOUT_S,
                timeout_graceful_shutdown=2,
            )
        )
        server.ending = self.services.readers.close  # type: ignore[method-assign]  # the one thing of ours that it has to know
        self._server = server
        # waits for uvicorn alone, which no simulated world has
        threading.Thread(  # noqa: TID251 - as said
            target=self._announce, args=(server,), name="announce", daemon=True
        ).start()
        gc.freeze()
        gc.set_threshold(GARBAGE_AFTER)
        gc.enable()
        server.run(sockets)

    def _announce(self, server: uvicorn.Server) -> None:
        waited = threading.Event()
        while not server.started and not server.should_exit:
            waited.wait(0.005)  # uvicorn has no event for its start
        if server.started:
            self._say(f"listening on {self.config.public_url or self.config.base_url}")
            self._say(f"clouds: cumulet, cumulet-admin in {self.config.state_dir / 'clouds.yaml'}")
            self._say(f"ready in {time.monotonic() - self._began:.1f} s")

    def _mounts(self) -> dict[str, Any]:
        from cumulet.run.pages import mounts

        return mounts(self)

    def _root(self) -> Any:
        from cumulet.run.pages import root

        return root(self)

    # --- stop ----------------------------------------------------------------------------------------------------------------------

    def _stop(self) -> None:
        keep = self.config.keep_guests
        self._say("stopping" + (", guests are kept" if keep else ""))
        for worker in self._workers.values():
            worker.stop()
        self._api.stop()
        if not keep:
            self.services.agent.stop_guests(GUESTS_STOP_S)
        self._bus.close()
        self._pools.close()
        self.machine.stop(keep_guests=keep)
        self.services.close()
        self._say("stopped")
