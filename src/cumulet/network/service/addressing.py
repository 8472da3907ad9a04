"""Giving addresses to ports: which subnets, which address, and what stays when a port is changed.

Everything here runs inside the caller's write transaction, which the service's one write lock makes the only one: what is read as free
is free until the commit, and the primary key of `ip_allocations` stands behind it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from cumulet.core.db.database import Tx
from cumulet.core.ids import Ids
from cumulet.network import addresses, errors
from cumulet.network.records import FixedIp, Network, Subnet
from cumulet.network.store import ports
from cumulet.network.store import subnets as subnet_store

__all__ = ["Addressing", "is_router"]

_ROUTER_OWNERS = frozenset({"network:router_interface", "network:router_gateway"})


def is_router(device_owner: str) -> bool:
    return device_owner in _ROUTER_OWNERS


class Addressing:
    """The address book of one transaction's network."""

    def __init__(self, tx: Tx, network: Network, subnets: Sequence[Subnet], ids: Ids, *, fixed_ips_max: int) -> None:
        self._tx = tx
        self._network = network
        self._subnets = list(subnets)
        self._ids = ids
        self._max = fixed_ips_max
        #: given out earlier in this request, for ports whose rows are not written yet
        self._given: set[str] = set()

    def automatic(self, device_owner: str, mac: str) -> list[FixedIp]:
        """What a port gets that asks for nothing: one address of each family, and each one a guest would make for itself."""
        usable = self._for_owner(device_owner)
        if not usable:
            return []
        given: list[FixedIp] = []
        for family in (4, 6):
            choices = [s for s in usable if s.ip_version == family and (not s.is_auto or is_router(device_owner))]
            if choices:
                given.append(self._any_of(choices))
        return given + self._made_by_guest(device_owner, mac, ())

    def wanted(self, wanted: Sequence[Mapping[str, str]], device_owner: str, mac: str) -> list[FixedIp]:
        """The addresses asked for, each by subnet, by address or by both."""
        if len(wanted) > self._max:
            raise errors.InvalidInput(reason=f"Exceeded maximum amount of fixed ips per port: {self._max}")
        given = [self._one(entry, device_owner, mac) for entry in wanted]
        return given + self._made_by_guest(device_owner, mac, {ip["subnet_id"] for ip in given})

    def changed(
        self, before: Sequence[FixedIp], wanted: Sequence[Mapping[str, str]], device_owner: str, mac: str
    ) -> list[FixedIp]:
        """The new addresses of a port: what it has and still wants stays as it is."""
        if len(wanted) > self._max:
            raise errors.InvalidInput(reason=f"Exceeded maximum amount of fixed ips per port: {self._max}")
        left = list(before)
        kept: dict[int, FixedIp] = {}
        for index, entry in enumerate(wanted):
            if "ip_address" in entry:
                match = next((ip for ip in left if ip["ip_address"] == entry["ip_address"]), None)
                if match is not None and entry.get("subnet_id", match["subnet_id"]) == match["subnet_id"]:
                    kept[index] = match
                    left.remove(match)
        for index, entry in enumerate(wanted):
            if index not in kept and "ip_address" not in entry:
                match = next((ip for ip in left if ip["subnet_id"] == entry.get("subnet_id")), None)
                if match is not None:
                    kept[index] = match
                    left.remove(match)
        result = [kept[i] if i in kept else self._one(entry, device_owner, mac) for i, entry in enumerate(wanted)]
        if not is_router(device_owner):
            # a guest makes these for itself, whatever the port's list says
            auto = {subnet.id for subnet in self._subnets if subnet.is_auto}
            result += [ip for ip in left if ip["subnet_id"] in auto]
        return result

    def lowest(self, subnet: Subnet, mac: str) -> FixedIp | None:
        """The first free address of a subnet, for ports of our own; None when there is none."""
        if subnet.is_auto:
            address: str | None = addresses.eui64(subnet.cidr, mac)
        else:
            address = addresses.pick(subnet.allocation_pools, ports.addresses_of(self._tx, subnet.id) | self._given)
        return None if address is None else self._give(subnet, address)

    # One address

    def _for_owner(self, device_owner: str) -> list[Subnet]:
        """Subnets kept for a kind of device, or, where there are none, those kept for nobody."""
        if not self._subnets:
            return []
        own = [s for s in self._subnets if any(device_owner and device_owner.startswith(t) for t in s.service_types)]
        families = {subnet.ip_version for subnet in own}
        usable = own + [s for s in self._subnets if not s.service_types and s.ip_version not in families]
        if not usable:
            raise errors.IpAddressGenerationFailure(network_id=self._network.id)
        return usable

    def _one(self, entry: Mapping[str, str], device_owner: str, mac: str) -> FixedIp:
        if not self._subnets:
            raise errors.InvalidInput(reason="IP allocation requires subnets for network")
        address, router = entry.get("ip_address"), is_router(device_owner)
        if "subnet_id" in entry:
            subnet = self._subnet(entry["subnet_id"])
            if address is not None and not addresses.on_subnet(subnet.cidr, address, router=router):
                raise errors.InvalidIpForSubnet(address=address)
        elif address is None:
            raise errors.InvalidInput(reason="IP allocation requires subnet_id or ip_address")
        else:
            found = next((s for s in self._subnets if addresses.on_subnet(s.cidr, address, router=router)), None)
            if found is None:
                raise errors.InvalidIpForNetwork(address=address)
            subnet = found
        if address is None:
            if subnet.is_auto and not router:
                return self._give(subnet, self._free(subnet, addresses.eui64(subnet.cidr, mac)))
            return self._any_of([subnet])
        if subnet.is_auto and not router and address != addresses.eui64(subnet.cidr, mac):
            raise errors.AllocationOnAutoAddressSubnet(address=address, subnet_id=subnet.id)
        return self._give(subnet, self._free(subnet, address))

    def _subnet(self, id: str) -> Subnet:
        for subnet in self._subnets:
            if subnet.id == id:
                return subnet
        if subnet_store.get(self._tx, id) is None:
            raise errors.SubnetNotFound(id=id)
        reason = f"Failed to create port on network {self._network.id}, because fixed_ips included invalid subnet {id}"
        raise errors.InvalidInput(reason=reason)

    def _free(self, subnet: Subnet, address: str) -> str:
        if address in self._given or ports.taken(self._tx, self._network.id, [address]):
            raise errors.IpAddressAlreadyAllocated(address=address, subnet_id=subnet.id)
        return address

    def _any_of(self, choices: Iterable[Subnet]) -> FixedIp:
        for subnet in choices:
            throws = addresses.candidates(subnet.allocation_pools, self._ids.rng)
            taken = (ports.taken(self._tx, self._network.id, throws) if throws else set()) | self._given
            address = next((throw for throw in throws if throw not in taken), None)
            if address is None and throws:
                address = addresses.pick(subnet.allocation_pools, ports.addresses_of(self._tx, subnet.id) | self._given)
            if address is not None:
                return self._give(subnet, address)
        raise errors.IpAddressGenerationFailure(network_id=self._network.id)

    def _made_by_guest(self, device_owner: str, mac: str, but: Iterable[str]) -> list[FixedIp]:
        if is_router(device_owner):
            return []
        skipped = set(but)
        return [
            self._give(subnet, self._free(subnet, addresses.eui64(subnet.cidr, mac)))
            for subnet in self._subnets
            if subnet.is_auto and subnet.id not in skipped
        ]

    def _give(self, subnet: Subnet, address: str) -> FixedIp:
        self._given.add(address)
        return {"subnet_id": subnet.id, "ip_address": address}
