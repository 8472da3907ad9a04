"""Messages to users: why something of theirs failed."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import ColumnElement, delete, select

from cumulet.core.db import Tx
from cumulet.volume.records import Message
from cumulet.volume.store import pages
from cumulet.volume.tables import MESSAGES as M

__all__ = ["add", "get", "page", "remove"]


def add(tx: Tx, message: Message) -> None:
    tx.insert(M, msgspec.structs.asdict(message))


def get(tx: Tx, id: str, *, project_id: str | None = None) -> Message | None:
    row = tx.one(select(M).where(M.c.id == id))
    if row is None or (project_id is not None and row["project_id"] != project_id):
        return None
    return msgspec.convert(row, Message)


def page(tx: Tx, where: Sequence[ColumnElement[bool]], asked: pages.Page) -> list[Message]:
    return [msgspec.convert(row, Message) for row in pages.rows_of(tx, M, where, asked)]


def remove(tx: Tx, id: str) -> None:
    tx.run(delete(M).where(M.c.id == id))
