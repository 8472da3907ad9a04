"""What both transports promise: the queues of one process, and RabbitMQ's."""

import contextlib
import queue
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Column, Integer, MetaData, Table

from cumulet.core.bus import Bus, BusTimeoutError, Interface, LocalBus, call, cast
from cumulet.core.bus.transport import RemoteCallError, Serving
from cumulet.core.clock import SystemClock
from cumulet.core.db import open_database
from cumulet.core.errors import Conflict, Unavailable
from cumulet.core.work import Pools, Worker
from cumulet.dev.engines import PrivateRabbitMQ

WAIT_S = 10
AFTER_RESTART_S = 180


class Thing(msgspec.Struct, frozen=True):
    name: str
    sizes: list[int]


class FullError(Conflict):
    default = "No room left."


class Shelf(Interface, topic="shelf.{host}"):
    """A made-up interface."""

    @call
    def double(self, thing: Thing, times: int) -> Thing:
        raise NotImplementedError

    @call(timeout_s=0.2)
    def slow(self) -> None:
        raise NotImplementedError

    @call
    def refuse(self, why: str) -> None:
        raise NotImplementedError

    @call
    def break_down(self) -> None:
        raise NotImplementedError

    @cast
    def put(self, number: int) -> None:
        raise NotImplementedError


class Implementation(Shelf):
    """Writes down what arrives."""

    def __init__(self) -> None:
        self.came: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.go_on = threading.Event()
        self.go_on.set()

    def double(self, thing: Thing, times: int) -> Thing:
        return Thing(thing.name * times, [size * times for size in thing.sizes])

    def slow(self) -> None:
        self.go_on.wait(WAIT_S)

    def refuse(self, why: str) -> None:
        raise FullError(why, detail="shelf 7")

    def break_down(self) -> None:
        raise ZeroDivisionError("secret words")

    def put(self, number: int) -> None:
        self.came.put(number)
        self.go_on.wait(WAIT_S)
        if number < 0:
            raise ValueError(number)

    def take(self, count: int) -> list[int]:
        return [self.came.get(timeout=WAIT_S) for _ in range(count)]


@pytest.fixture
def worker() -> Iterator[Callable[[str], Worker]]:
    """Makes workers; they end with the test."""
    made: list[Worker] = []

    def make(name: str = "worker") -> Worker:
        made.append(Worker(name, clock=SystemClock(), pools=Pools({})))
        made[-1].start()
        return made[-1]

    yield make
    for one in made:
        one.stop()


@pytest.fixture(params=["local", pytest.param("rabbitmq", marks=pytest.mark.engines("rabbitmq"))])
def bus(request: pytest.FixtureRequest) -> Iterator[Bus]:
    """Each transport in turn."""
    made: Bus
    if request.param == "local":
        made = LocalBus()
    else:
        from cumulet.core.bus.rabbit import RabbitBus

        made = RabbitBus(request.getfixturevalue("rabbitmq_url"))
    with contextlib.closing(made):
        yield made


@pytest.fixture
def shelf(bus: Bus, worker: Callable[[str], Worker]) -> Implementation:
    """A shelf served on host a."""
    implementation = Implementation()
    bus.serve(Shelf, implementation, worker("shelf"), host="a")
    return implementation


@pytest.fixture
def rabbit(rabbitmq_url: str) -> Iterator[Callable[[], Any]]:
    """Makes buses on one broker; they are closed with the test."""
    from cumulet.core.bus.rabbit import RabbitBus

    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(contextlib.closing(RabbitBus(rabbitmq_url)))


def test_a_call_is_answered(bus: Bus, shelf: Implementation) -> None:
    """Structs go there and come back as structs."""
    answer = bus.client(Shelf, host="a").double(Thing("ab", [1, 2]), 2)
    assert answer == Thing("abab", [2, 4])


def test_many_threads_get_their_own_answers(bus: Bus, shelf: Implementation) -> None:
    """Answers are not mixed up among callers."""
    wrong: list[int] = []

    def ask(number: int) -> None:
        client = bus.client(Shelf, host="a")
        wrong.extend(n for n in range(20) if client.double(Thing("", [n]), number).sizes != [n * number])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]  # noqa: TID251 - another caller
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
        assert not thread.is_alive()
    assert wrong == []


def test_an_error_crosses_with_its_class_its_words_and_its_detail(bus: Bus, shelf: Implementation) -> None:
    """What the other side raised is raised here, status included."""
    with pytest.raises(FullError) as raised:
        bus.client(Shelf, host="a").refuse("It is full.")
    assert (raised.value.message, raised.value.detail, raised.value.status) == ("It is full.", "shelf 7", 409)


def test_an_unknown_error_crosses_without_its_words(bus: Bus, shelf: Implementation) -> None:
    """A defect of the other side is a server fault here; its text is for the operator only."""
    with pytest.raises(RemoteCallError) as raised:
        bus.client(Shelf, host="a").break_down()
    assert "secret" not in raised.value.message
    assert "secret words" in (raised.value.detail or "")


def test_casts_arrive_in_order(bus: Bus, shelf: Implementation) -> None:
    """One sender's casts to one queue run in the order in which they were sent."""
    client = bus.client(Shelf, host="a")
    for number in range(50):
        client.put(number)
    assert shelf.take(50) == list(range(50))


def test_a_failing_cast_holds_up_nothing(bus: Bus, shelf: Implementation) -> None:
    """It is logged, and the next one runs."""
    client = bus.client(Shelf, host="a")
    client.put(-1)
    bus.send("shelf.a", "no_such_method", b"")
    client.put(1)
    assert shelf.take(2) == [-1, 1]


def test_a_cast_waits_for_who_will_serve_the_queue(bus: Bus, worker: Callable[[str], Worker]) -> None:
    """Casts to a queue that nobody serves yet are kept, in order."""
    client = bus.client(Shelf, host="later")
    for number in range(3):
        client.put(number)
    implementation = Implementation()
    bus.serve(Shelf, implementation, worker("later"), host="later")
    client.put(3)
    assert implementation.take(4) == [0, 1, 2, 3]


def test_queues_are_apart(bus: Bus, shelf: Implementation, worker: Callable[[str], Worker]) -> None:
    """A message goes to the host it names."""
    other = Implementation()
    bus.serve(Shelf, other, worker("other"), host="b")
    bus.client(Shelf, host="b").put(2)
    bus.client(Shelf, host="a").put(1)
    assert (shelf.take(1), other.take(1)) == ([1], [2])


def test_a_call_that_nobody_answers_times_out(bus: Bus) -> None:
    """It raises BusTimeoutError, which an API shows as 503."""
    with pytest.raises(BusTimeoutError) as raised:
        bus.client(Shelf, host="nobody").slow()
    assert raised.value.status == 503


def test_a_call_inside_an_open_transaction_is_refused(bus: Bus, shelf: Implementation, tmp_path: Path) -> None:
    """It could wait for the very lock that the transaction holds."""
    metadata = MetaData()
    Table("things", metadata, Column("id", Integer, primary_key=True))
    with contextlib.closing(open_database(f"sqlite://{tmp_path}", "things", metadata)) as database:
        client = bus.client(Shelf, host="a")
        with database.write(), pytest.raises(RuntimeError, match="inside an open transaction"):
            client.double(Thing("", []), 1)
        with database.read(), pytest.raises(RuntimeError, match="inside an open transaction"):
            client.put(1)
        assert client.double(Thing("a", []), 1) == Thing("a", [])


def test_the_bytes_are_the_same_on_both(bus: Bus, worker: Callable[[str], Worker]) -> None:
    """A message's bytes do not depend on the transport: the arguments as MessagePack."""
    seen: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()

    class Recording(Serving):
        def cast(self, method: str, payload: bytes) -> None:
            seen.put((method, payload))

        def call(self, method: str, payload: bytes) -> bytes:
            seen.put((method, payload))
            return super().call(method, payload)

    bus.listen("shelf.a", Recording(Shelf, Implementation()), worker("recording"))
    client = bus.client(Shelf, host="a")
    client.put(7)
    client.double(Thing("x", [1]), 3)
    got = [seen.get(timeout=WAIT_S) for _ in range(2)]
    # a call overtakes a cast in this process: it runs on the caller's stack
    assert sorted(got) == [
        ("double", b"\x82\xa5thing\x82\xa4name\xa1x\xa5sizes\x91\x01\xa5times\x03"),
        ("put", b"\x81\xa6number\x07"),
    ]


def test_a_late_answer_is_dropped(rabbit: Callable[[], Any], worker: Callable[[str], Worker]) -> None:
    """The caller gave up; the answer that comes later disturbs nobody, and the next call gets its own."""
    bus, implementation = rabbit(), Implementation()
    implementation.go_on.clear()
    bus.serve(Shelf, implementation, worker("slow"), host="a")
    client = bus.client(Shelf, host="a")
    with pytest.raises(BusTimeoutError):
        client.slow()
    implementation.go_on.set()
    assert client.double(Thing("a", [1]), 2) == Thing("aa", [2])
    assert bus._answers._waiting == {}


def test_a_closed_bus_refuses(rabbit: Callable[[], Any]) -> None:
    """Whoever waits is told at once, and so is whoever comes later; closing twice is harmless."""
    bus = rabbit()
    outcome: queue.SimpleQueue[BaseException] = queue.SimpleQueue()

    def ask() -> None:
        try:
            bus.client(Shelf, host="nobody").double(Thing("", []), 1)
        except Unavailable as error:
            outcome.put(error)

    asking = threading.Thread(target=ask)  # noqa: TID251 - another caller
    asking.start()
    bus.client(Shelf, host="b").put(1)  # after this the question has been handed over as well, or meets a closed bus
    bus.close()
    assert not isinstance(outcome.get(timeout=WAIT_S), BusTimeoutError)
    asking.join(WAIT_S)
    with pytest.raises(Unavailable):
        bus.client(Shelf, host="b").put(2)
    bus.close()


def test_a_broker_that_lets_nobody_in_is_named_at_the_start(rabbitmq: PrivateRabbitMQ, rabbitmq_url: str) -> None:
    """A wrong password ends the start with words, and without the password."""
    from cumulet.core.bus.rabbit import RabbitBus

    with pytest.raises(Unavailable, match="ACCESS_REFUSED") as raised:
        RabbitBus(rabbitmq_url.replace(rabbitmq.password, "wrong-secret"))
    assert "wrong-secret" not in str(raised.value)


def test_what_a_dead_consumer_held_goes_to_the_next(rabbit: Callable[[], Any], worker: Callable[[str], Worker]) -> None:
    """A cast is acknowledged after its handler ran, so one whose process died midway is given out again."""
    first, second, sender = rabbit(), rabbit(), rabbit()
    dying, living = Implementation(), Implementation()
    dying.go_on.clear()
    first.serve(Shelf, dying, worker("dying"), host="a")
    client = sender.client(Shelf, host="a")
    for number in (1, 2):
        client.put(number)
    assert dying.take(1) == [1]
    first.close()
    second.serve(Shelf, living, worker("living"), host="a")
    assert living.take(2) == [1, 2]
    dying.go_on.set()


def test_a_broken_connection_repeats_only_what_had_begun(
    rabbit: Callable[[], Any], worker: Callable[[str], Worker]
) -> None:
    """The one at work runs again; those that waited behind it on the worker run once, in order."""
    bus, implementation = rabbit(), Implementation()
    implementation.go_on.clear()
    bus.serve(Shelf, implementation, worker("shelf"), host="a")
    client = bus.client(Shelf, host="a")
    for number in range(5):
        client.put(number)
    assert implementation.take(1) == [0]
    _cut(bus._receiver)
    assert _wait_for(lambda: bus._receiver.epoch == 2 and bus._receiver.channel is not None)
    implementation.go_on.set()
    assert implementation.take(5) == [0, 1, 2, 3, 4]
    assert implementation.came.empty()


def test_a_broken_sending_connection_loses_nothing(rabbit: Callable[[], Any], worker: Callable[[str], Worker]) -> None:
    """A cast during the break returns when the broker has it, and a call is answered."""
    bus, implementation = rabbit(), Implementation()
    bus.serve(Shelf, implementation, worker("shelf"), host="a")
    client = bus.client(Shelf, host="a")
    client.put(1)
    _cut(bus._sender.link)
    client.put(2)
    assert client.double(Thing("a", []), 1) == Thing("a", [])
    came = implementation.take(2)
    assert came == [1, 2]


@pytest.mark.slow
def test_a_brokers_restart_delays_and_loses_nothing(
    rabbitmq: PrivateRabbitMQ, rabbit: Callable[[], Any], worker: Callable[[str], Worker]
) -> None:
    """Casts kept by the broker, casts and calls sent while it is away: all arrive, and the old consumers get them."""
    receiver, sender = rabbit(), rabbit()
    served, late = Implementation(), Implementation()
    receiver.serve(Shelf, served, worker("shelf"), host="a")
    kept, live = sender.client(Shelf, host="late"), sender.client(Shelf, host="a")
    kept.put(1)
    live.put(1)
    assert served.take(1) == [1]
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def meanwhile() -> None:
        try:
            live.put(2)
            kept.put(2)
            answers.put(live.double(Thing("a", []), 2))
        except Unavailable as error:
            answers.put(error.detail)

    thread = threading.Thread(target=meanwhile)  # noqa: TID251 - another caller
    # in order: killed within seconds of a queue's declaration, RabbitMQ 3.10 forgets the queue's log
    rabbitmq._daemon.stop()
    thread.start()
    rabbitmq._daemon = rabbitmq._start()
    assert answers.get(timeout=AFTER_RESTART_S) == Thing("aa", [])
    thread.join(WAIT_S)
    assert served.take(1) == [2]
    receiver.serve(Shelf, late, worker("late"), host="late")
    assert late.take(2) == [1, 2]


def test_a_send_that_nobody_confirms_is_unavailable(
    rabbitmq: PrivateRabbitMQ, rabbit: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that hangs: the sender is told within its bound, and what it gave up is not sent later."""
    monkeypatch.setattr("cumulet.core.bus.rabbit.SEND_TIMEOUT_S", 0.5)
    bus = rabbit()
    rabbitmq.pause()
    try:
        with pytest.raises(Unavailable, match="not available"):
            bus.client(Shelf, host="a").put(1)
    finally:
        rabbitmq.resume()
    assert bus._sender._pending == {}


def _cut(link: Any) -> None:
    """Break a connection as a failing network would."""
    selected = next(
        channel.connection for channel in [link.channel] if channel is not None and channel.connection is not None
    )
    selected.sock.shutdown(socket.SHUT_RDWR)


def _wait_for(condition: Callable[[], bool]) -> bool:
    waited = threading.Event()
    for _ in range(WAIT_S * 100):
        if condition():
            return True
        waited.wait(0.01)
    return False
