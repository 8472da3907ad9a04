"""`./dev watch-proof`: the event stream loses, doubles and reorders nothing.

Servers are launched and deleted in a simulated cloud.  Two readers look on: one whose connection holds, and one whose connection is
dropped at random moments, in the middle of a message too, and who comes back with the last number it has seen whole.  What either of them
saw is compared with the other, with the cloud's own log of each launch, and with the databases after the cloud's end.
"""

from __future__ import annotations

import http.client
import json
import random
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from sqlalchemy import MetaData, func, select

from cumulet.core.db import add_outbox, open_database
from cumulet.dev.bench.limits import server_body
from cumulet.dev.cloud import CloudFailed, RunningCloud, Session
from cumulet.events.tables import EVENTS, METADATA
from cumulet.launch.flow import ROWS

__all__ = ["Onlooker", "dense", "every_event_once", "run"]

_WAVE = 20
_WAIT_S = 60.0
_PAUSE_MAX_S = 0.05
#: how much of the stream is read at most before a connection that was to be dropped is
_BYTES_MAX = 6000
#: or how long is waited for it
_QUIET_S = 0.1
_VERSION = {"OpenStack_API_Version": "compute 2.96"}


class Onlooker:
    """Reads a project's stream in a thread of its own.  `drop` makes it lose its connection."""

    def __init__(self, session: Session, *, rng: random.Random, query: str = "") -> None:
        parts = urlsplit(session.auth_url)
        self._address = (str(parts.hostname), int(parts.port or 80))
        self._token = session.token
        self._query = query
        self._rng = rng
        self.events: list[dict[str, Any]] = []
        self.last: int | None = None
        self.connections = 0
        self.failure: str | None = None
        self._begun = threading.Event()
        self._news = threading.Condition()
        self._to_drop = False
        self._closing = False
        self._socket: socket.socket | None = None
        self._thread = threading.Thread(target=self._read, name="onlooker", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._begun.wait(_WAIT_S):
            raise CloudFailed(f"the event stream does not begin: {self.failure}")
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        self.drop_now()
        self._thread.join(_WAIT_S)

    def drop(self) -> None:
        """Lose the connection after some more of what comes."""
        self._to_drop = True

    def drop_now(self) -> None:
        """Lose the connection, wherever it is."""
        connection = self._socket
        if connection is not None:
            with suppress(OSError):  # it is lost already
                connection.shutdown(socket.SHUT_RDWR)

    def wait_for(self, what: str, *, count: int, kind: str, change: str, **data: Any) -> list[dict[str, Any]]:
        """The first `count` events like this, once they are there.  Raises CloudFailed."""

        def found() -> list[dict[str, Any]]:
            return [
                event
                for event in self.events
                if event["kind"] == kind and event["change"] == change and data.items() <= event["data"].items()
            ]

        with self._news:
            if not self._news.wait_for(lambda: self.failure or len(found()) >= count, _WAIT_S) or self.failure:
                raise CloudFailed(
                    f"not seen within {_WAIT_S:.0f} s: {what} ({len(found())} of {count}); {self.failure}"
                )
        return found()

    def _read(self) -> None:
        pause = threading.Event()
        try:
            while not self._closing:
                with suppress(OSError, http.client.HTTPException):  # dropped, or the cloud's end
                    self._connection()
                pause.wait(self._rng.uniform(0, _PAUSE_MAX_S))
        except Exception as error:  # noqa: BLE001 - told to whoever waits for events
            self.failure = repr(error)
            with self._news:
                self._news.notify_all()

    def _connection(self) -> None:
        connection = http.client.HTTPConnection(*self._address, timeout=_WAIT_S)
        headers = {"X-Auth-Token": self._token}
        if self.last is not None:
            headers["Last-Event-ID"] = str(self.last)
        try:
            connection.request("GET", f"/events?{self._query}", headers=headers)
            self._socket = connection.sock
            answer = connection.getresponse()
            if answer.status != 200:
                raise CloudFailed(f"{answer.status} {answer.read()!r}")
            self.connections += 1
            content, left = b"", None
            while not self._closing:
                if self._to_drop and left is None:
                    left = self._rng.randrange(_BYTES_MAX)
                # in small pieces when it is to be dropped, so that it may end anywhere
                piece = answer.read1(65536 if left is None else min(left, 512) + 1)
                if not piece:
                    return
                content = self._messages(content + piece)
                if left is not None:
                    left -= len(piece)
                    if left <= 0:
                        return
        finally:
            self._to_drop = False
            self._socket = None
            connection.close()

    def _messages(self, content: bytes) -> bytes:
        """Take what is complete; the rest."""
        *whole, rest = content.split(b"\n\n")
        for message in whole:
            fields = dict(line.split(b": ", 1) for line in message.split(b"\n") if not line.startswith(b":"))
            if b"data" in fields:
                self.events.append(json.loads(fields[b"data"]))
                if self.events[-1]["number"] != int(fields[b"id"]):
                    raise CloudFailed(f"a message says two numbers: {message!r}")
            if b"id" in fields:
                self.last = int(fields[b"id"])
                self._begun.set()
        if whole:
            with self._news:
                self._news.notify_all()
        return rest


def run(*, launches: int, reconnects: int, seed: int) -> None:
    """Print how it went.  Raises CloudFailed."""
    with tempfile.TemporaryDirectory(prefix="cumulet-watch-") as folder:
        print(every_event_once(Path(folder), launches=launches, reconnects=reconnects, seed=seed), flush=True)


def every_event_once(state: Path, *, launches: int, reconnects: int, seed: int, database_url: str | None = None) -> str:
    """The proof; a line about it.  Raises CloudFailed."""
    rng = random.Random(seed)  # noqa: S311 - dice that a seed owns
    began = time.monotonic()
    arguments = ["--sim", "--bcrypt-rounds", "4", *(["--database", database_url] if database_url else [])]
    with (
        RunningCloud(state, arguments, quiet=True) as cloud,
        cloud.session("cumulet") as member,
        cloud.session("cumulet-admin") as admin,
    ):
        body = server_body(member)
        drops = Counter(rng.randrange(launches) for _ in range(reconnects))
        with Onlooker(member, rng=rng) as steady, Onlooker(member, rng=rng) as dropped:
            member.post("network", "/v2.0/networks", {"network": {"name": "begin"}})
            logs: dict[str, list[dict[str, Any]]] = {}
            for first in range(0, launches, _WAVE):
                due = [drops[n] for n in range(first, min(first + _WAVE, launches))]
                logs |= _wave(member, admin, body, steady, dropped, due)
            member.post("network", "/v2.0/networks", {"network": {"name": "end"}})
            for onlooker in (steady, dropped):
                onlooker.wait_for("the end", count=1, kind="network", change="created", name="end")
        connections = dropped.connections
    _same(_between(steady.events), _between(dropped.events))
    for server_id, log in logs.items():
        _as_logged(server_id, [event for event in steady.events if event["id"] == server_id], log)
    dense(database_url or f"sqlite://{state}/db")
    return (
        f"{len(logs)} launches and deletions, {len(_between(dropped.events))} events, {connections - 1} reconnections: "
        f"each event once, in order; {time.monotonic() - began:.0f} s, seed {seed}"
    )


def _reconnect(onlooker: Onlooker) -> None:
    """Drop its connection and wait until it has another."""
    before = onlooker.connections
    onlooker.drop()
    ends = time.monotonic() + _WAIT_S
    quiet: float | None = time.monotonic() + _QUIET_S
    while onlooker.connections == before:
        if quiet is not None and time.monotonic() > quiet:
            # once: what is dropped again and again before it is answered never comes back
            onlooker.drop_now()
            quiet = None
        if time.monotonic() > ends:
            raise CloudFailed(f"the reader does not come back: {onlooker.failure}")
        threading.Event().wait(0.002)


def _wave(
    member: Session, admin: Session, body: Any, steady: Onlooker, dropped: Onlooker, drops: Sequence[int]
) -> dict[str, list[dict[str, Any]]]:
    """Launch, watch until all are ACTIVE, delete, watch until all are gone.  By server the cloud's own log of its launch."""
    ids: list[str] = []
    for count in drops:
        ids.append(str(member.post("compute", "/servers", body, **_VERSION)["server"]["id"]))
        for _ in range(count):
            _reconnect(dropped)
    wanted = set(ids)
    _until(steady, wanted, lambda event: event["data"].get("vm_state") in {"active", "error"})
    logs = {server_id: _log(admin, server_id) for server_id in ids}
    for server_id in ids:
        member.delete("compute", f"/servers/{server_id}")
    _until(steady, wanted, lambda event: event["change"] == "deleted")
    return logs


def _until(onlooker: Onlooker, ids: set[str], fits: Any) -> None:
    """Wait until each server has had such an event."""
    left = set(ids)
    seen = 0

    def done() -> bool:
        nonlocal seen
        new, seen = onlooker.events[seen:], len(onlooker.events)
        left.difference_update(event["id"] for event in new if event["kind"] == "server" and fits(event))
        return not left or onlooker.failure is not None

    with onlooker._news:  # noqa: SLF001 - the two are one
        if not onlooker._news.wait_for(done, _WAIT_S) or onlooker.failure:  # noqa: SLF001 - likewise
            raise CloudFailed(f"no word of {sorted(left)} in the stream; {onlooker.failure}")


def _log(admin: Session, server_id: str) -> list[dict[str, Any]]:
    """The events of a server's launch, as `openstack server event show` has them."""
    path = f"/servers/{server_id}/os-instance-actions"
    actions = admin.get("compute", path, **_VERSION)["instanceActions"]
    request = next(action["request_id"] for action in actions if action["action"] == "create")
    shown: list[dict[str, Any]] = admin.get("compute", f"{path}/{request}", **_VERSION)["instanceAction"]["events"]
    return shown


def _between(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """From the first mark to the last: the two readers did not begin at the same moment."""
    marks = [n for n, event in enumerate(events) if event["data"].get("name") in {"begin", "end"}]
    return list(events[marks[0] : marks[-1] + 1])


def _same(steady: Sequence[Mapping[str, Any]], dropped: Sequence[Mapping[str, Any]]) -> None:
    for events in (steady, dropped):
        numbers = [event["number"] for event in events]
        if numbers != sorted(set(numbers)):
            raise CloudFailed("a reader saw an event twice, or out of order")
    if steady != dropped:
        missed = {event["number"] for event in steady} ^ {event["number"] for event in dropped}
        raise CloudFailed(f"the two readers did not see the same: {sorted(missed)[:20]}")


def _as_logged(server_id: str, events: Sequence[Mapping[str, Any]], log: Sequence[Mapping[str, Any]]) -> None:
    """A server begins, is ACTIVE, ends; each step of its launch in the log has its events, once."""
    changes = Counter(event["change"] for event in events if event["kind"] == "server")
    if changes["created"] != 1 or changes["deleted"] != 1:
        raise CloudFailed(f"server {server_id}: {dict(changes)}")
    if events[0]["change"] != "created" or events[-1]["change"] != "deleted":
        raise CloudFailed(f"server {server_id}: its first event is {events[0]}, its last {events[-1]}")
    if not any(event["data"].get("vm_state") == "active" for event in events):
        raise CloudFailed(f"server {server_id} was never seen active")
    seen: dict[str, list[str]] = {}
    for event in events:
        if event["kind"] == "server.step" and event["data"]["flow"] == "launch":
            seen.setdefault(event["data"]["name"], []).append(event["change"])
    recorded = {event["event"] for event in log} - {
        row.name for row in ROWS[:2]
    }  # the first two are identity's to tell
    if seen.keys() != recorded:
        raise CloudFailed(f"server {server_id}: the steps {sorted(seen)} are not those of its log")
    for name, words in seen.items():
        if words not in (["started", "done"], ["started", "skipped"], ["note"], ["note", "note"]):
            raise CloudFailed(f"server {server_id}: step {name} was {words}")


def dense(databases: str) -> None:
    """In the databases: every number once, and of every outbox every number once.  Raises CloudFailed."""
    with closing(open_database(databases, "events", METADATA)) as db, db.read() as tx:
        events = tx.all(select(EVENTS.c.number, EVENTS.c.source, EVENTS.c.source_number).order_by(EVENTS.c.number))
    if [event["number"] for event in events] != list(range(1, len(events) + 1)):
        raise CloudFailed("the stream's numbers have gaps")
    for source in {event["source"] for event in events}:
        metadata = MetaData()
        written = add_outbox(metadata)
        with closing(open_database(databases, source, metadata)) as db, db.read() as tx:
            last = tx.value(select(func.max(written.c.n)))
        numbers = [event["source_number"] for event in events if event["source"] == source]
        if numbers != list(range(1, last + 1)):
            raise CloudFailed(f"{source} wrote {last} events, the stream has {len(numbers)} of it, or in another order")
