"""The queues of a broker: RabbitMQ, over py-amqp as kombu wraps it.

    RabbitBus("amqp://user:password@host/vhost")

A channel of py-amqp belongs to one thread.  So there are two connections, each with a thread that alone touches it: one
sends, one receives (a broker short of memory stops reading from who sends; acknowledgements must still get through).
Other threads hand over and wait.  After a broken connection a thread connects again with back-off, declares everything
anew and sends again what the broker had not confirmed; so a message may come twice, which casts and calls must bear.

Queues are durable quorum queues named `cumulet.TOPIC`.  A cast returns when the broker has confirmed it.  A message is
acknowledged after its handler ran, a call's after its answer went out; what a dead consumer held goes to the next one.
Answers go to one exclusive queue per process, by correlation id; one that nobody waits for any more is dropped.
"""

import collections
import contextlib
import itertools
import queue
import selectors
import socket
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

import structlog
from kombu.connection import Connection

from cumulet.core import errors
from cumulet.core.bus.transport import Bus, BusTimeoutError, Serving
from cumulet.core.work import Worker

__all__ = ["RabbitBus"]

log = structlog.get_logger()

T = TypeVar("T")

PREFIX = "cumulet."
CONNECT_TIMEOUT_S = 5.0
#: how long a start waits for the broker before it says that there is none
START_TIMEOUT_S = 15.0
CLOSE_TIMEOUT_S = 5.0
HEARTBEAT_S = 10
#: a broker that takes this long to take or finish a frame is taken for dead
SOCKET_TIMEOUT_S = 10.0
BACK_OFF_FIRST_S = 0.1
BACK_OFF_MAX_S = 5.0
#: after a refusal: a queue that was just declared, or is full, may take the message soon
REFUSED_RETRY_S = 0.1
#: how long a send may wait for its confirmation, a broker's restart included
SEND_TIMEOUT_S = 30.0
#: how long an answer that could not be sent is kept
ANSWER_KEPT_S = 60.0
#: messages handed to a worker and not acknowledged yet
PREFETCH = 16
#: a message whose consumers died this often is given up; what it asked for stands in the database
DELIVERIES_MAX = 20
QUEUE_MESSAGES_MAX = 100_000
MESSAGE_BYTES_MAX = 16 * 1024 * 1024
_QUEUE = {
    "x-queue-type": "quorum",
    "x-delivery-limit": DELIVERIES_MAX,
    "x-max-length": QUEUE_MESSAGES_MAX,
    "x-overflow": "reject-publish",
}


class _Link:
    """One connection and the one thread that touches it.

    opened(channel): called after each connect; declares what must be there.  epoch counts the connects: a delivery tag
    means nothing on a later connection.
    """

    def __init__(self, name: str, url: str, *, opened: Callable[[Any], None]) -> None:
        self.channel: Any = None
        self.epoch = 0
        self._name = name
        self._url = url
        self._opened = opened
        self._acts: collections.deque[Callable[[], None]] = collections.deque()
        self._closing = threading.Event()
        self._worked = False
        #: the first connect: None, or why it failed
        self._first: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
        self._ears, self._mouth = socket.socketpair()
        self._ears.setblocking(False)
        self._mouth.setblocking(False)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Connect.  Raises Unavailable when there is no broker that lets us in."""
        self._thread.start()
        try:
            error = self._first.get(timeout=START_TIMEOUT_S)
        except queue.Empty:
            error = TimeoutError(f"no connection within {START_TIMEOUT_S} s")
        if error is not None:
            self.close()
            raise errors.Unavailable(f"The message broker cannot be used: {error}") from error

    def post(self, act: Callable[[], None]) -> None:
        """Run `act` on the connection's thread.  Forgotten if the connection breaks first: `opened` sees to it."""
        self._acts.append(act)
        # a full pipe wakes the thread as well; a closed one has nobody to wake
        with contextlib.suppress(BlockingIOError, OSError):
            self._mouth.send(b"\0")

    def close(self) -> None:
        self._closing.set()
        self.post(lambda: None)
        if self._thread.ident is not None:
            self._thread.join(CLOSE_TIMEOUT_S)
        self._mouth.close()
        self._ears.close()

    def _run(self) -> None:
        delay = BACK_OFF_FIRST_S
        while not self._closing.is_set():
            began = time.monotonic()
            try:
                self._connected()
            except Exception as error:  # noqa: BLE001 - whatever broke: a new connection is the cure, and this thread must live
                if self._closing.is_set():
                    break
                if not self._worked:
                    self._first.put(error)
                    break
                log.warning("broker connection lost", link=self._name, error=repr(error))
            self._acts.clear()
            if time.monotonic() - began > BACK_OFF_MAX_S:
                delay = BACK_OFF_FIRST_S
            self._closing.wait(delay)
            delay = min(delay * 2, BACK_OFF_MAX_S)

    def _connected(self) -> None:
        """From connect to the end of the connection."""
        options = {"read_timeout": SOCKET_TIMEOUT_S, "write_timeout": SOCKET_TIMEOUT_S}
        with contextlib.closing(_Connection(self._url, options)) as connection:
            self.channel = connection.channel()
            self.epoch += 1
            self._opened(self.channel)
            self._worked = True
            self._first.put(None)
            log.debug("broker connected", link=self._name, epoch=self.epoch)
            try:
                self._attend(connection)
            finally:
                self.channel = None
            connection.polite = True

    def _attend(self, connection: "_Connection") -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(connection.socket, selectors.EVENT_READ, "broker")
            selector.register(self._ears, selectors.EVENT_READ, "acts")
            while True:
                timeout = 0 if connection.buffered() else HEARTBEAT_S / 4
                ready = {key.data for key, _ in selector.select(timeout)}
                if "acts" in ready:
                    self._ears.recv(4096)
                    while self._acts:
                        self._acts.popleft()()
                    if self._closing.is_set():
                        return
                if "broker" in ready or connection.buffered():
                    connection.read()
                connection.heartbeat()


class _Connection:
    """A py-amqp connection, made by kombu from a URL."""

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        #: whether to say good-bye: a broken connection has nobody to say it to
        self.polite = False
        make: Any = Connection  # kombu is typed in part only
        self._kombu = make(url, heartbeat=HEARTBEAT_S, connect_timeout=CONNECT_TIMEOUT_S, transport_options=options)
        try:
            self._amqp = self._kombu.connect()
        except BaseException:
            self._kombu.collect()
            raise
        self.socket = self._amqp.sock

    def channel(self) -> Any:
        return self._amqp.channel()

    def buffered(self) -> bool:
        """Whether TLS holds bytes that the selector does not see."""
        pending = getattr(self.socket, "pending", None)
        return bool(pending and pending())

    def read(self) -> None:
        """One frame: `drain_events` would wait for a whole method, and heartbeats of the broker are none."""
        self._amqp.blocking_read(SOCKET_TIMEOUT_S)

    def heartbeat(self) -> None:
        self._amqp.heartbeat_tick()

    def close(self) -> None:
        if self.polite:
            # a broker that is gone meanwhile needs no good-bye
            with contextlib.suppress(*self._kombu.connection_errors, *self._kombu.channel_errors):
                self._kombu.close()
        self._kombu.collect()


class _RefusedError(errors.Unavailable):
    """The broker does not take a message now."""


class _Sending:
    """A message on its way, until the broker has confirmed it.  done(error): at its end."""

    __slots__ = ("deadline", "done", "epoch", "expires", "message", "queue")

    def __init__(
        self,
        queue: str,
        message: dict[str, Any],
        *,
        deadline: float,
        expires: bool,
        done: Callable[[Exception | None], None],
    ) -> None:
        self.queue = queue
        self.message = message
        self.deadline = deadline
        #: whether the broker may drop it after the deadline, too
        self.expires = expires
        self.done = done
        self.epoch = 0


class _Sender:
    """Sends in order, with publisher confirms, and again after a broken connection."""

    def __init__(self, url: str) -> None:
        self.link = _Link("bus-send", url, opened=self._opened)
        self._lock = threading.Lock()
        #: not confirmed yet, in order
        self._pending: dict[_Sending, None] = {}
        # the rest belongs to the link's thread
        self._declared: set[str] = set()
        self._by_tag: dict[int, _Sending] = {}
        self._tag = 0

    def add(self, sending: _Sending) -> None:
        with self._lock:
            self._pending[sending] = None
        self.link.post(lambda: self._publish(sending))

    def forget(self, sending: _Sending) -> bool:
        """Not to be sent again.  Whether it was unconfirmed until now."""
        with self._lock:
            if sending not in self._pending:
                return False
            del self._pending[sending]
            return True

    def close(self, error: Exception) -> None:
        self.link.close()
        with self._lock:
            left, self._pending = list(self._pending), {}
        for sending in left:
            sending.done(error)

    def _opened(self, channel: Any) -> None:
        channel.confirm_select()
        channel.events["basic_ack"].add(lambda tag, multiple: self._confirmed(tag, None, multiple=multiple))
        refused = _RefusedError(detail="the broker refused a message: its queue is full or has no majority")
        channel.events["basic_nack"].add(lambda tag, multiple: self._confirmed(tag, refused, multiple=multiple))
        self._declared.clear()
        self._by_tag.clear()
        self._tag = 0
        with self._lock:
            again = list(self._pending)
        for sending in again:
            self._publish(sending)

    def _publish(self, sending: _Sending) -> None:
        if sending.epoch == self.link.epoch:
            return
        remaining = sending.deadline - time.monotonic()
        if remaining <= 0:
            if self.forget(sending):
                sending.done(errors.Unavailable(detail="the broker was away for too long"))
            return
        channel = self.link.channel
        if sending.queue.startswith(PREFIX) and sending.queue not in self._declared:
            _declare(channel, sending.queue)
            self._declared.add(sending.queue)
        properties = dict(sending.message)
        body = properties.pop("body")
        if sending.expires:
            properties["expiration"] = str(max(1, int(remaining * 1000)))
        self._tag += 1
        sending.epoch = self.link.epoch
        self._by_tag[self._tag] = sending
        message = channel.prepare_message(body, content_type="application/msgpack", properties=properties)
        channel.basic_publish(message, exchange="", routing_key=sending.queue, timeout=SOCKET_TIMEOUT_S)

    def _confirmed(self, tag: int, error: Exception | None, *, multiple: bool) -> None:
        # tags are given in order, so that the first of the dictionary is the oldest
        tags = list(itertools.takewhile(lambda t: t <= tag, self._by_tag)) if multiple else [tag]
        for one in tags:
            sending = self._by_tag.pop(one, None)
            if sending is not None and self.forget(sending):
                sending.done(error)


class _Answers:
    """Who waits for which answer."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._waiting: dict[str, queue.SimpleQueue[bytes | Exception]] = {}

    def expect(self) -> tuple[str, "queue.SimpleQueue[bytes | Exception]"]:
        correlation = str(next(self._numbers))
        place: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()
        self._waiting[correlation] = place
        return correlation, place

    def forget(self, correlation: str) -> None:
        self._waiting.pop(correlation, None)

    def give(self, correlation: str | None, answer: bytes | Exception) -> None:
        place = self._waiting.pop(correlation or "", None)
        if place is not None:
            place.put(answer)

    def fail(self, error: Exception) -> None:
        for correlation in list(self._waiting):
            self.give(correlation, error)


class RabbitBus(Bus):
    """The transport over a broker."""

    def __init__(self, url: str) -> None:
        """Connect.  Raises errors.Unavailable when the broker cannot be used."""
        self._answers = _Answers()
        self._answer_queue = f"cumulet-answers.{uuid.uuid4()}"
        self._lock = threading.Lock()
        self._serving: dict[str, tuple[Serving, Worker]] = {}
        self._consumed: set[str] = set()
        self._closing = threading.Event()
        self._sender = _Sender(url)
        self._receiver = _Link("bus-receive", url, opened=self._opened)
        try:
            self._receiver.start()
            self._sender.link.start()
        except BaseException:
            self.close()
            raise

    def send(self, topic: str, method: str, payload: bytes) -> None:
        outcome: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
        deadline = time.monotonic() + SEND_TIMEOUT_S
        message = self._message(method, payload)
        sending = _Sending(_queue(topic), message, deadline=deadline, expires=False, done=outcome.put)
        error = self._send(sending, outcome)
        if isinstance(error, queue.Empty):
            raise errors.Unavailable(detail=f"{method} for {topic} not confirmed within {SEND_TIMEOUT_S} s")
        if isinstance(error, Exception):
            raise error

    def ask(self, topic: str, method: str, payload: bytes, timeout_s: float) -> bytes:
        correlation, place = self._answers.expect()
        message = {**self._message(method, payload), "reply_to": self._answer_queue, "correlation_id": correlation}

        def confirmed(error: Exception | None) -> None:
            if error is not None:
                place.put(error)

        deadline = time.monotonic() + timeout_s
        sending = _Sending(_queue(topic), message, deadline=deadline, expires=True, done=confirmed)
        try:
            answer = self._send(sending, place)
        finally:
            self._answers.forget(correlation)
        if isinstance(answer, queue.Empty):
            raise BusTimeoutError(detail=f"no answer to {method} from {topic} within {timeout_s} s")
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _send(self, sending: _Sending, outcome: "queue.SimpleQueue[T]") -> "T | queue.Empty":
        """Hand over a message and wait for its outcome, until its deadline; refused ones once more."""
        while True:
            self._sender.add(sending)
            try:
                got = outcome.get(timeout=max(0.0, sending.deadline - time.monotonic()))
            except queue.Empty as nothing:
                return nothing
            finally:
                self._sender.forget(sending)
            if not isinstance(got, _RefusedError) or time.monotonic() + REFUSED_RETRY_S > sending.deadline:
                return got
            sending.epoch = 0
            self._closing.wait(REFUSED_RETRY_S)

    def listen(self, topic: str, serving: Serving, worker: Worker) -> None:
        with self._lock:
            self._serving[_queue(topic)] = (serving, worker)
        self._receiver.post(lambda: self._consume(_queue(topic)))

    def close(self) -> None:
        """What workers hold and have not acknowledged goes back to the broker."""
        self._closing.set()
        error = errors.Unavailable(detail="the bus was closed")
        self._sender.close(error)
        self._receiver.close()
        self._answers.fail(error)

    def _message(self, method: str, payload: bytes) -> dict[str, Any]:
        if self._closing.is_set():
            raise errors.Unavailable(detail="the bus is closed")
        if len(payload) > MESSAGE_BYTES_MAX:
            raise errors.ServerFault(detail=f"{method}: a message of {len(payload)} bytes")
        return {"body": payload, "type": method, "delivery_mode": 2}

    # --- on the receiving thread ------------------------------------------------------------------------------------

    def _opened(self, channel: Any) -> None:
        channel.basic_qos(0, PREFETCH, False)
        channel.queue_declare(self._answer_queue, exclusive=True, auto_delete=False)
        channel.basic_consume(self._answer_queue, no_ack=True, callback=self._answered)
        self._consumed.clear()
        with self._lock:
            queues = list(self._serving)
        for name in queues:
            self._consume(name)

    def _answered(self, message: Any) -> None:
        self._answers.give(message.properties.get("correlation_id"), bytes(message.body))

    def _consume(self, name: str) -> None:
        if name in self._consumed:
            return
        channel, epoch = self._receiver.channel, self._receiver.epoch
        _declare(channel, name)
        serving, worker = self._serving[name]

        def arrived(message: Any) -> None:
            worker.post(lambda: self._handle(serving, message, epoch))

        channel.basic_consume(name, callback=arrived)
        self._consumed.add(name)

    # --- on a worker ------------------------------------------------------------------------------------------------

    def _handle(self, serving: Serving, message: Any, epoch: int) -> None:
        """Run a message's handler, answer, acknowledge."""
        if epoch != self._receiver.epoch or self._closing.is_set():
            return  # the broker has taken it back, and gives it out again
        properties, payload = message.properties, bytes(message.body)
        method, reply_to = properties.get("type", ""), properties.get("reply_to")

        def acknowledge(_: Exception | None = None) -> None:
            self._receiver.post(lambda: self._acknowledge(message.delivery_tag, epoch))

        if reply_to is None:
            serving.cast(method, payload)
            acknowledge()
            return
        answer = {"body": serving.call(method, payload), "correlation_id": properties.get("correlation_id")}
        self._sender.add(
            _Sending(reply_to, answer, deadline=time.monotonic() + ANSWER_KEPT_S, expires=False, done=acknowledge)
        )

    def _acknowledge(self, tag: int, epoch: int) -> None:
        if epoch == self._receiver.epoch:
            self._receiver.channel.basic_ack(tag)


def _queue(topic: str) -> str:
    return PREFIX + topic


def _declare(channel: Any, name: str) -> None:
    channel.queue_declare(name, durable=True, auto_delete=False, arguments=_QUEUE)
