"""The volume service's parts, put together: what whoever starts the cloud calls.

    assembled = assemble(db=db, bus=bus, worker=worker, driver=LocalVolumes(...), host="node-1", image=image_door, …)
    assembled.start()
    app = application(assembled.service, authenticate=authenticate, clock=clock, ids=ids)

`conductor_side` is everything that touches the database, `host_side` everything that touches the bytes; between them is the bus only,
so that each may run in a process of its own.  The worker needs the pools "devices" and "calls".
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from cumulet.compute.door import ComputeDoor
from cumulet.core.bus import Bus
from cumulet.core.clock import Clock
from cumulet.core.db import Database
from cumulet.core.ids import Ids
from cumulet.core.saga import Coordinator, Executor, Flow, Order, OtherSagas
from cumulet.core.saga.failing import failpoint_off
from cumulet.core.saga.journal import Journal
from cumulet.core.work import Worker
from cumulet.image.door import ImageDoor
from cumulet.volume.changes import Changes
from cumulet.volume.conductor.outcomes import outcomes
from cumulet.volume.conductor.service import VolumeConductor, describe
from cumulet.volume.conductor.tools import ConductorTools, TellExtended
from cumulet.volume.config import VolumeConfig
from cumulet.volume.drivers.driver import VolumeDriver
from cumulet.volume.flows import FLOWS
from cumulet.volume.guest_copies import GUEST_FLOWS
from cumulet.volume.host.service import VolumeHostService
from cumulet.volume.host.tools import HostTools
from cumulet.volume.messages import VolumeHost, VolumeJournal, VolumeScheduler
from cumulet.volume.scheduler.service import SchedulerService
from cumulet.volume.service.means import Means, ServerUses
from cumulet.volume.service.service import VolumeService
from cumulet.volume.tables import SAGAS

__all__ = ["ALL_FLOWS", "Assembled", "assemble", "conductor_side", "host_side"]

#: every kind of long work of this service
ALL_FLOWS = (*FLOWS, *GUEST_FLOWS)

#: queues are served under a name of the coordinator, kept on its sagas
OWNER = "volume-conductor"


class Assembled(msgspec.Struct, frozen=True):
    """The service, its coordinator, and its volume host with what its steps use."""

    service: VolumeService
    coordinator: Coordinator
    host: VolumeHostService
    tools: HostTools

    def start(self) -> None:
        """First rows, the back end's report, and what an earlier process left; the worker and the image service must be there."""
        self.service.bootstrap()
        self.host.start()
        self.service.adopt()


def assemble(
    *,
    db: Database,
    bus: Bus,
    worker: Worker,
    driver: VolumeDriver,
    host: str,
    image: ImageDoor,
    service_token: Callable[[], str],
    upload_folder: Path,
    clock: Clock,
    ids: Ids,
    scheduler_worker: Worker | None = None,
    host_worker: Worker | None = None,
    config: VolumeConfig | None = None,
    tell_extended: TellExtended | None = None,
    compute: Callable[[], ComputeDoor] | None = None,
    server_uses: ServerUses | None = None,
    failpoint: Callable[[str], None] = failpoint_off,
    flows: Iterable[Flow] = ALL_FLOWS,
) -> Assembled:
    """All on one bus, and on one worker unless told otherwise: where a call waits for a broker's answer, each role needs its own.

    host: this machine's name, as its connector says it.  upload_folder: for disks on their way to the image service.
    tell_extended: told of volumes that grew while attached; without it they may not.  compute: its door, which copies volumes that are
    attached; without it nobody does.  server_uses: asks compute before an attachment is deleted by someone who is no service; without
    it the answer is yes.
    """
    settings = config or VolumeConfig()
    service, coordinator = conductor_side(
        db=db,
        bus=bus,
        worker=worker,
        scheduler_worker=scheduler_worker,
        image=image,
        service_token=service_token,
        clock=clock,
        ids=ids,
        config=settings,
        tell_extended=tell_extended,
        compute=compute,
        server_uses=server_uses,
        failpoint=failpoint,
        flows=flows,
    )
    tools = HostTools(driver=driver, image=image, service_token=service_token, folder=upload_folder)
    volume_host = host_side(
        name=f"{host}@{settings.backend}",
        tools=tools,
        bus=bus,
        worker=host_worker or worker,
        clock=clock,
        ids=ids,
        config=settings,
        failpoint=failpoint,
        flows=flows,
    )
    return Assembled(service, coordinator, volume_host, tools)


def conductor_side(
    *,
    db: Database,
    bus: Bus,
    worker: Worker,
    scheduler_worker: Worker | None = None,
    image: ImageDoor,
    service_token: Callable[[], str],
    clock: Clock,
    ids: Ids,
    config: VolumeConfig,
    tell_extended: TellExtended | None = None,
    compute: Callable[[], ComputeDoor] | None = None,
    server_uses: ServerUses | None = None,
    failpoint: Callable[[str], None] = failpoint_off,
    flows: Iterable[Flow] = ALL_FLOWS,
) -> tuple[VolumeService, Coordinator]:
    """API's service, scheduler and conductor: the parts with the database."""
    changes, journal = Changes(), Journal(SAGAS)
    tools = ConductorTools(
        scheduler=bus.client(VolumeScheduler),
        others=OtherSagas(db, journal),
        image=image,
        service_token=service_token,
        tell_extended=tell_extended,
        compute=compute,
    )

    def order(host: str, message: Order) -> None:
        bus.client(VolumeHost, host=host).run(message)

    coordinator = Coordinator(
        db,
        journal,
        flows=flows,
        outcomes=outcomes(journal, changes, clock=clock, ids=ids),
        describe=describe,
        order=order,
        tools=tools,
        worker=worker,
        clock=clock,
        ids=ids,
        owner=OWNER,
        failpoint=failpoint,
    )
    bus.serve(VolumeJournal, VolumeConductor(db, coordinator, clock=clock, ids=ids), worker)
    bus.serve(VolumeScheduler, SchedulerService(db, clock=clock, config=config), scheduler_worker or worker)
    means = Means(
        db,
        coordinator,
        changes=changes,
        host=lambda name: bus.client(VolumeHost, host=name),
        image=image,
        service_token=service_token,
        clock=clock,
        ids=ids,
        config=config,
        server_uses=server_uses,
        guests_grow=tell_extended is not None,
    )
    return VolumeService(means), coordinator


def host_side(
    *,
    name: str,
    tools: HostTools,
    bus: Bus,
    worker: Worker,
    clock: Clock,
    ids: Ids,
    config: VolumeConfig,
    failpoint: Callable[[str], None] = failpoint_off,
    flows: Iterable[Flow] = ALL_FLOWS,
) -> VolumeHostService:
    """A volume host: the part with the bytes.  name: host@backend."""
    journal = bus.client(VolumeJournal)
    executor = Executor(
        name,
        flows=flows,
        journal=journal,
        tools=tools,
        worker=worker,
        clock=clock,
        ids=ids,
        failpoint=failpoint,
    )
    served = VolumeHostService(
        name, executor=executor, driver=tools.driver, journal=journal, worker=worker, config=config
    )
    bus.serve(VolumeHost, served, worker, host=name)
    return served
