"""Quotas, tags, and how many addresses a network has left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Table

from cumulet.network import addresses, errors
from cumulet.network.records import Viewer
from cumulet.network.service.means import Means
from cumulet.network.store import networks, ports, standard, subnets
from cumulet.network.store.listing import Search

__all__ = ["Accounts"]

QUOTA_MAX = 2**31 - 1


class Accounts:
    """What is counted and what is noted."""

    def __init__(self, means: Means) -> None:
        self._means = means

    # Quotas

    def default_quotas(self) -> dict[str, int]:
        return {resource: self._means.config.quotas.get(resource, -1) for resource in standard.COUNTED}

    def quotas(self, project_id: str) -> dict[str, int]:
        with self._means.db.read() as tx:
            return self.default_quotas() | standard.quotas_of(tx, project_id)

    def quota_details(self, project_id: str) -> dict[str, dict[str, int]]:
        with self._means.db.read() as tx:
            limits = self.default_quotas() | standard.quotas_of(tx, project_id)
            return {
                resource: {"limit": limit, "used": standard.used(tx, resource, project_id), "reserved": 0}
                for resource, limit in limits.items()
            }

    def quota_list(self) -> list[dict[str, Any]]:
        """Every project for which something was set."""
        with self._means.db.read() as tx:
            projects = standard.quota_projects(tx)
        return [
            {"project_id": project_id, "tenant_id": project_id, **self.default_quotas(), **limits}
            for project_id, limits in projects.items()
        ]

    def set_quotas(self, project_id: str, wanted: Mapping[str, Any]) -> dict[str, int]:
        unknown = [resource for resource in wanted if resource not in standard.COUNTED]
        if unknown:
            msg = f"Unrecognized attribute(s) '{', '.join(unknown)}'"
            raise errors.HTTPBadRequest(msg)
        limits: dict[str, int] = {}
        for resource, value in wanted.items():
            limits[resource] = _limit(resource, value)
        with self._means.db.write() as tx:
            for resource, limit in limits.items():
                standard.set_quota(tx, project_id, resource, limit)
        return self.quotas(project_id)

    def check_limits(self, project_id: str, wanted: Mapping[str, Any]) -> None:
        """Raise when a limit would be below what is used."""
        with self._means.db.read() as tx:
            under = sorted(
                resource
                for resource, value in wanted.items()
                if resource in standard.COUNTED
                and 0 <= _limit(resource, value) < standard.used(tx, resource, project_id)
            )
        if under:
            raise errors.InvalidQuotaValue(unders=under)

    def reset_quotas(self, project_id: str) -> None:
        with self._means.db.write() as tx:
            if not standard.delete_quota(tx, project_id):
                raise errors.ProjectQuotaNotFound(project_id=project_id)

    # Tags

    def set_tags(self, table: Table, id: str, tags: list[str]) -> list[str]:
        """Make the tags exactly these; they come back in order."""
        words = sorted(set(tags))
        if len(words) > self._means.config.tags_max:
            raise errors.bad(
                "tags", f"The number of tags exceed the per-resource limit of {self._means.config.tags_max}"
            )
        with self._means.db.write() as tx:
            standard.set_tags(tx, table, id, words, self._means.clock.now())
        return words

    # Addresses

    def availability(self, search: Search) -> list[dict[str, Any]]:
        """Addresses of networks: how many there are and how many are given out."""
        filters = dict(search.filters)
        families = {int(value) for value in filters.pop("ip_version", [])}
        with self._means.db.read() as tx:
            found = networks.lists(tx, Search(viewer=search.viewer, filters=filters))
            there = subnets.of_networks(tx, [network.id for network in found])
            used = ports.used_by_subnet(tx, [subnet.id for subnet in there])
        by_network: dict[str, list[dict[str, Any]]] = {}
        for subnet in there:
            if families and subnet.ip_version not in families:
                continue
            by_network.setdefault(subnet.network_id, []).append(
                {
                    "subnet_id": subnet.id,
                    "subnet_name": subnet.name,
                    "cidr": subnet.cidr,
                    "ip_version": subnet.ip_version,
                    "total_ips": addresses.pools_size(subnet.allocation_pools),
                    "used_ips": used.get(subnet.id, 0),
                }
            )
        return [
            {
                "network_id": network.id,
                "network_name": network.name,
                "project_id": network.project_id,
                "tenant_id": network.project_id,
                "total_ips": sum(one["total_ips"] for one in by_network.get(network.id, [])),
                "used_ips": sum(one["used_ips"] for one in by_network.get(network.id, [])),
                "subnet_ip_availability": by_network.get(network.id, []),
            }
            for network in found
            if not families or network.id in by_network
        ]

    def availability_of(self, viewer: Viewer, network_id: str) -> dict[str, Any]:
        found = self.availability(Search(viewer=viewer, filters={"id": [network_id]}))
        if not found:
            raise errors.NetworkNotFound(id=network_id)
        return found[0]


def _limit(resource: str, value: Any) -> int:
    try:
        number = int(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else None
    except ValueError:
        number = None
    if number is None or not -1 <= number <= QUOTA_MAX:
        raise errors.HTTPBadRequest(
            attribute=resource, reason=f"'{value}' is not an integer between -1 and {QUOTA_MAX}"
        )
    return number
