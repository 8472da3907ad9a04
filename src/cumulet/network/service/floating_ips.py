"""Floating IPs: an address of an external network, and the port it leads to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from cumulet.core.db.database import Tx
from cumulet.network import addresses, errors
from cumulet.network.records import FloatingIp, Viewer
from cumulet.network.service.effects import Thing
from cumulet.network.service.means import Means, check_revision
from cumulet.network.service.ports import Ports
from cumulet.network.store import networks, ports, routers, subnets
from cumulet.network.store.listing import Search

__all__ = ["FloatingIps"]

OWNER = "network:floatingip"
_ALL = Viewer(project_id=None, sees_all=True)
_NOWHERE: dict[str, Any] = {"port_id": None, "fixed_ip_address": None, "router_id": None}


class FloatingIps:
    """Floating IPs of one cloud."""

    def __init__(self, means: Means, port_service: Ports) -> None:
        self._means = means
        self._ports = port_service
        self._listeners: list[Callable[[str], None]] = []

    def on_change(self, listener: Callable[[str], None]) -> None:
        """Be told of ports that a floating IP began or ceased to lead to, by id: note it and return."""
        self._listeners.append(listener)

    def _tell(self, *changed: FloatingIp) -> None:
        for port_id in {floating.port_id for floating in changed if floating.port_id}:
            for listener in self._listeners:
                listener(port_id)

    # Reading

    def get(self, viewer: Viewer, id: str) -> FloatingIp:
        with self._means.db.read() as tx:
            floating = routers.get_floating(tx, id, viewer)
            if floating is None:
                raise errors.FloatingIPNotFound(id=id)
            return self._with_details(tx, [floating])[0]

    def lists(self, search: Search) -> list[FloatingIp]:
        with self._means.db.read() as tx:
            return self._with_details(tx, routers.lists_floating(tx, search))

    @staticmethod
    def _with_details(tx: Tx, found: list[FloatingIp]) -> list[FloatingIp]:
        details = routers.port_details(tx, {floating.port_id for floating in found if floating.port_id})
        if not details:
            return found
        return [
            msgspec.structs.replace(floating, port_details=details.get(floating.port_id or "")) for floating in found
        ]

    def target(self, floating: FloatingIp, viewer: Viewer) -> dict[str, Any]:
        return {"project_id": floating.project_id}

    def create_target(self, viewer: Viewer, wanted: Mapping[str, Any]) -> dict[str, Any]:
        return {"project_id": wanted["project_id"]}

    # Creating

    def create(self, viewer: Viewer, wanted: Sequence[Mapping[str, Any]]) -> list[FloatingIp]:
        made: list[FloatingIp] = []
        with self._means.db.write() as tx:
            for one in wanted:
                self._means.count(tx, "floatingip", one["project_id"])
                made.append(self._add(tx, viewer, one))
            things: list[Thing] = [("floating_ip", floating.id) for floating in made]
            stamp = self._means.effects.owe(tx, things)

        def undo(tx: Tx) -> None:
            routers.remove_floating(tx, [floating.id for floating in made])
            ports.remove(tx, [floating.floating_port_id for floating in made])

        self._means.effects.apply(stamp, things, undo=undo, then=lambda tx: self._observe(tx, made))
        shown = self._again([floating.id for floating in made])
        self._tell(*shown)
        return shown

    def _again(self, ids: Sequence[str]) -> list[FloatingIp]:
        with self._means.db.read() as tx:
            found = [floating for id in ids if (floating := routers.get_floating(tx, id)) is not None]
            return self._with_details(tx, found)

    @staticmethod
    def _observe(tx: Tx, changed: Sequence[FloatingIp]) -> None:
        """The data plane has it: what leads somewhere is active.  Read anew, as it may lead elsewhere meanwhile."""
        for floating in changed:
            now = routers.get_floating(tx, floating.id)
            if now is not None:
                routers.set_floating_status(tx, now.id, "ACTIVE" if now.port_id else "DOWN")

    def _add(self, tx: Tx, viewer: Viewer, wanted: Mapping[str, Any]) -> FloatingIp:
        network_id = wanted["floating_network_id"]
        network = networks.get(tx, network_id, viewer)
        if network is None:
            raise errors.NetworkNotFound(id=network_id)
        if not network.external:
            raise errors.bad("floatingip", f"Network {network_id} is not a valid external network")
        there = [subnet for subnet in subnets.of_networks(tx, [network_id]) if subnet.ip_version == 4]
        if not there:
            raise errors.bad("floatingip", f"Network {network_id} does not contain any IPv4 subnet")
        common = self._means.standard(wanted)
        _, book = self._ports.book(tx, network_id)
        port = self._ports.add(
            tx,
            _ALL,
            {
                "project_id": "",
                "device_id": common["id"],
                "device_owner": OWNER,
                "fixed_ips": self._wanted_address(wanted),
            },
            network,
            book,
        )
        external = next((ip["ip_address"] for ip in port.fixed_ips if addresses.version(ip["ip_address"]) == 4), None)
        if external is None:
            raise errors.IpAddressGenerationFailure(network_id=network_id)
        floating = FloatingIp(
            **common,
            floating_network_id=network_id,
            floating_ip_address=external,
            floating_port_id=port.id,
            floating_mac=port.mac_address,
            status="DOWN",
            dns_name=wanted["dns_name"],
            dns_domain=wanted["dns_domain"],
            **_NOWHERE,
        )
        association = self._association(tx, viewer, floating, wanted)
        floating = msgspec.structs.replace(floating, **association)
        routers.add_floating(tx, floating)
        return floating

    @staticmethod
    def _wanted_address(wanted: Mapping[str, Any]) -> list[dict[str, str]] | None:
        entry: dict[str, str] = {}
        if wanted.get("floating_ip_address") is not None:
            entry["ip_address"] = wanted["floating_ip_address"]
        if wanted.get("subnet_id") is not None:
            entry["subnet_id"] = wanted["subnet_id"]
        return [entry] if entry else None

    # Where it leads

    def _association(self, tx: Tx, viewer: Viewer, floating: FloatingIp, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """The columns that say where a floating IP leads, checked: the port, its address, and the router between."""
        port_id = wanted.get("port_id")
        if port_id is None:
            if wanted.get("fixed_ip_address"):
                raise errors.bad("floatingip", "fixed_ip_address cannot be specified without a port_id")
            return dict(_NOWHERE)
        port = ports.get(tx, port_id, viewer)
        if port is None:
            raise errors.PortNotFound(id=port_id)
        if port.project_id != floating.project_id and not viewer.sees_all:
            raise errors.bad(
                "floatingip",
                f"Cannot process floating IP association with Port {port_id}, since that port is owned by a different project",
            )
        if port.device_owner.startswith("network:"):
            raise errors.bad("floatingip", f"Port {port_id} is unable to be assigned a floating IP")
        fixed = self._fixed_ip(port_id, port.fixed_ips, wanted.get("fixed_ip_address"))
        subnet = subnets.get(tx, fixed["subnet_id"])
        gateway = subnet.gateway_ip if subnet else None
        router_id = routers.router_between(tx, fixed["subnet_id"], floating.floating_network_id, gateway)
        if router_id is None:
            raise errors.ExternalGatewayForFloatingIPNotFound(
                network_id=floating.floating_network_id, subnet_id=fixed["subnet_id"], port_id=port_id
            )
        other = routers.floating_of_fixed(tx, port_id, fixed["ip_address"], floating.floating_network_id)
        if other is not None and other.id != floating.id:
            raise errors.FloatingIPPortAlreadyAssociated(
                floating_ip_address=floating.floating_ip_address,
                id=floating.id,
                port_id=port_id,
                fixed_ip=fixed["ip_address"],
                network_id=floating.floating_network_id,
            )
        return {"port_id": port_id, "fixed_ip_address": fixed["ip_address"], "router_id": router_id}

    @staticmethod
    def _fixed_ip(port_id: str, fixed_ips: Sequence[Mapping[str, str]], wanted: str | None) -> Mapping[str, str]:
        if wanted is not None:
            if addresses.version(wanted) != 4:
                raise errors.bad(
                    "floatingip",
                    f"Cannot process floating IP association with {wanted}, since that is not an IPv4 address",
                )
            for ip in fixed_ips:
                if ip["ip_address"] == wanted:
                    return ip
            raise errors.bad("floatingip", f"Port {port_id} does not have fixed ip {wanted}")
        choices = [ip for ip in fixed_ips if addresses.version(ip["ip_address"]) == 4]
        if not choices:
            raise errors.bad("floatingip", f"Cannot add floating IP to port {port_id} that has no fixed IPv4 addresses")
        if len(choices) > 1:
            raise errors.bad(
                "floatingip",
                f"Port {port_id} has multiple fixed IPv4 addresses.  Must provide a specific IPv4 address "
                "when assigning a floating IP",
            )
        return choices[0]

    # Changing

    def update(self, viewer: Viewer, id: str, changes: Mapping[str, Any], revision: int | None) -> FloatingIp:
        with self._means.db.write() as tx:
            before = routers.get_floating(tx, id, viewer)
            if before is None:
                raise errors.FloatingIPNotFound(id=id)
            check_revision(before.revision_number, revision)
            values: dict[str, Any] = {"description": changes["description"]} if "description" in changes else {}
            things: list[Thing] = []
            if not changes or "port_id" in changes or changes.get("fixed_ip_address"):
                # no port, or an update of nothing, lets go of it; one of other attributes leaves it
                values |= self._association(tx, viewer, before, changes)
                things.append(("floating_ip", id))
            routers.change_floating(tx, id, values, self._means.clock.now())
            stamp = self._means.effects.owe(tx, things)
        self._means.effects.apply(stamp, things, then=lambda tx: self._observe(tx, [before]))
        after = self._again([id])[0]
        self._tell(before, after)
        return after

    # Deleting

    def delete(self, viewer: Viewer, id: str, revision: int | None) -> None:
        with self._means.db.write() as tx:
            floating = routers.get_floating(tx, id, viewer)
            if floating is None:
                raise errors.FloatingIPNotFound(id=id)
            check_revision(floating.revision_number, revision)
            routers.remove_floating(tx, [id])
            ports.remove(tx, [floating.floating_port_id])
            things: list[Thing] = [("floating_ip", id)]
            stamp = self._means.effects.owe(tx, things)
        self._means.effects.apply(stamp, things, gone=True)
        self._tell(floating)

    def pools(self, viewer: Viewer) -> list[dict[str, str]]:
        """Where floating IPs come from: each external network's IPv4 subnets."""
        search = Search(viewer=viewer, filters={"external": [True]})
        with self._means.db.read() as tx:
            external = networks.lists(tx, search)
            there = subnets.of_networks(tx, [network.id for network in external])
        return [
            {
                "subnet_id": subnet.id,
                "subnet_name": subnet.name,
                "network_id": subnet.network_id,
                "cidr": subnet.cidr,
                "project_id": viewer.project_id or "",
                "tenant_id": viewer.project_id or "",
            }
            for subnet in there
            if subnet.ip_version == 4
        ]
