"""Volumes: their rows with what hangs on them, and the moves of their states."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, bindparam, func, select

from cumulet.core.db import Tx
from cumulet.volume.records import Volume
from cumulet.volume.store import attachments, labels, pages
from cumulet.volume.tables import LABELS as L
from cumulet.volume.tables import TYPES as T
from cumulet.volume.tables import VOLUMES as V

__all__ = [
    "add",
    "admin_metadata",
    "count",
    "get",
    "ids_from_snapshot",
    "listed",
    "move",
    "page",
    "place",
    "promised",
    "remove",
    "set_fields",
    "summary",
]

_PROMISED = select(V.c.host, func.sum(V.c.size).label("gib")).where(V.c.host.is_not(None)).group_by(V.c.host)

#: a volume with its type's name, once for each of its labels
_ONE = (
    select(V, T.c.name.label("type_name"), L.c.key.label("label"), L.c.value.label("text"))
    .select_from(V.outerjoin(T, T.c.id == V.c.type_id).outerjoin(L, L.c.owner_id == V.c.id))
    .where(V.c.id == bindparam("volume_id"))
    .order_by(L.c.key)
)


def _volumes(tx: Tx, rows: Sequence[dict[str, Any]]) -> list[Volume]:
    ids = [row["id"] for row in rows]
    if not ids:
        return []
    texts = labels.of_many(tx, ids)
    ties = attachments.of_volumes(tx, ids)
    types = list({row["type_id"] for row in rows})
    names = {row["id"]: row["name"] for row in tx.find_all(T, {"id": types})}
    return [
        msgspec.convert(
            {
                **row,
                "metadata": texts.get(row["id"], {}),
                "attachments": ties.get(row["id"], []),
                "type_name": names.get(row["type_id"], ""),
            },
            Volume,
        )
        for row in rows
    ]


def get(tx: Tx, id: str, *, project_id: str | None = None) -> Volume | None:
    """A volume; with `project_id` only of that project."""
    rows = tx.all(_ONE, volume_id=id)
    if not rows or (project_id is not None and rows[0]["project_id"] != project_id):
        return None
    metadata = {row["label"]: row["text"] for row in rows if row["label"] is not None}
    ties = attachments.of_volumes(tx, [id]).get(id, [])
    record = {**rows[0], "type_name": rows[0]["type_name"] or "", "metadata": metadata, "attachments": ties}
    return msgspec.convert(record, Volume)


def place(tx: Tx, id: str) -> tuple[str | None, int]:
    """Where a volume lies, or is to lie, and how large it is in GiB; nowhere if it is gone."""
    row = tx.find(V, {"id": id})
    return (None, 0) if row is None else (row["host"], row["size"])


def admin_metadata(tx: Tx, id: str) -> dict[str, str]:
    """What the service itself keeps on a volume; nothing if it is gone."""
    row = tx.find(V, {"id": id})
    return {} if row is None else row["admin_metadata"]


def add(tx: Tx, volume: Volume) -> None:
    row = msgspec.structs.asdict(volume)
    metadata: dict[str, str] = row.pop("metadata")
    for name in ("attachments", "type_name"):
        row.pop(name)
    tx.insert(V, row)
    labels.put(tx, volume.id, metadata)


def move(
    tx: Tx, id: str, before: str | Iterable[str], after: str, *, at: str, owner: str | None = None, **values: Any
) -> bool:
    """Compare-and-set of the status, with `owner` only of that project's volume.  False: somebody else was first."""
    where: dict[str, Any] = {"id": id, "status": (before,) if isinstance(before, str) else tuple(before)}
    if owner is not None:
        where["project_id"] = owner
    return tx.update(V, where, {"status": after, "updated_at": at, **values}) == 1


def set_fields(tx: Tx, id: str, *, at: str | None = None, **values: Any) -> bool:
    if at is not None:
        values["updated_at"] = at
    return tx.update(V, {"id": id}, values) == 1


def remove(tx: Tx, id: str) -> None:
    """The row and what hangs on it."""
    labels.drop(tx, [id])
    attachments.remove_of(tx, id)
    tx.delete(V, {"id": id})


def listed(
    *, project_id: str | None = None, metadata: Mapping[str, str] | None = None, **equal: Any
) -> list[ColumnElement[bool]]:
    """The conditions of a list; None as project is all projects."""
    where = labels.carries(V, metadata or {})
    if project_id is not None:
        where.append(V.c.project_id == project_id)
    where += [V.c[name] == value for name, value in equal.items()]
    return where


def page(tx: Tx, where: Sequence[ColumnElement[bool]], asked: pages.Page) -> list[Volume]:
    return _volumes(tx, pages.rows_of(tx, V, where, asked))


def count(tx: Tx, where: Sequence[ColumnElement[bool]]) -> int:
    return pages.count(tx, V, where)


def summary(tx: Tx, where: Sequence[ColumnElement[bool]]) -> tuple[int, int, list[str]]:
    """How many, how many GiB, and which."""
    rows = tx.all(select(V.c.id, V.c.size).where(*where))
    return len(rows), sum(row["size"] for row in rows), [row["id"] for row in rows]


def promised(tx: Tx) -> dict[str, int]:
    """host@backend#pool → GiB of its volumes."""
    return {row["host"]: int(row["gib"]) for row in tx.all(_PROMISED)}


def ids_from_snapshot(tx: Tx, snapshot_id: str, states: Iterable[str]) -> list[str]:
    """Volumes that are being made from a snapshot."""
    return tx.values(select(V.c.id).where(V.c.snapshot_id == snapshot_id, V.c.status.in_(tuple(states))))
