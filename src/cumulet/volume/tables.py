"""The volume service's tables, and the log of its sagas beside them, so that a step's effect and its event share a transaction."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    case,
    func,
    select,
)

from cumulet.core.db import Json, Watched, add_outbox
from cumulet.core.keys import key_table
from cumulet.core.saga import saga_tables, watched_steps

__all__ = [
    "ATTACHMENTS",
    "DEFAULT_TYPES",
    "KEYS",
    "LABELS",
    "MESSAGES",
    "METADATA",
    "POOLS",
    "QOS",
    "QUOTAS",
    "SAGAS",
    "SNAPSHOTS",
    "TRANSFERS",
    "TYPES",
    "TYPE_ACCESS",
    "VOLUMES",
]

METADATA = MetaData()

SAGAS = saga_tables(METADATA)
KEYS = key_table(METADATA)

VOLUMES = Table(
    "volumes",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("project_id", String(255), nullable=False),
    Column("user_id", String(255), nullable=False),
    Column("name", String(255)),
    Column("description", Text),
    Column("size", Integer, nullable=False),
    Column("status", String(32), nullable=False),
    # what the status was before the work that is under way
    Column("previous_status", String(32)),
    Column("migration_status", String(32)),
    Column("availability_zone", String(255)),
    # host@backend#pool, once a back end was chosen
    Column("host", String(255)),
    Column("bootable", Boolean, nullable=False),
    Column("multiattach", Boolean, nullable=False),
    Column("type_id", String(36), nullable=False),
    Column("snapshot_id", String(36)),
    Column("source_volid", String(36)),
    # of the image the volume was made from; changed by its owner
    Column("image_metadata", Json, nullable=False),
    # what the service itself keeps on the volume: readonly, attached_mode
    Column("admin_metadata", Json, nullable=False),
    Column("created_at", String(26), nullable=False),
    Column("updated_at", String(26)),
    Index("ix_volumes_project", "project_id", "created_at"),
    Index("ix_volumes_created", "created_at", "id"),
    Index("ix_volumes_host", "host"),
    Index("ix_volumes_status", "status"),
    Index("ix_volumes_name", "name"),
    Index("ix_volumes_type", "type_id"),
)

SNAPSHOTS = Table(
    "snapshots",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("volume_id", String(36), nullable=False),
    Column("project_id", String(255), nullable=False),
    Column("user_id", String(255), nullable=False),
    Column("name", String(255)),
    Column("description", Text),
    Column("size", Integer, nullable=False),
    Column("status", String(32), nullable=False),
    Column("progress", String(8), nullable=False),
    Column("created_at", String(26), nullable=False),
    Column("updated_at", String(26)),
    Index("ix_snapshots_volume", "volume_id"),
    Index("ix_snapshots_status", "status"),
    Index("ix_snapshots_project", "project_id", "created_at"),
    Index("ix_snapshots_created", "created_at", "id"),
)

# the users' metadata of volumes and snapshots, by the thing's id
LABELS = Table(
    "metadata",
    METADATA,
    Column("owner_id", String(36), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("value", Text, nullable=False),
    Index("ix_metadata_key", "key"),
)

ATTACHMENTS = Table(
    "attachments",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("volume_id", String(36), nullable=False),
    Column("project_id", String(255), nullable=False),
    Column("server_id", String(36)),
    Column("status", String(32), nullable=False),
    Column("mode", String(8)),
    Column("host_name", String(255)),
    Column("mountpoint", String(255)),
    Column("connector", Json),
    Column("connection_info", Json),
    Column("created_at", String(26), nullable=False),
    Column("attached_at", String(26)),
    Index("ix_attachments_volume", "volume_id"),
    Index("ix_attachments_status", "status", "created_at"),
    Index("ix_attachments_server", "server_id"),
    Index("ix_attachments_project", "project_id"),
)

TYPES = Table(
    "volume_types",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("name", String(255), nullable=False),
    Column("description", Text),
    Column("is_public", Boolean, nullable=False),
    Column("extra_specs", Json, nullable=False),
    Column("qos_specs_id", String(36)),
    Column("created_at", String(26), nullable=False),
    UniqueConstraint("name", name="uq_volume_types_name"),
    Index("ix_volume_types_created", "created_at", "id"),
)

TYPE_ACCESS = Table(
    "volume_type_access",
    METADATA,
    Column("type_id", String(36), primary_key=True),
    Column("project_id", String(255), primary_key=True),
)

DEFAULT_TYPES = Table(
    "default_types",
    METADATA,
    Column("project_id", String(255), primary_key=True),
    Column("type_id", String(36), nullable=False),
)

QOS = Table(
    "qos_specs",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("name", String(255), nullable=False),
    Column("consumer", String(16), nullable=False),
    Column("specs", Json, nullable=False),
    Column("created_at", String(26), nullable=False),
    UniqueConstraint("name", name="uq_qos_specs_name"),
)

# limits that differ from the configured ones; of a project, or of the class "default"
QUOTAS = Table(
    "quotas",
    METADATA,
    Column("scope", String(16), primary_key=True),
    Column("scope_id", String(255), primary_key=True),
    Column("resource", String(255), primary_key=True),
    Column("limit", BigInteger, nullable=False),
)

# back ends, as their hosts last described them; one pool each
POOLS = Table(
    "pools",
    METADATA,
    Column("host", String(255), primary_key=True),
    Column("id", String(36), nullable=False),
    Column("pool", String(255), nullable=False),
    Column("backend", String(255), nullable=False),
    Column("protocol", String(32), nullable=False),
    Column("vendor", String(64), nullable=False),
    Column("zone", String(255), nullable=False),
    Column("total_gib", Float, nullable=False),
    Column("free_gib", Float, nullable=False),
    Column("thin", Boolean, nullable=False),
    Column("multiattach", Boolean, nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("disabled_reason", String(255)),
    Column("seen_at", String(26), nullable=False),
    Column("created_at", String(26), nullable=False),
)

TRANSFERS = Table(
    "transfers",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("volume_id", String(36), nullable=False),
    Column("project_id", String(255), nullable=False),
    Column("name", String(255)),
    Column("salt", String(64), nullable=False),
    Column("key_hash", String(64), nullable=False),
    Column("no_snapshots", Boolean, nullable=False),
    Column("created_at", String(26), nullable=False),
    UniqueConstraint("volume_id", name="uq_transfers_volume"),
    Index("ix_transfers_project", "project_id"),
)

MESSAGES = Table(
    "messages",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("project_id", String(255), nullable=False),
    Column("event_id", String(255), nullable=False),
    Column("user_message", Text, nullable=False),
    Column("resource_type", String(64), nullable=False),
    Column("resource_id", String(36)),
    Column("request_id", String(64), nullable=False),
    Column("created_at", String(26), nullable=False),
    Column("guaranteed_until", String(26), nullable=False),
    Index("ix_messages_project", "project_id", "created_at"),
)

add_outbox(
    METADATA,
    Watched(
        table=VOLUMES,
        kind="volume",
        shows=("name", "status", "size", "bootable", "migration_status"),
        also=("updated_at", "type_id", "image_metadata"),
    ),
    watched_steps(SAGAS, "volume.step"),
    Watched(
        table=SNAPSHOTS,
        kind="snapshot",
        about="volume_id",
        shows=("name", "status", "size", "volume_id"),
        also=("updated_at",),
    ),
    Watched(
        table=ATTACHMENTS,
        kind="attachment",
        about="server_id",
        shows=("volume_id", "server_id", "status", "mode", "mountpoint"),
    ),
    Watched(table=TRANSFERS, kind="transfer", about="volume_id", shows=("name", "volume_id")),
    Watched(
        table=TYPES,
        kind="volume_type",
        project=None,
        shows=("name", "is_public"),
        also=("description", "extra_specs"),
        viewers=lambda kind: case(
            (kind("is_public"), "*"),
            else_=select(func.aggregate_strings(TYPE_ACCESS.c.project_id, " "))
            .where(TYPE_ACCESS.c.type_id == kind("id"))
            .scalar_subquery(),
        ),
    ),
)
