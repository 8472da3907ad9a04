"""Who wants to hear of port levels, and how they are told: shared by every data plane."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable

import structlog

from cumulet.network.drivers.driver import PortEvent

__all__ = ["PortEvents"]

_log = structlog.get_logger(__name__)


class PortEvents:
    """Subscribers, called one after the other on the thread that posts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._keys = itertools.count()
        self._callbacks: dict[int, Callable[[PortEvent], None]] = {}

    def subscribe(self, callback: Callable[[PortEvent], None]) -> Callable[[], None]:
        with self._lock:
            key = next(self._keys)
            self._callbacks[key] = callback

        def stop() -> None:
            with self._lock:
                self._callbacks.pop(key, None)

        return stop

    def post(self, event: PortEvent) -> None:
        with self._lock:
            callbacks = tuple(self._callbacks.values())
        for callback in callbacks:
            try:
                callback(event)
            except Exception:  # noqa: BLE001 - one subscriber's mistake must not cost the others their event
                _log.exception("port_event_subscriber_failed", port_id=event.port_id)

    def close(self) -> None:
        with self._lock:
            self._callbacks.clear()
