"""Subnet pools, from which subnets are cut, and address scopes, within which prefixes are unique."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from cumulet.core.db.database import Tx
from cumulet.network import addresses, errors
from cumulet.network.records import AddressScope, Subnet, SubnetPool, Viewer
from cumulet.network.service.means import Means, check_revision
from cumulet.network.store import subnets as store
from cumulet.network.store.listing import Search

__all__ = ["AddressScopes", "SubnetPools"]

Shareable = TypeVar("Shareable", SubnetPool, AddressScope)

LENGTHS = {4: (8, 32), 6: (64, 128)}
#: a pool's quota counts single addresses of IPv4 and /64 networks of IPv6
QUOTA_UNIT = {4: 32, 6: 64}


class AddressScopes:
    """Address scopes of one cloud."""

    def __init__(self, means: Means) -> None:
        self._means = means

    def get(self, viewer: Viewer, id: str) -> AddressScope:
        with self._means.db.read() as tx:
            scope = store.get_scope(tx, id, viewer)
        if scope is None:
            raise errors.AddressScopeNotFound(id=id)
        return _as_seen(scope, viewer)

    def lists(self, search: Search) -> list[AddressScope]:
        with self._means.db.read() as tx:
            return [_as_seen(scope, search.viewer) for scope in store.scopes_lists(tx, search)]

    def target(self, scope: AddressScope, viewer: Viewer) -> dict[str, Any]:
        return {"project_id": scope.project_id, "shared": scope.shared}

    def create_target(self, viewer: Viewer, wanted: Mapping[str, Any]) -> dict[str, Any]:
        return {"project_id": wanted["project_id"]}

    def create(self, viewer: Viewer, wanted: Sequence[Mapping[str, Any]]) -> list[AddressScope]:
        made = [
            AddressScope(
                id=self._means.ids.uuid(),
                project_id=one["project_id"],
                name=one["name"],
                ip_version=one["ip_version"],
                shared=one["shared"],
            )
            for one in wanted
        ]
        with self._means.db.write() as tx:
            for scope in made:
                store.add_scope(tx, scope)
        return made

    def update(self, viewer: Viewer, id: str, changes: Mapping[str, Any], revision: int | None) -> AddressScope:
        with self._means.db.write() as tx:
            before = store.get_scope(tx, id, viewer)
            if before is None:
                raise errors.AddressScopeNotFound(id=id)
            if before.shared and changes.get("shared") is False:
                raise errors.AddressScopeUpdateError(id=id, reason="Shared address scope can't be unshared")
            if changes:
                store.change_scope(tx, id, dict(changes))
            after = store.get_scope(tx, id)
        assert after is not None  # noqa: S101 - read in the transaction that changed it
        return after

    def delete(self, viewer: Viewer, id: str, revision: int | None) -> None:
        with self._means.db.write() as tx:
            if store.get_scope(tx, id, viewer) is None:
                raise errors.AddressScopeNotFound(id=id)
            if store.pools_of_scope(tx, id):
                raise errors.AddressScopeInUse(id=id)
            store.remove_scope(tx, id)


class SubnetPools:
    """Subnet pools of one cloud."""

    def __init__(self, means: Means) -> None:
        self._means = means

    # Reading

    def get(self, viewer: Viewer, id: str) -> SubnetPool:
        with self._means.db.read() as tx:
            pool = store.get_pool(tx, id, viewer)
        if pool is None:
            raise errors.SubnetPoolNotFound(id=id)
        return _as_seen(pool, viewer)

    def lists(self, search: Search) -> list[SubnetPool]:
        with self._means.db.read() as tx:
            return [_as_seen(pool, search.viewer) for pool in store.pools_lists(tx, search)]

    def target(self, pool: SubnetPool, viewer: Viewer) -> dict[str, Any]:
        return {"project_id": pool.project_id, "shared": pool.shared}

    def create_target(self, viewer: Viewer, wanted: Mapping[str, Any]) -> dict[str, Any]:
        return {"project_id": wanted["project_id"]}

    # Writing

    def create(self, viewer: Viewer, wanted: Sequence[Mapping[str, Any]]) -> list[SubnetPool]:
        made = []
        with self._means.db.write() as tx:
            for one in wanted:
                self._means.count(tx, "subnetpool", one["project_id"])
                pool = self._new(one)
                if pool.is_default:
                    self._only_default(tx, pool.ip_version)
                self._check_scope(tx, viewer, pool, pool.address_scope_id, pool.prefixes)
                store.add_pool(tx, pool)
                made.append(pool)
        return made

    def _new(self, wanted: Mapping[str, Any]) -> SubnetPool:
        family = _family(wanted["prefixes"])
        low, high = LENGTHS[family]
        low, high = wanted.get("min_prefixlen", low), wanted.get("max_prefixlen", high)
        default = wanted.get("default_prefixlen", low)
        _check_lengths(family, low, default, high)
        return SubnetPool(
            **self._means.standard(wanted),
            ip_version=family,
            prefixes=_compact(wanted["prefixes"]),
            default_prefixlen=default,
            min_prefixlen=low,
            max_prefixlen=high,
            default_quota=wanted["default_quota"],
            address_scope_id=wanted["address_scope_id"],
            shared=wanted["shared"],
            is_default=wanted["is_default"],
        )

    @staticmethod
    def _only_default(tx: Tx, family: int) -> None:
        if store.default_pool(tx, family) is not None:
            raise errors.InvalidInput(
                reason="A default subnetpool for this IP family has already been set. Only one default may exist per IP family"
            )

    @staticmethod
    def _check_scope(tx: Tx, viewer: Viewer, pool: SubnetPool, scope_id: str | None, prefixes: Sequence[str]) -> None:
        if scope_id is None:
            return
        scope = store.get_scope(tx, scope_id, viewer)
        if scope is None:
            raise errors.AddressScopeNotFound(id=scope_id)
        if pool.shared and not scope.shared:
            raise errors.IllegalSubnetPoolUpdate(
                reason=f"subnetpool {pool.id} cannot be associated with address scope {scope_id} as it is not shared"
            )
        if scope.ip_version != pool.ip_version:
            raise errors.IllegalSubnetPoolIpVersionAssociationToAddressScope(
                pool_id=pool.id, scope_id=scope_id, ip_version=scope.ip_version
            )
        for other in store.pools_of_scope(tx, scope_id):
            if other.id != pool.id and any(
                addresses.overlaps(mine, theirs) for mine in prefixes for theirs in other.prefixes
            ):
                raise errors.AddressScopePrefixConflict

    @staticmethod
    def _check_scope_owned(tx: Tx, viewer: Viewer, pool: SubnetPool) -> None:
        """Prefixes within another's scope are that other's affair."""
        scope = store.get_scope(tx, pool.address_scope_id) if pool.address_scope_id else None
        if scope is not None and not viewer.sees_all and scope.project_id != viewer.project_id:
            raise errors.IllegalSubnetPoolUpdate(
                reason=f"subnetpool {pool.id} cannot be updated when associated with shared address scope {scope.id}"
            )

    def update(self, viewer: Viewer, id: str, changes: Mapping[str, Any], revision: int | None) -> SubnetPool:
        with self._means.db.write() as tx:
            before = store.get_pool(tx, id, viewer)
            if before is None:
                raise errors.SubnetPoolNotFound(id=id)
            check_revision(before.revision_number, revision)
            values = dict(changes)
            prefixes = before.prefixes
            if "prefixes" in values:
                self._check_scope_owned(tx, viewer, before)
                if _family(values["prefixes"]) != before.ip_version:
                    raise errors.PrefixVersionMismatch
                prefixes = values["prefixes"] = _compact(values["prefixes"])
                if addresses.subtract(before.prefixes, prefixes):
                    raise errors.IllegalSubnetPoolPrefixUpdate(
                        msg="Existing prefixes must be a subset of the new prefixes"
                    )
            _check_lengths(
                before.ip_version,
                values.get("min_prefixlen", before.min_prefixlen),
                values.get("default_prefixlen", before.default_prefixlen),
                values.get("max_prefixlen", before.max_prefixlen),
            )
            if values.get("is_default") and not before.is_default:
                self._only_default(tx, before.ip_version)
            self._check_scope(tx, viewer, before, values.get("address_scope_id", before.address_scope_id), prefixes)
            store.change_pool(tx, id, values, self._means.clock.now())
            after = store.get_pool(tx, id)
        assert after is not None  # noqa: S101 - read in the transaction that changed it
        return after

    def delete(self, viewer: Viewer, id: str, revision: int | None) -> None:
        with self._means.db.write() as tx:
            pool = store.get_pool(tx, id, viewer)
            if pool is None:
                raise errors.SubnetPoolNotFound(id=id)
            check_revision(pool.revision_number, revision)
            if store.of_pool(tx, id):
                raise errors.SubnetPoolDeleteError
            store.remove_pool(tx, id)

    def add_prefixes(self, viewer: Viewer, id: str, prefixes: Sequence[str]) -> list[str]:
        pool = self.get(viewer, id)
        return self.update(viewer, id, {"prefixes": [*pool.prefixes, *prefixes]}, None).prefixes

    def remove_prefixes(self, viewer: Viewer, id: str, prefixes: Sequence[str]) -> list[str]:
        with self._means.db.write() as tx:
            pool = store.get_pool(tx, id, viewer)
            if pool is None:
                raise errors.SubnetPoolNotFound(id=id)
            used = [subnet.cidr for subnet in store.of_pool(tx, id)]
            if any(addresses.overlaps(cidr, prefix) for cidr in used for prefix in prefixes):
                raise errors.IllegalSubnetPoolPrefixUpdate(
                    msg="One or more the prefixes to be removed is in use by a subnet."
                )
            left = _compact([str(piece) for piece in addresses.subtract(pool.prefixes, prefixes)])
            store.change_pool(tx, id, {"prefixes": left}, self._means.clock.now())
            return left

    # For subnets, inside their transaction

    def asked(self, tx: Tx, viewer: Viewer, wanted: Mapping[str, Any]) -> SubnetPool | None:
        """The pool that a new subnet is to be cut from."""
        id, use_default = wanted.get("subnetpool_id"), wanted["use_default_subnetpool"]
        if use_default and id is not None:
            raise errors.bad("subnets", "subnetpool_id and use_default_subnetpool cannot both be specified")
        if id is not None:
            pool = store.get_pool(tx, id, viewer)
            if pool is None:
                raise errors.SubnetPoolNotFound(id=id)
            return pool
        if not use_default:
            return None
        family = wanted.get("ip_version")
        if family is None:
            raise errors.bad("subnets", "ip_version must be specified in the absence of cidr and subnetpool_id")
        pool = store.default_pool(tx, family)
        if pool is None:
            raise errors.bad("subnets", f"No default subnetpool found for IPv{family}")
        return pool

    def cut(self, tx: Tx, pool: SubnetPool, project_id: str, cidr: str | None, length: int | None) -> str:
        """A free prefix of a pool: the one asked for, or any of a length."""
        there = store.of_pool(tx, pool.id)
        if cidr is not None:
            length = ipaddress.ip_network(cidr).prefixlen
        elif length is None:
            length = pool.default_prefixlen
        if length > pool.max_prefixlen:
            raise errors.MaxPrefixSubnetAllocationError(length=length, limit=pool.max_prefixlen)
        if length < pool.min_prefixlen:
            raise errors.MinPrefixSubnetAllocationError(length=length, limit=pool.min_prefixlen)
        self._check_quota(pool, there, project_id, length)
        taken = [subnet.cidr for subnet in there]
        if cidr is None:
            found = addresses.free_prefix(pool.prefixes, taken, length)
            if found is None:
                raise errors.SubnetAllocationError(
                    f"Failed to allocate subnet: Insufficient prefix space to allocate subnet size /{length}."
                )
            return found
        free = addresses.subtract(pool.prefixes, taken)
        whole = ipaddress.ip_network(cidr)
        if not any(piece.version == whole.version and whole.subnet_of(piece) for piece in free):  # type: ignore[arg-type]  # of one version
            raise errors.SubnetAllocationError(
                "Failed to allocate subnet: Cannot allocate requested subnet from the available set of prefixes."
            )
        return cidr

    @staticmethod
    def _check_quota(pool: SubnetPool, there: Sequence[Subnet], project_id: str, length: int) -> None:
        if not pool.default_quota:
            return
        unit = QUOTA_UNIT[pool.ip_version]
        lengths = [int(s.cidr.rpartition("/")[2]) for s in there if s.project_id == project_id]
        used = sum(2.0 ** (unit - prefixlen) for prefixlen in lengths)
        if used + 2.0 ** (unit - length) > pool.default_quota:
            raise errors.SubnetPoolQuotaExceeded

    @staticmethod
    def check_affinity(tx: Tx, there: Sequence[Subnet], family: int, pool: SubnetPool | None) -> None:
        """Subnets of one family on one network come from one pool, or one address scope, or none of them from any."""
        scope = pool.address_scope_id if pool else None
        for subnet in there:
            if subnet.ip_version != family or subnet.subnetpool_id == (pool.id if pool else None):
                continue
            other = store.get_pool(tx, subnet.subnetpool_id) if subnet.subnetpool_id else None
            if other is not None and other.address_scope_id is not None:
                if other.address_scope_id != scope:
                    raise errors.NetworkAddressScopeAffinityError
            else:
                raise errors.NetworkSubnetPoolAffinityError


def _as_seen(found: Shareable, viewer: Viewer) -> Shareable:
    """What a project sees and does not own is shared with it."""
    if found.shared or viewer.sees_all or found.project_id == viewer.project_id:
        return found
    return msgspec.structs.replace(found, shared=True)


def _family(prefixes: Sequence[str]) -> int:
    if not prefixes:
        raise errors.EmptySubnetPoolPrefixList
    families = {addresses.version(prefix) for prefix in prefixes}
    if len(families) > 1:
        raise errors.PrefixVersionMismatch
    return families.pop()


def _compact(prefixes: Sequence[str]) -> list[str]:
    if not prefixes:
        return []
    nets = [ipaddress.ip_network(prefix) for prefix in prefixes]
    return [str(net) for net in ipaddress.collapse_addresses(nets)]  # type: ignore[type-var]  # of one version


def _check_lengths(family: int, low: int, default: int, high: int) -> None:
    top = 32 if family == 4 else 128
    if low > top:
        raise errors.UnsupportedMinSubnetPoolPrefix(prefix=low, version=family)
    for low_name, low_value, high_name, high_value in (
        ("min_prefixlen", low, "max_prefixlen", high),
        ("max_prefixlen", high, "ipver_max_prefixlen", top),
        ("min_prefixlen", low, "default_prefixlen", default),
        ("default_prefixlen", default, "max_prefixlen", high),
    ):
        if low_value > high_value:
            raise errors.IllegalSubnetPoolPrefixBounds(
                low_name=low_name, low=low_value, high_name=high_name, high=high_value
            )
