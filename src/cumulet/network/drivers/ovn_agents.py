"""The hosts as OVN's southbound database knows them: for the agents API, and to choose where gateways live.

A host is asked for a sign of life by raising `nb_cfg` in the northbound database; ovn-controller answers in its
`Chassis_Private` row.  A host that has not answered a question older than `_GRACE_S` is shown as dead.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Final

from cumulet.core.clock import Clock
from cumulet.network.drivers.driver import Agent
from cumulet.network.drivers.ovn_connection import OvsdbConnection
from cumulet.network.drivers.ovn_rows import Row, Rows

__all__ = ["Hosts"]

_COLUMNS: Final = {
    "Chassis": ("name", "hostname", "other_config", "external_ids"),
    "Chassis_Private": ("name", "nb_cfg", "nb_cfg_timestamp"),
}
_GRACE_S: Final = 10.0
_QUESTIONS_MAX: Final = 64


class Hosts:
    """Chassis, and who among them answers."""

    def __init__(self, southbound: str, *, cloud: str, timeout_s: float, clock: Clock) -> None:
        self._connection = OvsdbConnection(southbound, "OVN_Southbound", _COLUMNS, cloud=cloud, timeout_s=timeout_s)
        self._clock = clock
        self._lock = threading.Lock()
        #: (value of nb_cfg, when asked)
        self._questions: deque[tuple[int, float]] = deque(maxlen=_QUESTIONS_MAX)

    def asked(self, nb_cfg: int) -> None:
        """A question was put to all hosts."""
        with self._lock:
            self._questions.append((nb_cfg, self._clock.monotonic()))

    def agents(self) -> tuple[Agent, ...]:
        return self._connection.read(self._agents)

    def gateways(self, physical_network: str | None) -> tuple[str, ...]:
        """Chassis that reach the external network, those meant for gateways first."""
        found = self._connection.read(
            lambda rows: [_gateway_rank(row, physical_network) for row in rows.all("Chassis")]
        )
        return tuple(name for _, name in sorted(ranked for ranked in found if ranked is not None))

    def close(self) -> None:
        self._connection.close()

    def _agents(self, rows: Rows) -> tuple[Agent, ...]:
        answers = {row.name: row for row in rows.all("Chassis_Private")}
        overdue = self._overdue()
        return tuple(_agent(row, answers.get(row.name), overdue) for row in rows.all("Chassis"))

    def _overdue(self) -> int:
        """The newest question that a living host must have answered by now."""
        latest = self._clock.monotonic() - _GRACE_S
        with self._lock:
            return max((nb_cfg for nb_cfg, asked_at in self._questions if asked_at <= latest), default=0)


def _settings(chassis: Row) -> dict[str, str]:
    """Where OVN keeps a host's settings: `other_config` since 22.03, `external_ids` before."""
    return {**chassis.external_ids, **chassis.other_config}


def _mappings(chassis: Row) -> dict[str, str]:
    text = _settings(chassis).get("ovn-bridge-mappings", "")
    return dict(pair.split(":", 1) for pair in text.split(",") if ":" in pair)


def _gateway_rank(chassis: Row, physical_network: str | None) -> tuple[int, str] | None:
    if physical_network is not None and physical_network not in _mappings(chassis):
        return None
    meant = "enable-chassis-as-gw" in _settings(chassis).get("ovn-cms-options", "")
    return (0 if meant else 1, chassis.name)


def _agent(chassis: Row, answer: Row | None, overdue: int) -> Agent:
    mappings = _mappings(chassis)
    return Agent(
        id=chassis.name,
        host=chassis.hostname,
        agent_type="OVN Controller Gateway agent" if mappings else "OVN Controller agent",
        alive=answer is not None and answer.nb_cfg >= overdue,
        bridge_mappings=mappings,
        seen_at=0.0 if answer is None else answer.nb_cfg_timestamp / 1000,
    )
