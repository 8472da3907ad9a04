"""Subnets: their ranges, and what their coming and going means for ports on the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from cumulet.core.db.database import Tx
from cumulet.network import addresses, errors
from cumulet.network.records import Network, Subnet, SubnetPool, Viewer
from cumulet.network.service import metadata_port, subnet_rules
from cumulet.network.service.addressing import is_router
from cumulet.network.service.effects import Thing
from cumulet.network.service.means import Means, check_revision
from cumulet.network.service.networks import AUTO_DELETED, network_target
from cumulet.network.service.subnetpools import SubnetPools
from cumulet.network.store import networks, ports, routers, subnets
from cumulet.network.store.listing import Search

__all__ = ["Subnets", "on_network"]


def on_network(tx: Tx, network: Network | None, viewer: Viewer) -> dict[str, Any]:
    """What policy asks of the network that something is on."""
    if network is None:
        return {"shared": False, "external": False, "network:project_id": ""}
    shared = network.shared or bool(networks.is_shared_with(tx, [network.id], viewer.project_id))
    target = network_target(network, shared=shared)
    return {"shared": target["shared"], "external": target["external"], "network:project_id": network.project_id}


class Subnets:
    """Subnets of one cloud."""

    def __init__(self, means: Means, pools: SubnetPools) -> None:
        self._means = means
        self._pools = pools

    # Reading

    def get(self, viewer: Viewer, id: str) -> Subnet:
        with self._means.db.read() as tx:
            subnet = subnets.get(tx, id, viewer)
        if subnet is None:
            raise errors.SubnetNotFound(id=id)
        return subnet

    def lists(self, search: Search) -> list[Subnet]:
        with self._means.db.read() as tx:
            return subnets.lists(tx, search)

    def target(self, subnet: Subnet, viewer: Viewer) -> dict[str, Any]:
        with self._means.db.read() as tx:
            return {"project_id": subnet.project_id, **on_network(tx, networks.get(tx, subnet.network_id), viewer)}

    def create_target(self, viewer: Viewer, wanted: Mapping[str, Any]) -> dict[str, Any]:
        with self._means.db.read() as tx:
            network = networks.get(tx, wanted["network_id"], viewer)
            if network is None:
                raise errors.NetworkNotFound(id=wanted["network_id"])
            return {"project_id": wanted["project_id"], **on_network(tx, network, viewer)}

    # Creating

    def create(self, viewer: Viewer, wanted: Sequence[Mapping[str, Any]]) -> list[Subnet]:
        made: list[Subnet] = []
        things: list[Thing] = []
        with self._means.db.write() as tx:
            for one in wanted:
                self._means.count(tx, "subnet", one["project_id"])
                subnet, more = self._add(tx, viewer, one)
                made.append(subnet)
                things += more
            stamp = self._means.effects.owe(tx, things)

        def undo(tx: Tx) -> None:
            for subnet in made:
                self._take_out(tx, subnet)

        self._means.effects.apply(stamp, things, undo=undo)
        return made

    def _add(self, tx: Tx, viewer: Viewer, wanted: Mapping[str, Any]) -> tuple[Subnet, list[Thing]]:
        network = networks.get(tx, wanted["network_id"], viewer)
        if network is None:
            raise errors.NetworkNotFound(id=wanted["network_id"])
        there = subnets.of_networks(tx, [network.id])
        pool = self._pools.asked(tx, viewer, wanted)
        family, cidr = self._range(tx, wanted, pool)
        gateway = wanted["gateway_ip"] if "gateway_ip" in wanted else addresses.default_gateway(cidr)
        checked = {**wanted, "ip_version": family, "cidr": cidr}
        subnet_rules.check(checked, network, self._means.config)
        subnet_rules.check_overlap(network, cidr, there)
        self._pools.check_affinity(tx, there, family, pool)
        given = wanted.get("allocation_pools")
        subnet = Subnet(
            **self._means.standard(wanted),
            network_id=network.id,
            ip_version=family,
            cidr=cidr,
            gateway_ip=gateway,
            enable_dhcp=wanted["enable_dhcp"],
            allocation_pools=(
                addresses.pools_around(cidr, gateway)
                if given is None
                else subnet_rules.check_pools(cidr, given, gateway)
            ),
            dns_nameservers=wanted["dns_nameservers"],
            host_routes=wanted["host_routes"],
            ipv6_ra_mode=wanted.get("ipv6_ra_mode"),
            ipv6_address_mode=wanted.get("ipv6_address_mode"),
            subnetpool_id=pool.id if pool else None,
            service_types=wanted["service_types"],
            dns_publish_fixed_ip=wanted["dns_publish_fixed_ip"],
            metadata_address=None,
        )
        subnets.add(tx, subnet)
        networks.set_subnets(tx, network.id, [*network.subnets, subnet.id], self._means.clock.now())
        things: list[Thing] = [("subnet", subnet.id)]
        if subnet.is_auto:
            things += self._add_auto_addresses(tx, subnet)
        things += metadata_port.refresh(tx, self._means, network, [*there, subnet])
        return subnet, things

    def _range(self, tx: Tx, wanted: Mapping[str, Any], pool: SubnetPool | None) -> tuple[int, str]:
        """Family and CIDR: as given, or cut from a pool."""
        cidr, length, family = wanted.get("cidr"), wanted.get("prefixlen"), wanted.get("ip_version")
        if cidr is not None and length is not None:
            raise errors.bad("subnets", "cidr and prefixlen must not be supplied together")
        if pool is None:
            if cidr is None:
                raise errors.bad("subnets", "a subnetpool must be specified in the absence of a cidr")
            return family or addresses.version(cidr), cidr
        if cidr is None and wanted.get("allocation_pools") is not None:
            raise errors.bad("subnets", "allocation_pools allowed only for specific subnet requests.")
        return pool.ip_version, self._pools.cut(tx, pool, wanted["project_id"], cidr, length)

    def _add_auto_addresses(self, tx: Tx, subnet: Subnet) -> list[Thing]:
        """Guests that are there already make themselves an address in a new prefix."""
        things: list[Thing] = []
        for port in ports.of_networks(tx, [subnet.network_id]):
            if is_router(port.device_owner) or port.device_owner in {"network:floatingip", metadata_port.OWNER}:
                continue
            address = addresses.eui64(subnet.cidr, port.mac_address)
            ports.set_addresses(
                tx, port, [*port.fixed_ips, {"subnet_id": subnet.id, "ip_address": address}], self._means.clock.now()
            )
            things.append(("port", port.id))
        return things

    # Changing

    def update(self, viewer: Viewer, id: str, changes: Mapping[str, Any], revision: int | None) -> Subnet:
        with self._means.db.write() as tx:
            before = subnets.get(tx, id, viewer)
            if before is None:
                raise errors.SubnetNotFound(id=id)
            check_revision(before.revision_number, revision)
            network = networks.get(tx, before.network_id)
            if network is None:
                raise errors.NetworkNotFound(id=before.network_id)
            values = self._changed(tx, before, network, dict(changes))
            subnets.change(tx, id, values, self._means.clock.now())
            things: list[Thing] = [("subnet", id)]
            if values.get("enable_dhcp", before.enable_dhcp) != before.enable_dhcp:
                things += metadata_port.refresh(tx, self._means, network, subnets.of_networks(tx, [network.id]))
            if "gateway_ip" in values and network.external:
                # their next hop
                things += [("router", router.id) for router in routers.with_gateway_on(tx, network.id)]
            stamp = self._means.effects.owe(tx, things)
            after = subnets.get(tx, id)
        self._means.effects.apply(stamp, things)
        assert after is not None  # noqa: S101 - read in the transaction that changed it
        return after

    def _changed(self, tx: Tx, before: Subnet, network: Network, changes: dict[str, Any]) -> dict[str, Any]:
        subnet_rules.check(
            {**changes, "ip_version": before.ip_version, "cidr": before.cidr}, network, self._means.config, before
        )
        gateway = changes.get("gateway_ip", before.gateway_ip)
        if gateway != before.gateway_ip and before.gateway_ip is not None:
            holder = ports.address_owner(tx, before.network_id, before.gateway_ip)
            port = ports.get(tx, holder) if holder else None
            if port is not None and is_router(port.device_owner):
                raise errors.GatewayIpInUse(address=before.gateway_ip, port_id=port.id)
        if "allocation_pools" in changes:
            changes["allocation_pools"] = subnet_rules.check_pools(before.cidr, changes["allocation_pools"], gateway)
        elif gateway != before.gateway_ip:
            subnet_rules.check_pools(before.cidr, before.allocation_pools, gateway)
        return changes

    # Deleting

    def delete(self, viewer: Viewer, id: str, revision: int | None) -> None:
        with self._means.db.write() as tx:
            subnet = subnets.get(tx, id, viewer)
            if subnet is None:
                raise errors.SubnetNotFound(id=id)
            check_revision(subnet.revision_number, revision)
            users = subnets.used_by_others(tx, id, owners=AUTO_DELETED)
            if any(not subnet.is_auto or is_router(user["device_owner"]) for user in users):
                raise errors.SubnetInUse(id=id)
            things = self._take_out(tx, subnet)
            stamp = self._means.effects.owe(tx, things)
        self._means.effects.apply(stamp, things, gone=True)

    def _take_out(self, tx: Tx, subnet: Subnet) -> list[Thing]:
        """Remove a subnet and every address in it."""
        now = self._means.clock.now()
        things: list[Thing] = [("subnet", subnet.id)]
        holders = {user["port_id"] for user in subnets.used_by_others(tx, subnet.id, owners=())}
        for port in ports.by_ids(tx, holders).values():
            ports.set_addresses(tx, port, [ip for ip in port.fixed_ips if ip["subnet_id"] != subnet.id], now)
            things.append(("port", port.id))
        subnets.remove(tx, [subnet.id])
        network = networks.get(tx, subnet.network_id)
        if network is not None:
            left = [id for id in network.subnets if id != subnet.id]
            networks.set_subnets(tx, network.id, left, now)
            there = subnets.of_networks(tx, [network.id])
            things += metadata_port.refresh(tx, self._means, msgspec.structs.replace(network, subnets=left), there)
        return list(dict.fromkeys(things))
