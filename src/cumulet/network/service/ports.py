"""Ports: a place on a network, with a MAC, addresses, groups, and the host it is bound to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cumulet.core.db.database import Tx
from cumulet.core.keys import Key
from cumulet.network import errors, projection
from cumulet.network.addresses import mac_of
from cumulet.network.records import Network, Port, Viewer
from cumulet.network.service import metadata_port
from cumulet.network.service.addressing import Addressing
from cumulet.network.service.effects import Thing
from cumulet.network.service.means import Means, check_revision
from cumulet.network.service.security_groups import SecurityGroups
from cumulet.network.service.subnets import on_network
from cumulet.network.store import networks, ports, routers, subnets
from cumulet.network.store.listing import Search

__all__ = ["SERVICE_OWNED", "Ports"]

#: ports that come and go with something else, and are not deleted through the ports API
SERVICE_OWNED = frozenset(
    {"network:router_interface", "network:router_gateway", "network:floatingip", metadata_port.OWNER}
)

MAC_TRIES = 16


def _trusted(device_owner: str) -> bool:
    """The network's own ports: no groups, no anti-spoofing."""
    return device_owner.startswith("network:")


def _device(device_owner: str) -> dict[str, bool]:
    """What policy asks of the device that a port is for."""
    kind = device_owner.partition(":")[0] if ":" in device_owner else ""
    return {f"{name}_device": kind == name for name in ("network", "compute", "baremetal", "manila")}


class Ports:
    """Ports of one cloud."""

    def __init__(self, means: Means, groups: SecurityGroups) -> None:
        self._means = means
        self._groups = groups

    # Reading

    def get(self, viewer: Viewer, id: str) -> Port:
        with self._means.db.read() as tx:
            port = ports.get(tx, id, viewer)
        if port is None:
            raise errors.PortNotFound(id=id)
        return port

    def lists(self, search: Search) -> list[Port]:
        with self._means.db.read() as tx:
            return ports.lists(tx, search)

    def target(self, port: Port, viewer: Viewer) -> dict[str, Any]:
        with self._means.db.read() as tx:
            network = networks.get(tx, port.network_id)
            return {
                "project_id": port.project_id,
                **_device(port.device_owner),
                **on_network(tx, network, viewer),
            }

    def create_target(self, viewer: Viewer, wanted: Mapping[str, Any]) -> dict[str, Any]:
        with self._means.db.read() as tx:
            network = networks.get(tx, wanted["network_id"], viewer)
            if network is None:
                raise errors.NetworkNotFound(id=wanted["network_id"])
            return {
                "project_id": wanted["project_id"],
                **_device(wanted["device_owner"]),
                **on_network(tx, network, viewer),
            }

    @staticmethod
    def change_target(changes: Mapping[str, Any]) -> dict[str, bool]:
        """What policy judges a change by: the device that the port is to be for."""
        return _device(changes["device_owner"]) if "device_owner" in changes else {}

    # Creating

    def create(self, viewer: Viewer, wanted: Sequence[Mapping[str, Any]], *, key: Key | None = None) -> list[Port]:
        self._groups.ensure_defaults({one["project_id"] for one in wanted if "security_groups" not in one})
        made: list[Port] = []
        with self._means.db.write() as tx:
            for project_id in {one["project_id"] for one in wanted}:
                more = sum(1 for one in wanted if one["project_id"] == project_id)
                self._means.count(tx, "port", project_id, more)
            books: dict[str, tuple[Network, Addressing]] = {}
            for one in wanted:
                network_id = one["network_id"]
                if network_id not in books:
                    books[network_id] = self.book(tx, network_id, viewer)
                made.append(self.add(tx, viewer, one, *books[network_id]))
            things: list[Thing] = [("port", port.id) for port in made]
            stamp = self._means.effects.owe(tx, things)
            if key is not None:
                key.keep(tx, [port.id for port in made])

        def undo(tx: Tx) -> None:
            ports.remove(tx, [port.id for port in made])
            if key is not None:
                key.drop(tx)

        known = {("port", port.id): projection.port(port) for port in made}
        self._means.effects.apply(stamp, things, known=known, undo=undo)
        return made

    def book(self, tx: Tx, network_id: str, viewer: Viewer | None = None) -> tuple[Network, Addressing]:
        """A network and its addresses, to add ports with in this transaction."""
        network = networks.get(tx, network_id, viewer)
        if network is None:
            raise errors.NetworkNotFound(id=network_id)
        there = subnets.of_networks(tx, [network_id]) if network.subnets else []
        return network, Addressing(tx, network, there, self._means.ids, fixed_ips_max=self._means.config.fixed_ips_max)

    def add(self, tx: Tx, viewer: Viewer, wanted: Mapping[str, Any], network: Network, book: Addressing) -> Port:
        """Write a new port.  Only what it is about must be in `wanted`; the rest has defaults."""
        owner = wanted.get("device_owner", "")
        self._check_device(tx, viewer, wanted.get("device_id", ""), owner)
        standard = self._means.standard(wanted)
        mac = self._mac(tx, network.id, wanted.get("mac_address"), standard["id"])
        asked = wanted.get("fixed_ips")
        fixed_ips = book.automatic(owner, mac) if asked is None else book.wanted(asked, owner, mac)
        security = wanted.get("port_security_enabled")
        if security is None:
            security = network.port_security_enabled and not _trusted(owner)
        pairs = self._pairs(wanted.get("allowed_address_pairs", []), mac, security=security)
        port = Port(
            **standard,
            network_id=network.id,
            mac_address=mac,
            admin_state_up=wanted.get("admin_state_up", True),
            status="N/A" if owner == "network:floatingip" else "DOWN",
            device_id=wanted.get("device_id", ""),
            device_owner=owner,
            fixed_ips=fixed_ips,
            security_groups=self._groups_of(tx, wanted, security=security, trusted=_trusted(owner)),
            allowed_address_pairs=pairs,
            extra_dhcp_opts=[o for o in wanted.get("extra_dhcp_opts", []) if o["opt_value"] is not None],
            port_security_enabled=security,
            binding_host_id=wanted.get("binding:host_id", ""),
            binding_vnic_type=wanted.get("binding:vnic_type", "normal"),
            binding_profile=wanted.get("binding:profile", {}),
            dns_name=wanted.get("dns_name", ""),
            dns_domain=wanted.get("dns_domain", ""),
        )
        ports.add(tx, port)
        return port

    def _mac(self, tx: Tx, network_id: str, wanted: str | None, port_id: str) -> str:
        """The MAC asked for; else the id's own; else, where another port has that one, whatever the dice say."""
        if wanted is not None:
            if ports.mac_in_use(tx, network_id, wanted):
                raise errors.MacAddressInUse(network_id=network_id, mac=wanted)
            return wanted
        mac = mac_of(self._means.config.mac_prefix, port_id)
        for _ in range(MAC_TRIES):
            if not ports.mac_in_use(tx, network_id, mac):
                return mac
            mac = self._means.mac()
        raise errors.MacAddressInUse(network_id=network_id, mac=mac)

    def _groups_of(self, tx: Tx, wanted: Mapping[str, Any], *, security: bool, trusted: bool) -> list[str]:
        asked: list[str] | None = wanted.get("security_groups")
        if not security:
            if asked:
                raise errors.PortSecurityAndIPRequiredForSecurityGroups
            return []
        if asked is not None:
            return self._groups.for_port(tx, wanted["project_id"], asked)
        if trusted:
            return []
        return [self._groups.default(tx, wanted["project_id"])]

    def _pairs(self, pairs: Iterable[Mapping[str, str]], mac: str, *, security: bool) -> list[dict[str, str]]:
        """Pairs with their MAC filled in, none twice."""
        filled = [{"mac_address": pair.get("mac_address", mac), "ip_address": pair["ip_address"]} for pair in pairs]
        if not filled:
            return []
        if not security:
            raise errors.AddressPairAndPortSecurityRequired
        if len(filled) > self._means.config.address_pairs_max:
            raise errors.AllowedAddressPairExhausted(quota=self._means.config.address_pairs_max)
        for index, pair in enumerate(filled):
            if pair in filled[:index]:
                raise errors.DuplicateAddressPairInRequest(mac=pair["mac_address"], address=pair["ip_address"])
        return filled

    @staticmethod
    def _check_device(tx: Tx, viewer: Viewer, device_id: str, device_owner: str) -> None:
        """Nobody puts a port into a router by its id: neither into another's, nor past the router's own checks."""
        if viewer.sees_all:
            return
        if device_owner in {"network:floatingip", metadata_port.OWNER}:
            raise errors.UnsupportedPortDeviceOwner(operation="port update", id="", device_owner=device_owner)
        if not device_id or (device_owner and device_owner not in SERVICE_OWNED):
            return
        router = routers.get(tx, device_id)
        if router is None:
            return
        if router.project_id != viewer.project_id or device_owner in SERVICE_OWNED:
            raise errors.DeviceIDNotOwnedByTenant(device_id=device_id)

    # Changing

    def update(self, viewer: Viewer, id: str, changes: Mapping[str, Any], revision: int | None) -> Port:
        with self._means.db.write() as tx:
            before = ports.get(tx, id, viewer)
            if before is None:
                raise errors.PortNotFound(id=id)
            check_revision(before.revision_number, revision)
            values = self._changed(tx, viewer, before, changes)
            now = self._means.clock.now()
            addresses = values.pop("fixed_ips", None)
            if addresses is not None and addresses != before.fixed_ips:
                ports.set_addresses(tx, before, addresses, now)
            if "security_groups" in values:
                ports.set_groups(tx, id, values["security_groups"])
            ports.change(tx, id, values, now)
            things = self._told(before, addresses)
            stamp = self._means.effects.owe(tx, things)
            after = ports.get(tx, id)
        self._means.effects.apply(stamp, things)
        assert after is not None  # noqa: S101 - read in the transaction that changed it
        return after

    @staticmethod
    def _told(before: Port, addresses: Any) -> list[Thing]:
        """What the data plane must be told of a changed port: of a router's foot, the router."""
        things: list[Thing] = [("port", before.id)]
        if before.device_owner in projection.IN_ROUTERS and addresses is not None:
            things.append(("router", before.device_id))
        return things

    def _changed(self, tx: Tx, viewer: Viewer, before: Port, changes: Mapping[str, Any]) -> dict[str, Any]:
        """The columns of an update, every combination checked against what stays."""
        values: dict[str, Any] = {
            key.replace(":", "_"): changes[key]
            for key in (
                "name",
                "description",
                "admin_state_up",
                "device_id",
                "device_owner",
                "binding:host_id",
                "binding:vnic_type",
                "binding:profile",
                "dns_name",
                "dns_domain",
            )
            if key in changes
        }
        owner = values.get("device_owner", before.device_owner)
        if "device_id" in values or "device_owner" in values:
            self._check_device(tx, viewer, values.get("device_id", before.device_id), owner)
        mac = self._new_mac(tx, before, changes, values)
        if "fixed_ips" in changes:
            _, book = self.book(tx, before.network_id)
            values["fixed_ips"] = book.changed(before.fixed_ips, changes["fixed_ips"], owner, mac)
            self._keep_floating(tx, before, values["fixed_ips"])
        security = changes.get("port_security_enabled", before.port_security_enabled)
        groups = changes.get("security_groups")
        if "port_security_enabled" in changes:
            values["port_security_enabled"] = security
        if not security and (before.security_groups if groups is None else groups):
            if before.port_security_enabled and groups is None:
                raise errors.PortSecurityPortHasSecurityGroup
            raise errors.PortSecurityAndIPRequiredForSecurityGroups
        if groups is not None:
            values["security_groups"] = self._groups.for_port(tx, before.project_id, groups)
        pairs = changes.get("allowed_address_pairs")
        if pairs is not None:
            values["allowed_address_pairs"] = self._pairs(pairs, mac, security=security)
        elif not security and before.allowed_address_pairs:
            raise errors.AddressPairAndPortSecurityRequired
        if "extra_dhcp_opts" in changes:
            values["extra_dhcp_opts"] = _merged(before.extra_dhcp_opts, changes["extra_dhcp_opts"])
        return values

    def _new_mac(self, tx: Tx, before: Port, changes: Mapping[str, Any], values: dict[str, Any]) -> str:
        """A given MAC, a new one for None (as the reference regenerates them), or the old one."""
        if "mac_address" not in changes or changes["mac_address"] == before.mac_address:
            return before.mac_address
        if _trusted(before.device_owner):
            raise errors.UnsupportedPortDeviceOwner(
                operation="mac address update", id=before.id, device_owner=before.device_owner
            )
        if before.binding_host_id and changes.get("binding:host_id", before.binding_host_id):
            raise errors.PortBound(id=before.id, vif_type="ovs", old=before.mac_address, new=changes["mac_address"])
        mac = values["mac_address"] = self._mac(tx, before.network_id, changes["mac_address"], before.id)
        return mac

    @staticmethod
    def _keep_floating(tx: Tx, before: Port, addresses: Sequence[Mapping[str, str]]) -> None:
        lost = {ip["ip_address"] for ip in before.fixed_ips} - {ip["ip_address"] for ip in addresses}
        if not lost:
            return
        for floating in routers.floating_of_ports(tx, [before.id]):
            if floating.fixed_ip_address in lost:
                raise errors.bad(
                    "port",
                    f"Cannot update the fixed_ips of the port {before.id}, because its fixed IP {floating.fixed_ip_address} "
                    f"is associated with floating IP {floating.floating_ip_address}",
                )

    # Deleting

    def delete(self, viewer: Viewer, id: str, revision: int | None) -> None:
        with self._means.db.write() as tx:
            port = ports.get(tx, id, viewer)
            if port is None:
                raise errors.PortNotFound(id=id)
            check_revision(port.revision_number, revision)
            if port.device_owner in SERVICE_OWNED and self._in_service(tx, port):
                raise errors.ServicePortInUse(id=id, reason=f"has device owner {port.device_owner}")
            things = self.remove(tx, [id])
            stamp = self._means.effects.owe(tx, things)
        self._means.effects.apply(stamp, things, gone=True)

    @staticmethod
    def _in_service(tx: Tx, port: Port) -> bool:
        """Whether what a port serves is still there."""
        if port.device_owner in projection.IN_ROUTERS:
            return bool(port.fixed_ips) and routers.get(tx, port.device_id) is not None
        if port.device_owner == "network:floatingip":
            return routers.get_floating(tx, port.device_id) is not None
        return networks.get(tx, port.network_id) is not None

    def remove(self, tx: Tx, ids: Sequence[str]) -> list[Thing]:
        """Take ports out, and floating IPs off them."""
        loosened = routers.detach_ports(tx, ids, self._means.clock.now())
        ports.remove(tx, ids)
        return [*(("floating_ip", floating) for floating in loosened), *(("port", id) for id in ids)]


def _merged(before: Sequence[Mapping[str, Any]], changes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Options by name and family: new ones set, None takes one away, the others stay."""
    options = {(o["opt_name"], o["ip_version"]): dict(o) for o in before}
    for option in changes:
        key = (option["opt_name"], option["ip_version"])
        if option["opt_value"] is None:
            options.pop(key, None)
        else:
            options[key] = dict(option)
    return list(options.values())
