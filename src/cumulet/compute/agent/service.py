"""The agent: one per host.  Runs the steps that belong to its host, tells the conductor how the host and its guests are.

Everything it knows of the cloud comes by message or by REST; it touches no database.
"""

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import structlog

from cumulet.compute.agent.hypervisor.driver import STARTING, DomainState, Hypervisor, HypervisorFault, PowerState
from cumulet.compute.agent.tools import HostTools
from cumulet.compute.messages import Conductor, HostReport, PowerReport
from cumulet.compute.records import Server
from cumulet.core.clock import Clock
from cumulet.core.errors import CloudError
from cumulet.core.saga import Executor, Order
from cumulet.core.work import Slow, Worker

__all__ = ["Agent"]

log = structlog.get_logger()

HEARTBEAT_S = 20.0
#: between two looks for images' bases that nobody uses any more
TIDY_S = 3600.0
#: an image's base stays this long after a launch last asked for it: as in the reference
BASE_IDLE_S = 86400.0
#: running or paused
RUNNING_STATES = frozenset({1, 3})


class Agent:
    """Implements ComputeHost."""

    def __init__(
        self,
        host: str,
        *,
        executor: Executor,
        tools: HostTools,
        hypervisor: Hypervisor,
        conductor: Conductor,
        worker: Worker,
        report: Callable[[], HostReport],
        clock: Clock,
    ) -> None:
        self.host = host
        self._executor = executor
        self._tools = tools
        self._hypervisor = hypervisor
        self._conductor = conductor
        self._worker = worker
        self._report = report
        self._clock = clock
        self._quiet = False
        self._told = False
        #: which guests run again after a start of the cloud; until then one that is off says nothing
        self._decided = False

    def start(self) -> None:
        """Report the host, then go on reporting; tell every guest's state now and at each change."""
        self._beat()
        self._hypervisor.subscribe(self._guest_changed)
        for state in self._hypervisor.list():
            # one that is off may only wait to be started again (resume_guests); its state is told when that is decided
            if int(state.power_state) in RUNNING_STATES:
                self._guest_changed(state)
        self._worker.after(TIDY_S, self._tidy)

    def _tidy(self) -> None:
        def ended(_: Any, error: BaseException | None) -> None:
            if error is not None:  # the next look tries again
                log.error("unused image bases could not be removed", host=self.host, exc_info=error)
            self._worker.after(TIDY_S, self._tidy)

        self._worker.go_on(self.tidy(), ended)

    def tidy(self) -> Generator[Slow, Any, None]:
        """Remove images' bases that nobody uses any more."""
        unused_since = self._clock.epoch() - BASE_IDLE_S
        for path in (yield Slow("calls", self._tools.instances.drop_idle_bases, (unused_since,))):
            log.info("unused image base removed", host=self.host, base=path.name)

    def _beat(self) -> None:
        try:
            self._conductor.report_host(self._report())
            if not self._told:
                self._conductor.host_started(self.host)
                self._told = True
            if self._decided and not self._quiet:
                states = [state for state in self._hypervisor.list() if not _starts(state)]
                self._conductor.report_guests(self.host, [self._power(state) for state in states])
        except CloudError as error:  # the next beat tries again; the scheduler sees the host as down meanwhile
            log.warning("heartbeat failed", host=self.host, error=error.message)
        self._worker.after(HEARTBEAT_S, self._beat)

    def _guest_changed(self, state: DomainState) -> None:
        if self._quiet:  # the cloud itself stops the guests: what the database has as active is started again next time
            return
        if _starts(state):
            return
        report = self._power(state)
        self._worker.post(lambda: self._conductor.report_power(report))

    def _power(self, state: DomainState) -> PowerReport:
        return PowerReport(
            host=self.host, server_id=state.server_id, power_state=int(state.power_state), reason=state.reason
        )

    # --- the host's queue ----------------------------------------------------------------------------------------------------------

    def run(self, order: Order) -> None:
        self._executor.run(order)

    def console_output(self, server_id: str, lines: int | None) -> str:
        return self._hypervisor.console_output(server_id, lines)

    def vnc_address(self, server_id: str) -> tuple[str, int]:
        address = self._hypervisor.vnc_address(server_id)
        return address.host, address.port

    def diagnostics(self, server_id: str) -> dict[str, Any]:
        facts: dict[str, Any] = msgspec.to_builtins(self._hypervisor.diagnostics(server_id))
        return facts

    def uptime(self) -> str:
        return self._hypervisor.host_stats().uptime

    def resize_disk(self, server_id: str, volume_id: str, size: int) -> None:
        self._hypervisor.resize_disk(server_id, volume_id, size)

    def wake(self, kind: str, id: str, up: bool) -> None:
        if kind == "port":
            self._tools.ports_up.heard(id, up)
        self._worker.signal((kind, id))

    # --- start and stop of the host ------------------------------------------------------------------------------------------------

    def resume_guests(self) -> list[str]:
        """After a start of the cloud: answer for the guests that run, and start those that ran before it stopped."""
        started = []
        running = {state.server_id for state in self._hypervisor.list() if int(state.power_state) in RUNNING_STATES}
        for raw in self._conductor.servers_of(self.host):
            server = msgspec.convert(raw, Server)
            if server.id in running:
                self._answer_for(server)
                continue
            if not _ran(server):
                continue
            try:
                for nic in server.interfaces:
                    self._tools.vif.plug(nic.port_id, mac=nic.mac, server_id=server.id, mtu=nic.mtu)
                self._answer_for(server)
                domain = self._tools.domain(
                    server,
                    interfaces=server.interfaces,
                    devices=server.block_devices,
                    base=self._tools.instances.base_of(server),
                    generation=0,
                )
                self._hypervisor.start(domain)
            except (CloudError, HypervisorFault, OSError):
                # one guest that fails must not keep the others down
                log.exception("guest did not start", server=server.id)
                continue
            started.append(server.id)
        self._decided = True
        return started

    def _answer_for(self, server: Server) -> None:
        """A guest may ask for its metadata at any time; one that cannot be answered must not keep the host from starting."""
        try:
            for nic in server.interfaces:
                self._tools.metadata.join(nic.network_id, nic.port_id)
        except (CloudError, OSError):
            log.exception("no metadata for a guest", server=server.id)

    def stop_guests(self, timeout_s: float) -> None:
        """Press every guest's power button, and pull the plug of those that do not go in time."""
        self._quiet = True
        running = [state.server_id for state in self._hypervisor.list() if int(state.power_state) in RUNNING_STATES]
        with ThreadPoolExecutor(max_workers=max(1, min(16, len(running)))) as pool:
            list(pool.map(lambda server_id: self._shut(server_id, timeout_s), running))

    def _shut(self, server_id: str, timeout_s: float) -> None:
        try:
            self._hypervisor.shutdown(server_id, timeout_s=timeout_s)
        except CloudError as error:
            log.warning("guest did not stop", server=server_id, error=error.detail or error.message)


def _ran(server: Server) -> bool:
    """Whether its guest ran before the cloud stopped.  One whose resize waits to be confirmed may have been resized while it was off."""
    if server.task_state is not None:
        return False
    return server.vm_state == "active" or (server.vm_state == "resized" and server.power_state in RUNNING_STATES)


def _starts(state: DomainState) -> bool:
    """Whether a start is at work on the guest, and will say what came of it: told late, its pause would be taken for a user's."""
    return state.power_state is PowerState.PAUSED and state.reason == STARTING
