"""The states a server moves through, and which actions each allows: the reference's words and rules.

`vm_state` is where a server is, `task_state` what is being done to it; a second action on a busy server is refused with 409.
"""

from cumulet.core.errors import Conflict

__all__ = ["ACTIONS", "FOLLOWED", "STATUS", "InstanceInInvalidStateError", "allowed", "status_of"]

ACTIVE, BUILDING, PAUSED, SUSPENDED, STOPPED = "active", "building", "paused", "suspended", "stopped"
RESCUED, RESIZED, SOFT_DELETED, DELETED, ERROR = "rescued", "resized", "soft-delete", "deleted", "error"
SHELVED, SHELVED_OFFLOADED = "shelved", "shelved_offloaded"

#: the power states, in the reference's numbers
NOSTATE, RUNNING, POWER_PAUSED, SHUTDOWN, CRASHED, POWER_SUSPENDED = 0, 1, 3, 4, 6, 7
#: of a guest that ran
OFF = frozenset({SHUTDOWN, CRASHED})
#: a server at rest whose guest is seen in another state, by itself or by an action whose answer got lost: what the server is then
FOLLOWED = {
    **{
        (before, power): after
        for before in (ACTIVE, PAUSED, STOPPED)
        for power, after in (
            (RUNNING, ACTIVE),
            (POWER_PAUSED, PAUSED),
            (SHUTDOWN, STOPPED),
            (CRASHED, STOPPED),
        )
        if before != after
    },
    # one that was suspended is off: its memory is kept
    (SUSPENDED, RUNNING): ACTIVE,
    (SUSPENDED, POWER_PAUSED): PAUSED,
}

#: the API's `status` by vm_state, and by task_state where that changes it
STATUS: dict[str, dict[str, str]] = {
    ACTIVE: {
        "": "ACTIVE",
        "rebooting": "REBOOT",
        "reboot_pending": "REBOOT",
        "reboot_started": "REBOOT",
        "rebooting_hard": "HARD_REBOOT",
        "reboot_pending_hard": "HARD_REBOOT",
        "reboot_started_hard": "HARD_REBOOT",
        "updating_password": "PASSWORD",
        "rebuilding": "REBUILD",
        "rebuild_block_device_mapping": "REBUILD",
        "rebuild_spawning": "REBUILD",
        "migrating": "MIGRATING",
        "resize_prep": "RESIZE",
        "resize_migrating": "RESIZE",
        "resize_migrated": "RESIZE",
        "resize_finish": "RESIZE",
    },
    BUILDING: {"": "BUILD"},
    STOPPED: {
        "": "SHUTOFF",
        "resize_prep": "RESIZE",
        "resize_migrating": "RESIZE",
        "resize_migrated": "RESIZE",
        "resize_finish": "RESIZE",
        "rebuilding": "REBUILD",
        "rebuild_block_device_mapping": "REBUILD",
        "rebuild_spawning": "REBUILD",
    },
    RESIZED: {"": "VERIFY_RESIZE", "resize_reverting": "REVERT_RESIZE"},
    PAUSED: {"": "PAUSED", "migrating": "MIGRATING"},
    SUSPENDED: {"": "SUSPENDED"},
    RESCUED: {"": "RESCUE"},
    ERROR: {"": "ERROR", "rebuilding": "REBUILD", "rebuild_spawning": "REBUILD"},
    DELETED: {"": "DELETED"},
    SOFT_DELETED: {"": "SOFT_DELETED"},
    SHELVED: {"": "SHELVED"},
    SHELVED_OFFLOADED: {"": "SHELVED_OFFLOADED"},
}

#: by action: the vm_states it may begin in, and the task_state it begins with
ACTIONS: dict[str, tuple[frozenset[str], str | None]] = {
    "start": (frozenset({STOPPED}), "powering-on"),
    "stop": (frozenset({ACTIVE, ERROR, RESCUED}), "powering-off"),
    "reboot": (frozenset({ACTIVE}), "rebooting"),
    "reboot_hard": (frozenset({ACTIVE, STOPPED, PAUSED, SUSPENDED, ERROR}), "rebooting_hard"),
    "pause": (frozenset({ACTIVE}), "pausing"),
    "unpause": (frozenset({PAUSED}), "unpausing"),
    "suspend": (frozenset({ACTIVE}), "suspending"),
    "resume": (frozenset({SUSPENDED}), "resuming"),
    "rebuild": (frozenset({ACTIVE, STOPPED, ERROR}), "rebuilding"),
    "resize": (frozenset({ACTIVE, STOPPED}), "resize_prep"),
    "confirmResize": (frozenset({RESIZED}), None),
    "revertResize": (frozenset({RESIZED}), "resize_reverting"),
    "createImage": (frozenset({ACTIVE, STOPPED, PAUSED, SUSPENDED}), "image_snapshot"),
    "attach_interface": (frozenset({ACTIVE, PAUSED, STOPPED}), None),
    "detach_interface": (frozenset({ACTIVE, PAUSED, STOPPED}), None),
    "attach_volume": (frozenset({ACTIVE, PAUSED, STOPPED, RESIZED, SOFT_DELETED, SHELVED, SHELVED_OFFLOADED}), None),
    "detach_volume": (
        frozenset({ACTIVE, PAUSED, STOPPED, RESIZED, SOFT_DELETED, SHELVED, SHELVED_OFFLOADED, SUSPENDED}),
        None,
    ),
    "get_console": (frozenset({ACTIVE, ERROR, PAUSED, RESCUED, STOPPED, SUSPENDED, RESIZED}), None),
}


class InstanceInInvalidStateError(Conflict):
    """An action that the server's state does not allow."""


def status_of(vm_state: str, task_state: str | None) -> str:
    """The API's status word."""
    by_task = STATUS.get(vm_state, {"": "UNKNOWN"})
    return by_task.get(task_state or "", by_task[""])


def allowed(action: str, server_id: str, vm_state: str, task_state: str | None) -> None:
    """Raise 409 with the reference's words when `action` may not begin now."""
    states, _ = ACTIONS[action]
    shown = action.removesuffix("_hard")
    if task_state is not None:
        msg = f"Cannot '{shown}' instance {server_id} while it is in task_state {task_state}"
        raise InstanceInInvalidStateError(msg)
    if vm_state not in states:
        msg = f"Cannot '{shown}' instance {server_id} while it is in vm_state {vm_state}"
        raise InstanceInInvalidStateError(msg)
