"""Every state that should pass: how long it may last, who owns it, and what is done past that.

A state with a saga behind it moves by the saga, whose steps have deadlines of their own (`flows`, `launch/flow.py`, `volume/flows.py`);
the rows of sagas hold for those whose hints were all lost, and the rows of things for those that no saga works on any more.
What waits for a person (VERIFY_RESIZE, awaiting-transfer, a queued image) is no such state.
"""

from cumulet.core.reconcile import Row

__all__ = ["ROWS"]

ORDER = 30.0
MINUTE = 60.0
HOUR = 3600.0
DAY = 24 * HOUR

_SETTLE = "the task is ended with a fault; the server is what its host says"

# one row, one line
# fmt: off
ROWS = (
    # kind, state, deadline, owner, what is done past it, by
    Row("server", "BUILD", MINUTE, "saga launch", "the launch is unwound; ERROR with a fault", "unwind_launch"),
    Row("server", "scheduling", MINUTE, "saga launch", "the launch is unwound; ERROR with a fault", "unwind_launch"),
    Row("server", "networking", MINUTE, "saga launch", "the launch is unwound; ERROR with a fault", "unwind_launch"),
    Row("server", "block_device_mapping", MINUTE, "saga launch", "the launch is unwound; ERROR with a fault", "unwind_launch"),
    Row("server", "spawning", MINUTE, "saga launch", "the launch is unwound; ERROR with a fault", "unwind_launch"),
    Row("server", "deleting", MINUTE, "saga delete", "the deletion is begun again", "resume_delete"),
    Row("server", "powering-off", MINUTE, "saga stop", _SETTLE, "settle"),
    Row("server", "powering-on", MINUTE, "saga start", _SETTLE, "settle"),
    Row("server", "rebooting", MINUTE, "saga reboot", _SETTLE, "settle"),
    Row("server", "rebooting_hard", MINUTE, "saga reboot", _SETTLE, "settle"),
    Row("server", "reboot_started", MINUTE, "saga reboot", _SETTLE, "settle"),
    Row("server", "pausing", MINUTE, "saga pause", _SETTLE, "settle"),
    Row("server", "unpausing", MINUTE, "saga unpause", _SETTLE, "settle"),
    Row("server", "suspending", MINUTE, "saga suspend", _SETTLE, "settle"),
    Row("server", "resuming", MINUTE, "saga resume", _SETTLE, "settle"),
    Row("server", "rebuilding", MINUTE, "saga rebuild", "the rebuild is begun again", "resume_rebuild"),
    Row("server", "rebuild_block_device_mapping", MINUTE, "saga rebuild", "the rebuild is begun again", "resume_rebuild"),
    Row("server", "rebuild_spawning", MINUTE, "saga rebuild", "the rebuild is begun again", "resume_rebuild"),
    Row("server", "resize_prep", MINUTE, "saga resize", "back to the flavor on record", "unwind_resize"),
    Row("server", "resize_migrating", MINUTE, "saga resize", "back to the flavor on record", "unwind_resize"),
    Row("server", "resize_reverting", MINUTE, "saga revert_resize", "the way back is begun again", "resume_revert"),
    Row("server", "confirm_resize", MINUTE, "saga confirm_resize", "the confirmation is begun again", "resume_confirm"),
    Row("server", "image_snapshot", MINUTE, "saga snapshot", "the image is given up", "unwind_snapshot"),
    Row("server", "image_pending_upload", MINUTE, "saga snapshot", "the image is given up", "unwind_snapshot"),
    Row("server", "image_uploading", MINUTE, "saga snapshot", "the image is given up", "unwind_snapshot"),
    Row("server", "attach_volume", MINUTE, "saga attach_volume", "the volume is taken back", "unwind_attach_volume"),
    Row("server", "detach_volume", MINUTE, "saga detach_volume", "done if the attachment is gone, else undone", "resume_detach_volume"),
    Row("server", "attach_interface", MINUTE, "saga attach_interface", "the port is taken back", "unwind_attach_interface"),
    Row("server", "detach_interface", MINUTE, "saga detach_interface", "done if the port is gone, else undone", "resume_detach_interface"),

    Row("volume", "creating", MINUTE, "saga volume_create", "the creation is unwound; error", "unwind_create"),
    Row("volume", "downloading", MINUTE, "saga volume_create", "the creation is unwound; error", "unwind_create"),
    Row("volume", "deleting", MINUTE, "saga volume_delete", "the deletion is begun again", "resume_delete"),
    Row("volume", "extending", MINUTE, "saga volume_extend", "error_extending", "unwind_extend"),
    Row("volume", "reverting", MINUTE, "saga volume_revert", "the revert is begun again, else error_restoring", "resume_revert"),
    Row("volume", "uploading", MINUTE, "saga volume_upload", "the status it had before", "give_back"),
    Row("volume", "reserved", 5 * MINUTE, "its attachments", "what its attachments say", "follow"),
    Row("volume", "attaching", HOUR, "its attachments, or the client that reserved it", "what its attachments say", "follow"),
    Row("volume", "detaching", HOUR, "its attachments, or the client that began", "what its attachments say", "follow"),

    Row("snapshot", "creating", MINUTE, "saga snapshot_create", "the snapshot is unwound; error", "unwind_snapshot"),
    Row("snapshot", "deleting", MINUTE, "saga snapshot_delete", "the deletion is begun again", "resume_snapshot_delete"),
    Row("snapshot", "restoring", 2 * MINUTE, "saga volume_revert", "available: no volume goes back to it", "release_snapshot"),

    Row("attachment", "reserved", HOUR, "the server's saga, or the client", "completed if the server has it, else let go", "finish_tie"),
    Row("attachment", "attaching", 5 * MINUTE, "the server's saga", "completed if the server has it, else let go", "finish_tie"),
    Row("attachment", "detaching", 5 * MINUTE, "the server's saga", "completed if the server has it, else let go", "finish_tie"),

    Row("image", "saving", MINUTE, "the upload in this process", "queued again, without bytes", "queue_again"),
    Row("image", "importing", MINUTE, "the import in this process", "queued again, its task failed", "queue_again"),
    Row("image", "uploading", DAY, "the client that staged it", "queued again, staged bytes removed", "queue_again"),

    Row("debt", "owed", MINUTE, "the change that owes, then upkeep", "the data plane is told of the row as it stands", "pay"),
    Row("port", "BUILD", MINUTE, "the data plane's event", "its level is read again", "read_level"),
    Row("port", "DOWN", MINUTE, "the data plane's event", "its level is read again, where it is up", "read_level"),

    Row("saga", "running", 5 * MINUTE, "the coordinator", "the step that is due is run, or given up", "go_on"),
    Row("saga", "unwinding", 5 * MINUTE, "the coordinator", "the undo that is due is run", "go_on"),
    Row("saga", "stuck", 5 * MINUTE, "the coordinator, every minute", "the undo that is due is run", "go_on"),
    Row("order", "unheard", ORDER, "the host it was sent to", "it is sent again; after 5 min its step is given up", "send_again"),
    Row("volume order", "unheard", ORDER, "the host it was sent to", "it is sent again; after 5 min its step is given up", "send_again"),
    Row("volume saga", "running", 5 * MINUTE, "the volume coordinator", "the step that is due is run, or given up", "go_on"),
    Row("volume saga", "unwinding", 5 * MINUTE, "the volume coordinator", "the undo that is due is run", "go_on"),
    Row("volume saga", "stuck", 5 * MINUTE, "the volume coordinator, every minute", "the undo that is due is run", "go_on"),
)
# fmt: on
