"""The volume host: runs the steps that concern the bytes, connects hosts, says how its back end is.  It touches no database."""

from collections.abc import Generator
from typing import Any

import structlog

from cumulet.core.errors import CloudError
from cumulet.core.saga import Executor, Order
from cumulet.core.work import Slow, Worker
from cumulet.volume.config import VolumeConfig
from cumulet.volume.drivers.driver import Capacity, Connector, VolumeDriver
from cumulet.volume.messages import ConnectRequest, PoolReport, VolumeJournal

__all__ = ["VolumeHostService"]

log = structlog.get_logger()

HEARTBEAT_S = 20.0


class VolumeHostService:
    """Implements VolumeHost.  name: host@backend, also the queue's."""

    def __init__(
        self,
        name: str,
        *,
        executor: Executor,
        driver: VolumeDriver,
        journal: VolumeJournal,
        worker: Worker,
        config: VolumeConfig,
    ) -> None:
        self.name = name
        self._executor = executor
        self._driver = driver
        self._journal = journal
        self._worker = worker
        self._config = config
        self._told = False

    def start(self) -> None:
        """Report the back end, then go on reporting."""
        try:
            self._report(self._driver.capacity())
        except CloudError as error:  # the next beat tries again; the scheduler knows no such back end meanwhile
            log.warning("volume back end not reported", host=self.name, error=error.message, detail=error.detail)
        self._worker.after(HEARTBEAT_S, self._beat)

    def _beat(self) -> None:
        def ended(_: Any, error: BaseException | None) -> None:
            if error is not None:
                log.warning("volume back end not reported", host=self.name, error=str(error))
            self._worker.after(HEARTBEAT_S, self._beat)

        self._worker.go_on(self._measure(), ended)

    def _measure(self) -> Generator[Any, Any, None]:
        capacity = yield Slow("devices", self._driver.capacity)
        self._report(capacity)

    def _report(self, capacity: Capacity) -> None:
        config = self._config
        self._journal.report_pool(
            PoolReport(
                host=self.name,
                pool=config.backend,
                backend=config.backend,
                protocol=config.protocol,
                vendor=config.vendor,
                zone=config.zone,
                total_gib=capacity.total_gib,
                free_gib=capacity.free_gib,
                thin=capacity.thin,
                multiattach=True,
            )
        )
        if not self._told:
            self._journal.host_started(self.name)
            self._told = True

    # --- the host's queue ----------------------------------------------------------------------------------------------

    def run(self, order: Order) -> None:
        self._executor.run(order)

    def connect(self, request: ConnectRequest) -> dict[str, Any]:
        info = self._driver.connection_info(request.volume_id, _connector(request))
        return {"driver_volume_type": info.driver_volume_type, "data": info.data}

    def disconnect(self, request: ConnectRequest) -> None:
        self._driver.terminate_connection(request.volume_id, _connector(request))


def _connector(request: ConnectRequest) -> Connector:
    return Connector(host=request.connector_host, access_mode="ro" if request.mode == "ro" else "rw")
