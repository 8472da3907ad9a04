"""The data plane by OVN: each verb is one transaction on the northbound database; `up` comes back as an event.

What a verb writes stands in the files beside this one, as functions of `Rows`: `ovn_port` (networks, ports),
`ovn_dhcp`, `ovn_acl` (security groups), `ovn_router` (routers, floating IPs).  This file holds the connection, the
levels of ports and the driver's verbs.

The thread that owns the connection notes a port's level and posts an event to a queue; another thread calls the
subscribers, so that nobody's callback can hold up the database.  After a reconnection the library tells every row
anew, as created: levels and events then come by themselves, and what was deleted meanwhile is forgotten.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeVar

from cumulet.core.clock import Clock, SystemClock
from cumulet.network.drivers import names, ovn_acl, ovn_dhcp, ovn_port, ovn_router
from cumulet.network.drivers.driver import (
    Agent,
    FloatingIp,
    Network,
    NetworkBackendDown,
    Owned,
    Port,
    PortEvent,
    Router,
    SecurityGroup,
    SecurityGroupRule,
    Subnet,
)
from cumulet.network.drivers.ovn_agents import Hosts
from cumulet.network.drivers.ovn_connection import OvsdbConnection
from cumulet.network.drivers.ovn_rows import Row, Rows, index_by_external_id, index_by_name
from cumulet.network.drivers.port_events import PortEvents

__all__ = ["OvnNetwork"]

T = TypeVar("T")

#: only what is read or written: the library keeps a copy of each
_COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "NB_Global": ("nb_cfg", "hv_cfg"),
    "Logical_Switch": ("name", "ports", "other_config", "external_ids"),
    "Logical_Switch_Port": (
        "name", "type", "options", "tag", "addresses", "port_security", "up", "enabled", "dhcpv4_options",
        "dhcpv6_options", "external_ids",
    ),
    "Port_Group": ("name", "ports", "acls", "external_ids"),
    "ACL": ("priority", "direction", "match", "action", "external_ids"),
    "DHCP_Options": ("cidr", "options", "external_ids"),
    "Logical_Router": ("name", "ports", "static_routes", "nat", "enabled", "options", "external_ids"),
    "Logical_Router_Port": (
        "name", "mac", "networks", "gateway_chassis", "options", "ipv6_ra_configs", "external_ids",
    ),
    "Gateway_Chassis": ("name", "chassis_name", "priority", "external_ids"),
    "Logical_Router_Static_Route": ("ip_prefix", "nexthop", "external_ids"),
    "NAT": ("type", "external_ip", "logical_ip", "logical_port", "external_mac", "external_ids"),
}  # fmt: skip


class OvnNetwork:
    """`NetworkDriver` by OVN.  Connects when first used."""

    def __init__(
        self,
        *,
        northbound: str,
        southbound: str,
        cloud: str,
        timeout_s: float = 2.5,
        gateway_chassis: tuple[str, ...] = (),
        distributed_floating_ips: bool = False,
        clock: Clock | None = None,
    ) -> None:
        """`northbound`, `southbound`: `unix:/absolute/path` or `tcp:address:port`; `cloud`: this cloud's id.

        `gateway_chassis`: where routers reach external networks; empty: wherever the southbound database says that the
        external network is.
        """
        self._gateway_chassis = gateway_chassis
        self._distributed = distributed_floating_ips
        self._hosts = Hosts(southbound, cloud=cloud, timeout_s=timeout_s, clock=clock or SystemClock())
        self._levels = _Levels()
        self._nb = OvsdbConnection(
            northbound,
            "OVN_Northbound",
            _COLUMNS,
            cloud=cloud,
            timeout_s=timeout_s,
            prepare=_prepare,
            notify=self._levels.notify,
        )
        self._levels.reread = self._reread

    def ensure_network(self, network: Network, /) -> None:
        self._write(f"network:{network.id}", partial(ovn_port.ensure_network, network=network))

    def remove_network(self, network_id: str, /) -> None:
        self._write(f"network:{network_id}", partial(ovn_port.remove_network, network_id=network_id))

    def ensure_subnet(self, subnet: Subnet, /) -> None:
        def work(rows: Rows) -> None:
            ovn_port.network_row(rows, subnet.network_id)
            ovn_dhcp.write_subnet(rows, subnet, partial(ovn_port.ports_of, rows, subnet.network_id))

        self._write(f"subnet:{subnet.id}", work)

    def remove_subnet(self, subnet_id: str, /) -> None:
        self._write(f"subnet:{subnet_id}", partial(ovn_dhcp.remove_subnet, subnet_id=subnet_id))

    def ensure_port(self, port: Port, /) -> None:
        self._write(f"port:{port.id}", partial(ovn_port.ensure_port, port=port))

    def remove_port(self, port_id: str, /) -> None:
        self._write(f"port:{port_id}", partial(ovn_port.remove_port, port_id=port_id))

    def ensure_security_group(self, group: SecurityGroup, /) -> None:
        self._write(f"group:{group.id}", partial(ovn_acl.ensure_group, group=group))

    def remove_security_group(self, group_id: str, /) -> None:
        self._write(f"group:{group_id}", partial(ovn_acl.remove_group, group_id=group_id))

    def ensure_security_group_rule(self, group_id: str, rule: SecurityGroupRule, /) -> None:
        self._write(f"group:{group_id}", partial(ovn_acl.ensure_rule, group_id=group_id, rule=rule))

    def remove_security_group_rule(self, group_id: str, rule_id: str, /) -> None:
        self._write(f"group:{group_id}", partial(ovn_acl.remove_rule, group_id=group_id, rule_id=rule_id))

    def ensure_router(self, router: Router, /) -> None:
        hosts = self._gateway_chassis
        if router.gateway is not None and not hosts:
            hosts = self._hosts.gateways(self._physical_network(router.gateway.network_id))
        self._write(f"router:{router.id}", partial(ovn_router.ensure_router, router=router, gateway_chassis=hosts))

    def remove_router(self, router_id: str, /) -> None:
        self._write(f"router:{router_id}", partial(ovn_router.remove_router, router_id=router_id))

    def ensure_floating_ip(self, floating_ip: FloatingIp, /) -> None:
        work = partial(ovn_router.ensure_floating_ip, floating_ip=floating_ip, distributed=self._distributed)
        self._write(f"floating_ip:{floating_ip.id}", work)

    def remove_floating_ip(self, floating_ip_id: str, /) -> None:
        work = partial(ovn_router.remove_floating_ip, floating_ip_id=floating_ip_id)
        self._write(f"floating_ip:{floating_ip_id}", work)

    def port_up(self, port_id: str, /) -> bool:
        self._connect()
        return self._levels.up(port_id)

    def subscribe(self, callback: Callable[[PortEvent], None], /) -> Callable[[], None]:
        return self._levels.subscribe(callback)

    def owned(self) -> tuple[Owned, ...]:
        self._connect()
        return self._nb.read(_owned)

    def agents(self) -> tuple[Agent, ...]:
        return self._hosts.agents()

    def heartbeat(self) -> None:
        self._hosts.asked(self._write("nb_cfg", _raise_nb_cfg))

    def ready(self) -> bool:
        return self._nb.alive()

    def settle(self, timeout_s: float, /) -> bool:
        return self._levels.wait_hosts(self._write("nb_cfg", _raise_nb_cfg), timeout_s)

    def close(self) -> None:
        self._nb.close()
        self._hosts.close()
        self._levels.close()

    # Inside

    def _connect(self) -> None:
        self._nb.connect()

    def _write(self, key: str, work: Callable[[Rows], T]) -> T:
        return self._nb.write(key, work)

    def _physical_network(self, network_id: str) -> str | None:
        def work(rows: Rows) -> str | None:
            port = rows.named("Logical_Switch_Port", names.provider_port(network_id))
            return None if port is None else port.options.get("network_name")

        return self._nb.read(work)

    def _reread(self) -> None:
        """Forget ports that went while there was no connection."""
        try:
            self._nb.read(lambda rows: self._levels.replace(list(rows.all("Logical_Switch_Port"))))
        except NetworkBackendDown:
            # Gone again: its return brings us back here.
            return


class _Levels:
    """Which ports are up, and who hears of it."""

    def __init__(self) -> None:
        #: how to read all ports under the connection's lock; set by the driver
        self.reread: Callable[[], None] = _nothing
        self._events = PortEvents()
        self._queue: queue.SimpleQueue[PortEvent | Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._up: dict[str, bool] = {}
        self._seen: set[Any] = set()
        self._hosts_done = threading.Condition()
        self._hv_cfg = 0

    def up(self, port_id: str) -> bool:
        return self._up.get(port_id, False)

    def subscribe(self, callback: Callable[[PortEvent], None]) -> Callable[[], None]:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._tell, name="ovn-port-events", daemon=True)
                self._thread.start()
        return self._events.subscribe(callback)

    def notify(self, event: str, row: Row, old: Row | None) -> None:
        """Called on the connection's thread, with its lock held, for every row of every table."""
        table = row._table.name  # noqa: SLF001 - the library's own events look there too
        if table == "Logical_Switch_Port":
            self._note_port(event, row, old)
        elif table == "NB_Global" and event != "delete":
            with self._hosts_done:
                self._hv_cfg = row.hv_cfg
                self._hosts_done.notify_all()

    def wait_hosts(self, nb_cfg: int, timeout_s: float) -> bool:
        with self._hosts_done:
            return self._hosts_done.wait_for(lambda: self._hv_cfg >= nb_cfg, timeout_s)

    def replace(self, ports: list[Row]) -> None:
        """Called with the connection's lock held."""
        self._up = {port.name: _is_up(port) for port in ports}
        self._seen = {port.uuid for port in ports}

    def close(self) -> None:
        self._events.close()
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            if thread is not threading.current_thread():
                thread.join(timeout=5)

    def _note_port(self, event: str, row: Row, old: Row | None) -> None:
        if event == "delete":
            self._seen.discard(row.uuid)
            if self._up.pop(row.name, False):
                self._post(PortEvent(row.name, up=False))
            return
        if event == "create":
            if row.uuid in self._seen:
                # Told again: this is a new connection.
                self._seen.clear()
                self._post(self.reread)
            self._seen.add(row.uuid)
        elif old is None or not hasattr(old, "up"):
            return
        up = _is_up(row)
        self._up[row.name] = up
        self._post(PortEvent(row.name, up))

    def _post(self, item: PortEvent | Callable[[], None]) -> None:
        if self._thread is not None:
            self._queue.put(item)

    def _tell(self) -> None:
        while (item := self._queue.get()) is not None:
            if isinstance(item, PortEvent):
                self._events.post(item)
            else:
                item()


def _is_up(port: Row) -> bool:
    return bool(port.up) and bool(port.up[0])


def _nothing() -> None:
    return None


def _prepare(idl: Any) -> None:
    for table in ("Logical_Switch", "Logical_Switch_Port", "Logical_Router", "Logical_Router_Port", "Port_Group"):
        index_by_name(idl, table)
    for key in (names.SUBNET_KEY, names.PORT_KEY):
        index_by_external_id(idl, "DHCP_Options", key)
    index_by_external_id(idl, "NAT", names.FLOATING_IP_KEY)


def _raise_nb_cfg(rows: Rows) -> int:
    row = next(rows.all("NB_Global"))
    # Two clouds' processes may count at once: the later one is overtaken and counts again.
    row.verify("nb_cfg")
    row.nb_cfg += 1
    return int(row.nb_cfg)


def _owned(rows: Rows) -> tuple[Owned, ...]:
    found = [Owned("network", row.name.removeprefix(names.switch(""))) for row in rows.ours("Logical_Switch")]
    found += [
        Owned("subnet", row.external_ids[names.SUBNET_KEY])
        for row in rows.ours("DHCP_Options")
        if names.PORT_KEY not in row.external_ids
    ]
    found += [
        Owned("port", row.name, row.external_ids.get("neutron:device_id", ""))
        for row in rows.ours("Logical_Switch_Port")
        if row.type != "localnet"
    ]
    found += [
        Owned("security_group", row.external_ids["neutron:security_group_id"])
        for row in rows.ours("Port_Group")
        if row.name != names.DROP_GROUP
    ]
    found += [Owned("router", row.name.removeprefix(names.router(""))) for row in rows.ours("Logical_Router")]
    found += [
        Owned("floating_ip", row.external_ids[names.FLOATING_IP_KEY], row.external_ids.get("neutron:fip_port_id", ""))
        for row in rows.ours("NAT")
        if names.FLOATING_IP_KEY in row.external_ids
    ]
    return tuple(found)
