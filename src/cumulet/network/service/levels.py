"""Whether ports are up: what the data plane says, written to `ports.status`, and told to who listens.

The driver's event is a hint that something changed.  It is never waited for here: it is noted, the row is moved by compare-and-set, and
listeners are called.  Who must wait subscribes first and then reads `is_up`.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable

import structlog

from cumulet.core.db import Database
from cumulet.network.drivers.driver import NetworkDriver, PortEvent
from cumulet.network.store import ports

__all__ = ["Listener", "PortLevels"]

log = structlog.get_logger()

#: (port id, up); called on the thread that heard of it: note it and return
Listener = Callable[[str, bool], None]


class PortLevels:
    """The levels of all ports."""

    def __init__(
        self, db: Database, driver: NetworkDriver, *, post: Callable[[Callable[[], None]], None] | None = None
    ) -> None:
        self._db = db
        self._driver = driver
        self._post = post
        self._lock = threading.Lock()
        self._keys = itertools.count()
        self._listeners: dict[int, Listener] = {}
        #: whether a port is held down by a fault on demand; None where there are none
        self.held: Callable[[str], bool] | None = None
        self._stop = driver.subscribe(self._heard)

    def _heard(self, event: PortEvent) -> None:
        if self._post is None:
            self.port_status(event.port_id, event.up)
        else:
            # by the time it runs the level may be another: it is read then
            self._post(lambda: self.reread_port(event.port_id))

    def reread_port(self, port_id: str) -> None:
        self.port_status(port_id, self._driver.port_up(port_id))

    def port_status(self, port_id: str, up: bool) -> bool:
        """Record a level; whether it was news."""
        if up and self.held is not None and self.held(port_id):
            up = False
        status, was = ("ACTIVE", ["DOWN", "BUILD"]) if up else ("DOWN", ["ACTIVE", "BUILD"])
        with self._db.write() as tx:
            changed = ports.set_status(tx, port_id, status, was=was)
        if changed:
            self._tell(port_id, up)
        return bool(changed)

    def _tell(self, port_id: str, up: bool) -> None:
        with self._lock:
            listeners = tuple(self._listeners.values())
        for listener in listeners:
            try:
                listener(port_id, up)
            except Exception:  # one listener's mistake must not cost the others their news
                log.exception("port_listener_failed", port_id=port_id)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Be told of every change; the way to stop it."""
        with self._lock:
            key = next(self._keys)
            self._listeners[key] = listener

        def stop() -> None:
            with self._lock:
                self._listeners.pop(key, None)

        return stop

    def reread(self) -> int:
        """Read every port's level anew, as after a start or a reconnection; how many had changed."""
        with self._db.read() as tx:
            known = [(port.id, port.status) for port in ports.every(tx) if not port.device_owner.startswith("network:")]
        return sum(
            self.port_status(id, up) for id, status in known if (up := self._driver.port_up(id)) != (status == "ACTIVE")
        )

    def close(self) -> None:
        self._stop()
