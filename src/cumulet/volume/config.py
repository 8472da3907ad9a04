"""Settings of the volume service."""

from collections.abc import Mapping

import msgspec

__all__ = ["QUOTAS", "VolumeConfig"]

#: the reference's quota names and our defaults: limits do not stand in the way of a test cloud; -1 is none
QUOTAS: Mapping[str, int] = {
    "volumes": 10_000,
    "per_volume_gigabytes": -1,
    "snapshots": 10_000,
    "gigabytes": 1_000_000,
    "backups": 10_000,
    "backup_gigabytes": 1_000_000,
    "groups": 10_000,
}


class VolumeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """zone: the one availability zone; backend: the name of the host's back end and of its pool; oversubscription: how many times
    a thin back end's room may be promised."""

    zone: str = "nova"
    backend: str = "local"
    protocol: str = "file"
    vendor: str = "Open Source"
    oversubscription: float = 20.0
    #: of the back end's room, what scheduling leaves alone
    reserved_percentage: int = 0
    default_type: str = "__DEFAULT__"
    quotas: Mapping[str, int] = msgspec.field(default_factory=lambda: QUOTAS)
    #: of one volume
    size_max_gib: int = 1 << 20
