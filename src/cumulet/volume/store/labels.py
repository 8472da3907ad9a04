"""The users' metadata of volumes and snapshots."""

from collections.abc import Mapping, Sequence

from sqlalchemy import ColumnElement, Table, select

from cumulet.core.db import Tx
from cumulet.volume.tables import LABELS as L

__all__ = ["carries", "drop", "of", "of_many", "put", "remove", "replace"]


def of(tx: Tx, owner_id: str) -> dict[str, str]:
    return of_many(tx, [owner_id]).get(owner_id, {})


def of_many(tx: Tx, ids: Sequence[str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    if ids:
        for row in tx.find_all(L, {"owner_id": tuple(ids)}, order=("key",)):
            found.setdefault(row["owner_id"], {})[row["key"]] = row["value"]
    return found


def put(tx: Tx, owner_id: str, values: Mapping[str, str]) -> None:
    """Add or overwrite."""
    for key, value in values.items():
        tx.upsert(L, {"owner_id": owner_id, "key": key, "value": value}, ["owner_id", "key"])


def replace(tx: Tx, owner_id: str, values: Mapping[str, str]) -> None:
    drop(tx, [owner_id])
    tx.insert_many(L, [{"owner_id": owner_id, "key": key, "value": value} for key, value in values.items()])


def remove(tx: Tx, owner_id: str, key: str) -> bool:
    return tx.delete(L, {"owner_id": owner_id, "key": key}) == 1


def drop(tx: Tx, ids: Sequence[str]) -> None:
    if ids:
        tx.delete(L, {"owner_id": tuple(ids)})


def carries(table: Table, values: Mapping[str, str]) -> list[ColumnElement[bool]]:
    """Things of a table that have all of these."""
    return [
        table.c.id.in_(select(L.c.owner_id).where(L.c.key == key, L.c.value == value)) for key, value in values.items()
    ]
