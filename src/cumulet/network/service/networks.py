"""Networks: segments, MTU, who they are shared with; deleting one takes along what belongs to it alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from cumulet.core.db.database import Tx
from cumulet.core.keys import Key
from cumulet.network import errors
from cumulet.network.records import ACCESS_EXTERNAL, ACCESS_SHARED, EVERYBODY, Network, RbacPolicy, Viewer
from cumulet.network.service.effects import Thing
from cumulet.network.service.means import Means, check_revision
from cumulet.network.store import networks, ports, rbac, routers, subnets
from cumulet.network.store.listing import Search
from cumulet.network.store.networks import is_shared_with

__all__ = ["AUTO_DELETED", "Networks", "network_target"]

#: ports that go with their network or subnet
AUTO_DELETED = ("network:distributed", "network:dhcp")


IPV4_MTU_MIN = 68
IPV6_MTU_MIN = 1280


def network_target(network: Network, *, shared: bool) -> dict[str, Any]:
    """What policy judges a network by; prefixed for the things on it."""
    return {"project_id": network.project_id, "shared": shared or network.shared, "external": network.external}


class Networks:
    """Networks of one cloud."""

    def __init__(self, means: Means) -> None:
        self._means = means

    # Reading

    def get(self, viewer: Viewer, id: str) -> Network:
        with self._means.db.read() as tx:
            network = networks.get(tx, id, viewer)
            if network is None:
                raise errors.NetworkNotFound(id=id)
            return self._as_seen(tx, [network], viewer)[0]

    def lists(self, search: Search) -> list[Network]:
        with self._means.db.read() as tx:
            return self._as_seen(tx, networks.lists(tx, search), search.viewer)

    @staticmethod
    def _as_seen(tx: Tx, found: list[Network], viewer: Viewer) -> list[Network]:
        """`shared` is true for whom it is shared with."""
        unshared = [network.id for network in found if not network.shared]
        if not unshared:
            return found
        shared = is_shared_with(tx, unshared, viewer.project_id)
        if not shared:
            return found
        return [msgspec.structs.replace(n, shared=True) if n.id in shared else n for n in found]

    def target(self, network: Network, viewer: Viewer) -> dict[str, Any]:
        return network_target(network, shared=network.shared)

    def create_target(self, viewer: Viewer, wanted: Mapping[str, Any]) -> dict[str, Any]:
        return {"project_id": wanted["project_id"]}

    # Creating

    def create(self, viewer: Viewer, wanted: Sequence[Mapping[str, Any]], *, key: Key | None = None) -> list[Network]:
        made: list[Network] = []
        with self._means.db.write() as tx:
            for one in wanted:
                self._means.count(tx, "network", one["project_id"])
                made.append(self._add(tx, one))
            things: list[Thing] = [("network", network.id) for network in made]
            stamp = self._means.effects.owe(tx, things)
            if key is not None:
                key.keep(tx, [network.id for network in made])

        def undo(tx: Tx) -> None:
            for network in made:
                networks.remove(tx, network.id)
            if key is not None:
                key.drop(tx)

        self._means.effects.apply(stamp, things, undo=undo)
        return made

    def _add(self, tx: Tx, wanted: Mapping[str, Any]) -> Network:
        self._means.zones(wanted["availability_zone_hints"])
        network_type, physical, segment = self._segment(tx, wanted)
        external = wanted["router:external"]
        if wanted["is_default"] and external:
            self._only_default(tx)
        network = Network(
            **self._means.standard(wanted),
            admin_state_up=wanted["admin_state_up"],
            status="ACTIVE",
            mtu=self._mtu(network_type, wanted["mtu"]),
            shared=wanted["shared"],
            external=external,
            is_default=wanted["is_default"] and external,
            port_security_enabled=wanted["port_security_enabled"],
            dns_domain=wanted["dns_domain"],
            network_type=network_type,
            physical_network=physical,
            segmentation_id=segment,
            availability_zone_hints=wanted["availability_zone_hints"],
            subnets=[],
        )
        networks.add(tx, network)
        self._show_to_all(tx, network, ACCESS_SHARED, shown=network.shared)
        self._show_to_all(tx, network, ACCESS_EXTERNAL, shown=external)
        return network

    def _show_to_all(self, tx: Tx, network: Network, action: str, *, shown: bool) -> None:
        """Shared and external are RBAC policies for all; the flags of the row say the same."""
        if shown and EVERYBODY not in rbac.targets(tx, network.id, action):
            rbac.add(
                tx,
                RbacPolicy(
                    id=self._means.ids.uuid(),
                    project_id=network.project_id,
                    object_type="network",
                    object_id=network.id,
                    action=action,
                    target_project=EVERYBODY,
                ),
            )
        if not shown:
            # no longer external is so for nobody; no longer shared with all leaves those it is shown to by name
            rbac.remove_of(tx, network.id, action, EVERYBODY if action == ACCESS_SHARED else None)

    @staticmethod
    def _only_default(tx: Tx) -> None:
        there = networks.external_default(tx)
        if there is not None:
            raise errors.DefaultExternalNetworkExists(id=there)

    def _mtu(self, network_type: str, wanted: int) -> int:
        largest = self._means.config.mtu_max(network_type)
        if wanted > largest:
            raise errors.InvalidInput(reason=f"Requested MTU is too big, maximum is {largest}")
        return wanted or largest

    def _segment(self, tx: Tx, wanted: Mapping[str, Any]) -> tuple[str, str | None, int | None]:
        """Type, physical network and segment: what was asked for, or the next free tunnel."""
        config = self._means.config
        physical = wanted.get("provider:physical_network")
        segment = wanted.get("provider:segmentation_id")
        network_type = wanted.get("provider:network_type")
        if network_type is None:
            if physical is not None or segment is not None:
                raise errors.InvalidInput(reason="network_type required")
            network_type = "geneve"
        needs_physical = network_type in {"flat", "vlan"}
        if needs_physical and physical is None:
            raise errors.InvalidInput(reason=f"physical_network required for {network_type} provider network")
        if not needs_physical and physical is not None:
            raise errors.InvalidInput(reason=f"provider:physical_network specified for {network_type} provider network")
        if network_type in {"flat", "local"} and segment is not None:
            raise errors.InvalidInput(reason=f"provider:segmentation_id specified for {network_type} provider network")
        if network_type == "local":
            return network_type, None, None
        if network_type == "flat":
            if networks.segment_in_use(tx, "flat", physical, None):
                raise errors.FlatNetworkInUse(physical_network=physical)
            return network_type, physical, None
        low, high = config.vlan_range if network_type == "vlan" else config.geneve_range
        if segment is None:
            return network_type, physical, self._free_segment(tx, network_type, physical, low, high)
        if not low <= segment <= high:
            raise errors.InvalidInput(reason=f"segmentation_id out of range ({low} through {high})")
        if networks.segment_in_use(tx, network_type, physical, segment):
            if network_type == "vlan":
                raise errors.VlanIdInUse(vlan=segment, physical_network=physical)
            raise errors.TunnelIdInUse(tunnel=segment)
        return network_type, physical, segment

    def _free_segment(self, tx: Tx, network_type: str, physical: str | None, low: int, high: int) -> int:
        """Dice first: with thousands of networks the list of what is taken is long, and nearly every throw hits a free one."""
        for _ in range(8):
            number = self._means.ids.rng.randint(low, high)
            if not networks.segment_in_use(tx, network_type, physical, number):
                return number
        taken = networks.segments_in_use(tx, network_type, physical)
        free = next((number for number in range(low, high + 1) if number not in taken), None)
        if free is None:
            raise errors.NoNetworkAvailable
        return free

    # Changing

    def update(self, viewer: Viewer, id: str, changes: Mapping[str, Any], revision: int | None) -> Network:
        with self._means.db.write() as tx:
            before = networks.get(tx, id, viewer)
            if before is None:
                raise errors.NetworkNotFound(id=id)
            check_revision(before.revision_number, revision)
            values, things = self._changed(tx, before, changes)
            networks.change(tx, id, values, self._means.clock.now())
            stamp = self._means.effects.owe(tx, things)
            after = networks.get(tx, id)
        self._means.effects.apply(stamp, things)
        assert after is not None  # noqa: S101 - read in the transaction that changed it
        return after

    def _changed(self, tx: Tx, before: Network, changes: Mapping[str, Any]) -> tuple[dict[str, Any], list[Thing]]:
        """Columns, and what the data plane must be told."""
        values = {
            key: changes[key]
            for key in ("name", "description", "admin_state_up", "port_security_enabled", "dns_domain")
            if key in changes
        }
        things: list[Thing] = [("network", before.id)] if "name" in values or "mtu" in changes else []
        if "dns_domain" in values:
            things += [("subnet", id) for id in before.subnets]
        for key, column in (
            ("provider:network_type", "network_type"),
            ("provider:physical_network", "physical_network"),
            ("provider:segmentation_id", "segmentation_id"),
        ):
            if key in changes and changes[key] != getattr(before, column):
                raise errors.InvalidInput(reason="Plugin does not support updating provider attributes")
        if "mtu" in changes:
            values["mtu"] = self._mtu(before.network_type, changes["mtu"])
            self._mtu_holds(tx, before, values["mtu"])
            things += [("subnet", id) for id in before.subnets]
            feet = ports.of_networks(tx, [before.id], ["network:router_interface"])
            things += [("router", foot.device_id) for foot in feet]
        if "shared" in changes:
            values["shared"] = changes["shared"]
            if before.shared and not changes["shared"]:
                named = rbac.targets(tx, before.id, ACCESS_SHARED)
                if networks.foreign_projects(tx, before.id, before.project_id) - named:
                    raise errors.InvalidSharedSetting(network=before.name or before.id)
            self._show_to_all(tx, before, ACCESS_SHARED, shown=changes["shared"])
        external = changes.get("router:external", before.external)
        if external != before.external:
            values["external"] = external
            if not external and (routers.with_gateway_on(tx, before.id) or routers.floating_of_network(tx, before.id)):
                raise errors.ExternalNetworkInUse(id=before.id)
            self._show_to_all(tx, before, ACCESS_EXTERNAL, shown=external)
        if "is_default" in changes or not external:
            values["is_default"] = changes.get("is_default", before.is_default) and external
            if values["is_default"] and not before.is_default:
                self._only_default(tx)
        return values, list(dict.fromkeys(things))

    @staticmethod
    def _mtu_holds(tx: Tx, network: Network, mtu: int) -> None:
        """An MTU that the protocols of the network's subnets can live with."""
        if mtu >= IPV6_MTU_MIN or not network.subnets:
            return
        if mtu < IPV4_MTU_MIN:
            raise errors.NetworkMTUSubnetConflict(id=network.id, mtu=IPV4_MTU_MIN)
        if any(subnet.ip_version == 6 for subnet in subnets.of_networks(tx, [network.id])):
            raise errors.NetworkMTUSubnetConflict(id=network.id, mtu=IPV6_MTU_MIN)

    # Deleting

    def delete(self, viewer: Viewer, id: str, revision: int | None) -> None:
        with self._means.db.write() as tx:
            network = networks.get(tx, id, viewer)
            if network is None:
                raise errors.NetworkNotFound(id=id)
            check_revision(network.revision_number, revision)
            # floating IPs that lead nowhere go with their network; one that leads somewhere keeps it
            idle = [floating for floating in routers.floating_of_network(tx, id) if floating.port_id is None]
            kept = {floating.floating_port_id for floating in idle}
            there = ports.of_networks(tx, [id])
            users = [port.id for port in there if port.device_owner not in AUTO_DELETED and port.id not in kept]
            if users:
                raise errors.NetworkInUse(
                    id=id,
                    reason=f"There are one or more ports still in use on the network, id for these ports is: {','.join(users)}",
                )
            routers.remove_floating(tx, [floating.id for floating in idle])
            ports.remove(tx, [port.id for port in there])
            subnets.remove(tx, network.subnets)
            networks.remove(tx, id)
            things: list[Thing] = [
                *(("floating_ip", floating.id) for floating in idle),
                *(("port", port.id) for port in there if port.id not in kept),
                *(("subnet", subnet_id) for subnet_id in network.subnets),
                ("network", id),
            ]
            stamp = self._means.effects.owe(tx, things)
        self._means.effects.apply(stamp, things, gone=True)
