"""The queues of one process: casts go to the serving worker's inbox, calls run on the caller's stack, both as bytes."""

import threading

from cumulet.core.bus.transport import Bus, BusTimeoutError, Serving
from cumulet.core.work import Worker

__all__ = ["LocalBus"]


class LocalBus(Bus):
    """The in-process transport."""

    def __init__(self) -> None:
        self._queues: dict[str, tuple[Serving, Worker]] = {}
        #: casts to a queue that nobody serves yet, kept as a broker would
        self._waiting: dict[str, list[tuple[str, bytes]]] = {}
        self._lock = threading.Lock()

    def send(self, topic: str, method: str, payload: bytes) -> None:
        with self._lock:
            there = self._queues.get(topic)
            if there is None:
                self._waiting.setdefault(topic, []).append((method, payload))
                return
            # under the lock: what waited for `listen` goes first
            serving, worker = there
            worker.post(lambda: serving.cast(method, payload))

    def ask(self, topic: str, method: str, payload: bytes, timeout_s: float) -> bytes:
        there = self._queues.get(topic)
        if there is None:
            raise BusTimeoutError(detail=f"nobody serves {topic}")
        return there[0].call(method, payload)

    def listen(self, topic: str, serving: Serving, worker: Worker) -> None:
        with self._lock:
            self._queues[topic] = (serving, worker)
            for method, payload in self._waiting.pop(topic, []):
                worker.post(lambda m=method, p=payload: serving.cast(m, p))  # type: ignore[misc]  # early binding

    def close(self) -> None:
        with self._lock:
            self._queues.clear()
