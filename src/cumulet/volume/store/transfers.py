"""Transfers: volumes on offer to another project."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import ColumnElement, select

from cumulet.core.db import Tx
from cumulet.volume.records import Transfer
from cumulet.volume.store import pages
from cumulet.volume.tables import TRANSFERS as T

__all__ = ["add", "get", "page", "remove", "remove_of"]


def add(tx: Tx, transfer: Transfer) -> None:
    tx.insert(T, msgspec.structs.asdict(transfer))


def get(tx: Tx, id: str, *, project_id: str | None = None) -> Transfer | None:
    row = tx.one(select(T).where(T.c.id == id))
    if row is None or (project_id is not None and row["project_id"] != project_id):
        return None
    return msgspec.convert(row, Transfer)


def page(tx: Tx, where: Sequence[ColumnElement[bool]], asked: pages.Page) -> list[Transfer]:
    return [msgspec.convert(row, Transfer) for row in pages.rows_of(tx, T, where, asked)]


def remove(tx: Tx, id: str) -> bool:
    return tx.delete(T, {"id": id}) == 1


def remove_of(tx: Tx, volume_id: str) -> None:
    tx.delete(T, {"volume_id": volume_id})
