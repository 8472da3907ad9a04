"""The revision of everything that a token's validity depends on."""

from sqlalchemy import select, update

from cumulet.core.db import Tx
from cumulet.identity.tables import REVISION

__all__ = ["bump", "read"]

_ROW = 1


def read(tx: Tx) -> int:
    """0 before the first change."""
    return int(tx.value(select(REVISION.c.value).where(REVISION.c.id == _ROW)) or 0)


def bump(tx: Tx) -> int:
    """Raise it, within the transaction of the change; the new value."""
    if not tx.run(update(REVISION).where(REVISION.c.id == _ROW).values(value=REVISION.c.value + 1)):
        tx.insert(REVISION, {"id": _ROW, "value": 1})
    return read(tx)
