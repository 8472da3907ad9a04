"""A data plane in memory: honest about order, levels and failure, and without packets.

It keeps the last struct of each thing, refuses what the real one refuses (`NetworkMissing`), and tells of port levels
through the same subscription.  A port is up when it is bound to a host and enabled.  A test or a simulated world turns
it against its users with `fail`, `ports_never_up`, `set_port_up` and `backend_down`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from cumulet.core.clock import Clock, SystemClock
from cumulet.network.drivers.driver import (
    Agent,
    FloatingIp,
    Network,
    NetworkBackendDown,
    NetworkMissing,
    Owned,
    Port,
    PortEvent,
    Router,
    SecurityGroup,
    SecurityGroupRule,
    Subnet,
)
from cumulet.network.drivers.port_events import PortEvents

__all__ = ["SimNetwork"]

_FLOATING_IP_OWNER: Final = "network:floatingip"


class SimNetwork:
    """`NetworkDriver` in memory."""

    def __init__(self, *, hosts: tuple[str, ...] = (), clock: Clock | None = None) -> None:
        self._hosts = hosts
        self._clock = clock or SystemClock()
        self._lock = threading.RLock()
        self._events = PortEvents()
        self._failures: dict[str, list[Exception]] = {}
        self._never_up = False
        self._down = False
        self._seen_at = self._clock.epoch()
        self._up: dict[str, bool] = {}
        self.networks: dict[str, Network] = {}
        self.subnets: dict[str, Subnet] = {}
        self.ports: dict[str, Port] = {}
        self.security_groups: dict[str, SecurityGroup] = {}
        self.routers: dict[str, Router] = {}
        self.floating_ips: dict[str, FloatingIp] = {}
        #: every verb that got through to the data plane, in order
        self.calls: list[str] = []

    # What a test or a simulated world does to it

    def fail(self, verb: str, error: Exception | None = None, *, times: int = 1) -> None:
        """Let the next `times` calls of a verb raise, before they change anything."""
        if not hasattr(self, verb):
            raise AttributeError(verb)
        with self._lock:
            self._failures.setdefault(verb, []).extend([error or NetworkBackendDown()] * times)

    def ports_never_up(self, never: bool = True) -> None:
        """From now on no port comes up; those that are up stay so."""
        with self._lock:
            self._never_up = never

    def backend_down(self, down: bool = True) -> None:
        """Every verb raises `NetworkBackendDown` until it is back; then every port is told anew."""
        with self._lock:
            self._down = down
            replay = [] if down else [PortEvent(port_id, up) for port_id, up in self._up.items()]
        for event in replay:
            self._events.post(event)

    def set_port_up(self, port_id: str, up: bool) -> None:
        """What an agent would report: overrides the level until the port changes."""
        with self._lock:
            if port_id not in self.ports:
                return
            self._up[port_id] = up
        self._events.post(PortEvent(port_id, up))

    # Verbs

    def ensure_network(self, network: Network, /) -> None:
        with self._lock:
            self._enter("ensure_network")
            self.networks[network.id] = network

    def remove_network(self, network_id: str, /) -> None:
        with self._lock:
            self._enter("remove_network")
            self.networks.pop(network_id, None)
            self.subnets = {key: subnet for key, subnet in self.subnets.items() if subnet.network_id != network_id}
            for port_id in [key for key, port in self.ports.items() if port.network_id == network_id]:
                self._forget_port(port_id)

    def ensure_subnet(self, subnet: Subnet, /) -> None:
        with self._lock:
            self._enter("ensure_subnet")
            self._need("network", subnet.network_id, self.networks)
            self.subnets[subnet.id] = subnet

    def remove_subnet(self, subnet_id: str, /) -> None:
        with self._lock:
            self._enter("remove_subnet")
            self.subnets.pop(subnet_id, None)

    def ensure_port(self, port: Port, /) -> None:
        with self._lock:
            self._enter("ensure_port")
            if port.device_owner == _FLOATING_IP_OWNER:
                return
            self._need("network", port.network_id, self.networks)
            for group_id in port.security_group_ids:
                self.security_groups.setdefault(group_id, SecurityGroup(id=group_id))
            before = self._up.get(port.id, False)
            self.ports[port.id] = port
            bound = bool(port.binding_host) and port.admin_up
            up = bound and (before or not self._never_up)
            self._up[port.id] = up
        if up != before:
            self._events.post(PortEvent(port.id, up))

    def remove_port(self, port_id: str, /) -> None:
        with self._lock:
            self._enter("remove_port")
            self._forget_port(port_id)

    def ensure_security_group(self, group: SecurityGroup, /) -> None:
        with self._lock:
            self._enter("ensure_security_group")
            self.security_groups[group.id] = group

    def remove_security_group(self, group_id: str, /) -> None:
        with self._lock:
            self._enter("remove_security_group")
            self.security_groups.pop(group_id, None)

    def ensure_security_group_rule(self, group_id: str, rule: SecurityGroupRule, /) -> None:
        with self._lock:
            self._enter("ensure_security_group_rule")
            self._set_rules(group_id, without=rule.id, plus=(rule,))

    def remove_security_group_rule(self, group_id: str, rule_id: str, /) -> None:
        with self._lock:
            self._enter("remove_security_group_rule")
            if group_id in self.security_groups:
                self._set_rules(group_id, without=rule_id)

    def ensure_router(self, router: Router, /) -> None:
        with self._lock:
            self._enter("ensure_router")
            for interface in router.interfaces:
                self._need("network", interface.network_id, self.networks)
            if router.gateway is not None:
                self._need("network", router.gateway.network_id, self.networks)
            self.routers[router.id] = router

    def remove_router(self, router_id: str, /) -> None:
        with self._lock:
            self._enter("remove_router")
            self.routers.pop(router_id, None)
            self.floating_ips = {key: fip for key, fip in self.floating_ips.items() if fip.router_id != router_id}

    def ensure_floating_ip(self, floating_ip: FloatingIp, /) -> None:
        with self._lock:
            self._enter("ensure_floating_ip")
            if floating_ip.router_id is None or floating_ip.fixed_ip is None:
                self.floating_ips.pop(floating_ip.id, None)
                return
            self._need("router", floating_ip.router_id, self.routers)
            self.floating_ips[floating_ip.id] = floating_ip

    def remove_floating_ip(self, floating_ip_id: str, /) -> None:
        with self._lock:
            self._enter("remove_floating_ip")
            self.floating_ips.pop(floating_ip_id, None)

    def port_up(self, port_id: str, /) -> bool:
        with self._lock:
            return self._up.get(port_id, False)

    def subscribe(self, callback: Callable[[PortEvent], None], /) -> Callable[[], None]:
        return self._events.subscribe(callback)

    def owned(self) -> tuple[Owned, ...]:
        with self._lock:
            self._enter("owned")
            return (
                *(Owned("network", key) for key in self.networks),
                *(Owned("subnet", key) for key in self.subnets),
                *(Owned("port", key, port.device_id) for key, port in self.ports.items()),
                *(Owned("security_group", key) for key in self.security_groups),
                *(Owned("router", key) for key in self.routers),
                *(Owned("floating_ip", key, fip.port_id or "") for key, fip in self.floating_ips.items()),
            )

    def agents(self) -> tuple[Agent, ...]:
        with self._lock:
            self._enter("agents")
            return tuple(
                Agent(
                    id=host,
                    host=host,
                    agent_type="OVN Controller Gateway agent",
                    alive=True,
                    bridge_mappings={"physnet1": "br-ex"},
                    seen_at=self._seen_at,
                )
                for host in self._hosts
            )

    def heartbeat(self) -> None:
        with self._lock:
            self._enter("heartbeat")
            self._seen_at = self._clock.epoch()

    def ready(self) -> bool:
        with self._lock:
            return not self._down

    def settle(self, timeout_s: float, /) -> bool:
        with self._lock:
            self._enter("settle")
            return True

    def close(self) -> None:
        self._events.close()

    # Inside

    def _enter(self, verb: str) -> None:
        if self._down:
            raise NetworkBackendDown
        planned = self._failures.get(verb)
        if planned:
            raise planned.pop(0)
        self.calls.append(verb)

    def _need(self, kind: str, id_: str, known: dict[str, Network] | dict[str, Router]) -> None:
        if id_ not in known:
            raise NetworkMissing(kind=kind, id=id_)

    def _forget_port(self, port_id: str) -> None:
        self.ports.pop(port_id, None)
        self._up.pop(port_id, None)

    def _set_rules(self, group_id: str, *, without: str, plus: tuple[SecurityGroupRule, ...] = ()) -> None:
        group = self.security_groups.get(group_id, SecurityGroup(id=group_id))
        kept = tuple(rule for rule in group.rules if rule.id != without)
        self.security_groups[group_id] = SecurityGroup(
            id=group.id, name=group.name, stateful=group.stateful, rules=kept + plus
        )
