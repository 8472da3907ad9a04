"""What the scheduler decided for each server, and why."""

import msgspec
from sqlalchemy import bindparam, select

from cumulet.compute.scheduler.decision import Decision
from cumulet.compute.tables import DECISIONS as D
from cumulet.core.db import Tx

__all__ = ["KeptDecision", "of_server", "put"]


class KeptDecision(msgspec.Struct, frozen=True, kw_only=True):
    """A decision, and the saga that asked for it.  action: as in the server's action log."""

    server_id: str
    saga_id: str
    action: str
    request_id: str
    decided_at: str
    decision: Decision


_OF_SERVER = select(D).where(D.c.server_id == bindparam("server_id")).order_by(D.c.decided_at.desc(), D.c.saga_id)


def put(tx: Tx, kept: KeptDecision) -> None:
    """A saga that asks again has the newer answer."""
    tx.upsert(D, msgspec.structs.asdict(kept), ("server_id", "saga_id"))


def of_server(tx: Tx, server_id: str) -> list[KeptDecision]:
    """Newest first."""
    return [msgspec.convert(row, KeptDecision) for row in tx.all(_OF_SERVER, server_id=server_id)]
