"""What there is: services, pools, zones, capabilities, extensions."""

from typing import Any

from cumulet.core.clock import iso_seconds, seconds_between
from cumulet.core.errors import NotFound
from cumulet.core.web import ANYONE, Call, Get, Put
from cumulet.volume.api import listing
from cumulet.volume.api.caller import service
from cumulet.volume.records import Pool
from cumulet.volume.scheduler.service import DOWN_AFTER_S
from cumulet.volume.store import pools, volumes

__all__ = ["ROUTES"]

_EXTENSIONS = (
    ("os-availability-zone", "AvailabilityZones"),
    ("os-extended-snapshot-attributes", "ExtendedSnapshotAttributes"),
    ("os-quota-class-sets", "Quota_classes"),
    ("os-quota-sets", "Quotas"),
    ("os-services", "Services"),
    ("os-types-extra-specs", "TypesExtraSpecs"),
    ("os-types-manage", "TypesManage"),
    ("os-used-limits", "UsedLimits"),
    ("os-vol-host-attr", "VolumeHostAttribute"),
    ("os-vol-image-meta", "VolumeImageMetadata"),
    ("os-vol-mig-status-attr", "VolumeMigStatusAttribute"),
    ("os-vol-tenant-attr", "VolumeTenantAttribute"),
    ("os-volume-actions", "VolumeActions"),
    ("os-volume-transfer", "VolumeTransfer"),
    ("os-volume-type-access", "VolumeTypeAccess"),
    ("os-admin-actions", "AdminActions"),
    ("os-snapshot-actions", "SnapshotActions"),
    ("qos-specs", "Qos_specs_manage"),
    ("capabilities", "Capabilities"),
    ("scheduler-stats", "Scheduler_stats"),
)


def _pools(call: Call) -> list[Pool]:
    with service(call).db.read() as tx:
        return pools.all_pools(tx)


def _up(call: Call, pool: Pool) -> bool:
    return seconds_between(pool.seen_at, service(call).means.clock.now()) < DOWN_AFTER_S


def list_services(call: Call) -> Any:
    zone = service(call).means.config.zone
    now = service(call).means.clock.now()
    scheduler: dict[str, Any] = {
        "binary": "cinder-scheduler",
        "host": "volume-scheduler",
        "zone": zone,
        "status": "enabled",
        "state": "up",
        "updated_at": iso_seconds(now),
        "disabled_reason": None,
    }
    rows = [scheduler]
    for pool in _pools(call):
        row: dict[str, Any] = {
            "binary": "cinder-volume",
            "host": pool.host,
            "zone": pool.zone,
            "status": "disabled" if pool.disabled else "enabled",
            "state": "up" if _up(call, pool) else "down",
            "updated_at": iso_seconds(pool.seen_at),
            "disabled_reason": pool.disabled_reason,
            "replication_status": "disabled",
            "active_backend_id": None,
            "frozen": False,
        }
        if call.version >= (3, 49):
            row["backend_state"] = "up" if _up(call, pool) else "down"
        rows.append(row)
    if call.version >= (3, 7):
        for row in rows:
            row["cluster"] = None
    binary, host = call.one("binary"), call.one("host")
    return {
        "services": [
            row
            for row in rows
            if (binary is None or row["binary"] == binary)
            and (host is None or host in {row["host"], row["host"].partition("@")[0]})
        ]
    }


def _switch(call: Call, *, disabled: bool, reason: str | None = None) -> dict[str, Any]:
    body = call.body
    host, binary = body["host"], body.get("binary") or body.get("service") or "cinder-volume"
    with service(call).db.write() as tx:
        if not pools.set_fields(tx, host, disabled=disabled, disabled_reason=reason):
            raise NotFound(f"Service {binary} could not be found on host {host}.")
    status = "disabled" if disabled else "enabled"
    return {"host": host, "service": binary, "binary": binary, "disabled": disabled, "status": status}


def enable_service(call: Call) -> Any:
    return {**_switch(call, disabled=False), "disabled_reason": None}


def disable_service(call: Call) -> Any:
    return _switch(call, disabled=True)


def disable_with_reason(call: Call) -> Any:
    reason = call.body["disabled_reason"]
    return {**_switch(call, disabled=True, reason=reason), "disabled_reason": reason}


def list_zones(call: Call) -> Any:
    names = sorted({service(call).means.config.zone, *(pool.zone for pool in _pools(call))})
    return {"availabilityZoneInfo": [{"zoneName": name, "zoneState": {"available": True}} for name in names]}


def list_pools(call: Call) -> Any:
    config = service(call).means.config
    with service(call).db.read() as tx:
        found = pools.all_pools(tx)
        promised = volumes.promised(tx)
    shown: list[dict[str, Any]] = []
    for pool in found:
        entry: dict[str, Any] = {"name": pool.name}
        if listing.flag(call, "detail"):
            entry["capabilities"] = {
                "volume_backend_name": pool.backend,
                "pool_name": pool.pool,
                "vendor_name": pool.vendor,
                "driver_version": "1.0",
                "storage_protocol": pool.protocol,
                "total_capacity_gb": pool.total_gib,
                "free_capacity_gb": pool.free_gib,
                "provisioned_capacity_gb": promised.get(pool.name, 0),
                "allocated_capacity_gb": promised.get(pool.name, 0),
                "max_over_subscription_ratio": str(config.oversubscription),
                "reserved_percentage": config.reserved_percentage,
                "thin_provisioning_support": pool.thin,
                "thick_provisioning_support": not pool.thin,
                "QoS_support": False,
                "multiattach": pool.multiattach,
                "timestamp": iso_seconds(pool.seen_at),
                "backend_state": "up" if _up(call, pool) else "down",
            }
        shown.append(entry)
    return {"pools": shown}


def show_capabilities(call: Call, host: str) -> Any:
    name = host.partition("#")[0]
    pool = next((pool for pool in _pools(call) if name in {pool.host, pool.host.partition("@")[0]}), None)
    if pool is None:
        raise NotFound(f"Unable to find volume backend: {host}")
    return {
        "namespace": f"OS::Storage::Capabilities::{pool.host}",
        "vendor_name": pool.vendor,
        "volume_backend_name": pool.backend,
        "pool_name": pool.pool,
        "driver_version": "1.0",
        "storage_protocol": pool.protocol,
        "display_name": None,
        "description": None,
        "visibility": None,
        "replication_targets": [],
        "properties": {
            "thin_provisioning": {
                "title": "Thin Provisioning",
                "description": "Sets thin provisioning.",
                "type": "boolean",
            }
        },
    }


def list_extensions(call: Call) -> Any:  # noqa: ARG001 - the same for all
    return {
        "extensions": [
            {"alias": alias, "name": name, "description": name, "links": [], "updated": "2013-01-01T00:00:00+00:00"}
            for alias, name in _EXTENSIONS
        ]
    }


_HOST = {
    "type": "object",
    "properties": {
        "host": {"type": "string", "minLength": 1, "maxLength": 255},
        "binary": {"type": "string", "maxLength": 255},
        "service": {"type": "string", "maxLength": 255},
        "disabled_reason": {"type": "string", "minLength": 1, "maxLength": 255},
    },
    "required": ["host"],
    "additionalProperties": False,
}
_UPDATE = "volume_extension:services:update"

ROUTES = [
    Get("/v3/os-services", list_services, may="volume_extension:services:index"),
    Put("/v3/os-services/enable", enable_service, may=_UPDATE, takes=_HOST),
    Put("/v3/os-services/disable", disable_service, may=_UPDATE, takes=_HOST),
    Put(
        "/v3/os-services/disable-log-reason",
        disable_with_reason,
        may=_UPDATE,
        takes={**_HOST, "required": ["host", "disabled_reason"]},
    ),
    Get("/v3/os-availability-zone", list_zones, may="volume_extension:availability_zone_list"),
    Get("/v3/scheduler-stats/get_pools", list_pools, may="scheduler_extension:scheduler_stats:get_pools"),
    Get("/v3/capabilities/{host}", show_capabilities, may="volume_extension:capabilities"),
    Get("/v3/extensions", list_extensions, may=ANYONE),
]
