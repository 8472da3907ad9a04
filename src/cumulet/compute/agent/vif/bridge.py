"""The integration bridge by its OVSDB server: put an interface on, take it off, list ours; one transaction each.

A connection per call: connecting to a unix socket costs 0.05 ms, a transaction 0.3 ms, and there is no state that a
restart of the server could spoil.  (ovsdbapp was measured at 5 ms a plug; it keeps a copy of the database and a
thread.)
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from cumulet.compute.agent.vif.driver import VifDown, VifFailed
from cumulet.host.errors import OvsdbFailed, OvsdbGone
from cumulet.host.ovsdb import JsonRpc, as_map, ovs_map

__all__ = ["CLOUD_KEY", "Bridge", "OnBridge"]

#: the same key as in OVN's databases
CLOUD_KEY: Final = "cumulet:cloud"

_DATABASE: Final = "Open_vSwitch"


class OnBridge(msgspec.Struct, frozen=True):
    """An interface of this cloud's, as the bridge knows it."""

    name: str
    external_ids: dict[str, str]


class Bridge:
    """The integration bridge of this host."""

    def __init__(self, ovsdb: str, name: str, *, cloud: str, timeout_s: float) -> None:
        """`ovsdb`: `unix:/absolute/path` of the host's own server."""
        self._path = ovsdb.removeprefix("unix:")
        self._name = name
        self._cloud = cloud
        self._timeout_s = timeout_s

    def put(self, interface: str, external_ids: dict[str, str]) -> None:
        """What OVN wrote on an interface that is there already stays: it does not write it again."""
        wanted = {**external_ids, CLOUD_KEY: self._cloud}
        with self._rpc() as rpc:
            found = self._select(rpc, [["name", "==", interface]])
            if not found:
                self._insert(rpc, interface, wanted)
            elif not wanted.items() <= found[0].external_ids.items():
                change = {"external_ids": ovs_map(found[0].external_ids | wanted)}
                self._transact(rpc, _update("Interface", interface, change))

    def take(self, interface: str) -> None:
        """Its rows go with the reference to them."""
        select = {"op": "select", "table": "Port", "where": [["name", "==", interface]], "columns": ["_uuid"]}
        with self._rpc() as rpc:
            rows = self._transact(rpc, select)[0]["rows"]
            if rows:
                self._transact(rpc, self._mutate_ports("delete", rows[0]["_uuid"]))

    def ours(self) -> list[OnBridge]:
        with self._rpc() as rpc:
            return self._select(rpc, [["external_ids", "includes", ovs_map({CLOUD_KEY: self._cloud})]])

    def _insert(self, rpc: JsonRpc, interface: str, external_ids: dict[str, str]) -> None:
        mutate = self._mutate_ports("insert", ["named-uuid", "port"])
        results = self._transact(
            rpc,
            {
                "op": "insert",
                "table": "Interface",
                "row": {"name": interface, "external_ids": ovs_map(external_ids)},
                "uuid-name": "interface",
            },
            {
                "op": "insert",
                "table": "Port",
                "row": {"name": interface, "interfaces": ["named-uuid", "interface"]},
                "uuid-name": "port",
            },
            mutate,
        )
        if results[2]["count"] != 1:
            raise VifFailed(detail=f"{self._path}: there is no bridge {self._name}")

    def _mutate_ports(self, mutator: str, port: list[str]) -> dict[str, Any]:
        return {
            "op": "mutate",
            "table": "Bridge",
            "where": [["name", "==", self._name]],
            "mutations": [["ports", mutator, ["set", [port]]]],
        }

    def _select(self, rpc: JsonRpc, where: list[Any]) -> list[OnBridge]:
        select = {"op": "select", "table": "Interface", "where": where, "columns": ["name", "external_ids"]}
        rows = self._transact(rpc, select)[0]["rows"]
        return [OnBridge(row["name"], as_map(row["external_ids"])) for row in rows]

    def _rpc(self) -> JsonRpc:
        try:
            return JsonRpc(self._path, seconds=self._timeout_s)
        except OvsdbFailed as error:
            raise VifDown(detail=str(error)) from error

    def _transact(self, rpc: JsonRpc, *operations: dict[str, Any]) -> list[Any]:
        try:
            return rpc.transact(_DATABASE, *operations)
        except OvsdbGone as error:
            raise VifDown(detail=str(error)) from error
        except OvsdbFailed as error:
            raise VifFailed(detail=str(error)) from error


def _update(table: str, name: str, row: dict[str, Any]) -> dict[str, Any]:
    return {"op": "update", "table": table, "where": [["name", "==", name]], "row": row}
