"""Routers: their gateway, their interfaces, their routes."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from cumulet.core.db.database import Tx
from cumulet.network import addresses, errors
from cumulet.network.records import Port, Router, Subnet, Viewer
from cumulet.network.service.effects import Thing
from cumulet.network.service.means import Means, check_revision
from cumulet.network.service.ports import Ports
from cumulet.network.store import networks, ports, routers, subnets
from cumulet.network.store.listing import Search

__all__ = ["GATEWAY", "INTERFACE", "InterfaceInfo", "Routers"]

INTERFACE = "network:router_interface"
GATEWAY = "network:router_gateway"

#: the eyes of the service itself
_ALL = Viewer(project_id=None, sees_all=True)


class InterfaceInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What adding or removing an interface answers."""

    id: str
    tenant_id: str
    project_id: str
    port_id: str
    network_id: str
    subnet_id: str
    subnet_ids: list[str]


class Routers:
    """Routers of one cloud."""

    def __init__(self, means: Means, port_service: Ports) -> None:
        self._means = means
        self._ports = port_service

    # Reading

    def get(self, viewer: Viewer, id: str) -> Router:
        with self._means.db.read() as tx:
            return self._found(tx, viewer, id)

    @staticmethod
    def _found(tx: Tx, viewer: Viewer, id: str) -> Router:
        router = routers.get(tx, id, viewer)
        if router is None:
            raise errors.RouterNotFound(id=id)
        return router

    def lists(self, search: Search) -> list[Router]:
        with self._means.db.read() as tx:
            return routers.lists(tx, search)

    def target(self, router: Router, viewer: Viewer) -> dict[str, Any]:
        return {"project_id": router.project_id}

    def create_target(self, viewer: Viewer, wanted: Mapping[str, Any]) -> dict[str, Any]:
        return {"project_id": wanted["project_id"]}

    # Creating

    def create(self, viewer: Viewer, wanted: Sequence[Mapping[str, Any]]) -> list[Router]:
        made: list[Router] = []
        with self._means.db.write() as tx:
            for one in wanted:
                self._means.count(tx, "router", one["project_id"])
                made.append(self._add(tx, viewer, one))
            things: list[Thing] = [("router", router.id) for router in made]
            stamp = self._means.effects.owe(tx, things)

        def undo(tx: Tx) -> None:
            for router in made:
                routers.remove(tx, router.id)
            ports.remove(tx, [router.gateway_port_id for router in made if router.gateway_port_id])

        def then(tx: Tx) -> None:
            for router in made:
                self._feet_up(tx, [router.gateway_port_id] if router.gateway_port_id else [])

        self._means.effects.apply(stamp, things, undo=undo, then=then)
        return made

    def _add(self, tx: Tx, viewer: Viewer, wanted: Mapping[str, Any]) -> Router:
        if wanted["distributed"] or wanted["ha"]:
            raise errors.InvalidInput(reason="distributed and highly available routers are not supported")
        self._means.zones(wanted["availability_zone_hints"])
        router = Router(
            **self._means.standard(wanted),
            admin_state_up=wanted["admin_state_up"],
            status="ACTIVE",
            gateway_network_id=None,
            gateway_port_id=None,
            gateway_fixed_ips=[],
            enable_snat=True,
            routes=[],
            availability_zone_hints=wanted["availability_zone_hints"],
        )
        gateway = wanted["external_gateway_info"]
        if gateway is not None:
            router = msgspec.structs.replace(router, **self._set_gateway(tx, viewer, router, gateway))
        routers.add(tx, router)
        return router

    @staticmethod
    def _feet_up(tx: Tx, port_ids: Sequence[str]) -> None:
        """A router's feet are up once the data plane has the router: no host binds them, so no event would tell."""
        for id in port_ids:
            ports.set_status(tx, id, "ACTIVE", was=["DOWN"])

    # The gateway

    def _set_gateway(self, tx: Tx, viewer: Viewer, router: Router, gateway: Mapping[str, Any]) -> dict[str, Any]:
        """Give a router a foot in an external network; the router's columns."""
        network_id = gateway["network_id"]
        network = networks.get(tx, network_id, viewer)
        if network is None:
            raise errors.NetworkNotFound(id=network_id)
        if not network.external:
            raise errors.bad("router", f"Network {network_id} is not an external network")
        there = subnets.of_networks(tx, [network_id])
        wanted = gateway.get("external_fixed_ips") or None
        for ip in wanted or ():
            if any(ip.get("ip_address") == subnet.gateway_ip for subnet in there if subnet.gateway_ip):
                raise errors.bad("router", f"External IP {ip['ip_address']} is the same as the gateway IP")
        self._check_overlap(tx, router, there)
        _, book = self._ports.book(tx, network_id)
        port = self._ports.add(
            tx,
            _ALL,
            # without a project, so that tenants do not see it among their ports
            {"project_id": "", "device_id": router.id, "device_owner": GATEWAY, "fixed_ips": wanted},
            network,
            book,
        )
        return {
            "gateway_network_id": network_id,
            "gateway_port_id": port.id,
            "gateway_fixed_ips": port.fixed_ips,
            "enable_snat": gateway.get("enable_snat", True),
        }

    def _changed_gateway(
        self, tx: Tx, viewer: Viewer, router: Router, gateway: Mapping[str, Any] | None
    ) -> tuple[dict[str, Any], list[Thing]]:
        """The columns of a changed gateway, and the ports that are gone with the old one."""
        same = gateway is not None and gateway["network_id"] == router.gateway_network_id
        if gateway is not None and same:
            values: dict[str, Any] = {"enable_snat": gateway.get("enable_snat", True)}
            wanted = gateway.get("external_fixed_ips")
            port = ports.get(tx, router.gateway_port_id) if router.gateway_port_id else None
            if wanted and port is not None:
                _, book = self._ports.book(tx, port.network_id)
                values["gateway_fixed_ips"] = book.changed(port.fixed_ips, wanted, GATEWAY, port.mac_address)
                ports.set_addresses(tx, port, values["gateway_fixed_ips"], self._means.clock.now())
            return values, []
        gone: list[Thing] = []
        values = {"gateway_network_id": None, "gateway_port_id": None, "gateway_fixed_ips": [], "enable_snat": True}
        if router.gateway_network_id is not None:
            self._check_gateway_idle(tx, router)
            if router.gateway_port_id is not None:
                ports.remove(tx, [router.gateway_port_id])
                gone.append(("port", router.gateway_port_id))
        if gateway is not None:
            values |= self._set_gateway(tx, viewer, router, gateway)
        return values, gone

    @staticmethod
    def _check_gateway_idle(tx: Tx, router: Router) -> None:
        users = routers.floating_of_router(tx, router.id)
        if any(floating.floating_network_id == router.gateway_network_id for floating in users):
            raise errors.RouterExternalGatewayInUseByFloatingIp(
                router_id=router.id, network_id=router.gateway_network_id
            )

    # Changing

    def update(self, viewer: Viewer, id: str, changes: Mapping[str, Any], revision: int | None) -> Router:
        if changes.get("distributed") or changes.get("ha"):
            raise errors.InvalidInput(reason="distributed and highly available routers are not supported")
        gone: list[Thing] = []
        with self._means.db.write() as tx:
            before = self._found(tx, viewer, id)
            check_revision(before.revision_number, revision)
            values = {key: changes[key] for key in ("name", "description", "admin_state_up") if key in changes}
            after = before
            if "external_gateway_info" in changes:
                gateway, gone = self._changed_gateway(tx, viewer, before, changes["external_gateway_info"])
                values |= gateway
                after = msgspec.structs.replace(before, **gateway)
            if "routes" in changes:
                self._check_routes(tx, after, changes["routes"])
                values["routes"] = changes["routes"]
            routers.change(tx, id, values, self._means.clock.now())
            things: list[Thing] = [("router", id), *gone]
            stamp = self._means.effects.owe(tx, things)
            router = self._found(tx, viewer, id)

        def then(tx: Tx) -> None:
            self._feet_up(tx, [router.gateway_port_id] if router.gateway_port_id else [])

        self._means.effects.apply(stamp, things, then=then)
        return router

    def change_routes(
        self, viewer: Viewer, id: str, *, add: Sequence[dict[str, str]] = (), remove: Sequence[dict[str, str]] = ()
    ) -> Router:
        """Add or take away single routes, whatever the others are meanwhile."""
        before = self.get(viewer, id)
        kept = [route for route in before.routes if route not in remove]
        routes = kept + [route for route in add if route not in kept]
        return self.update(viewer, id, {"routes": routes}, before.revision_number)

    def _check_routes(self, tx: Tx, router: Router, routes: Sequence[Mapping[str, str]]) -> None:
        """A next hop is a neighbour of the router, and not the router itself."""
        if len(routes) > self._means.config.routes_max:
            raise errors.RoutesExhausted(router_id=router.id, quota=self._means.config.routes_max)
        feet = ports.by_device(tx, [router.id], [INTERFACE, GATEWAY])
        held = {ip["ip_address"] for foot in feet for ip in foot.fixed_ips}
        near = subnets.by_ids(tx, {ip["subnet_id"] for foot in feet for ip in foot.fixed_ips}).values()
        for route in routes:
            if addresses.version(route["nexthop"]) != addresses.version(route["destination"]):
                raise errors.InvalidRoutes(
                    routes=list(routes), reason="the nexthop and the destination are of different families"
                )
            if not any(addresses.contains(subnet.cidr, route["nexthop"]) for subnet in near):
                raise errors.InvalidRoutes(routes=list(routes), reason="the nexthop is not connected with router")
            if route["nexthop"] in held:
                raise errors.InvalidRoutes(routes=list(routes), reason="the nexthop is used by router")

    # Deleting

    def delete(self, viewer: Viewer, id: str, revision: int | None) -> None:
        with self._means.db.write() as tx:
            router = self._found(tx, viewer, id)
            check_revision(router.revision_number, revision)
            if ports.by_device(tx, [id], [INTERFACE]) or routers.floating_of_router(tx, id):
                raise errors.RouterInUse(id=id)
            gateways = [port.id for port in ports.by_device(tx, [id], [GATEWAY])]
            ports.remove(tx, gateways)
            routers.remove(tx, id)
            things: list[Thing] = [("router", id), *(("port", port_id) for port_id in gateways)]
            stamp = self._means.effects.owe(tx, things)
        self._means.effects.apply(stamp, things, gone=True)

    # Interfaces

    def add_interface(self, viewer: Viewer, id: str, *, subnet_id: str | None, port_id: str | None) -> InterfaceInfo:
        made: list[str] = []
        before: Port | None = None
        with self._means.db.write() as tx:
            router = self._found(tx, viewer, id)
            if port_id is not None:
                before = self._port_to_add(tx, viewer, port_id)
                joined = [subnets.by_ids(tx, [ip["subnet_id"]])[ip["subnet_id"]] for ip in before.fixed_ips]
                self._check_join(tx, router, joined)
                ports.change(tx, port_id, {"device_id": id, "device_owner": INTERFACE}, self._means.clock.now())
                foot = ports.get(tx, port_id)
            else:
                foot, joined, before = self._foot_on(tx, viewer, router, subnet_id or "")
                made = [] if before is not None else [foot.id]
            assert foot is not None  # noqa: S101 - written in this transaction
            routers.change(tx, id, {}, self._means.clock.now())
            things: list[Thing] = [("router", id)]
            stamp = self._means.effects.owe(tx, [*things, ("port", foot.id)])

        def undo(tx: Tx) -> None:
            ports.remove(tx, made)
            if before is not None:
                ports.set_addresses(tx, before, before.fixed_ips, self._means.clock.now())
                ports.change(
                    tx,
                    before.id,
                    {"device_id": before.device_id, "device_owner": before.device_owner},
                    self._means.clock.now(),
                )

        foot_id = foot.id
        self._means.effects.apply(
            stamp, [*things, ("port", foot_id)], undo=undo, then=lambda tx: self._feet_up(tx, [foot_id])
        )
        return _info(router, foot, [subnet.id for subnet in joined])

    @staticmethod
    def _port_to_add(tx: Tx, viewer: Viewer, port_id: str) -> Port:
        port = ports.get(tx, port_id, viewer)
        if port is None:
            raise errors.PortNotFound(id=port_id)
        if port.device_id:
            raise errors.PortInUse(id=port_id, network_id=port.network_id, device_id=port.device_id)
        if not port.fixed_ips:
            raise errors.bad("router", "Router port must have at least one fixed IP")
        if sum(1 for ip in port.fixed_ips if addresses.version(ip["ip_address"]) == 4) > 1:
            raise errors.bad("router", "Cannot have multiple IPv4 subnets on router port")
        return port

    def _foot_on(
        self, tx: Tx, viewer: Viewer, router: Router, subnet_id: str
    ) -> tuple[Port, list[Subnet], Port | None]:
        """A foot with the subnet's gateway address; the port as it was, where an IPv6 prefix joins one that is there."""
        subnet = subnets.get(tx, subnet_id, viewer)
        if subnet is None:
            raise errors.SubnetNotFound(id=subnet_id)
        if not subnet.gateway_ip:
            raise errors.bad("router", "Subnet for router interface must have a gateway IP")
        network = networks.get(tx, subnet.network_id)
        if network is None:
            raise errors.NetworkNotFound(id=subnet.network_id)
        own = viewer.sees_all or viewer.project_id in {subnet.project_id, network.project_id}
        # what everybody may use nobody may route; what was shown to one project it may
        if not own and (network.shared or not networks.is_shared_with(tx, [network.id], viewer.project_id)):
            raise errors.bad(
                "router",
                f"Cannot add interface to router because subnet {subnet_id} is not owned by project making the request",
            )
        if subnet.ip_version == 6 and subnet.ipv6_address_mode and not subnet.ipv6_ra_mode:
            raise errors.bad(
                "router",
                f"IPv6 subnet {subnet_id} configured to receive RAs from an external router cannot be added to Neutron Router.",
            )
        self._check_join(tx, router, [subnet])
        fixed_ip = {"subnet_id": subnet.id, "ip_address": subnet.gateway_ip}
        if subnet.ip_version == 6:
            there = self._ipv6_foot(tx, router, subnet.network_id)
            if there is not None:
                _, book = self._ports.book(tx, network.id)
                addresses_now = book.changed(
                    there.fixed_ips, [*there.fixed_ips, fixed_ip], INTERFACE, there.mac_address
                )
                ports.set_addresses(tx, there, addresses_now, self._means.clock.now())
                return msgspec.structs.replace(there, fixed_ips=addresses_now), [subnet], there
        _, book = self._ports.book(tx, network.id)
        port = self._ports.add(
            tx,
            _ALL,
            {
                "project_id": router.project_id,
                "device_id": router.id,
                "device_owner": INTERFACE,
                "fixed_ips": [fixed_ip],
            },
            network,
            book,
        )
        return port, [subnet], None

    @staticmethod
    def _ipv6_foot(tx: Tx, router: Router, network_id: str) -> Port | None:
        for foot in ports.by_device(tx, [router.id], [INTERFACE]):
            if foot.network_id == network_id and any(addresses.version(ip["ip_address"]) == 6 for ip in foot.fixed_ips):
                return foot
        return None

    @staticmethod
    def _check_overlap(tx: Tx, router: Router, joined: Sequence[Subnet]) -> None:
        feet = ports.by_device(tx, [router.id], [INTERFACE])
        there = subnets.by_ids(tx, {ip["subnet_id"] for foot in feet for ip in foot.fixed_ips})
        for subnet in joined:
            for other in there.values():
                if addresses.overlaps(subnet.cidr, other.cidr):
                    raise errors.bad(
                        "router",
                        f"Cidr {subnet.cidr} of subnet {subnet.id} overlaps with cidr {other.cidr} of subnet {other.id}",
                    )

    def _check_join(self, tx: Tx, router: Router, joined: Sequence[Subnet]) -> None:
        """What is joined by a router lies apart."""
        feet = ports.by_device(tx, [router.id], [INTERFACE, GATEWAY])
        held = {ip["subnet_id"] for foot in feet for ip in foot.fixed_ips}
        for subnet in joined:
            if subnet.id in held:
                raise errors.bad("router", f"Router already has a port on subnet {subnet.id}")
        if router.gateway_network_id is not None:
            for outer in subnets.of_networks(tx, [router.gateway_network_id]):
                for subnet in joined:
                    if addresses.overlaps(subnet.cidr, outer.cidr):
                        raise errors.bad(
                            "router",
                            f"Cidr {subnet.cidr} of subnet {subnet.id} overlaps with cidr {outer.cidr} of subnet {outer.id}",
                        )
        self._check_overlap(tx, router, joined)

    def remove_interface(self, viewer: Viewer, id: str, *, subnet_id: str | None, port_id: str | None) -> InterfaceInfo:
        with self._means.db.write() as tx:
            router = self._found(tx, viewer, id)
            foot, leaving = self._foot_to_remove(tx, router, subnet_id, port_id)
            for subnet in leaving:
                if routers.floating_on_subnet(tx, id, subnet.id):
                    raise errors.RouterInterfaceInUseByFloatingIP(router_id=id, subnet_id=subnet.id)
                whole = ipaddress.ip_network(subnet.cidr)
                if any(ipaddress.ip_address(route["nexthop"]) in whole for route in router.routes):
                    raise errors.RouterInterfaceInUseByRoute(router_id=id, subnet_id=subnet.id)
            gone = {subnet.id for subnet in leaving}
            left = [ip for ip in foot.fixed_ips if ip["subnet_id"] not in gone]
            things: list[Thing] = [("router", id)]
            if left:
                ports.set_addresses(tx, foot, left, self._means.clock.now())
            else:
                ports.remove(tx, [foot.id])
                things.append(("port", foot.id))
            routers.change(tx, id, {}, self._means.clock.now())
            stamp = self._means.effects.owe(tx, things)
        self._means.effects.apply(stamp, things, gone=True)
        return _info(router, foot, [subnet.id for subnet in leaving])

    @staticmethod
    def _foot_to_remove(
        tx: Tx, router: Router, subnet_id: str | None, port_id: str | None
    ) -> tuple[Port, list[Subnet]]:
        """The interface meant, and the subnets it leaves: one when named by its subnet, all when named by its port."""
        feet = ports.by_device(tx, [router.id], [INTERFACE])
        if port_id is not None:
            foot = next((foot for foot in feet if foot.id == port_id), None)
            if foot is None:
                raise errors.RouterInterfaceNotFound(router_id=router.id, port_id=port_id)
            ids = [ip["subnet_id"] for ip in foot.fixed_ips]
            if subnet_id is not None and subnet_id not in ids:
                raise errors.SubnetMismatchForPort(port_id=port_id, subnet_id=subnet_id)
            return foot, list(subnets.by_ids(tx, ids).values())
        for foot in feet:
            if any(ip["subnet_id"] == subnet_id for ip in foot.fixed_ips):
                return foot, list(subnets.by_ids(tx, [subnet_id or ""]).values())
        if subnets.get(tx, subnet_id or "") is None:
            raise errors.SubnetNotFound(id=subnet_id)
        raise errors.RouterInterfaceNotFoundForSubnet(router_id=router.id, subnet_id=subnet_id)


def _info(router: Router, foot: Port, subnet_ids: list[str]) -> InterfaceInfo:
    return InterfaceInfo(
        id=router.id,
        tenant_id=foot.project_id,
        project_id=foot.project_id,
        port_id=foot.id,
        network_id=foot.network_id,
        subnet_id=subnet_ids[0],
        subnet_ids=subnet_ids,
    )
