"""Who commits a change to OVN: its caller when nobody is at the connection, else the connection's own thread, for all who wait."""

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest

from cumulet.network.drivers.driver import NetworkBackendDown
from cumulet.network.drivers.ovn_connection import OvsdbConnection
from cumulet.network.drivers.ovn_rows import Rows


class Library:
    """The library's connection: its lock, and its thread's queue."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.txns: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def stop(self, timeout: float) -> None:
        """Nothing runs."""


class Connection(OvsdbConnection):
    """Commits are noted: which thread, and how many changes at once."""

    def __init__(self) -> None:
        super().__init__("unix:nowhere", "OVN_Northbound", {}, cloud="c", timeout_s=5)
        self.library = self._connection = Library()
        self.commits: list[tuple[str, int]] = []

    def until_waiting(self, count: int) -> None:
        """Look until so many changes wait: nobody tells."""
        ends = time.monotonic() + 5
        while len(self._waiting) < count:
            assert time.monotonic() < ends
            threading.Event().wait(0.001)

    def _commit(self, works: list[Callable[[Rows], Any]], deadline: float) -> list[Any]:
        self.commits.append((threading.current_thread().name, len(works)))
        return [work(cast("Rows", None)) for work in works]


def test_a_caller_who_finds_it_free_commits_itself() -> None:
    """At once, and the connection's thread hears nothing of it; one after the other."""
    connection = Connection()
    assert [connection.write("port", lambda _, n=n: n) for n in range(3)] == [0, 1, 2]  # type: ignore[misc]
    assert connection.commits == [(threading.current_thread().name, 1)] * 3
    assert connection.library.txns.empty()


def test_who_finds_it_taken_waits_for_the_thread_that_has_it() -> None:
    """One word to that thread for all of them, and one commit; changes of the same thing never in one."""
    connection = Connection()
    with ThreadPoolExecutor(4) as pool:
        with connection.library.lock:
            waiting = [pool.submit(connection.write, key, lambda _, key=key: key) for key in ("a", "b", "c", "c")]
            turn = connection.library.txns.get(timeout=5)
            connection.until_waiting(4)
            turn.do_commit()
        assert [one.result(timeout=5) for one in waiting] == ["a", "b", "c", "c"]
    assert connection.commits == [(threading.current_thread().name, 3), (threading.current_thread().name, 1)]
    assert connection.library.txns.empty()
    assert connection.write("d", lambda _: "d") == "d"


def test_what_came_while_a_caller_committed_is_left_to_the_thread() -> None:
    """Nobody's own change waits for others'."""
    connection = Connection()
    with ThreadPoolExecutor(1) as pool:

        def work(_: Rows) -> Any:
            other = pool.submit(connection.write, "other", lambda _: "other")
            connection.until_waiting(1)
            return other

        other = connection.write("mine", work)
        connection.library.txns.get(timeout=5).do_commit()
        assert other.result(timeout=5) == "other"
    assert [count for _, count in connection.commits] == [1, 1]


def test_a_closed_connection_commits_nothing() -> None:
    """Also for a caller who had it in hand before it was closed."""
    connection = Connection()
    library = connection.library
    connection.close()
    connection._connection = library
    with pytest.raises(NetworkBackendDown):
        connection.write("late", lambda _: None)
    assert connection.commits == []
