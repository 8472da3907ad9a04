"""JSON-RPC to the cloud's own OVSDB servers and daemons: the few calls that starting and after-care need.

Not a driver: the network service has a real OVSDB library.  This is for a start within milliseconds (that library takes
300 ms to import), with a deadline on every wait, which `ovs-vsctl` would cost a process each and may wait for ever.
"""

import codecs
import json
import socket
import time
from collections.abc import Callable
from typing import Any

from cumulet.host.errors import OvsdbFailed, OvsdbGone

__all__ = ["JsonRpc", "as_map", "call_daemon", "insert_if_empty", "ovs_map", "wait_row"]

Row = dict[str, Any]

_RECEIVE_BYTES = 1 << 16


class JsonRpc:
    """One connection to one unix socket.  Not for several threads."""

    def __init__(self, path: str, *, seconds: float) -> None:
        self._path = path
        self._deadline = time.monotonic() + seconds
        self._buffer = ""
        self._decoder = json.JSONDecoder()
        self._characters = codecs.getincrementaldecoder("utf-8")()
        self._next_id = 0
        self._updates: list[Any] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(seconds)
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            raise OvsdbGone(f"{path}: {error}") from error

    def __enter__(self) -> "JsonRpc":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def call(self, method: str, parameters: list[Any]) -> Any:
        self._next_id += 1
        self._send({"id": self._next_id, "method": method, "params": parameters})
        while True:
            message = self._receive()
            if message.get("method") == "update":
                self._updates.append(message["params"][1])
            elif message.get("id") == self._next_id and "method" not in message:
                if message.get("error") is not None:
                    raise OvsdbFailed(f"{self._path}: {method}: {message['error']}")
                return message["result"]

    def transact(self, database: str, *operations: Row) -> list[Any]:
        """The operations' results; all of them happened, or OvsdbFailed is raised and none did."""
        results: list[Any] = self.call("transact", [database, *operations])
        for result in results:
            if result is not None and "error" in result:
                raise OvsdbFailed(f"{self._path}: {result['error']}: {result.get('details', '')}")
        return results

    def watch(self, database: str, table: str, columns: list[str], seen: Callable[[Row], bool]) -> None:
        """Return once a row of the table satisfies `seen`, now or by a later change."""
        updates = self.call("monitor", [database, None, {table: {"columns": columns}}])
        while True:
            for change in updates.get(table, {}).values():
                if "new" in change and seen(change["new"]):
                    return
            if not self._updates:
                message = self._receive()
                if message.get("method") == "update":
                    self._updates.append(message["params"][1])
                updates = {}
            if self._updates:
                updates = self._updates.pop(0)

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self._socket.sendall(json.dumps(message).encode())
        except OSError as error:
            raise OvsdbGone(f"{self._path}: {error}") from error

    def _receive(self) -> dict[str, Any]:
        while True:
            text = self._buffer.lstrip()
            try:
                message, end = self._decoder.raw_decode(text)
            except ValueError:  # the message is not complete yet
                self._read_more()
                continue
            self._buffer = text[end:]
            if message.get("method") == "echo":
                self._send({"id": message["id"], "result": message["params"], "error": None})
                continue
            answer: dict[str, Any] = message
            return answer

    def _read_more(self) -> None:
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise OvsdbFailed(f"{self._path}: no answer in time")
        self._socket.settimeout(remaining)
        try:
            received = self._socket.recv(_RECEIVE_BYTES)
        except TimeoutError:
            raise OvsdbFailed(f"{self._path}: no answer in time") from None
        except OSError as error:
            raise OvsdbGone(f"{self._path}: {error}") from error
        if not received:
            raise OvsdbGone(f"{self._path}: the server hung up")
        self._buffer += self._characters.decode(received)


def ovs_map(values: dict[str, Any]) -> list[Any]:
    """A map in OVSDB's notation."""
    return ["map", [[key, value] for key, value in values.items()]]


def as_map(value: list[Any]) -> dict[str, Any]:
    """The inverse of `ovs_map`."""
    return dict(value[1])


def insert_if_empty(path: str, database: str, table: str, *, seconds: float) -> None:
    """Make the one row of a table that must have exactly one."""
    with JsonRpc(path, seconds=seconds) as rpc:
        select: Row = {"op": "select", "table": table, "where": [], "columns": ["_uuid"]}
        if not rpc.transact(database, select)[0]["rows"]:
            rpc.transact(database, {"op": "insert", "table": table, "row": {}})


def wait_row(
    path: str, database: str, table: str, columns: list[str], seen: Callable[[Row], bool], *, seconds: float
) -> None:
    with JsonRpc(path, seconds=seconds) as rpc:
        rpc.watch(database, table, columns, seen)


def call_daemon(path: str, method: str, parameters: list[str], *, seconds: float) -> str:
    """A command to a running OVS or OVN daemon, by its control socket."""
    with JsonRpc(path, seconds=seconds) as rpc:
        return str(rpc.call(method, parameters))
