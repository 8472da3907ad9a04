"""NICs and volumes of a server that exists: what is asked is found and reserved, then a flow plugs or unplugs it."""

import string
from collections.abc import Generator, Mapping
from concurrent.futures import Future
from typing import Any

import msgspec

from cumulet.compute import states
from cumulet.compute.doors import Doors
from cumulet.compute.records import BlockDevice, NetworkRequest, Server
from cumulet.compute.service.servers import ServerFlows
from cumulet.compute.store import servers
from cumulet.core.clock import Clock
from cumulet.core.context import Context
from cumulet.core.db import Database, Tx
from cumulet.core.errors import BadRequest, CloudError, Conflict, Forbidden, NotFound, ServerFault
from cumulet.core.ids import Ids
from cumulet.core.saga import Failure, Saga
from cumulet.core.web.client import Credentials
from cumulet.core.work import After, TimedOutError
from cumulet.flows.devices import (
    ATTACH_INTERFACE,
    ATTACH_VOLUME,
    DETACH_INTERFACE,
    DETACH_VOLUME,
    AttachInterfaceRequest,
    AttachVolumeRequest,
    DetachInterfaceRequest,
    DetachVolumeRequest,
)

__all__ = ["DEVICE_WORK", "ServerDevices"]

#: the task states of flows that are over in a moment: who comes next waits for them instead of being refused
DEVICE_WORK = frozenset({"attach_interface", "detach_interface", "attach_volume", "detach_volume"})
INTERFACE_TIMEOUT_S = 120.0
DEVICE_WORK_TIMEOUT_S = 60.0
#: a guest's disks: vda to vdz
LETTERS = string.ascii_lowercase

_BY_CODE: dict[int, type[CloudError]] = {400: BadRequest, 403: Forbidden, 404: NotFound, 409: Conflict}


class InterfaceAttachFailedError(ServerFault):
    """A NIC could not be plugged; what the flow had done is undone."""

    default = "Failed to attach network adapter device."


class ServerDevices:
    """See the module's docstring."""

    def __init__(self, db: Database, *, flows: ServerFlows, doors: Doors, clock: Clock, ids: Ids) -> None:
        self._db = db
        self._flows = flows
        self._doors = doors
        self._clock = clock
        self._ids = ids

    # --- waiting -------------------------------------------------------------------------------------------------------------------

    def wait_for(self, saga_id: str, timeout_s: float) -> Generator[After, Any, Saga | None]:
        """Until a saga has ended; None when it has not in time."""
        ended: Future[Saga] = Future()
        self._flows.coordinator.watch(saga_id, ended.set_result)
        try:
            saga: Saga = yield After(ended, timeout_s)
        except TimedOutError:
            return None
        return saga

    def device_work(self, server: Server) -> list[str]:
        """The device flows that a server is busy with."""
        with self._db.read() as tx:
            return [
                saga.id for saga in self._flows.coordinator.journal.live_of(tx, server.id) if saga.flow in DEVICE_WORK
            ]

    # --- NICs ----------------------------------------------------------------------------------------------------------------------

    def attach_interface(
        self, context: Context, credentials: Credentials, server: Server, body: Mapping[str, Any]
    ) -> str:
        """Begin to plug a NIC.  The saga's id."""
        self._flows.check_lock(context, server)
        states.allowed("attach_interface", server.id, server.vm_state, server.task_state)
        network = self._network(context, credentials, server, body)
        return self._flows.begin(
            context, server, "attach_interface", ATTACH_INTERFACE, AttachInterfaceRequest(network=network)
        )

    def _network(
        self, context: Context, credentials: Credentials, server: Server, body: Mapping[str, Any]
    ) -> NetworkRequest:
        port_id, network_id = body.get("port_id"), body.get("net_id")
        fixed = [entry["ip_address"] for entry in body.get("fixed_ips") or []]
        if port_id and network_id:
            raise BadRequest("Must not input both network_id and port_id")
        if fixed and not network_id:
            raise BadRequest("Must input network_id when request IP address")
        tag = body.get("tag")
        network_door = self._doors.network
        if port_id:
            port = _found(lambda: network_door.get_port(credentials, port_id), f"Port id {port_id} could not be found.")
            if port.device_id:
                raise Conflict(f"Port {port_id} is still in use.")
            if not port.fixed_ips:
                raise BadRequest(f"Port {port_id} requires a FixedIP in order to be used.")
            return NetworkRequest(port_id=port_id, tag=tag)
        if network_id:
            network = _found(
                lambda: network_door.get_network(credentials, network_id), f"Network {network_id} could not be found."
            )
            if not network.subnet_ids:
                raise BadRequest(f"Network {network_id} requires a subnet in order to boot instances on.")
            if fixed and network_door.address_in_use(credentials, network_id, fixed[0]):
                raise Conflict(f"Fixed IP address {fixed[0]} is already in use on instance {server.id}.")
            return NetworkRequest(network_id=network_id, fixed_ip=fixed[0] if fixed else None, tag=tag)
        found = network_door.networks_for(credentials, server.project_id)
        if not found:
            raise BadRequest(
                f"No specific network was requested and none are available for project '{context.project_id}'."
            )
        if len(found) > 1:
            raise BadRequest("Multiple possible networks found, use a Network ID to be more specific.")
        return NetworkRequest(network_id=found[0].id, tag=tag)

    def check_attached(self, saga: Saga | None) -> None:
        """Raise what the flow of an attachment failed with."""
        if saga is None:
            raise InterfaceAttachFailedError(detail="the flow did not end in time")
        self.check_done(saga, InterfaceAttachFailedError)

    @staticmethod
    def check_done(saga: Saga, otherwise: type[CloudError] = ServerFault) -> None:
        """Raise what a flow failed with."""
        if saga.state != "done":
            failure = saga.failure or Failure(message="")
            raise _BY_CODE.get(failure.code, otherwise)(failure.message or None, detail=failure.detail)

    def detach_interface(self, context: Context, server: Server, port_id: str) -> None:
        def choose(_: Tx, current: Server) -> tuple[DetachInterfaceRequest, Mapping[str, Any]]:
            if all(nic.port_id != port_id for nic in current.interfaces):
                raise NotFound(f"Port id {port_id} could not be found.")
            return DetachInterfaceRequest(port_id=port_id), {}

        self._flows.check_lock(context, server)
        if all(nic.port_id != port_id for nic in server.interfaces):
            raise NotFound(f"Port id {port_id} could not be found.")
        self._flows.decide(context, server, "detach_interface", DETACH_INTERFACE, choose)

    # --- volumes -------------------------------------------------------------------------------------------------------------------

    def attach_volume(
        self,
        context: Context,
        credentials: Credentials,
        server: Server,
        volume_id: str,
        *,
        device: str | None,
        tag: str | None,
        delete_on_termination: bool,
        multiattach: bool,
    ) -> tuple[BlockDevice, str]:
        """Begin to reserve and plug a volume: the device, and the saga's id.

        multiattach: whether the caller's version knows volumes with several servers.
        """
        self._flows.check_lock(context, server)
        states.allowed("attach_volume", server.id, server.vm_state, server.task_state)
        volume = _found(
            lambda: self._doors.volume.get(credentials, volume_id), f"Volume {volume_id} could not be found."
        )
        _not_attached(server, volume_id)
        if volume.multiattach and not multiattach:
            raise BadRequest(
                f"Multiattach volumes are only supported starting with compute API version 2.60. Volume: {volume_id}"
            )
        if volume.status != "available" and not (volume.multiattach and volume.status == "in-use"):
            raise BadRequest(
                f"Invalid volume: volume '{volume_id}' status must be 'available'. Currently in '{volume.status}'"
            )
        # what can be refused at once is refused before anything is written
        self._device_name(server, device)
        made: list[BlockDevice] = []

        def choose(_: Tx, current: Server) -> tuple[AttachVolumeRequest, Mapping[str, Any]]:
            _not_attached(current, volume_id)
            new = BlockDevice(
                id=self._ids.uuid(),
                source="volume",
                destination="volume",
                source_id=volume_id,
                size_gb=volume.size,
                delete_on_termination=delete_on_termination,
                device_name=self._device_name(current, device),
                tag=tag,
                volume_id=volume_id,
            )
            made.append(new)
            return AttachVolumeRequest(device=new), {"block_devices": [*current.block_devices, new]}

        saga_id = self._flows.decide(context, server, "attach_volume", ATTACH_VOLUME, choose)
        return made[0], saga_id

    @staticmethod
    def _device_name(server: Server, wanted: str | None) -> str:
        """The name asked for, or the next free one.  Raises Conflict for one in use."""
        used = {one.device_name.removeprefix("/dev/") for one in server.block_devices if one.device_name} | {"vda"}
        name = (wanted or "").removeprefix("/dev/")
        if name:
            if name in used:
                raise Conflict(f"The supplied device path (/dev/{name}) is in use.")
            return name
        free = next((f"vd{letter}" for letter in LETTERS if f"vd{letter}" not in used), None)
        if free is None:
            raise Forbidden("Cannot attach one more volume: all of the server's device names are in use.")
        return free

    def keep_on_termination(self, server: Server, volume_id: str, *, delete: bool) -> None:
        """Change whether a volume goes with its server."""
        with self._db.write() as tx:
            current = servers.get(tx, server.id)
            if current is None:
                raise NotFound(f"Instance {server.id} could not be found.")
            devices = [
                msgspec.structs.replace(one, delete_on_termination=delete) if one.volume_id == volume_id else one
                for one in current.block_devices
            ]
            servers.set_fields(tx, server.id, block_devices=devices, at=self._clock.now())

    def detach_volume(self, context: Context, server: Server, volume_id: str) -> None:
        def choose(_: Tx, current: Server) -> tuple[DetachVolumeRequest, Mapping[str, Any]]:
            _detachable(current, volume_id)
            return DetachVolumeRequest(volume_id=volume_id), {}

        self._flows.check_lock(context, server)
        _detachable(server, volume_id)
        self._flows.decide(context, server, "detach_volume", DETACH_VOLUME, choose)


def _not_attached(server: Server, volume_id: str) -> None:
    if any(one.volume_id == volume_id for one in server.block_devices):
        raise BadRequest(f"Invalid volume: volume {volume_id} already attached")


def _detachable(server: Server, volume_id: str) -> None:
    device = next((one for one in server.block_devices if one.volume_id == volume_id), None)
    if device is None:
        raise NotFound(f"volume_id not found: {volume_id}")
    if device.boot_index == 0:
        raise Forbidden("Cannot detach a root device volume")


def _found(look: Any, words: str) -> Any:
    """What `look` finds; its NotFound in the compute API's own words."""
    try:
        return look()
    except NotFound:
        raise NotFound(words) from None
