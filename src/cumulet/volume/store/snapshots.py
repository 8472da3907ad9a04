"""Snapshots: their rows, metadata and states."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, bindparam, select

from cumulet.core.db import Tx
from cumulet.volume.records import Snapshot
from cumulet.volume.store import labels, pages
from cumulet.volume.tables import SNAPSHOTS as S

__all__ = ["add", "count", "get", "move", "of_volume", "page", "remove", "set_fields", "set_fields_of"]


_OF_VOLUME = select(S).where(S.c.volume_id == bindparam("volume_id")).order_by(S.c.created_at.desc(), S.c.id)


def _snapshots(tx: Tx, rows: Sequence[dict[str, Any]]) -> list[Snapshot]:
    texts = labels.of_many(tx, [row["id"] for row in rows])
    return [msgspec.convert({**row, "metadata": texts.get(row["id"], {})}, Snapshot) for row in rows]


def get(tx: Tx, id: str, *, project_id: str | None = None) -> Snapshot | None:
    row = tx.find(S, {"id": id})
    if row is None or (project_id is not None and row["project_id"] != project_id):
        return None
    return _snapshots(tx, [row])[0]


def of_volume(tx: Tx, volume_id: str) -> list[Snapshot]:
    """Newest first."""
    return _snapshots(tx, tx.all(_OF_VOLUME, volume_id=volume_id))


def add(tx: Tx, snapshot: Snapshot) -> None:
    row = msgspec.structs.asdict(snapshot)
    metadata: dict[str, str] = row.pop("metadata")
    tx.insert(S, row)
    labels.put(tx, snapshot.id, metadata)


def move(tx: Tx, id: str, before: str | Iterable[str], after: str, *, at: str, **values: Any) -> bool:
    """Compare-and-set of the status."""
    states = (before,) if isinstance(before, str) else tuple(before)
    return tx.update(S, {"id": id, "status": states}, {"status": after, "updated_at": at, **values}) == 1


def set_fields(tx: Tx, id: str, *, at: str | None = None, **values: Any) -> bool:
    if at is not None:
        values["updated_at"] = at
    return tx.update(S, {"id": id}, values) == 1


def set_fields_of(tx: Tx, volume_id: str, **values: Any) -> None:
    """Of all snapshots of a volume."""
    tx.update(S, {"volume_id": volume_id}, values)


def remove(tx: Tx, id: str) -> None:
    labels.drop(tx, [id])
    tx.delete(S, {"id": id})


def page(tx: Tx, where: Sequence[ColumnElement[bool]], asked: pages.Page) -> list[Snapshot]:
    return _snapshots(tx, pages.rows_of(tx, S, where, asked))


def count(tx: Tx, where: Sequence[ColumnElement[bool]]) -> int:
    return pages.count(tx, S, where)
