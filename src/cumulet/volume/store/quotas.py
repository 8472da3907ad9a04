"""Limits and what counts against them."""

from collections.abc import Iterable
from typing import Any

import msgspec
from sqlalchemy import and_, bindparam, func, or_, select

from cumulet.core.db import Tx
from cumulet.volume.tables import QUOTAS as Q
from cumulet.volume.tables import SNAPSHOTS as S
from cumulet.volume.tables import TYPES as T
from cumulet.volume.tables import VOLUMES as V

__all__ = ["Usage", "limits_for", "limits_of", "put", "reset", "total", "type_names", "usage", "usage_by_type"]


_count: Any = func.count().label("count")
_VOLUMES = (
    select(V.c.type_id, _count, func.sum(V.c.size).label("gib"))
    .where(V.c.project_id == bindparam("project_id"))
    .group_by(V.c.type_id)
)
_SNAPSHOTS = (
    select(V.c.type_id, _count, func.sum(S.c.size).label("gib"))
    .select_from(S.join(V, V.c.id == S.c.volume_id))
    .where(S.c.project_id == bindparam("project_id"))
    .group_by(V.c.type_id)
)
#: the class's go first, so that the project's own count
_LIMITS = (
    select(Q.c.resource, Q.c.limit)
    .where(
        or_(
            and_(Q.c.scope == "class", Q.c.scope_id == bindparam("class_name")),
            and_(Q.c.scope == "project", Q.c.scope_id == bindparam("project_id")),
        )
    )
    .order_by(Q.c.scope)
)


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What a project has.  GiB of volumes and snapshots together, as the reference counts."""

    volumes: int = 0
    volume_gib: int = 0
    snapshots: int = 0
    snapshot_gib: int = 0

    @property
    def gigabytes(self) -> int:
        return self.volume_gib + self.snapshot_gib


def limits_of(tx: Tx, scope: str, scope_id: str) -> dict[str, int]:
    """Limits set for a project or a class."""
    return {row["resource"]: row["limit"] for row in tx.find_all(Q, {"scope": scope, "scope_id": scope_id})}


def limits_for(tx: Tx, project_id: str, class_name: str) -> dict[str, int]:
    """Limits set for a project, or else for its class."""
    rows = tx.all(_LIMITS, project_id=project_id, class_name=class_name)
    return {row["resource"]: row["limit"] for row in rows}


def put(tx: Tx, scope: str, scope_id: str, limits: dict[str, int]) -> None:
    for resource, limit in limits.items():
        row = {"scope": scope, "scope_id": scope_id, "resource": resource, "limit": limit}
        tx.upsert(Q, row, ["scope", "scope_id", "resource"])


def reset(tx: Tx, scope: str, scope_id: str) -> None:
    tx.delete(Q, {"scope": scope, "scope_id": scope_id})


def usage(tx: Tx, project_id: str) -> Usage:
    return total(usage_by_type(tx, project_id).values())


def total(kinds: Iterable[Usage]) -> Usage:
    """Of all types together."""
    found = list(kinds)
    return Usage(
        volumes=sum(one.volumes for one in found),
        volume_gib=sum(one.volume_gib for one in found),
        snapshots=sum(one.snapshots for one in found),
        snapshot_gib=sum(one.snapshot_gib for one in found),
    )


def usage_by_type(tx: Tx, project_id: str) -> dict[str, Usage]:
    """By the type's id; every volume has one, and every snapshot a volume."""
    found: dict[str, dict[str, int]] = {}
    for row in tx.all(_VOLUMES, project_id=project_id):
        found[row["type_id"]] = {"volumes": row["count"], "volume_gib": int(row["gib"])}
    for row in tx.all(_SNAPSHOTS, project_id=project_id):
        found.setdefault(row["type_id"], {}).update(snapshots=row["count"], snapshot_gib=int(row["gib"]))
    return {type_id: Usage(**values) for type_id, values in found.items()}


def type_names(tx: Tx) -> dict[str, str]:
    return {row["id"]: row["name"] for row in tx.all(select(T.c.id, T.c.name).order_by(T.c.created_at))}
