"""Queues between processes that die: a broker that keeps what nobody serves, and loses, doubles, delays what dice say."""

from collections.abc import Callable

from cumulet.core.bus.transport import Bus, BusTimeoutError, Serving
from cumulet.core.work import Worker
from cumulet.dev.chaos.agenda import Agenda, Life, within
from cumulet.dev.chaos.perils import Perils

__all__ = ["Exchange", "SimBus"]


class Exchange:
    """The broker: it outlives every process."""

    def __init__(self, agenda: Agenda, perils: Perils, died: Callable[[Life], None]) -> None:
        self.agenda = agenda
        self.perils = perils
        self.died = died
        self.queues: dict[str, tuple[Serving, Worker, Life]] = {}
        self._waiting: dict[str, list[tuple[str, bytes]]] = {}

    def deliver(self, topic: str, method: str, payload: bytes) -> None:
        if self.perils.swallows is not None and self.perils.swallows(topic, method):
            self.agenda.say(f"- {topic}.{method}")
            return
        there = self.queues.get(topic)
        if there is None or not there[2].alive:
            self._waiting.setdefault(topic, []).append((method, payload))
            return
        serving, worker, _ = there
        self.agenda.say(f"> {topic}.{method}")
        worker.post(lambda: serving.cast(method, payload))

    def listen(self, topic: str, serving: Serving, worker: Worker, life: Life) -> None:
        self.queues[topic] = (serving, worker, life)
        for method, payload in self._waiting.pop(topic, []):
            self.deliver(topic, method, payload)


class SimBus(Bus):
    """The broker, as one process sees it."""

    def __init__(self, exchange: Exchange, life: Life) -> None:
        self._exchange = exchange
        self._life = life

    def send(self, topic: str, method: str, payload: bytes) -> None:
        exchange, where = self._exchange, f"{topic}.{method}"
        exchange.perils.boundary(self._life, f"{where} before")
        for delay in exchange.perils.deliveries(where):
            exchange.agenda.at(delay, None, where, lambda: exchange.deliver(topic, method, payload))
        exchange.perils.boundary(self._life, f"{where} after")

    def ask(self, topic: str, method: str, payload: bytes, timeout_s: float) -> bytes:
        exchange, where = self._exchange, f"{topic}.{method}"
        perils = exchange.perils
        perils.boundary(self._life, f"{where} before")

        def lost() -> BusTimeoutError:
            return BusTimeoutError(detail=f"{where} was not answered")

        side = perils.side("call lost", where, perils.rates.call)
        there = exchange.queues.get(topic)
        if side == "before" or there is None:
            raise lost()
        serving, _, life = there
        if perils.late is not None and perils.late(self._life, where, lambda: serving.call(method, payload)):
            raise lost()
        answer: bytes = within(life, exchange.died, lambda: serving.call(method, payload), lost)
        perils.boundary(self._life, f"{where} after")
        if side == "after":
            raise lost()
        return answer

    def listen(self, topic: str, serving: Serving, worker: Worker) -> None:
        self._exchange.listen(topic, serving, worker, self._life)

    def close(self) -> None:
        """The broker stays."""
