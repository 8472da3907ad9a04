"""Servers: the first entry of a launch, and every action that begins a flow.

A method here reads, decides, and writes once: the server's move to its first task_state and the flow's saga share one transaction,
so that an action is either recorded whole or did not happen.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from cumulet.compute import states
from cumulet.compute.records import BlockDevice, FlavorSnapshot, KeySnapshot, NetworkRequest, SecurityGroupRef, Server
from cumulet.compute.store import servers, usages
from cumulet.core.clock import Clock
from cumulet.core.context import Context
from cumulet.core.db import Database, Tx
from cumulet.core.errors import CloudError, Conflict, Forbidden, NotFound
from cumulet.core.ids import Ids
from cumulet.core.keys import Key
from cumulet.core.saga import Coordinator, Failure, Flow, Saga
from cumulet.flows.delete import DELETE, DeleteRequest
from cumulet.flows.volume_copy import VOLUME_COPY
from cumulet.launch.flow import LAUNCH
from cumulet.launch.request import LaunchRequest

__all__ = ["Arrival", "NewServers", "ServerFlows"]


class QuotaExceededError(Forbidden):
    """A quota would be exceeded; the reference's words."""

    code = "forbidden"
    default = "Quota exceeded for {overs}: Requested {requested}, but already used {used} of {allowed} {overs}"


class NewServers(msgspec.Struct, frozen=True, kw_only=True):
    """One launch request, resolved: everything named in it was found, and belongs to the caller or is shared."""

    name: str
    count_min: int = 1
    count_max: int = 1
    flavor: FlavorSnapshot
    image_id: str | None
    image_properties: dict[str, Any] = {}
    key: KeySnapshot | None = None
    user_data: str | None = None
    config_drive: bool = False
    description: str | None = None
    hostname: str | None = None
    zone: str | None = None
    host: str | None = None
    networks: list[NetworkRequest] | None = None
    security_groups: list[SecurityGroupRef] = []
    block_devices: list[BlockDevice] = []
    metadata: dict[str, str] = {}
    tags: list[str] = []
    hints: dict[str, Any] = {}
    group_id: str | None = None
    disk_config: str = "MANUAL"
    access_ip_v4: str | None = None
    access_ip_v6: str | None = None


class Arrival(msgspec.Struct, frozen=True, kw_only=True):
    """When the request came, when its token was validated, when policy had let it through: rows 3 to 5."""

    arrived: str
    validation_began: str
    validated: str
    allowed: str


class ServerFlows:
    """Begins flows on servers.

    limits(tx, project_id, user_id) → {"instances": n, "cores": n, "ram": n}, -1 for none.
    """

    def __init__(
        self,
        db: Database,
        coordinator: Coordinator,
        *,
        limits: Callable[[Tx, str, str], Mapping[str, int]],
        default_zone: str,
        clock: Clock,
        ids: Ids,
    ) -> None:
        self.db = db
        self.coordinator = coordinator
        self._limits = limits
        self._zone = default_zone
        self._clock = clock
        self._ids = ids

    # --- launch --------------------------------------------------------------------------------------------------------------------

    def launch(
        self, context: Context, arrival: Arrival, request: NewServers, *, key: Key | None = None
    ) -> list[Server]:
        """Row 6: quota, the servers' entries, their sagas, in one transaction.  As many as quota allows, `count_min` at least."""
        project_id = context.project_id or ""
        began = self._clock.now()
        reservation = f"r-{self._ids.hex()[:8]}"
        with self.db.write() as tx:
            count = self._fit(tx, project_id, context.user_id, request)
            made = [self._entry(context, request, reservation, index, began) for index in range(count)]
            for server in made:
                servers.add(tx, server)
                saga_id = self.coordinator.begin(
                    tx, LAUNCH, subject_id=server.id, context=context, input=LaunchRequest()
                )
                self._note_arrival(tx, saga_id, arrival, request)
            if key is not None:
                key.keep(tx, [server.id for server in made])
        return made

    def _fit(self, tx: Tx, project_id: str, user_id: str, request: NewServers) -> int:
        """How many of the asked servers the quota lets in.  Counted in the writing transaction, so it stays true."""
        limits = self._limits(tx, project_id, user_id)
        used = usages.of_project(tx, project_id)
        each = {"instances": 1, "cores": request.flavor.vcpus, "ram": request.flavor.ram_mb}
        count = request.count_max
        for name, amount in each.items():
            if limits[name] >= 0 and amount:
                count = min(count, max(0, (limits[name] - used[name]) // amount))
        if count >= request.count_min:
            return count
        over = [n for n, amount in each.items() if 0 <= limits[n] < used[n] + amount * request.count_min]
        raise QuotaExceededError(
            overs=", ".join(over),
            requested=", ".join(str(each[n] * request.count_min) for n in over),
            used=", ".join(str(used[n]) for n in over),
            allowed=", ".join(str(limits[n]) for n in over),
        )

    def _entry(self, context: Context, request: NewServers, reservation: str, index: int, now: str) -> Server:
        name = request.name if request.count_max == 1 else f"{request.name}-{index + 1}"
        server_id = self._ids.uuid()
        # several servers of one request: each gets block devices and ports of its own
        devices, networks = request.block_devices, request.networks
        if index > 0:
            devices = [msgspec.structs.replace(device, id=self._ids.uuid()) for device in devices]
            networks = [self._another(one) for one in networks] if networks else networks
        return Server(
            id=server_id,
            name=name,
            description=request.description,
            hostname=request.hostname or hostname_of(name, server_id),
            project_id=context.project_id or "",
            user_id=context.user_id,
            reservation_id=reservation,
            launch_index=index,
            vm_state=states.BUILDING,
            task_state="scheduling",
            power_state=states.NOSTATE,
            host=None,
            node=None,
            availability_zone=None,
            requested_zone=request.zone,
            requested_host=request.host,
            flavor=request.flavor,
            old_flavor=None,
            image_id=request.image_id,
            image_properties=request.image_properties,
            key_name=request.key.name if request.key else None,
            key=request.key,
            user_data=request.user_data,
            config_drive=request.config_drive,
            root_device_name="/dev/vda",
            access_ip_v4=request.access_ip_v4,
            access_ip_v6=request.access_ip_v6,
            disk_config=request.disk_config,
            locked=False,
            locked_reason=None,
            locked_by=None,
            progress=0,
            hints=request.hints,
            group_id=request.group_id,
            metadata=request.metadata,
            tags=request.tags,
            requested_networks=networks,
            security_groups=request.security_groups,
            interfaces=[],
            block_devices=devices,
            fault=None,
            password=None,
            created_at=now,
            updated_at=now,
            launched_at=None,
            terminated_at=None,
            deleted=False,
        )

    def _another(self, request: NetworkRequest) -> NetworkRequest:
        if request.new is None:
            return request
        return msgspec.structs.replace(request, new=msgspec.structs.replace(request.new, id=self._ids.uuid()))

    def _note_arrival(self, tx: Tx, saga_id: str, arrival: Arrival, request: NewServers) -> None:
        """Rows 3 to 6 into the launch's log."""
        disks = f", {len(request.block_devices)} block devices" if request.block_devices else ""
        asked = f"{request.flavor.name}, {len(request.networks or [])} networks{disks}"
        validating, validated, allowed = arrival.validation_began, arrival.validated, arrival.allowed
        for row, name, host, began, ended, detail in (
            (3, "request", "client", arrival.arrived, validating, asked),
            (4, "validate_token", "api", validating, validated, ""),
            (5, "apply_policy", "api", validated, allowed, ""),
            (6, "write_entry", "api", allowed, self._clock.now(), "answered 202"),
        ):
            self.coordinator.journal.note(
                tx, saga_id, name, row=row, host=host, started_at=began, finished_at=ended, detail=detail
            )

    # --- everything else -----------------------------------------------------------------------------------------------------------

    def begin(
        self,
        context: Context,
        server: Server,
        action: str,
        flow: Flow,
        request: msgspec.Struct,
        *,
        task_state: str | None = None,
        **fields: Any,
    ) -> str:
        """Begin a flow: the state checked and moved by compare-and-set, the saga written with it.  Returns the saga's id.

        task_state: when it differs from the action's own; fields: other columns to write with it.  Raises 409 when the server is
        busy, locked, or in the wrong state.
        """
        return self.decide(
            context, server, action, flow, lambda _tx, _current: (request, fields), task_state=task_state
        )

    def decide(
        self,
        context: Context,
        server: Server,
        action: str,
        flow: Flow,
        choose: Callable[[Tx, Server], tuple[msgspec.Struct, Mapping[str, Any]]],
        *,
        task_state: str | None = None,
    ) -> str:
        """As `begin`, for a flow whose request or columns follow from the record: choose(tx, record) makes them of the record as the
        writing transaction finds it, and may refuse by raising.  `server` may have changed since it was read."""
        self.check_lock(context, server)
        states.allowed(action, server.id, server.vm_state, server.task_state)
        task = task_state or states.ACTIONS[action][1] or flow.name
        with self.db.write() as tx:
            while True:  # again when another writer came between: what that one made of it is then refused or not
                current = servers.get(tx, server.id)
                if current is None:
                    raise NotFound(f"Instance {server.id} could not be found.")
                states.allowed(action, server.id, current.vm_state, current.task_state)
                request, fields = choose(tx, current)
                if servers.change(tx, current, at=self._clock.now(), task_state=task, **fields):
                    break
            return self.coordinator.begin(
                tx, flow, subject_id=server.id, context=context, input=request, host=current.host
            )

    def delete(self, context: Context, server: Server) -> None:
        """Begin the end of a server, whatever it is doing: a launch under way turns back first.  Twice is once."""
        self.check_lock(context, server)
        with self.db.write() as tx:
            current = servers.get(tx, server.id)
            if current is None or current.task_state == "deleting":
                return
            servers.set_fields(tx, server.id, task_state="deleting", at=self._clock.now())
            for saga in self.coordinator.journal.live_of(tx, server.id):
                self._cancel(tx, saga)
            self.coordinator.begin(
                tx, DELETE, subject_id=server.id, context=context, input=DeleteRequest(), host=current.host
            )

    def give_up(self, saga_id: str, error: CloudError) -> None:
        """Turn a flow back whose request failed after it had begun."""
        with self.db.write() as tx:
            saga = self.coordinator.journal.get(tx, saga_id)
            if saga is not None:
                failure = Failure(message=error.message, detail=error.detail or "", code=error.status, kind=error.kind)
                self.coordinator.cancel(tx, saga, failure)

    def _cancel(self, tx: Tx, saga: Saga) -> None:
        self.coordinator.cancel(tx, saga, Failure(message="The server was deleted.", code=409, kind="Deleted"))

    @staticmethod
    def check_lock(context: Context, server: Server) -> None:
        if server.locked and not context.is_admin:
            raise Conflict(f"Instance {server.id} is locked")

    def sagas_of(self, server_id: str) -> Sequence[Saga]:
        """What was done to a server: copies of its volumes, which the volume service asked for, are none of its owner's actions."""
        with self.db.read() as tx:
            sagas = self.coordinator.journal.of_subject(tx, server_id)
        return [saga for saga in sagas if saga.flow != VOLUME_COPY.name]


def hostname_of(name: str, server_id: str) -> str:
    """A host name from a display name, as the reference makes it: lower case, letters, digits and dashes, 63 at most."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in ".-_") else "-" if c == " " else "" for c in name)
    clean = kept.replace("_", "-").replace(".", "-").lower().strip("-")[:63].strip("-")
    return clean or f"Server-{server_id}"
