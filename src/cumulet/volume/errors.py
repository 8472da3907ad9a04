"""The volume service's own refusals, in the reference's words: clients match on them."""

from cumulet.core.errors import BadRequest, CloudError, Conflict, NotFound, OverLimit

__all__ = [
    "AttachmentNotFound",
    "BadInput",
    "BadSnapshot",
    "BadVolume",
    "NoValidBackend",
    "ServerUsesVolume",
    "SizeAboveLimit",
    "SizeAboveQuota",
    "SnapshotLimitExceeded",
    "SnapshotNotFound",
    "TypeNotFound",
    "VolumeLimitExceeded",
    "VolumeNotFound",
]


class VolumeNotFound(NotFound):
    default = "Volume {id} could not be found."


class SnapshotNotFound(NotFound):
    default = "Snapshot {id} could not be found."


class AttachmentNotFound(NotFound):
    default = "Volume attachment could not be found with filter: attachment_id = {id}."


class TypeNotFound(NotFound):
    default = "Volume type {id} could not be found."


class BadVolume(BadRequest):
    """The volume's state forbids it."""

    default = "Invalid volume: {reason}"


class BadSnapshot(BadRequest):
    """The snapshot's state forbids it."""

    default = "Invalid snapshot: {reason}"


class BadInput(BadRequest):
    default = "Invalid input received: {reason}"


class ServerUsesVolume(Conflict):
    """A server has the disk; only compute may take it away."""

    default = "Detach volume from instance {server_id} using the Compute API"


class VolumeLimitExceeded(OverLimit):
    default = "VolumeLimitExceeded: Maximum number of volumes allowed ({allowed}) exceeded for quota '{name}'."


class SnapshotLimitExceeded(OverLimit):
    default = "SnapshotLimitExceeded: Maximum number of snapshots allowed ({allowed}) exceeded for quota '{name}'."


class SizeAboveQuota(OverLimit):
    default = (
        "VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed {name} quota. "
        "Requested {requested}G, quota is {quota}G and {consumed}G has been consumed."
    )


class SizeAboveLimit(OverLimit):
    default = "VolumeSizeExceedsLimit: Requested volume size {size}G is larger than maximum allowed limit {limit}G."


class NoValidBackend(CloudError):
    """No back end takes the volume.  The detail has each filter's own words."""

    default = "No valid backend was found. {why}"
