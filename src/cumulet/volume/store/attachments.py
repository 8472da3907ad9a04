"""Attachments: which server has, or is about to have, which volume."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement

from cumulet.core.db import Tx
from cumulet.volume.records import Attachment
from cumulet.volume.store import pages
from cumulet.volume.tables import ATTACHMENTS as A

__all__ = ["add", "get", "listed", "move", "of_volume", "of_volumes", "page", "remove", "remove_of", "set_fields"]


def get(tx: Tx, id: str, *, project_id: str | None = None) -> Attachment | None:
    row = tx.find(A, {"id": id})
    if row is None or (project_id is not None and row["project_id"] != project_id):
        return None
    return msgspec.convert(row, Attachment)


def add(tx: Tx, attachment: Attachment) -> None:
    tx.insert(A, msgspec.structs.asdict(attachment))


def move(tx: Tx, id: str, before: Sequence[str], after: str, **values: Any) -> bool:
    """Compare-and-set of the status."""
    return tx.update(A, {"id": id, "status": tuple(before)}, {"status": after, **values}) == 1


def set_fields(tx: Tx, id: str, **values: Any) -> bool:
    return tx.update(A, {"id": id}, values) == 1


def remove(tx: Tx, id: str) -> bool:
    return tx.delete(A, {"id": id}) == 1


def remove_of(tx: Tx, volume_id: str) -> None:
    tx.delete(A, {"volume_id": volume_id})


def of_volume(tx: Tx, volume_id: str) -> list[Attachment]:
    return [msgspec.convert(row, Attachment) for row in of_volumes(tx, [volume_id]).get(volume_id, [])]


def of_volumes(tx: Tx, ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Rows by volume, oldest first."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in tx.find_all(A, {"volume_id": tuple(ids)}, order=("created_at", "id")):
        found.setdefault(row["volume_id"], []).append(row)
    return found


def listed(*, project_id: str | None, **equal: str) -> list[ColumnElement[bool]]:
    where = [A.c[name] == value for name, value in equal.items()]
    if project_id is not None:
        where.append(A.c.project_id == project_id)
    return where


def page(tx: Tx, where: Sequence[ColumnElement[bool]], asked: pages.Page) -> list[Attachment]:
    return [msgspec.convert(row, Attachment) for row in pages.rows_of(tx, A, where, asked)]
