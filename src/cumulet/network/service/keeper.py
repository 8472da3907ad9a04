"""The keeper of the network: what the data plane is owed is told, and a port's level that was missed is read again."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from cumulet.core.db import Database
from cumulet.core.errors import CloudError
from cumulet.core.reconcile import Overdue, Row, cutoff, row_of
from cumulet.network.drivers.driver import NetworkDriver
from cumulet.network.service.effects import Effects
from cumulet.network.service.levels import PortLevels
from cumulet.network.tables import owed, ports

__all__ = ["NetworkKeeper"]


class NetworkKeeper:
    """A `Keeper`; on the network's worker."""

    kinds = frozenset({"port", "debt"})

    def __init__(self, db: Database, effects: Effects, levels: PortLevels, driver: NetworkDriver) -> None:
        self._db = db
        self._effects = effects
        self._levels = levels
        self._driver = driver

    def overdue(self, rows: Sequence[Row], now: str, limit: int) -> list[Overdue]:
        before = cutoff(rows, now)
        with self._db.read() as tx:
            debts = tx.all(select(owed.c.kind, owed.c.id, owed.c.since).where(owed.c.since < before).limit(limit))
            waiting = tx.all(
                select(ports.c.id, ports.c.status, ports.c.updated_at).where(
                    ports.c.binding_host_id > "", ports.c.status.in_(("DOWN", "BUILD")), ports.c.updated_at < before
                )
            )
        found = [(row_of(rows, "debt", "owed", debt["since"], now), f"{debt['kind']} {debt['id']}") for debt in debts]
        found += [
            (row_of(rows, "port", port["status"], port["updated_at"], now), port["id"])
            for port in waiting
            if self._driver.port_up(port["id"])
        ]
        return [Overdue(row, id) for row, id in found if row is not None][:limit]

    def pay(self, debt: str) -> bool:
        """Make the data plane agree with one row as it stands."""
        kind, id = debt.split()
        try:
            return self._effects.pay_debt(kind, id)
        except CloudError:  # it does not answer, or refuses; its own log says which, and the next look tries again
            return False

    def read_level(self, port_id: str) -> bool:
        """What the data plane says of the port now."""
        self._levels.reread_port(port_id)
        return True
