"""The volume service's records: what its stores give and its parts hand to each other."""

from typing import Any

import msgspec

__all__ = ["Attachment", "Message", "Pool", "Qos", "Snapshot", "Transfer", "Volume", "VolumeType", "backend_of"]


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """A volume's tie to a server.  status: reserved, attaching, attached, detaching."""

    id: str
    volume_id: str
    project_id: str
    server_id: str | None
    status: str
    mode: str | None
    host_name: str | None
    mountpoint: str | None
    connector: dict[str, Any] | None
    connection_info: dict[str, Any] | None
    created_at: str
    attached_at: str | None


class Volume(msgspec.Struct, frozen=True, kw_only=True):
    """A volume, with what hangs on it.  size is GiB."""

    id: str
    project_id: str
    user_id: str
    name: str | None
    description: str | None
    size: int
    status: str
    previous_status: str | None
    migration_status: str | None
    availability_zone: str | None
    host: str | None
    bootable: bool
    multiattach: bool
    type_id: str
    type_name: str
    snapshot_id: str | None
    source_volid: str | None
    image_metadata: dict[str, str]
    admin_metadata: dict[str, str]
    metadata: dict[str, str]
    attachments: list[Attachment]
    created_at: str
    updated_at: str | None

    @property
    def readonly(self) -> bool:
        return self.admin_metadata.get("readonly") == "True"


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A volume as it was."""

    id: str
    volume_id: str
    project_id: str
    user_id: str
    name: str | None
    description: str | None
    size: int
    status: str
    progress: str
    metadata: dict[str, str]
    created_at: str
    updated_at: str | None


class VolumeType(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of volume that a user may ask for."""

    id: str
    name: str
    description: str | None
    is_public: bool
    extra_specs: dict[str, str]
    qos_specs_id: str | None
    created_at: str

    @property
    def multiattach(self) -> bool:
        return self.extra_specs.get("multiattach", "").strip().lower() == "<is> true"


class Qos(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of speed that types may name.  consumer: front-end, back-end or both."""

    id: str
    name: str
    consumer: str
    specs: dict[str, str]
    created_at: str


class Pool(msgspec.Struct, frozen=True, kw_only=True):
    """A back end, as its host last described it.  host: host@backend."""

    host: str
    id: str
    pool: str
    backend: str
    protocol: str
    vendor: str
    zone: str
    total_gib: float
    free_gib: float
    thin: bool
    multiattach: bool
    disabled: bool
    disabled_reason: str | None
    seen_at: str
    created_at: str

    @property
    def name(self) -> str:
        return f"{self.host}#{self.pool}"


class Transfer(msgspec.Struct, frozen=True, kw_only=True):
    """A volume offered to whoever has the key."""

    id: str
    volume_id: str
    project_id: str
    name: str | None
    salt: str
    key_hash: str
    no_snapshots: bool
    created_at: str


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """Why something failed, in words for its owner."""

    id: str
    project_id: str
    event_id: str
    user_message: str
    resource_type: str
    resource_id: str | None
    request_id: str
    created_at: str
    guaranteed_until: str


def backend_of(host: str | None) -> str | None:
    """host@backend of a volume's host@backend#pool: the name of the host's queue."""
    return None if host is None else host.partition("#")[0]
