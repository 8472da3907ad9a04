"""Guests' taps on an Open vSwitch bridge: made by ioctl, plugged by one OVSDB transaction; 1 to 3 ms in all.

The kernel keeps cloud, port and server in the tap's alias, the bridge in the interface's `external_ids`: whichever
half exists after a kill can be found, completed by `plug` or removed by `unplug`.  The tap is made before it is
plugged and unplugged before it is removed, so that the bridge never names a device that is not there.
"""

from __future__ import annotations

import pwd
import threading
from collections.abc import Callable
from typing import Final

from cumulet.compute.agent.vif import device, netlink
from cumulet.compute.agent.vif.bridge import Bridge
from cumulet.compute.agent.vif.driver import Plugged, VifFailed

__all__ = ["OvsVif", "tap_name"]

_ALIAS: Final = "cumulet-tap"


def tap_name(port_id: str) -> str:
    """As Neutron's agents call it."""
    return f"tap{port_id[:11]}"


class OvsVif:
    """`VifDriver` on Open vSwitch."""

    def __init__(
        self,
        *,
        ovsdb: str,
        cloud: str,
        bridge: str = "br-int",
        tap_owner: str | None = "libvirt-qemu",
        name: Callable[[str], str] = tap_name,
        timeout_s: float = 2.5,
    ) -> None:
        """`ovsdb`: `unix:/absolute/path`; `cloud`: this cloud's id, no spaces; `tap_owner`: whom QEMU runs as."""
        self._bridge = Bridge(ovsdb, bridge, cloud=cloud, timeout_s=timeout_s)
        self._cloud = cloud
        self._owner_uid = None if tap_owner is None else pwd.getpwnam(tap_owner).pw_uid
        self._name = name
        #: a guest in the making and its port's plugging may both make the tap
        self._lock = threading.Lock()

    def tap_name(self, port_id: str, /) -> str:
        return self._name(port_id)

    def make(self, port_id: str, /, *, mac: str, server_id: str, mtu: int) -> None:
        tap = self._name(port_id)
        alias = f"{_ALIAS} {self._cloud} {port_id} {server_id}"
        try:
            with self._lock:
                if device.exists(tap):
                    device.set_alias(tap, alias)
                    device.set_mtu(tap, mtu)
                    device.set_up(tap)
                else:
                    device.make_tap(tap, owner_uid=self._owner_uid, alias=alias, mtu=mtu)
        except OSError as error:
            raise VifFailed(detail=f"tap {tap}: {error}") from error

    def plug(self, port_id: str, /, *, mac: str, server_id: str, mtu: int) -> None:
        self.make(port_id, mac=mac, server_id=server_id, mtu=mtu)
        self._bridge.put(
            self._name(port_id),
            {"iface-id": port_id, "iface-status": "active", "attached-mac": mac, "vm-id": server_id},
        )

    def unplug(self, port_id: str, /) -> None:
        tap = self._name(port_id)
        self._bridge.take(tap)
        try:
            device.remove_tap(tap)
        except OSError as error:
            raise VifFailed(detail=f"tap {tap}: {error}") from error

    def plugged(self) -> tuple[Plugged, ...]:
        on_bridge = {row.name: row.external_ids for row in self._bridge.ours() if "vm-id" in row.external_ids}
        found: dict[str, Plugged] = {}
        for tap, alias in netlink.aliases().items():
            words = alias.split(" ")
            if words[:2] == [_ALIAS, self._cloud] and len(words) == 4:
                found[tap] = Plugged(port_id=words[2], server_id=words[3], tap=tap, complete=tap in on_bridge)
        for tap, ids in on_bridge.items():
            if tap not in found:
                found[tap] = Plugged(port_id=ids["iface-id"], server_id=ids["vm-id"], tap=tap, complete=False)
        return tuple(found.values())

    def ports_of(self, server_id: str, /) -> tuple[str, ...]:
        return tuple(tap.port_id for tap in self.plugged() if tap.server_id == server_id)
