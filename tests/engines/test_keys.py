"""Requests that come twice, on both engines and in two processes: one application with one kind of thing, and twins of every sort."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Column, MetaData, String, Table, func, select
from tests.http.harness import ApiClient, authenticate

from cumulet.core.clock import SystemClock, add_seconds
from cumulet.core.db import Database, open_database
from cumulet.core.errors import Conflict, NotFound
from cumulet.core.ids import SystemIds
from cumulet.core.keys import KEPT_S, Keys, key_table
from cumulet.core.policy import Policy, Rule
from cumulet.core.web import App, Call, Post, Request, Response
from cumulet.core.web.envelope import compute_error
from cumulet.core.work import Pools, Slow, Worker

WAIT_S = 20.0

METADATA = MetaData()
KEYS = key_table(METADATA)
THINGS = Table("things", METADATA, Column("id", String, primary_key=True), Column("name", String, unique=True))


class SteppedClock(SystemClock):
    """A clock that a test sets forward."""

    ahead_s = 0.0

    def now(self) -> str:
        return add_seconds(super().now(), self.ahead_s)


class Process:
    """One API process.  `before` runs in the handler before it writes, on a pool's thread."""

    def __init__(self, url: str, before: Callable[[], None] = lambda: None) -> None:
        self.db = open_database(url, "things", METADATA)
        self.db.create()
        self.before = before
        self.clock = SteppedClock()
        self.ids = SystemIds()
        self.keys = Keys(self.db, KEYS, self.clock)
        self.runs = 0
        self.app = App(
            "things",
            [Post("/things", self.create, may="make", again=self.again)],
            service=None,
            policy=Policy([Rule("make", "role:member")]),
            authenticate=authenticate,
            clock=self.clock,
            ids=self.ids,
            error=compute_error,
            keys=self.keys,
        )

    def create(self, call: Call) -> Any:
        """A thing with a name that nothing else has."""
        self.runs += 1
        yield Slow("calls", self.before)
        name = call.body["name"]
        with self.db.read() as tx:
            if tx.find(THINGS, {"name": name}) is not None:
                raise Conflict("There is one of that name.")
        thing = {"id": self.ids.uuid(), "name": name}
        with self.db.write() as tx:
            tx.insert(THINGS, thing)
            if call.key is not None:
                call.key.keep(tx, [thing["id"]])
        return {**thing, "secret": "shown once"}

    def again(self, call: Call, ids: list[str]) -> Any:
        with self.db.read() as tx:
            found = tx.find(THINGS, {"id": ids[0]})
        if found is None:
            raise NotFound
        return found

    def post(self, key: str | None, name: str = "a", token: str = "member") -> Any:
        headers = {} if key is None else {"idempotency-key": key}
        return ApiClient(self.app, token).post("/things", {"name": name}, headers=headers)

    def count(self) -> int:
        with self.db.read() as tx:
            return int(tx.value(select(func.count()).select_from(THINGS)))


@pytest.fixture
def start(database_url: str) -> Iterator[Callable[..., Process]]:
    """Starts processes on one database."""
    made: list[Process] = []

    def process(before: Callable[[], None] = lambda: None) -> Process:
        made.append(Process(database_url, before))
        return made[-1]

    yield process
    for one in made:
        one.db.close()


def test_a_second_request_is_answered_from_the_first_ones_object(start: Callable[..., Process]) -> None:
    """The same thing and status, said to be a replay, without what is shown once; in another process too; other keys make others."""
    process, other = start(), start()
    first, again, elsewhere = process.post("k"), process.post("k"), other.post("k")
    assert first.status == again.status == elsewhere.status == 201
    assert first.json["secret"] == "shown once"
    assert again.json == elsewhere.json == {"id": first.json["id"], "name": "a"}
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert process.post("k2", "b").json["id"] != first.json["id"]
    assert (process.runs, other.runs, process.count()) == (2, 0, 2)


def test_another_body_with_the_same_key_is_refused(start: Callable[..., Process]) -> None:
    """409 in clear words, nothing is made; the order of a body's attributes means nothing."""
    process = start()
    process.post("k")
    refused = process.post("k", "b")
    assert refused.status == 409
    assert "used before, with another request body" in refused.json["conflictingRequest"]["message"]
    assert process.count() == 1


def test_a_key_is_the_callers_own(start: Callable[..., Process]) -> None:
    """Another user with the same key makes a thing of its own."""
    process = start()
    assert process.post("k").status == 201
    assert process.post("k", "b", token="other").status == 201
    assert process.count() == 2


def test_neither_key_nor_body_is_stored(start: Callable[..., Process]) -> None:
    """The row holds digests, the object's id and a time."""
    process = start()
    thing = process.post("the-key", "the-name").json["id"]
    with process.db.read() as tx:
        (row,) = tx.find_all(KEYS, {})
    assert row["ids"] == [thing]
    assert "the-key" not in str(row)
    assert "the-name" not in str(row)


def test_a_refused_request_leaves_no_key(start: Callable[..., Process]) -> None:
    """After a 409 of the handler's own the key may be used for another body."""
    process = start()
    process.post(None, "taken")
    assert process.post("k", "taken").json["conflictingRequest"]["message"] == "There is one of that name."
    assert process.post("k", "free").status == 201


def test_what_is_gone_is_not_made_again(start: Callable[..., Process]) -> None:
    """409 in clear words."""
    process = start()
    thing = process.post("k").json["id"]
    with process.db.write() as tx:
        tx.delete(THINGS, {"id": thing})
    refused = process.post("k")
    assert refused.status == 409
    assert "is gone" in refused.json["conflictingRequest"]["message"]
    assert process.count() == 0


@pytest.mark.parametrize("key", ["", " ", "a b", "ä", "x" * 256, "tab\t"])
def test_a_key_that_is_none_is_refused(start: Callable[..., Process], key: str) -> None:
    """400, and nothing is made."""
    process = start()
    assert process.post(key).status == 400
    assert process.post("x" * 255).status == 201
    assert process.count() == 1


def test_keys_are_forgotten_after_a_day(start: Callable[..., Process]) -> None:
    """A key younger than 24 hours stays; an older one is removed, and its key is free."""
    process = start()
    old = process.post("old", "a").json["id"]
    process.clock.ahead_s = KEPT_S - 60
    process.post("young", "b")
    assert process.keys.forget() is False
    assert process.post("old", "a").json["id"] == old
    process.clock.ahead_s = KEPT_S + 60
    process.keys.forget()
    assert process.post("old", "c").status == 201
    assert process.post("young", "b").headers["idempotent-replayed"] == "true"


def test_many_old_keys_go_in_pieces(start: Callable[..., Process]) -> None:
    """A bounded number in one transaction, and the caller is told that there are more."""
    process = start()
    with process.db.write() as tx:
        row = {"body": "", "ids": [], "created_at": add_seconds(process.clock.now(), -2 * KEPT_S)}
        tx.insert_many(KEYS, [{**row, "digest": str(number)} for number in range(1500)])
    assert process.keys.forget() is True
    assert process.keys.forget() is False
    with process.db.read() as tx:
        assert tx.find_all(KEYS, {}) == []


def test_a_twin_waits_on_the_dispatcher_for_the_one_that_runs(start: Callable[..., Process]) -> None:
    """Twenty requests on one thread while the first is parked: the handler runs once, and all are answered with its thing."""
    opened = threading.Event()
    process = start(lambda: opened.wait(WAIT_S) and None)
    pools = Pools({"calls": (1, 0)})  # no room for a second: a twin takes none
    worker = Worker("api", clock=process.clock, pools=pools)
    worker.start()
    answers: list[Future[Response]] = [Future() for _ in range(20)]

    def dispatch(answer: Future[Response]) -> None:
        headers = {"x-auth-token": "member", "idempotency-key": "k"}
        result = process.app.begin(Request("POST", "/things", headers=headers, json={"name": "a"}))
        assert not isinstance(result, Response)
        worker.go_on(result, lambda value, error: answer.set_exception(error) if error else answer.set_result(value))

    for answer in answers:
        worker.post(lambda answer=answer: dispatch(answer))  # type: ignore[misc]  # early binding
    begun = threading.Event()
    worker.post(begun.set)
    assert begun.wait(WAIT_S)
    assert not any(answer.done() for answer in answers)
    opened.set()
    ids = {answer.result(WAIT_S).body["id"] for answer in answers}
    assert (len(ids), process.runs, process.count()) == (1, 1, 1)
    worker.stop()
    pools.close()


def test_a_twin_of_a_refused_request_is_run_itself(start: Callable[..., Process]) -> None:
    """Sixteen threads at once, the first of which is refused: one thing is made, and nobody else is refused."""
    refusals = iter([True])

    def refuse_once() -> None:
        if next(refusals, False):
            raise Conflict("Not now.")

    process = start(refuse_once)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: process.post("k"), range(16)))
    assert sorted(answer.status for answer in answers) == [201] * 15 + [409]
    assert len({answer.json["id"] for answer in answers if answer.status == 201}) == 1
    assert (process.runs, process.count()) == (2, 1)


def test_two_processes_at_once_make_one_thing(start: Callable[..., Process]) -> None:
    """Both have seen no key and write at once: the table decides, and the loser answers with the winner's thing."""
    barrier = threading.Barrier(2, timeout=WAIT_S)
    processes = [start(lambda: barrier.wait() and None) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda process: process.post("k"), processes))
    assert [answer.status for answer in answers] == [201, 201]
    assert len({answer.json["id"] for answer in answers}) == 1
    assert processes[0].count() == 1


def test_one_that_is_refused_because_of_its_twin_is_answered_like_it(start: Callable[..., Process]) -> None:
    """It had begun before its twin in another process was done, and then finds the name taken, by its own thing."""
    first = start()
    second = start(lambda: first.post("k") and None)
    answer = second.post("k")
    assert answer.status == 201
    assert answer.headers["idempotent-replayed"] == "true"
    assert answer.json["id"] == first.post("k").json["id"]
    assert (first.runs, second.runs, first.count()) == (1, 1, 1)


def test_a_route_that_may_be_repeated_needs_a_place_for_its_keys(database: Callable[[MetaData], Database]) -> None:
    """Found when the application is made."""
    row = Post("/things", lambda _: None, may="make", again=lambda *_: None)
    rules = Policy([Rule("make", "role:member")])
    more: dict[str, Any] = {"authenticate": authenticate, "clock": SystemClock(), "ids": SystemIds()}
    with pytest.raises(LookupError):
        App("things", [row], service=None, policy=rules, error=compute_error, **more)
