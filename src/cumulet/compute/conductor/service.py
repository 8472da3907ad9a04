"""The conductor: coordinates the servers' sagas and answers hosts from the database."""

from collections.abc import Callable
from typing import Any

import msgspec
import structlog

from cumulet.compute import states
from cumulet.compute.messages import HostReport, PowerReport
from cumulet.compute.records import Server
from cumulet.compute.scheduler.snapshot import DOWN_AFTER_S
from cumulet.compute.store import hosts, servers
from cumulet.core.clock import Clock, add_seconds
from cumulet.core.db import Database, Tx
from cumulet.core.ids import Ids
from cumulet.core.saga import Coordinator, Fetch, Record, Saga, WorkSheet
from cumulet.core.web.client import Credentials
from cumulet.placement.door import Inventory, PlacementDoor

__all__ = ["ConductorService", "describe"]

log = structlog.get_logger()


def describe(tx: Tx, saga: Saga) -> Any:
    """A server's record for a host's work sheet."""
    return servers.get(tx, saga.subject_id, deleted=True)


_RUNNING = frozenset({states.ACTIVE, states.PAUSED})


def _news(server: Server, report: PowerReport) -> dict[str, Any]:
    """What a report changes in a server's record: mostly nothing."""
    values: dict[str, Any] = {}
    if server.power_state != report.power_state:
        values["power_state"] = report.power_state
    followed = states.FOLLOWED.get((server.vm_state, report.power_state))
    if server.task_state is None and followed is not None:
        values["vm_state"] = followed
    return values


class _Offered(msgspec.Struct, frozen=True):
    """What a host last said, and what placement has of it."""

    report: HostReport
    inventories: dict[str, Inventory]


class ConductorService:
    """Implements the Conductor interface."""

    def __init__(
        self,
        db: Database,
        coordinator: Coordinator,
        *,
        placement: PlacementDoor,
        credentials: Callable[[], Credentials],
        zone: str,
        clock: Clock,
        ids: Ids,
    ) -> None:
        self._db = db
        self._coordinator = coordinator
        self._placement = placement
        self._credentials = credentials
        self._zone = zone
        self._clock = clock
        self._ids = ids
        #: by host, what was last written down of it
        self._offered: dict[str, _Offered] = {}
        #: by host: servers that should run there and were not there at its last report
        self._absent: dict[str, set[str]] = {}

    # --- sagas ---------------------------------------------------------------------------------------------------------------------

    def fetch(self, request: Fetch) -> WorkSheet | None:
        return self._coordinator.fetch(request)

    def record(self, record: Record) -> bool:
        return self._coordinator.record(record)

    def host_started(self, host: str) -> None:
        self._coordinator.host_started(host)

    # --- hosts ---------------------------------------------------------------------------------------------------------------------

    def report_host(self, report: HostReport) -> None:
        """Write the host down, and offer its resources in placement."""
        now = self._clock.now()
        offered = self._offered.get(report.host)
        if offered is not None and offered.report == report:
            # as it was: nine of ten reports are a sign of life and nothing else
            with self._db.write() as tx:
                alive = hosts.heard_of(tx, report.host, now, silent_since=add_seconds(now, -DOWN_AFTER_S))
            if alive:
                return
        with self._db.write() as tx:
            known = hosts.get(tx, report.host)
            if known is None:
                known = hosts.Host(
                    **self._facts(report),
                    service_id=self._ids.uuid(),
                    hypervisor_id=self._ids.uuid(),
                    zone=self._zone,
                    disabled=False,
                    disabled_reason=None,
                    forced_down=False,
                    seen_at=now,
                    created_at=now,
                    updated_at=None,
                )
                hosts.put(tx, known)
            else:
                hosts.set_fields(tx, report.host, **self._facts(report), seen_at=now, updated_at=now)
        inventories = {
            "VCPU": Inventory(total=report.vcpus, reserved=0, allocation_ratio=report.cpu_ratio),
            "MEMORY_MB": Inventory(total=report.memory_mb, reserved=0, allocation_ratio=report.ram_ratio),
            "DISK_GB": Inventory(total=report.local_gb, reserved=0, allocation_ratio=report.disk_ratio),
        }
        if offered is None or offered.inventories != inventories:
            self._placement.ensure_provider(
                known.hypervisor_id,
                report.host,
                inventories=inventories,
                traits=report.traits,
                credentials=self._credentials(),
            )
        self._offered[report.host] = _Offered(report, inventories)

    @staticmethod
    def _facts(report: HostReport) -> dict[str, Any]:
        return {
            "host": report.host,
            "host_ip": report.host_ip,
            "hypervisor_type": report.hypervisor_type,
            "hypervisor_version": report.hypervisor_version,
            "vcpus": report.vcpus,
            "memory_mb": report.memory_mb,
            "local_gb": report.local_gb,
            "cpu_info": report.cpu_info,
            "traits": report.traits,
        }

    def report_power(self, report: PowerReport) -> None:
        """The observed side of a server's state; a guest that stopped by itself takes the desired side with it.

        While a flow works on the server its own end decides, so only the observation is written.
        """
        with self._db.read() as tx:
            server = servers.get(tx, report.server_id)
        if server is None or server.host != report.host:
            return
        starts = server.vm_state == states.BUILDING and server.power_state not in states.OFF
        if starts and report.power_state in {states.RUNNING, states.POWER_PAUSED}:
            return  # a launch starts its guest paused and lets it run; its end writes that
        if not _news(server, report):
            return
        with self._db.write() as tx:
            server = servers.get(tx, report.server_id)
            if server is None or server.host != report.host:
                return
            values = _news(server, report)
            if values:
                servers.set_fields(tx, server.id, at=self._clock.now(), **values)

    def report_guests(self, host: str, reports: list[PowerReport]) -> None:
        """Like `report_power` for each that is news; a server that runs by its record and was not there twice is off."""
        with self._db.read() as tx:
            known = {server.id: server for server in servers.live_on_host(tx, host)}
        for report in reports:
            server = known.pop(report.server_id, None)
            if server is not None and server.task_state is None and _news(server, report):
                self.report_power(report)
        absent = {id for id, server in known.items() if server.task_state is None and server.vm_state in _RUNNING}
        for id in sorted(absent & self._absent.get(host, set())):
            self.report_power(PowerReport(host=host, server_id=id, power_state=states.SHUTDOWN, reason="not there"))
        self._absent[host] = absent

    def servers_of(self, host: str) -> list[Server]:
        with self._db.read() as tx:
            return servers.live_on_host(tx, host)
