"""Back ends as their hosts describe them."""

from typing import Any

import msgspec

from cumulet.core.db import Tx
from cumulet.volume.records import Pool
from cumulet.volume.tables import POOLS as P

__all__ = ["all_pools", "get", "put", "set_fields"]


def all_pools(tx: Tx) -> list[Pool]:
    return [msgspec.convert(row, Pool) for row in tx.find_all(P, {}, order=("created_at", "host"))]


def get(tx: Tx, host: str) -> Pool | None:
    row = tx.find(P, {"host": host})
    return None if row is None else msgspec.convert(row, Pool)


def put(tx: Tx, pool: Pool) -> None:
    tx.upsert(P, msgspec.structs.asdict(pool), ["host"])


def set_fields(tx: Tx, host: str, **values: Any) -> bool:
    return tx.update(P, {"host": host}, values) == 1
