"""An answer waits until no loss of power can take back what it promises, and nobody else waits with it."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, MetaData, String, Table
from tests.http.harness import authenticate

from cumulet.core.clock import SystemClock
from cumulet.core.db import Database, deferring, open_database
from cumulet.core.errors import Conflict
from cumulet.core.ids import SystemIds
from cumulet.core.policy import Policy, Rule
from cumulet.core.web import App, Call, Get, Post, Request, Response
from cumulet.core.web.envelope import compute_error
from cumulet.core.work import Pools, Worker

WAIT_S = 10.0
METADATA = MetaData()
THINGS = Table("things", METADATA, Column("id", String, primary_key=True))


class Disk:
    """Counts the syncs, and holds them back while `ready` is not set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.syncs = 0
        self.asked, self.ready = threading.Event(), threading.Event()
        self.ready.set()
        really = os.fdatasync

        def sync(file: int) -> None:
            self.asked.set()
            assert self.ready.wait(WAIT_S)
            really(file)
            self.syncs += 1

        monkeypatch.setattr(os, "fdatasync", sync)


class Service:
    """One kind of thing, made durably; what follows a commit is written into `told`."""

    def __init__(self, folder: Path, pools: Pools) -> None:
        self.db = open_database(f"sqlite://{folder}", "things", METADATA)
        self.db.create()
        self.told: list[str] = []
        self.worker = Worker("api", clock=SystemClock(), pools=pools)
        self.app = App(
            "things",
            [Post("/things", self.create, may="make"), Get("/things", self.look, may="make")],
            service=None,
            policy=Policy([Rule("make", "role:member")]),
            authenticate=authenticate,
            clock=SystemClock(),
            ids=SystemIds(),
            error=compute_error,
        )

    def create(self, call: Call) -> Any:
        make(self.db, call.body["id"], self.told)
        if call.body.get("then_fail"):
            raise Conflict("Too late.")
        return {"id": call.body["id"]}

    def look(self, call: Call) -> Any:
        return {}

    def ask(self, method: str, body: Any = None) -> "Asked":
        asked = Asked(Request(method, "/things", headers={"x-auth-token": "member"}, json=body))

        def dispatch() -> None:
            result = self.app.begin(asked.request)
            if isinstance(result, Response):
                asked.settle(result, None)
            else:
                self.worker.go_on(result, asked.settle)

        self.worker.post(dispatch)
        return asked


class Asked:
    """A request under way."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.response: Response | None = None
        self._settled = threading.Event()

    def settle(self, response: Response | None, error: BaseException | None) -> None:
        assert error is None
        self.response = response
        self._settled.set()

    @property
    def answered(self) -> bool:
        return self._settled.is_set()

    def answer(self) -> Response:
        assert self._settled.wait(WAIT_S)
        assert self.response is not None
        return self.response


def make(db: Database, id: str, told: list[str]) -> None:
    """A durable commit, and what follows it."""
    with db.write() as tx:
        tx.insert(THINGS, {"id": id})
        tx.durable = True
        tx.after_commit.append(lambda: told.append(id))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """The disk under every database of the test."""
    return Disk(monkeypatch)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """The service, with a dispatcher."""
    pools = Pools({"syncs": (2, 10)})
    one = Service(tmp_path, pools)
    one.worker.start()
    yield one
    one.worker.stop()
    pools.close()
    one.db.close()


def test_a_durable_answer_waits_for_the_disk_and_others_do_not(service: Service, disk: Disk) -> None:
    """While the log is synced, the dispatcher answers; nothing begins before, and what begins does so after the answer."""
    disk.ready.clear()
    made = service.ask("POST", {"id": "a"})
    assert disk.asked.wait(WAIT_S)
    assert service.ask("GET").answer().status == 200
    assert not made.answered
    assert service.told == []
    disk.ready.set()
    response = made.answer()
    assert (response.status, response.body) == (201, {"id": "a"})
    assert service.told == []
    for act in response.then:
        act()
    assert service.told == ["a"]


def test_who_waits_shares_a_sync(service: Service, disk: Disk) -> None:
    """Of commits that wait while one is synced, all are in the next sync."""
    disk.ready.clear()
    first = service.ask("POST", {"id": "a"})
    assert disk.asked.wait(WAIT_S)
    others = [service.ask("POST", {"id": id}) for id in "bcde"]
    service.ask("GET").answer()  # the dispatcher has taken them all
    disk.ready.set()
    assert [one.answer().status for one in [first, *others]] == [201] * 5
    assert disk.syncs == 2


def test_a_full_pool_refuses_no_commit(tmp_path: Path, disk: Disk) -> None:
    """What is committed is answered and told, if need be after a sync on the dispatcher."""
    pools = Pools({"syncs": (1, 0)})
    service = Service(tmp_path, pools)
    disk.ready.clear()
    service.worker.start()
    first = service.ask("POST", {"id": "a"})
    assert disk.asked.wait(WAIT_S)
    second = service.ask("POST", {"id": "b"})
    disk.ready.set()
    assert (first.answer().status, second.answer().status) == (201, 201)
    assert [len(one.answer().then) for one in (first, second)] == [1, 1]
    service.worker.stop()
    pools.close()
    service.db.close()


def test_a_handler_that_fails_after_its_commit_has_told_it(service: Service, disk: Disk) -> None:
    """Synced and told before the error is answered."""
    response = service.ask("POST", {"id": "a", "then_fail": True}).answer()
    assert response.status == 409
    assert service.told == ["a"]
    assert disk.syncs == 1


def test_a_door_answers_when_all_is_done(service: Service, disk: Disk) -> None:
    """On the caller's stack there is nobody to go on later."""
    request = Request("POST", "/things", headers={"x-auth-token": "member"}, json={"id": "a"})
    assert service.app.handle(request).status == 201
    assert service.told == ["a"]
    assert disk.syncs == 1


def test_a_commit_within_a_sync_has_its_own(service: Service, disk: Disk) -> None:
    """A sync that began before a commit does not count for it; a later one counts for all before."""
    with deferring() as commits:
        make(service.db, "a", service.told)
        make(service.db, "b", service.told)
    early, late = commits
    assert early.sync is not None
    assert late.sync is not None
    early.sync()
    late.sync()
    assert disk.syncs == 1
    with deferring() as commits:
        make(service.db, "c", service.told)
    assert commits[0].sync is not None
    commits[0].sync()
    assert disk.syncs == 2
