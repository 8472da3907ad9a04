"""What each flow means for the server's own record.  Every method runs inside the transaction that records the event.

This is the only place where a server's vm_state and task_state move once a flow has begun; the move to the first task_state stands
with the request (compute.service), by compare-and-set.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from cumulet.compute import states
from cumulet.compute.records import BlockDevice, Fault, Interface, Server
from cumulet.compute.store import migrations, servers
from cumulet.core.clock import Clock
from cumulet.core.db import Tx
from cumulet.core.saga import Failure, Outcome, Saga, Step

__all__ = [
    "ConfirmOutcome",
    "CopyOutcome",
    "DeleteOutcome",
    "DeviceOutcome",
    "LaunchOutcome",
    "PowerOutcome",
    "RebuildOutcome",
    "ResizeOutcome",
    "RevertOutcome",
    "ServerOutcome",
    "fault",
]


def fault(failure: Failure, at: str) -> Fault:
    """A failure as the server's fault: the owner's words, and the admin's."""
    return Fault(code=failure.code, message=failure.message[:255], details=failure.detail, created=at)


class ServerOutcome(Outcome):
    """What all flows of a server share: the step's stage is shown; a failure leaves the server where it was, with a fault."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def started(self, tx: Tx, saga: Saga, step: Step) -> None:
        if step.stage is not None:
            servers.set_unless_deleting(tx, saga.subject_id, task_state=step.stage, at=self._clock.now())

    def recorded(self, tx: Tx, saga: Saga, step: Step, output: Any) -> None:
        """Interfaces and block devices come back from the steps that make them."""
        if isinstance(output, dict) and "interfaces" in output:
            servers.set_fields(tx, saga.subject_id, interfaces=output["interfaces"])
        if isinstance(output, dict) and "devices" in output:
            servers.set_fields(tx, saga.subject_id, block_devices=output["devices"])

    def done(self, tx: Tx, saga: Saga, outputs: Mapping[str, Any]) -> None:
        self._settle(tx, saga)

    def unwound(self, tx: Tx, saga: Saga, failure: Failure) -> None:
        self._settle(tx, saga)

    def _settle(self, tx: Tx, saga: Saga, **values: Any) -> None:
        """End the flow's task, unless a deletion has taken over meanwhile."""
        servers.set_unless_deleting(tx, saga.subject_id, at=self._clock.now(), **{"task_state": None, **values})


class LaunchOutcome(ServerOutcome):
    """ACTIVE when all is done; ERROR with a fault, and nothing left behind, when it was unwound."""

    def done(self, tx: Tx, saga: Saga, outputs: Mapping[str, Any]) -> None:
        now = self._clock.now()
        if servers.power_state(tx, saga.subject_id) in states.OFF:
            # its guest ran, and died before the launch was at its end: the host's report came first
            self._settle(tx, saga, vm_state=states.STOPPED, launched_at=now, progress=100)
            return
        self._settle(tx, saga, vm_state=states.ACTIVE, power_state=states.RUNNING, launched_at=now, progress=100)

    def unwound(self, tx: Tx, saga: Saga, failure: Failure) -> None:
        now = self._clock.now()
        self._settle(
            tx,
            saga,
            vm_state=states.ERROR,
            power_state=states.NOSTATE,
            host=None,
            node=None,
            interfaces=[],
            fault=fault(failure, now),
        )


class PowerOutcome(ServerOutcome):
    """A flow that ends in one vm_state and power_state; a failure shows as a fault and leaves the state (or ERROR)."""

    def __init__(self, clock: Clock, vm_state: str, power_state: int, *, error_on_failure: bool = False) -> None:
        super().__init__(clock)
        self._vm_state = vm_state
        self._power_state = power_state
        self._error = error_on_failure

    def done(self, tx: Tx, saga: Saga, outputs: Mapping[str, Any]) -> None:
        self._settle(tx, saga, vm_state=self._vm_state, power_state=self._power_state, fault=None)

    def unwound(self, tx: Tx, saga: Saga, failure: Failure) -> None:
        values: dict[str, Any] = {"fault": fault(failure, self._clock.now())}
        if self._error:
            values["vm_state"] = states.ERROR
        self._settle(tx, saga, **values)


class DeviceOutcome(ServerOutcome):
    """A NIC or a volume came or went; a failure leaves the server as it was, without a fault of its own.

    A step's list of all devices is that of the record as it was when the step began.  Others may have changed the record since (a
    floating address, what goes with the server), so only the flow's own device is taken from it.
    """

    def recorded(self, tx: Tx, saga: Saga, step: Step, output: Any) -> None:
        server = servers.get(tx, saga.subject_id)
        if server is None or not isinstance(output, dict):
            return
        if "interfaces" in output:
            nics = msgspec.convert(output["interfaces"], list[Interface])
            servers.set_fields(tx, server.id, interfaces=self._interfaces(server, saga, nics))
        if "devices" in output:
            devices = msgspec.convert(output["devices"], list[BlockDevice])
            servers.set_fields(tx, server.id, block_devices=self._devices(server, saga, devices))

    @staticmethod
    def _interfaces(server: Server, saga: Saga, after: list[Interface]) -> list[Interface]:
        if saga.flow == "detach_interface":
            return [nic for nic in server.interfaces if nic.port_id != saga.input["port_id"]]
        return [*(nic for nic in server.interfaces if nic.port_id != after[-1].port_id), after[-1]]

    @staticmethod
    def _devices(server: Server, saga: Saga, after: list[BlockDevice]) -> list[BlockDevice]:
        if saga.flow == "detach_volume":
            return [one for one in server.block_devices if one.volume_id != saga.input["volume_id"]]
        own = {one.id: one for one in after if one.id == saga.input["device"]["id"]}
        return [
            msgspec.structs.replace(one, attachment_id=own[one.id].attachment_id, connection=own[one.id].connection)
            if one.id in own
            else one
            for one in server.block_devices
        ]

    def unwound(self, tx: Tx, saga: Saga, failure: Failure) -> None:
        """A volume that was to come did not: it goes from the record, where its request wrote it.  A NIC comes there at the end only."""
        server = servers.get(tx, saga.subject_id)
        if server is not None and saga.flow == "attach_volume":
            kept = [one for one in server.block_devices if one.id != saga.input["device"]["id"]]
            servers.set_fields(tx, server.id, block_devices=kept)
        super().unwound(tx, saga, failure)


class CopyOutcome(Outcome):
    """A volume of the server was copied beside whatever the server does: nothing of its record moves.  ended: told of the copy's id."""

    def __init__(self, ended: Callable[[str], None]) -> None:
        self._ended = ended

    def started(self, tx: Tx, saga: Saga, step: Step) -> None:
        """Shown by no task state."""

    def recorded(self, tx: Tx, saga: Saga, step: Step, output: Any) -> None:
        """Nothing for the record."""

    def done(self, tx: Tx, saga: Saga, outputs: Mapping[str, Any]) -> None:
        self._tell(tx, saga)

    def unwound(self, tx: Tx, saga: Saga, failure: Failure) -> None:
        self._tell(tx, saga)

    def _tell(self, tx: Tx, saga: Saga) -> None:
        copy_id: str = saga.input["copy_id"]
        tx.after_commit.append(lambda: self._ended(copy_id))


class DeleteOutcome(ServerOutcome):
    """The server is gone; its row stays for the admin and for its action log."""

    def started(self, tx: Tx, saga: Saga, step: Step) -> None:
        """The task state stays "deleting" throughout."""

    def done(self, tx: Tx, saga: Saga, outputs: Mapping[str, Any]) -> None:
        now = self._clock.now()
        # a resize that nobody confirmed is final with its server
        migrations.set_status(tx, saga.subject_id, "confirmed", at=now, among=("finished", "confirming"))
        migrations.set_status(tx, saga.subject_id, "error", at=now)
        servers.set_fields(
            tx,
            saga.subject_id,
            vm_state=states.DELETED,
            task_state=None,
            power_state=states.NOSTATE,
            host=None,
            node=None,
            interfaces=[],
            terminated_at=now,
            deleted=True,
            at=now,
        )


class RebuildOutcome(ServerOutcome):
    """Back in the state it had; a rebuild that failed after the old disk was gone leaves the server in error."""

    def done(self, tx: Tx, saga: Saga, outputs: Mapping[str, Any]) -> None:
        stopped = bool((saga.input or {}).get("was_stopped"))
        self._settle(
            tx,
            saga,
            vm_state=states.STOPPED if stopped else states.ACTIVE,
            power_state=_power(stopped=stopped),
            launched_at=self._clock.now(),
            fault=None,
        )

    def unwound(self, tx: Tx, saga: Saga, failure: Failure) -> None:
        self._settle(tx, saga, vm_state=states.ERROR, fault=fault(failure, self._clock.now()))


class ResizeOutcome(ServerOutcome):
    """Waits for confirmation with the new flavor on the record; unwound, the server is what it was."""

    def started(self, tx: Tx, saga: Saga, step: Step) -> None:
        super().started(tx, saga, step)
        if step.where == "host":
            migrations.set_status(tx, saga.subject_id, "migrating", at=self._clock.now(), among=("pre-migrating",))

    def done(self, tx: Tx, saga: Saga, outputs: Mapping[str, Any]) -> None:
        new, old = saga.input["new_flavor"], saga.input["old_flavor"]
        migrations.set_status(tx, saga.subject_id, "finished", at=self._clock.now())
        self._settle(
            tx,
            saga,
            vm_state=states.RESIZED,
            power_state=_power(stopped=bool(saga.input.get("was_stopped"))),
            flavor=new,
            old_flavor=old,
            vcpus=new["vcpus"],
            memory_mb=new["ram_mb"],
            fault=None,
        )

    def unwound(self, tx: Tx, saga: Saga, failure: Failure) -> None:
        now = self._clock.now()
        migrations.set_status(tx, saga.subject_id, "error", at=now)
        self._settle(tx, saga, fault=fault(failure, now))


class ConfirmOutcome(ServerOutcome):
    """The new flavor for good.  The server is stopped if its guest is off now, whether it was resized so or went off since."""

    def done(self, tx: Tx, saga: Saga, outputs: Mapping[str, Any]) -> None:
        migrations.set_status(tx, saga.subject_id, "confirmed", at=self._clock.now())
        server = servers.get(tx, saga.subject_id)
        off = server is not None and server.power_state in states.OFF
        self._settle(tx, saga, vm_state=states.STOPPED if off else states.ACTIVE, old_flavor=None, fault=None)

    def unwound(self, tx: Tx, saga: Saga, failure: Failure) -> None:
        now = self._clock.now()
        migrations.set_status(tx, saga.subject_id, "error", at=now)
        self._settle(tx, saga, vm_state=states.ERROR, fault=fault(failure, now))


class RevertOutcome(ServerOutcome):
    """The old flavor again, and the state in which the resize found the server."""

    def done(self, tx: Tx, saga: Saga, outputs: Mapping[str, Any]) -> None:
        old = saga.input["old_flavor"]
        stopped = bool(saga.input.get("was_stopped"))
        migrations.set_status(tx, saga.subject_id, "reverted", at=self._clock.now())
        self._settle(
            tx,
            saga,
            vm_state=states.STOPPED if stopped else states.ACTIVE,
            power_state=_power(stopped=stopped),
            flavor=old,
            old_flavor=None,
            vcpus=old["vcpus"],
            memory_mb=old["ram_mb"],
            fault=None,
        )

    def unwound(self, tx: Tx, saga: Saga, failure: Failure) -> None:
        now = self._clock.now()
        migrations.set_status(tx, saga.subject_id, "error", at=now)
        self._settle(tx, saga, vm_state=states.ERROR, fault=fault(failure, now))


def _power(*, stopped: bool) -> int:
    return states.SHUTDOWN if stopped else states.RUNNING
