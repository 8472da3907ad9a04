"""What goes on by itself beside the requests: the reconciler with its keepers."""

from typing import TYPE_CHECKING

from cumulet.compute.service.keeper import ServerKeeper, server_has
from cumulet.core.reconcile import Reconciler
from cumulet.core.saga.keeper import SagaKeeper
from cumulet.image.keeper import ImageKeeper
from cumulet.run.deadlines import ROWS
from cumulet.volume.service.keeper import VolumeKeeper

if TYPE_CHECKING:
    from cumulet.run.services import Services

__all__ = ["reconciler"]


def reconciler(services: "Services") -> Reconciler:
    """Each keeper on the worker that owns its service's queue."""

    def has(server_id: str, volume_id: str) -> bool | None:
        return server_has(services.compute_db, server_id, volume_id)

    servers = ServerKeeper(
        services.compute_db,
        services.coordinator,
        volume=services.volume_door,
        network=services.network_door,
        image=services.image_door,
        credentials=services.own,
        clock=services.clock,
        ids=services.ids,
    )
    volumes = VolumeKeeper(services.volume.means, services.volume.attachments, server_has=has)
    sagas = SagaKeeper(services.compute_db, services.coordinator, kind="saga", orders="order")
    volume_sagas = SagaKeeper(
        services.volume.db, services.volume_parts.coordinator, kind="volume saga", orders="volume order"
    )
    conductor, volume_conductor = services.worker("conductor"), services.worker("volume-conductor")
    return Reconciler(
        ROWS,
        [
            (sagas, conductor),
            (servers, conductor),
            (volume_sagas, volume_conductor),
            (volumes, volume_conductor),
            (ImageKeeper(services.image, clock=services.clock), conductor),
            (services.network.keeper, services.worker("network")),
        ],
        clock=services.clock,
    )
