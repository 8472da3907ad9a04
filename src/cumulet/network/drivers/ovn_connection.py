"""One connection to one OVSDB database, by ovsdbapp: changes in, row events out, never a hang.

ovsdbapp keeps a copy of the registered tables, a thread that follows it, and a lock for both.  This class writes:

- **Who finds the connection free commits at once**, on its own thread: to hand the change over and to wake up again
  costs 0.1 and 0.6 ms, as ovsdbapp's thread goes on with what comes after.
- **Changes queue up and are committed together.**  A verb hands in a function of `Rows`; all that wait when the
  connection is free go into one transaction (a commit costs 1 to 3 ms of Python, nearly the same for one change as for
  ten), on ovsdbapp's thread.  Two changes with the same key never share one.  If the shared transaction fails, each is
  tried alone, so that one bad change fails alone.
- **Everything has an end.**  The library waits for an answer as long as the socket is open; here each change has a
  deadline, after which the connection is dropped and made anew and the caller gets `NetworkBackendDown`.  A change
  whose caller has given up is not begun any more.
- **Reconnection is quick** (tried again after 0.05 to 0.3 s, the library's own way goes to 8 s).  Afterwards all rows
  are told anew, as created.

The first connection is made by a thread too: the library asks for the schema with no limit on time.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final, TypeVar

import structlog

from cumulet.network.drivers import ovsdb_stream
from cumulet.network.drivers.driver import NetworkBackendDown, NetworkRefused
from cumulet.network.drivers.ovn_rows import Row, Rows

__all__ = ["OvsdbConnection"]

T = TypeVar("T")
#: what happened ("create", "update", "delete"), the row, and for an update the old values of the changed columns
Notify = Callable[[str, Row, Row | None], None]

_log = structlog.get_logger(__name__)

_RECONNECT_MS: Final = (50, 300)
#: how much longer a caller waits than the thread that works for it
_GRACE_S: Final = 0.25
_CHANGES_MAX: Final = 50


class _Change:
    """A change that waits for its transaction."""

    def __init__(self, key: str, work: Callable[[Rows], Any], deadline: float) -> None:
        self.key = key
        self.work = work
        self.deadline = deadline
        self.result: Future[Any] = Future()


class OvsdbConnection:
    """A connection that is made when first used and kept."""

    def __init__(
        self,
        remote: str,
        schema: str,
        columns: dict[str, tuple[str, ...]],
        *,
        cloud: str,
        timeout_s: float,
        prepare: Callable[[Any], None] | None = None,
        notify: Notify | None = None,
    ) -> None:
        self._remote = remote
        self._schema = schema
        self._columns = columns
        self._cloud = cloud
        self._timeout_s = timeout_s
        self._prepare = prepare
        self._notify = notify
        self._lock = threading.Lock()
        self._connection: Any = None
        self._connecting: Future[Any] | None = None
        self._waiting: list[_Change] = []
        self._called = False
        self._closed = False

    def write(self, key: str, work: Callable[[Rows], T]) -> T:
        """Commit a change.  `key` names the thing that changes; `work` may run more than once."""
        deadline = time.monotonic() + self._timeout_s
        connection = self._connected()
        change = _Change(key, work, deadline)
        with self._lock:
            self._waiting.append(change)
            call, self._called = not self._called, True
        if call:
            self._call(connection)
        try:
            result: T = change.result.result(timeout=max(deadline - time.monotonic(), 0) + _GRACE_S)
        except TimeoutError:
            change.result.cancel()
            raise NetworkBackendDown(detail=f"{self._remote}: no answer within {self._timeout_s} s") from None
        return result

    def read(self, work: Callable[[Rows], T]) -> T:
        """Look at the copy of the database."""
        connection = self._connected()
        if not connection.lock.acquire(timeout=self._timeout_s):
            raise NetworkBackendDown(detail=f"{self._remote}: busy for {self._timeout_s} s")
        try:
            return work(Rows(connection.idl, None, self._cloud))
        finally:
            connection.lock.release()

    def connect(self) -> None:
        """Raises `NetworkBackendDown` when there has never been a connection and none can be made."""
        self._connected()

    def alive(self) -> bool:
        """Whether the database answers now."""
        try:
            self.write("", Rows.ask_server)
        except NetworkBackendDown:
            return False
        return True

    def close(self) -> None:
        with self._lock:
            self._closed = True
            connection, self._connection = self._connection, None
        if connection is not None:
            # who commits at this moment does so on a thread that `stop` does not wait for
            if connection.lock.acquire(timeout=self._timeout_s):
                connection.lock.release()
            connection.stop(self._timeout_s)

    def _call(self, connection: Any) -> None:
        """Commit what waits: here, when nobody is at the connection, else on its thread."""
        if connection.lock.acquire(blocking=False):
            try:
                if self._closed:
                    raise NetworkBackendDown(detail=f"{self._remote}: closed")
                self.commit_waiting(once=True)
            finally:
                connection.lock.release()
                with self._lock:
                    self._called = bool(self._waiting)
            if not self._called:
                return
        connection.txns.put(_Turn(self))

    # The first connection

    def _connected(self) -> Any:
        connection = self._connection
        if connection is not None:
            return connection
        with self._lock:
            if self._closed:
                raise NetworkBackendDown(detail=f"{self._remote}: closed")
            if self._connection is not None:
                return self._connection
            connecting = self._connecting
            if connecting is None:
                connecting = self._connecting = Future()
                threading.Thread(target=self._connect, args=(connecting,), name="ovsdb-connect", daemon=True).start()
        try:
            return connecting.result(timeout=self._timeout_s)
        except TimeoutError:
            raise NetworkBackendDown(detail=f"{self._remote}: no answer within {self._timeout_s} s") from None

    def _connect(self, connecting: Future[Any]) -> None:
        try:
            connection = self._make()
        except Exception as error:  # noqa: BLE001 - the library raises bare exceptions for every way a server can be away
            with self._lock:
                self._connecting = None
            connecting.set_exception(NetworkBackendDown(detail=f"{self._remote}: {error}"))
            return
        with self._lock:
            self._connecting = None
            closed = self._closed
            if not closed:
                self._connection = connection
        if closed:
            connection.stop(self._timeout_s)
            connecting.set_exception(NetworkBackendDown(detail=f"{self._remote}: closed"))
        else:
            connecting.set_result(connection)

    def _make(self) -> Any:
        from ovsdbapp.backend.ovs_idl import connection as ovsdb_connection
        from ovsdbapp.backend.ovs_idl import idlutils

        ovsdb_stream.use()
        helper = idlutils.get_schema_helper(self._remote, self._schema)
        for table, columns in self._columns.items():
            helper.register_columns(table, list(columns))
        idl = ovsdb_connection.OvsdbIdl(self._remote, helper)
        # It would give the processor away with `sleep(0)` five times a change: 1.5 ms each on a busy machine.
        idl.cooperative_yield = _stay
        # `set_backoff` would make it a second at least.
        reconnect = idl._session.reconnect  # noqa: SLF001 - the library offers no argument for it
        reconnect.min_backoff, reconnect.max_backoff = _RECONNECT_MS
        if self._prepare is not None:
            self._prepare(idl)
        if self._notify is not None:
            idl.notify = self._guarded_notify(self._notify)
        connection = ovsdb_connection.Connection(idl, self._timeout_s)
        try:
            connection.start()
        except BaseException:
            idl.close()
            raise
        return connection

    def _guarded_notify(self, notify: Notify) -> Notify:
        def guarded(event: str, row: Row, old: Row | None = None) -> None:
            try:
                notify(event, row, old)
            except Exception:  # noqa: BLE001 - the library would drop the rest of the server's message
                _log.exception("ovsdb_row_event_failed", schema=self._schema)

        return guarded

    # With the connection's lock held, on the thread of a caller or on ovsdbapp's

    def commit_waiting(self, *, once: bool = False) -> None:
        """Commit what waits, together where possible.  once: not what came meanwhile."""
        while changes := self._next():
            try:
                results = self._commit([change.work for change in changes], max(c.deadline for c in changes))
            except Exception as error:  # noqa: BLE001 - whatever it was belongs to the callers
                if len(changes) == 1 or isinstance(error, NetworkBackendDown):
                    _settle_all(changes, error)
                else:
                    self._commit_each(changes)
            else:
                for change, result in zip(changes, results, strict=True):
                    change.result.set_result(result)
            if once:
                return

    def _next(self) -> list[_Change]:
        """Changes with different keys, whose callers still wait."""
        with self._lock:
            chosen: list[_Change] = []
            later: list[_Change] = []
            keys: set[str] = set()
            for change in self._waiting:
                if change.key in keys or len(chosen) == _CHANGES_MAX:
                    later.append(change)
                elif change.result.set_running_or_notify_cancel():
                    keys.add(change.key)
                    chosen.append(change)
            self._waiting = later
            if not chosen:
                self._called = False
            return chosen

    def _commit_each(self, changes: list[_Change]) -> None:
        for change in changes:
            try:
                change.result.set_result(self._commit([change.work], change.deadline)[0])
            except Exception as error:  # noqa: BLE001 - whatever it was belongs to the caller
                change.result.set_exception(error)

    def _commit(self, works: list[Callable[[Rows], Any]], deadline: float) -> list[Any]:
        from ovs.db.idl import Transaction

        idl = self._connection.idl
        while True:
            seqno = idl.change_seqno
            txn = Transaction(idl)
            try:
                rows = Rows(idl, txn, self._cloud)
                results = [work(rows) for work in works]
            except BaseException:
                txn.abort()
                raise
            status = txn.commit()
            while status == Transaction.INCOMPLETE:
                self._wait(deadline, txn)
                status = txn.commit()
            if status in {Transaction.SUCCESS, Transaction.UNCHANGED}:
                return results
            if status != Transaction.TRY_AGAIN:
                raise NetworkRefused(detail=f"{self._schema}: {txn.get_error()}")
            # Overtaken, or not connected: either way there will be something new to read.
            while idl.change_seqno == seqno:
                self._wait(deadline, None)

    def _wait(self, deadline: float, txn: Any) -> None:
        """Let the library work until something happens."""
        from ovs import poller

        idl = self._connection.idl
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            if txn is not None:
                # Sent, and no answer: only a new connection ends that.
                idl.force_reconnect()
            raise NetworkBackendDown(detail=f"{self._remote}: no answer within {self._timeout_s} s")
        wake = poller.Poller()
        idl.wait(wake)
        if txn is not None:
            txn.wait(wake)
        wake.timer_wait(int(left_s * 1000) + 1)
        wake.block()
        idl.run()


class _Turn:
    """The one thing in ovsdbapp's queue: it asks the thread to commit what waits."""

    def __init__(self, owner: OvsdbConnection) -> None:
        self._owner = owner
        #: ovsdbapp puts what `do_commit` answers here
        self.results: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def do_commit(self) -> None:
        self._owner.commit_waiting()


def _stay() -> None:
    return None


def _settle_all(changes: list[_Change], error: Exception) -> None:
    for change in changes:
        change.result.set_exception(error)
