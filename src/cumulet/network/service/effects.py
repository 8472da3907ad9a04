"""The data plane, made to agree with the rows.

A change commits its rows together with a debt (`owed`): the kinds and ids that the data plane must be told of.  Then, outside of any
transaction, each is read again and put into the data plane as it stands at that moment, or taken out of it when its row has gone, and
the debt is cleared.  Since it is the row that is read and not the change that is carried, a debt may be paid late, twice, or by another
process after a crash.  Telling the driver from within the transaction was turned down: it would hold the write lock while OVN answers,
and a commit that fails afterwards could not be undone.

Two changes of one thing are put in one after the other, each reading for itself, so the later always wins.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import structlog

from cumulet.core.clock import Clock
from cumulet.core.db import Database
from cumulet.core.db.database import Tx
from cumulet.core.errors import CloudError, ServerFault, Unavailable
from cumulet.core.ids import Ids
from cumulet.network import projection
from cumulet.network.config import NetworkConfig
from cumulet.network.drivers.driver import NetworkDriver, NetworkMissing
from cumulet.network.store import networks, ports, routers, security_groups, standard, subnets

__all__ = ["Effects", "Thing"]

log = structlog.get_logger()

#: (kind, id); the kinds are those of the driver's `Owned`
Thing = tuple[str, str]

LOCKS = 64

#: what must be there before what
_ORDER = ("network", "subnet", "security_group", "port", "router", "floating_ip")


class Effects:
    """Puts things into the data plane, and remembers what it still must be told."""

    def __init__(self, db: Database, driver: NetworkDriver, *, clock: Clock, ids: Ids, config: NetworkConfig) -> None:
        self.driver = driver
        self._db = db
        self._clock = clock
        self._ids = ids
        self._config = config
        self._locks = [threading.Lock() for _ in range(LOCKS)]
        #: something was refused since the debts were last paid: they come before anything new
        self._behind = False

    def owe(self, tx: Tx, things: Iterable[Thing]) -> str:
        """Record a debt in the transaction of the change; the stamp by which it is paid."""
        stamp = self._ids.uuid()
        standard.owe(tx, things, stamp, self._clock.now())
        return stamp

    def apply(
        self,
        stamp: str,
        things: Sequence[Thing],
        *,
        known: Mapping[Thing, Any] | None = None,
        then: Callable[[Tx], None] | None = None,
        undo: Callable[[Tx], None] | None = None,
        gone: bool = False,
    ) -> None:
        """Pay a debt.

        known: structs of things just made, which nobody else can have changed.  then: what to record when the data plane
        has it all.  undo: what to take back when it refuses; the debt then stands, and the next payment takes out what may
        have been put in.  gone: the rows are gone already, so a refusal is only owed.
        """
        try:
            if self._behind:
                # an address that was given back may still be held by what was not taken out
                self._behind = self._pay(self._debts(but=stamp)) > 0
            for thing in sorted(set(things), key=lambda thing: _ORDER.index(thing[0])):
                self.put(thing, known.get(thing) if known else None)
        except Exception as error:  # whatever went wrong, a row without its effect must not stay unnoticed
            self._behind = True
            if gone:
                log.warning("network_removal_owed", things=list(things), reason=repr(error))
                return
            if undo is not None:
                with self._db.write() as tx:
                    undo(tx)
            if isinstance(error, CloudError):
                raise
            raise ServerFault(detail=repr(error)) from error
        with self._db.write() as tx:
            for kind, id in things:
                standard.paid(tx, kind, id, stamp)
            if then is not None:
                then(tx)

    def put(self, thing: Thing, struct: Any = None) -> None:
        """Make the data plane agree with one row, or with its absence."""
        with self._locks[hash(thing) % LOCKS]:
            kind, id = thing
            if struct is None:
                with self._db.read() as tx:
                    struct = self.read(tx, kind, id)
            if struct is None:
                getattr(self.driver, f"remove_{kind}")(id)
                return
            if struct is _NOTHING:
                return
            try:
                getattr(self.driver, f"ensure_{kind}")(struct)
            except NetworkMissing:
                # the data plane was lost or emptied: put in what this stands on, once
                for below in self._below(kind, struct):
                    self._put_below(below)
                getattr(self.driver, f"ensure_{kind}")(struct)

    def pay_debts(self) -> int:
        """Tell the data plane what it has not been told; how many debts stay."""
        try:
            unpaid = self._pay(self._debts())
        except Unavailable:
            unpaid = len(self._debts())
        self._behind = unpaid > 0
        return unpaid

    def pay_debt(self, kind: str, id: str) -> bool:
        """Tell the data plane of one thing that it is owed; whether it took it.  Raises Unavailable when it does not answer."""
        debts = [debt for debt in self._debts() if debt[:2] == (kind, id)]
        return bool(debts) and self._pay(debts) == 0

    def _debts(self, *, but: str = "") -> list[tuple[str, str, str]]:
        with self._db.read() as tx:
            debts = [debt for debt in standard.debts(tx) if debt[2] != but]
        return sorted(debts, key=lambda debt: _ORDER.index(debt[0]))

    def _pay(self, debts: Iterable[tuple[str, str, str]]) -> int:
        """One debt that is refused does not keep the next; a data plane that does not answer ends it (raises Unavailable)."""
        unpaid = 0
        for kind, id, stamp in debts:
            try:
                self.put((kind, id))
            except Unavailable:
                raise
            except CloudError as error:
                unpaid += 1
                log.warning("network_debt_unpaid", kind=kind, id=id, reason=error.detail or error.message)
                continue
            with self._db.write() as tx:
                standard.paid(tx, kind, id, stamp)
                settled = routers.get_floating(tx, id) if kind == "floating_ip" else None
                if settled is not None:
                    routers.set_floating_status(tx, id, "ACTIVE" if settled.port_id else "DOWN")
        return unpaid

    # Reading

    def read(self, tx: Tx, kind: str, id: str) -> Any:
        """The driver's struct of a row, None when the row has gone, `_NOTHING` for what has no place in the data plane."""
        if kind == "network":
            network = networks.get(tx, id)
            return None if network is None else projection.network(network)
        if kind == "subnet":
            subnet = subnets.get(tx, id)
            of = None if subnet is None else networks.get(tx, subnet.network_id)
            return None if subnet is None or of is None else projection.subnet(subnet, of, self._config)
        if kind == "port":
            port = ports.get(tx, id)
            if port is not None and port.device_owner in projection.IN_ROUTERS | projection.WITHOUT_PORT:
                return _NOTHING
            return None if port is None else projection.port(port)
        if kind == "security_group":
            group = security_groups.get(tx, id)
            return None if group is None else projection.security_group(group)
        if kind == "router":
            return self._router(tx, id)
        floating = routers.get_floating(tx, id)
        return None if floating is None else projection.floating_ip(floating)

    def _router(self, tx: Tx, id: str) -> Any:
        router = routers.get(tx, id)
        if router is None:
            return None
        feet = ports.by_device(tx, [id], projection.IN_ROUTERS)
        return projection.router(
            router,
            feet,
            subnets.by_ids(tx, {ip["subnet_id"] for foot in feet for ip in foot.fixed_ips}),
            networks.by_ids(tx, {foot.network_id for foot in feet}),
        )

    def _below(self, kind: str, struct: Any) -> Iterator[Thing]:
        """What a thing stands on."""
        if kind in {"subnet", "port"}:
            yield "network", struct.network_id
        if kind == "port":
            yield from (("subnet", ip.subnet_id) for ip in struct.fixed_ips)
            yield from (("security_group", id) for id in struct.security_group_ids)
        if kind == "router":
            feet = [*struct.interfaces, *([struct.gateway] if struct.gateway else [])]
            yield from (("network", foot.network_id) for foot in feet)
        if kind == "floating_ip" and struct.router_id:
            with self._db.read() as tx:
                router = self._router(tx, struct.router_id)
            if router is not None:
                yield from self._below("router", router)
                yield "router", struct.router_id

    def _put_below(self, thing: Thing) -> None:
        with self._db.read() as tx:
            struct = self.read(tx, *thing)
        if struct is not None and struct is not _NOTHING:
            getattr(self.driver, f"ensure_{thing[0]}")(struct)


class _Nothing:
    """The struct of what has no place in the data plane."""


_NOTHING = _Nothing()
