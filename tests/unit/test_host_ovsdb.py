"""The JSON-RPC client, against a server that answers as a test tells it."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cumulet.host import ovsdb
from cumulet.host.errors import OvsdbFailed
from cumulet.host.ovsdb import JsonRpc, as_map, ovs_map

Serve = Callable[[Callable[[socket.socket], None]], str]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start a server for one connection; gives its path."""
    threads: list[threading.Thread] = []  # noqa: TID251 - the other end of a socket
    path = tmp_path / "s"

    def start(talk: Callable[[socket.socket], None]) -> str:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()

        def run() -> None:
            with listener, listener.accept()[0] as connection:
                connection.settimeout(5)
                talk(connection)

        thread = threading.Thread(target=run)  # noqa: TID251 - likewise
        thread.start()
        threads.append(thread)
        return str(path)

    yield start
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()


def answer(connection: socket.socket, result: object) -> None:
    """Read one request and answer it."""
    request = json.loads(connection.recv(65536))
    connection.sendall(json.dumps({"id": request["id"], "result": result, "error": None}).encode())


def test_an_answer_may_come_in_pieces_and_after_other_messages(serve: Serve) -> None:
    """A keep-alive question is answered, a message cut in two is put together."""
    echoed: list[object] = []

    def talk(connection: socket.socket) -> None:
        request = json.loads(connection.recv(65536))
        connection.sendall(b'{"id":"echo","method":"echo","params":[]}{"id":%d,"resu' % request["id"])
        echoed.append(json.loads(connection.recv(65536)))
        connection.sendall('lt":["Größe"],"error":null}'.encode())

    with JsonRpc(serve(talk), seconds=5) as rpc:
        assert rpc.call("list_dbs", []) == ["Größe"]
    assert echoed == [{"id": "echo", "result": [], "error": None}]


def test_a_character_may_be_cut_in_two(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel cuts at bytes, not at characters."""
    monkeypatch.setattr(ovsdb, "_RECEIVE_BYTES", 1)

    def talk(connection: socket.socket) -> None:
        request = json.loads(connection.recv(65536))
        message = {"id": request["id"], "result": "Größe", "error": None}
        connection.sendall(json.dumps(message, ensure_ascii=False).encode())

    with JsonRpc(serve(talk), seconds=5) as rpc:
        assert rpc.call("whatever", []) == "Größe"


def test_a_refused_operation_is_an_error(serve: Serve) -> None:
    """OVSDB reports it inside a successful answer; nobody may take that for success."""
    refusal = [None, {"error": "constraint violation", "details": "no such column"}]
    path = serve(lambda connection: answer(connection, refusal))
    with JsonRpc(path, seconds=5) as rpc, pytest.raises(OvsdbFailed, match="no such column"):
        rpc.transact("Open_vSwitch", {"op": "comment"}, {"op": "insert"})


def test_a_server_that_says_nothing_does_not_hold_us_for_ever(serve: Serve) -> None:
    """The deadline ends the wait."""
    over = threading.Event()
    path = serve(lambda _: bool(over.wait(5)) and None)
    with JsonRpc(path, seconds=0.1) as rpc, pytest.raises(OvsdbFailed, match="no answer in time"):
        rpc.call("list_dbs", [])
    over.set()


def test_a_server_that_hangs_up_is_an_error(serve: Serve) -> None:
    """A killed server ends the connection."""
    path = serve(lambda connection: connection.recv(65536) and None)
    with JsonRpc(path, seconds=5) as rpc, pytest.raises(OvsdbFailed, match="hung up"):
        rpc.call("list_dbs", [])


def test_a_server_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """The path is in the words, for the operator."""
    with pytest.raises(OvsdbFailed, match="nowhere"):
        JsonRpc(str(tmp_path / "nowhere"), seconds=1)


def test_watching_sees_what_was_there_before(serve: Serve) -> None:
    """The first contents count: a change that came before the watch is not waited for."""
    path = serve(lambda connection: answer(connection, {"T": {"row": {"new": {"n": 5}}}}))
    with JsonRpc(path, seconds=5) as rpc:
        rpc.watch("D", "T", ["n"], lambda row: row["n"] >= 5)


def test_watching_waits_for_a_later_change(serve: Serve) -> None:
    """Rows that do not satisfy, and other tables' silence, are passed over."""

    def talk(connection: socket.socket) -> None:
        answer(connection, {})
        for number in (1, 2):
            update = {"id": None, "method": "update", "params": [None, {"T": {"row": {"new": {"n": number}}}}]}
            connection.sendall(json.dumps(update).encode())

    seen: list[int] = []

    def two(row: dict[str, int]) -> bool:
        seen.append(row["n"])
        return row["n"] == 2

    with JsonRpc(serve(talk), seconds=5) as rpc:
        rpc.watch("D", "T", ["n"], two)
    assert seen == [1, 2]


def test_maps_in_the_databases_notation() -> None:
    """There and back."""
    assert as_map(ovs_map({"a": "1", "b": "2"})) == {"a": "1", "b": "2"}
    assert ovs_map({}) == ["map", []]
