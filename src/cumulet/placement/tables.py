"""Placement's tables.

A provider's inventory rows carry `used`, kept in the same transaction as the allocations: a claim is one compare-and-set per resource
(`used + n <= capacity`), so that claims on one host do not retry because a neighbour's claim came first.  What a claim writes is kept by
key alone on SQLite (no row ids): half as many pages a claim.
"""

from sqlalchemy import BigInteger, Column, Float, Index, Integer, MetaData, String, Table, UniqueConstraint

from cumulet.core.db import ChangeLog, Json

__all__ = ["ALLOCATIONS", "CHANGES", "CLASSES", "CONSUMERS", "INVENTORIES", "METADATA", "PROVIDERS", "TRAITS"]

METADATA = MetaData()

PROVIDERS = Table(
    "providers",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("parent_id", String(36)),
    Column("root_id", String(36), nullable=False),
    Column("traits", Json, nullable=False),
    Column("aggregates", Json, nullable=False),
    Column("created_at", String(26), nullable=False),
    UniqueConstraint("name", name="uq_providers_name"),
    Index("ix_providers_root", "root_id"),
)

INVENTORIES = Table(
    "inventories",
    METADATA,
    Column("provider_id", String(36), primary_key=True),
    Column("resource_class", String(255), primary_key=True),
    Column("total", BigInteger, nullable=False),
    Column("reserved", BigInteger, nullable=False),
    Column("min_unit", BigInteger, nullable=False),
    Column("max_unit", BigInteger, nullable=False),
    Column("step_size", BigInteger, nullable=False),
    Column("allocation_ratio", Float, nullable=False),
    # floor((total - reserved) * allocation_ratio), and what allocations hold of it
    Column("capacity", BigInteger, nullable=False),
    Column("used", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

CONSUMERS = Table(
    "consumers",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("generation", Integer, nullable=False),
    Column("project_id", String(255), nullable=False),
    Column("user_id", String(255), nullable=False),
    Column("type", String(255)),
    Column("created_at", String(26), nullable=False),
    Index("ix_consumers_project", "project_id", "user_id"),
    sqlite_with_rowid=False,
)

ALLOCATIONS = Table(
    "allocations",
    METADATA,
    Column("consumer_id", String(36), primary_key=True),
    Column("provider_id", String(36), primary_key=True),
    Column("resource_class", String(255), primary_key=True),
    Column("used", BigInteger, nullable=False),
    Index("ix_allocations_provider", "provider_id"),
    sqlite_with_rowid=False,
)

# providers whose room or traits changed, for whoever keeps a copy of them
CHANGES = ChangeLog(METADATA, "provider_changes")

# the custom ones; the standard ones come from os-resource-classes and os-traits
CLASSES = Table("resource_classes", METADATA, Column("name", String(255), primary_key=True))
TRAITS = Table("traits", METADATA, Column("name", String(255), primary_key=True))
