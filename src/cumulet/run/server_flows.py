"""The flows of servers, and what each means for a server's record: a new flow has a line in both."""

from collections.abc import Callable, Mapping

from cumulet.compute import states
from cumulet.compute.conductor.outcomes import (
    ConfirmOutcome,
    CopyOutcome,
    DeleteOutcome,
    DeviceOutcome,
    LaunchOutcome,
    PowerOutcome,
    RebuildOutcome,
    ResizeOutcome,
    RevertOutcome,
    ServerOutcome,
)
from cumulet.core.clock import Clock
from cumulet.core.saga import Outcome
from cumulet.flows import delete, devices, power, rebuild, resize, snapshot, volume_copy, volume_snapshots
from cumulet.launch.flow import LAUNCH

__all__ = ["FLOWS", "outcomes"]

FLOWS = (
    LAUNCH,
    delete.DELETE,
    power.STOP,
    power.START,
    power.REBOOT,
    power.PAUSE,
    power.UNPAUSE,
    power.SUSPEND,
    power.RESUME,
    rebuild.REBUILD,
    resize.RESIZE,
    resize.CONFIRM_RESIZE,
    resize.REVERT_RESIZE,
    snapshot.SNAPSHOT,
    volume_snapshots.VOLUME_SNAPSHOTS,
    volume_copy.VOLUME_COPY,
    devices.ATTACH_VOLUME,
    devices.DETACH_VOLUME,
    devices.ATTACH_INTERFACE,
    devices.DETACH_INTERFACE,
)


def outcomes(clock: Clock, *, copied: Callable[[str], None] = lambda _: None) -> Mapping[str, Outcome]:
    """What each flow means for a server.  copied: told of the end of a volume's copy."""
    device = DeviceOutcome(clock)
    return {
        "launch": LaunchOutcome(clock),
        "delete": DeleteOutcome(clock),
        "stop": PowerOutcome(clock, states.STOPPED, states.SHUTDOWN),
        "start": PowerOutcome(clock, states.ACTIVE, states.RUNNING),
        "reboot": PowerOutcome(clock, states.ACTIVE, states.RUNNING, error_on_failure=True),
        "pause": PowerOutcome(clock, states.PAUSED, states.POWER_PAUSED),
        "unpause": PowerOutcome(clock, states.ACTIVE, states.RUNNING),
        "suspend": PowerOutcome(clock, states.SUSPENDED, states.SHUTDOWN),
        "resume": PowerOutcome(clock, states.ACTIVE, states.RUNNING, error_on_failure=True),
        "rebuild": RebuildOutcome(clock),
        "resize": ResizeOutcome(clock),
        "confirm_resize": ConfirmOutcome(clock),
        "revert_resize": RevertOutcome(clock),
        "snapshot": ServerOutcome(clock),
        "volume_snapshots": ServerOutcome(clock),
        "volume_copy": CopyOutcome(copied),
        "attach_volume": device,
        "detach_volume": device,
        "attach_interface": device,
        "detach_interface": device,
    }
