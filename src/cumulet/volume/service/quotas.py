"""Limits of projects: what they are, and that nothing passes them."""

from collections.abc import Mapping
from typing import Any

from cumulet.core.db import Tx
from cumulet.core.errors import BadRequest
from cumulet.volume.config import QUOTAS
from cumulet.volume.errors import SizeAboveLimit, SizeAboveQuota, SnapshotLimitExceeded, VolumeLimitExceeded
from cumulet.volume.service.means import Means
from cumulet.volume.store import quotas

__all__ = ["Quotas"]

#: the class that stands for all projects without limits of their own
DEFAULT_CLASS = "default"
_PER_TYPE = ("volumes", "gigabytes", "snapshots")


class Quotas:
    """Limits and usage."""

    def __init__(self, means: Means) -> None:
        self._means = means

    def _defaults(self, tx: Tx) -> dict[str, int]:
        limits = dict(self._means.config.quotas)
        for name in quotas.type_names(tx).values():
            limits |= {f"{resource}_{name}": -1 for resource in _PER_TYPE}
        return limits | quotas.limits_of(tx, "class", DEFAULT_CLASS)

    def _limits(self, tx: Tx, project_id: str) -> dict[str, int]:
        return self._defaults(tx) | quotas.limits_of(tx, "project", project_id)

    def _set_limits(self, tx: Tx, project_id: str) -> dict[str, int]:
        """Without the limits that nobody has set, one per type: there is none."""
        return dict(self._means.config.quotas) | quotas.limits_for(tx, project_id, DEFAULT_CLASS)

    def defaults(self) -> dict[str, int]:
        with self._means.db.read() as tx:
            return self._defaults(tx)

    def limits(self, project_id: str) -> dict[str, int]:
        with self._means.db.read() as tx:
            return self._limits(tx, project_id)

    def usages(self, project_id: str) -> dict[str, dict[str, int]]:
        """Limits with what is in use."""
        with self._means.db.read() as tx:
            limits = self._limits(tx, project_id)
            by_type = quotas.usage_by_type(tx, project_id)
            total = quotas.total(by_type.values())
            names = quotas.type_names(tx)
        used = {"volumes": total.volumes, "gigabytes": total.gigabytes, "snapshots": total.snapshots}
        for type_id, usage in by_type.items():
            name = names.get(type_id, "")
            used |= {
                f"volumes_{name}": usage.volumes,
                f"gigabytes_{name}": usage.gigabytes,
                f"snapshots_{name}": usage.snapshots,
            }
        return {key: {"limit": limit, "in_use": used.get(key, 0), "reserved": 0} for key, limit in limits.items()}

    def set_limits(self, project_id: str, wanted: Mapping[str, Any], *, skip_validation: bool = True) -> dict[str, int]:
        """Raises BadRequest for names that are none."""
        with self._means.db.write() as tx:
            limits = _checked(self._limits(tx, project_id), wanted)
            if not skip_validation:
                self._not_below_usage(tx, project_id, limits)
            quotas.put(tx, "project", project_id, limits)
            return self._limits(tx, project_id)

    @staticmethod
    def _not_below_usage(tx: Tx, project_id: str, limits: Mapping[str, int]) -> None:
        usage = quotas.usage(tx, project_id)
        used = {"volumes": usage.volumes, "gigabytes": usage.gigabytes, "snapshots": usage.snapshots}
        for name, limit in limits.items():
            if limit != -1 and limit < used.get(name, 0):
                raise BadRequest(f"Quota limit for {name} must be equal or greater than {used[name]}.")

    def set_defaults(self, wanted: Mapping[str, Any]) -> dict[str, int]:
        with self._means.db.write() as tx:
            quotas.put(tx, "class", DEFAULT_CLASS, _checked(self._defaults(tx), wanted))
            return self._defaults(tx)

    def reset(self, project_id: str) -> None:
        with self._means.db.write() as tx:
            quotas.reset(tx, "project", project_id)

    def take(
        self,
        tx: Tx,
        project_id: str,
        type_id: str,
        type_name: str,
        *,
        volumes: int = 0,
        gib: int = 0,
        snapshots: int = 0,
        size_gib: int = 0,
    ) -> None:
        """Raise unless this much more fits; inside the transaction that adds it, so that the count stays true.

        size_gib: of the one volume that is to have that size.
        """
        limits = self._set_limits(tx, project_id)
        limit = limits.get("per_volume_gigabytes", -1)
        if limit != -1 and size_gib > limit:
            raise SizeAboveLimit(size=size_gib, limit=limit)
        kinds = quotas.usage_by_type(tx, project_id)
        total = quotas.total(kinds.values())
        own = kinds.get(type_id, quotas.Usage())
        for suffix, usage in (("", total), (f"_{type_name}", own)):
            limit = limits.get(f"gigabytes{suffix}", -1)
            if gib and limit != -1 and usage.gigabytes + gib > limit:
                raise SizeAboveQuota(name=f"gigabytes{suffix}", requested=gib, quota=limit, consumed=usage.gigabytes)
            limit = limits.get(f"volumes{suffix}", -1)
            if volumes and limit != -1 and usage.volumes + volumes > limit:
                raise VolumeLimitExceeded(allowed=limit, name=f"volumes{suffix}")
            limit = limits.get(f"snapshots{suffix}", -1)
            if snapshots and limit != -1 and usage.snapshots + snapshots > limit:
                raise SnapshotLimitExceeded(allowed=limit, name=f"snapshots{suffix}")


def _checked(known: Mapping[str, int], wanted: Mapping[str, Any]) -> dict[str, int]:
    limits: dict[str, int] = {}
    for name, value in wanted.items():
        if name in {"tenant_id", "project_id", "id", "class_name", "force", "skip_validation"}:
            continue
        if name not in known and name not in QUOTAS:
            raise BadRequest(f"Bad key(s) in quota set: {name}")
        try:
            limit = int(value)
        except (TypeError, ValueError):
            raise BadRequest(f"Quota '{name}' limit must be an integer.") from None
        if limit < -1 or limit > 0x7FFFFFFF:
            raise BadRequest(f"Quota '{name}' limit must be -1 or between 0 and 2147483647.")
        limits[name] = limit
    return limits
