"""The image service's tables.

An image's row goes when the image is deleted; its identifier stays in `retired_ids`, because an identifier names
files on disk and is never used twice.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    case,
    func,
    select,
)

from cumulet.core.db import Json, Parent, Watched, add_outbox
from cumulet.core.keys import key_table

__all__ = ["IMAGES", "KEYS", "MEMBERS", "METADATA", "PROPERTIES", "RETIRED", "TAGS", "TASKS"]

METADATA = MetaData()

KEYS = key_table(METADATA)

IMAGES = Table(
    "images",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("name", String(255)),
    Column("status", String(16), nullable=False),
    Column("visibility", String(16), nullable=False),
    Column("owner", String(255)),
    Column("disk_format", String(16)),
    Column("container_format", String(16)),
    Column("size", BigInteger),
    Column("virtual_size", BigInteger),
    Column("checksum", String(32)),
    Column("os_hash_value", String(128)),
    Column("min_disk", Integer, nullable=False),
    Column("min_ram", Integer, nullable=False),
    Column("protected", Boolean, nullable=False),
    Column("os_hidden", Boolean, nullable=False),
    # which file of the operator's the image was made from, so that the next start need not read that file again
    Column("origin", Text),
    Column("created_at", String(26), nullable=False),
    Column("updated_at", String(26), nullable=False),
    Index("ix_images_created", "created_at", "id"),
    Index("ix_images_owner", "owner"),
    Index("ix_images_visibility", "visibility"),
    Index("ix_images_status", "status"),
    Index("ix_images_name", "name"),
    Index("ix_images_checksum", "checksum"),
)

PROPERTIES = Table(
    "image_properties",
    METADATA,
    Column("image_id", String(36), primary_key=True),
    Column("name", String(255), primary_key=True),
    Column("value", Text, nullable=False),
    Index("ix_image_properties_name", "name"),
)

TAGS = Table(
    "image_tags",
    METADATA,
    Column("image_id", String(36), primary_key=True),
    Column("tag", String(255), primary_key=True),
    Index("ix_image_tags_tag", "tag"),
)

MEMBERS = Table(
    "image_members",
    METADATA,
    Column("image_id", String(36), primary_key=True),
    Column("member_id", String(255), primary_key=True),
    Column("status", String(16), nullable=False),
    Column("created_at", String(26), nullable=False),
    Column("updated_at", String(26), nullable=False),
    Index("ix_image_members_member", "member_id", "status"),
)

TASKS = Table(
    "image_tasks",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("image_id", String(36), nullable=False),
    Column("status", String(16), nullable=False),
    Column("owner", String(255)),
    Column("user_id", String(255), nullable=False),
    Column("request_id", String(64), nullable=False),
    Column("input", Json, nullable=False),
    Column("message", Text, nullable=False),
    Column("created_at", String(26), nullable=False),
    Column("updated_at", String(26), nullable=False),
    Index("ix_image_tasks_image", "image_id"),
)

RETIRED = Table(
    "retired_ids",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("retired_at", String(26), nullable=False),
)

add_outbox(
    METADATA,
    Watched(
        table=IMAGES,
        kind="image",
        project="owner",
        shows=("name", "status", "visibility", "size", "os_hidden"),
        also=("updated_at",),
        viewers=lambda image: case(
            (image("visibility").in_(["public", "community"]), "*"),
            (
                image("visibility") == "shared",
                select(func.aggregate_strings(MEMBERS.c.member_id, " "))
                .where(MEMBERS.c.image_id == image("id"))
                .scalar_subquery(),
            ),
        ),
    ),
    Watched(
        table=MEMBERS,
        kind="image.member",
        parent=Parent(IMAGES, "image_id"),
        id="image_id",
        project="parent.owner",
        shows=("member_id", "status"),
        viewers=lambda member: member("member_id"),
    ),
)
