"""What each flow means for the server's own record.  Every method runs inside the transaction that records the event.

This is the only place where a server's vm_state and task_state move once a flow has begun; the move to the first task_state stands
with the request (compute.service), by compare-and-set.
"""

from collections.abc import Mapping
from typing import Any

from cumulet.compute import states
from cumulet.compute.records import Fault
from cumulet.compute.store import servers
from cumulet.core.clock import Clock
from cumulet.core.db import Tx
from cumulet.core.saga import Failure, Outcome, Saga, Step

__all__ = [
    "AttachVolumeOutcome",
    "ConfirmOutcome",
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
    """A NIC or a volume came or went: the record already has it; a failure leaves the server as it was, without a fault of its own."""


class AttachVolumeOutcome(DeviceOutcome):
    """The device is on the record from the request on, and off it again when it could not be had."""

    def unwound(self, tx: Tx, saga: Saga, failure: Failure) -> None:
        server = servers.get(tx, saga.subject_id)
        if server is not None:
            device_id = saga.input["device"]["id"]
            devices = [device for device in server.block_devices if device.id != device_id]
            servers.set_fields(tx, server.id, block_devices=devices)
        super().unwound(tx, saga, failure)


class DeleteOutcome(ServerOutcome):
    """The server is gone; its row stays for the admin and for its action log."""

    def started(self, tx: Tx, saga: Saga, step: Step) -> None:
        """The task state stays "deleting" throughout."""

    def done(self, tx: Tx, saga: Saga, outputs: Mapping[str, Any]) -> None:
        now = self._clock.now()
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
            power_state=states.SHUTDOWN if stopped else states.RUNNING,
            launched_at=self._clock.now(),
            fault=None,
        )

    def unwound(self, tx: Tx, saga: Saga, failure: Failure) -> None:
        self._settle(tx, saga, vm_state=states.ERROR, fault=fault(failure, self._clock.now()))


class ResizeOutcome(ServerOutcome):
    """Waits for confirmation with the new flavor on the record; unwound, the server is what it was."""

    def done(self, tx: Tx, saga: Saga, outputs: Mapping[str, Any]) -> None:
        new, old = saga.input["new_flavor"], saga.input["old_flavor"]
        self._settle(
            tx,
            saga,
            vm_state=states.RESIZED,
            flavor=new,
            old_flavor=old,
            vcpus=new["vcpus"],
            memory_mb=new["ram_mb"],
            fault=None,
        )

    def unwound(self, tx: Tx, saga: Saga, failure: Failure) -> None:
        self._settle(tx, saga, fault=fault(failure, self._clock.now()))


class ConfirmOutcome(ServerOutcome):
    """The new flavor stays, and so does the server's rest or run."""

    def done(self, tx: Tx, saga: Saga, outputs: Mapping[str, Any]) -> None:
        stopped = bool(saga.input.get("was_stopped"))
        self._settle(
            tx,
            saga,
            vm_state=states.STOPPED if stopped else states.ACTIVE,
            power_state=states.SHUTDOWN if stopped else states.RUNNING,
            fault=None,
        )

    def unwound(self, tx: Tx, saga: Saga, failure: Failure) -> None:
        self._settle(tx, saga, vm_state=states.ERROR, fault=fault(failure, self._clock.now()))


class RevertOutcome(ServerOutcome):
    """The old flavor again."""

    def done(self, tx: Tx, saga: Saga, outputs: Mapping[str, Any]) -> None:
        old = saga.input["old_flavor"]
        stopped = bool(saga.input.get("was_stopped"))
        self._settle(
            tx,
            saga,
            vm_state=states.STOPPED if stopped else states.ACTIVE,
            power_state=states.SHUTDOWN if stopped else states.RUNNING,
            flavor=old,
            old_flavor=None,
            vcpus=old["vcpus"],
            memory_mb=old["ram_mb"],
            fault=None,
        )

    def unwound(self, tx: Tx, saga: Saga, failure: Failure) -> None:
        self._settle(tx, saga, vm_state=states.ERROR, fault=fault(failure, self._clock.now()))
