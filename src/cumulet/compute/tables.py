"""The compute service's tables.

A server is one row with its children as JSON beside it (metadata, tags, addresses, block devices, …): a list of a thousand servers is
one query.  `vm_state` and `task_state` are the desired side, written by the conductor; `power_state` is observed, written by the host.
"""

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
    text,
)

from cumulet.core.db import ChangeLog, Json, Watched, add_outbox
from cumulet.core.keys import key_table
from cumulet.core.saga import saga_tables, watched_steps

__all__ = [
    "AGGREGATES",
    "BUSY",
    "CONSOLE_TOKENS",
    "DECISIONS",
    "FLAVORS",
    "FLAVOR_ACCESS",
    "HOSTS",
    "HOST_CHANGES",
    "KEYPAIRS",
    "KEYS",
    "METADATA",
    "MIGRATIONS",
    "QUOTAS",
    "SAGAS",
    "SERVERS",
    "SERVER_GROUPS",
    "USAGE",
]

METADATA = MetaData()

SAGAS = saga_tables(METADATA)
KEYS = key_table(METADATA)

#: what a server is while something works on it; in a query in these very words, so that the index of busy servers serves it
BUSY = text("(task_state IS NOT NULL OR vm_state = 'building')")

SERVERS = Table(
    "servers",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("name", String(255), nullable=False),
    Column("description", Text),
    Column("hostname", String(255), nullable=False),
    Column("project_id", String(64), nullable=False),
    Column("user_id", String(64), nullable=False),
    Column("reservation_id", String(36), nullable=False),
    Column("launch_index", Integer, nullable=False),
    # desired state; moves only by compare-and-set along compute.states
    Column("vm_state", String(32), nullable=False),
    Column("task_state", String(64)),
    # observed state, in the reference's numbers
    Column("power_state", Integer, nullable=False),
    Column("host", String(255)),
    Column("node", String(255)),
    Column("availability_zone", String(255)),
    Column("requested_zone", String(255)),
    Column("requested_host", String(255)),
    # the flavor as it was at launch, with extra specs
    Column("flavor", Json, nullable=False),
    # the flavor's sizes again, for quotas
    Column("vcpus", Integer, nullable=False),
    Column("memory_mb", BigInteger, nullable=False),
    # during a resize: the flavor to go back to
    Column("old_flavor", Json),
    Column("image_id", String(36)),
    Column("image_properties", Json, nullable=False),
    Column("key_name", String(255)),
    Column("key", Json),
    Column("user_data", Text),
    Column("config_drive", Boolean, nullable=False),
    Column("root_device_name", String(32)),
    Column("access_ip_v4", String(39)),
    Column("access_ip_v6", String(39)),
    Column("disk_config", String(16), nullable=False),
    Column("locked", Boolean, nullable=False),
    Column("locked_reason", String(255)),
    Column("locked_by", String(16)),
    Column("progress", Integer, nullable=False),
    Column("hints", Json, nullable=False),
    Column("group_id", String(36)),
    # children, each a JSON document
    Column("metadata", Json, nullable=False),
    Column("tags", Json, nullable=False),
    Column("requested_networks", Json),
    Column("security_groups", Json, nullable=False),
    Column("interfaces", Json, nullable=False),
    Column("block_devices", Json, nullable=False),
    Column("fault", Json),
    # the encrypted password a guest posted to the metadata service, and whether the server may have another
    Column("password", Text),
    Column("created_at", String(26), nullable=False),
    Column("updated_at", String(26), nullable=False),
    Column("launched_at", String(26)),
    Column("terminated_at", String(26)),
    Column("deleted", Boolean, nullable=False),
    # a list in its usual order is read along it, and not sorted
    Index("ix_servers_project", "project_id", "deleted", "created_at", "id"),
    Index("ix_servers_host", "host", "deleted"),
    Index("ix_servers_created", "deleted", "created_at"),
    Index("ix_servers_reservation", "reservation_id"),
    # the few that are busy
    Index("ix_servers_task", "updated_at", sqlite_where=BUSY, postgresql_where=BUSY),
)

# what live servers take, kept by whatever adds, resizes or deletes one, so that a launch need not count them: by project and user, and by
# project with user ""; a project without this row has not been counted yet
USAGE = Table(
    "usage",
    METADATA,
    Column("project_id", String(64), primary_key=True),
    Column("user_id", String(64), primary_key=True),
    Column("instances", Integer, nullable=False),
    Column("cores", BigInteger, nullable=False),
    Column("ram", BigInteger, nullable=False),
)

MIGRATIONS = Table(
    "migrations",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("uuid", String(36), nullable=False),
    Column("server_id", String(36), nullable=False),
    Column("project_id", String(64), nullable=False),
    Column("user_id", String(64), nullable=False),
    Column("migration_type", String(32), nullable=False),
    Column("status", String(32), nullable=False),
    Column("source_host", String(255)),
    Column("dest_host", String(255)),
    Column("old_flavor_id", String(255), nullable=False),
    Column("new_flavor_id", String(255), nullable=False),
    Column("old_vm_state", String(32), nullable=False),
    Column("created_at", String(26), nullable=False),
    Column("updated_at", String(26)),
    UniqueConstraint("uuid", name="uq_migrations_uuid"),
    Index("ix_migrations_server", "server_id"),
    Index("ix_migrations_created", "created_at"),
)

DECISIONS = Table(
    "decisions",
    METADATA,
    Column("server_id", String(36), primary_key=True),
    Column("saga_id", String(36), primary_key=True),
    Column("action", String(64), nullable=False),
    Column("request_id", String(64), nullable=False),
    Column("decided_at", String(26), nullable=False),
    Column("decision", Json, nullable=False),
)

FLAVORS = Table(
    "flavors",
    METADATA,
    Column("id", String(255), primary_key=True),
    Column("name", String(255), nullable=False),
    Column("description", Text),
    Column("vcpus", Integer, nullable=False),
    Column("ram_mb", Integer, nullable=False),
    Column("disk_gb", Integer, nullable=False),
    Column("ephemeral_gb", Integer, nullable=False),
    Column("swap_mb", Integer, nullable=False),
    Column("rxtx_factor", Float, nullable=False),
    Column("is_public", Boolean, nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("extra_specs", Json, nullable=False),
    Column("created_at", String(26), nullable=False),
    UniqueConstraint("name", name="uq_flavors_name"),
)

FLAVOR_ACCESS = Table(
    "flavor_access",
    METADATA,
    Column("flavor_id", String(255), primary_key=True),
    Column("project_id", String(64), primary_key=True),
)

KEYPAIRS = Table(
    "keypairs",
    METADATA,
    Column("user_id", String(64), primary_key=True),
    Column("name", String(255), primary_key=True),
    Column("id", Integer, nullable=False),
    Column("type", String(16), nullable=False),
    Column("fingerprint", String(255), nullable=False),
    Column("public_key", Text, nullable=False),
    Column("created_at", String(26), nullable=False),
)

QUOTAS = Table(
    "quotas",
    METADATA,
    # a project's own limits, a user's (user_id not empty), or the class "default" (project_id "class:default")
    Column("project_id", String(80), primary_key=True),
    Column("user_id", String(64), primary_key=True),
    Column("resource", String(64), primary_key=True),
    Column("limit", Integer, nullable=False),
)

HOSTS = Table(
    "hosts",
    METADATA,
    Column("host", String(255), primary_key=True),
    # the compute service's and the hypervisor's id
    Column("service_id", String(36), nullable=False),
    Column("hypervisor_id", String(36), nullable=False),
    Column("hypervisor_type", String(32), nullable=False),
    Column("hypervisor_version", BigInteger, nullable=False),
    Column("vcpus", Integer, nullable=False),
    Column("memory_mb", BigInteger, nullable=False),
    Column("local_gb", BigInteger, nullable=False),
    Column("cpu_info", Json, nullable=False),
    Column("host_ip", String(39), nullable=False),
    Column("zone", String(255), nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("disabled_reason", String(255)),
    Column("forced_down", Boolean, nullable=False),
    Column("traits", Json, nullable=False),
    Column("seen_at", String(26), nullable=False),
    Column("created_at", String(26), nullable=False),
    Column("updated_at", String(26)),
    Index("ix_hosts_seen", "seen_at"),
)

# hosts of which more changed than when they were heard of, for schedulers, which keep a copy
HOST_CHANGES = ChangeLog(METADATA, "host_changes")

AGGREGATES = Table(
    "aggregates",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("uuid", String(36), nullable=False),
    Column("name", String(255), nullable=False),
    Column("hosts", Json, nullable=False),
    Column("metadata", Json, nullable=False),
    Column("created_at", String(26), nullable=False),
    Column("updated_at", String(26)),
    Column("deleted", Boolean, nullable=False),
)

SERVER_GROUPS = Table(
    "server_groups",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("project_id", String(64), nullable=False),
    Column("user_id", String(64), nullable=False),
    Column("name", String(255), nullable=False),
    Column("policy", String(64), nullable=False),
    Column("rules", Json, nullable=False),
    Column("created_at", String(26), nullable=False),
    Index("ix_server_groups_project", "project_id"),
)

CONSOLE_TOKENS = Table(
    "console_tokens",
    METADATA,
    # SHA-256 of the token: the token itself is only in the URL given to the user
    Column("digest", String(64), primary_key=True),
    Column("server_id", String(36), nullable=False),
    Column("host", String(255), nullable=False),
    Column("console_type", String(16), nullable=False),
    Column("expires_at", String(26), nullable=False),
    Column("used", Boolean, nullable=False),
)

add_outbox(
    METADATA,
    Watched(
        table=SERVERS,
        kind="server",
        shows=("name", "vm_state", "task_state", "power_state", "fault.message"),
        also=("flavor", "image_id", "interfaces", "block_devices", "locked", "metadata", "tags"),
        gone="deleted",
    ),
    watched_steps(SAGAS, "server.step"),
    Watched(
        table=FLAVORS,
        kind="flavor",
        project=None,
        shows=("name", "vcpus", "ram_mb", "disk_gb", "is_public", "disabled"),
        also=("description", "extra_specs"),
        viewers=lambda flavor: case(
            (flavor("is_public"), "*"),
            else_=select(func.aggregate_strings(FLAVOR_ACCESS.c.project_id, " "))
            .where(FLAVOR_ACCESS.c.flavor_id == flavor("id"))
            .scalar_subquery(),
        ),
    ),
    Watched(table=SERVER_GROUPS, kind="server_group", shows=("name", "policy"), also=("rules",)),
    # the operator's own: nobody's project
    Watched(
        table=HOSTS,
        kind="host",
        id="service_id",
        project=None,
        shows=("host", "zone", "disabled", "disabled_reason", "forced_down"),
    ),
)
