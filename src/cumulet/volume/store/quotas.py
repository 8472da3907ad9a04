"""Limits and what counts against them."""

from typing import Any

import msgspec
from sqlalchemy import delete, func, select

from cumulet.core.db import Tx
from cumulet.volume.tables import QUOTAS as Q
from cumulet.volume.tables import SNAPSHOTS as S
from cumulet.volume.tables import TYPES as T
from cumulet.volume.tables import VOLUMES as V

__all__ = ["Usage", "limits_of", "put", "reset", "type_names", "usage", "usage_by_type"]


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
    rows = tx.all(select(Q.c.resource, Q.c.limit).where(Q.c.scope == scope, Q.c.scope_id == scope_id))
    return {row["resource"]: row["limit"] for row in rows}


def put(tx: Tx, scope: str, scope_id: str, limits: dict[str, int]) -> None:
    for resource, limit in limits.items():
        row = {"scope": scope, "scope_id": scope_id, "resource": resource, "limit": limit}
        tx.upsert(Q, row, ["scope", "scope_id", "resource"])


def reset(tx: Tx, scope: str, scope_id: str) -> None:
    tx.run(delete(Q).where(Q.c.scope == scope, Q.c.scope_id == scope_id))


def usage(tx: Tx, project_id: str) -> Usage:
    volumes, volume_gib = _sums(tx, V, V.c.project_id == project_id)
    snapshots, snapshot_gib = _sums(tx, S, S.c.project_id == project_id)
    return Usage(volumes=volumes, volume_gib=volume_gib, snapshots=snapshots, snapshot_gib=snapshot_gib)


def usage_by_type(tx: Tx, project_id: str) -> dict[str, Usage]:
    """By the type's id."""
    found: dict[str, dict[str, int]] = {}
    count, gib = func.count().label("count"), func.coalesce(func.sum(V.c.size), 0).label("gib")
    for row in tx.all(select(V.c.type_id, count, gib).where(V.c.project_id == project_id).group_by(V.c.type_id)):
        found[row["type_id"]] = {"volumes": row["count"], "volume_gib": int(row["gib"])}
    gib = func.coalesce(func.sum(S.c.size), 0).label("gib")
    joined = select(V.c.type_id, count, gib).select_from(S.join(V, V.c.id == S.c.volume_id))
    for row in tx.all(joined.where(S.c.project_id == project_id).group_by(V.c.type_id)):
        found.setdefault(row["type_id"], {}).update(snapshots=row["count"], snapshot_gib=int(row["gib"]))
    return {type_id: Usage(**values) for type_id, values in found.items()}


def type_names(tx: Tx) -> dict[str, str]:
    return {row["id"]: row["name"] for row in tx.all(select(T.c.id, T.c.name).order_by(T.c.created_at))}


def _sums(tx: Tx, table: Any, where: Any) -> tuple[int, int]:
    row = tx.one(
        select(func.count().label("count"), func.coalesce(func.sum(table.c.size), 0).label("gib"))
        .select_from(table)
        .where(where)
    )
    return (0, 0) if row is None else (int(row["count"]), int(row["gib"]))
