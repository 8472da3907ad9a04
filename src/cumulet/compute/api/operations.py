"""What the other services say, events from outside, and the list of extensions."""

from typing import Any

from cumulet.compute.api.subject import known_query, service_of
from cumulet.compute.store import servers
from cumulet.core.errors import NotFound
from cumulet.core.web import ANYONE, Call, Get, Post, Response, Route

__all__ = ["ROUTES"]

_P = "os_compute_api:"

EVENTS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "events": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {
                    "name": {
                        "enum": [
                            "network-changed",
                            "network-vif-plugged",
                            "network-vif-unplugged",
                            "network-vif-deleted",
                            "volume-extended",
                            "power-update",
                            "volume-reimaged",
                        ]
                    },
                    "server_uuid": {"type": "string", "format": "uuid"},
                    "status": {"enum": ["failed", "completed", "in-progress"]},
                    "tag": {"type": "string", "maxLength": 255},
                },
                "required": ["server_uuid", "name"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["events"],
    "additionalProperties": False,
}
#: since which version an event is known
SINCE = {"volume-extended": (2, 51), "power-update": (2, 76), "volume-reimaged": (2, 93)}


def external_events(call: Call) -> Response:
    """What another service has to tell about servers.

    Ports and volumes are watched directly where they are, so an event is only checked and acknowledged.
    """
    known_query(call)
    shown = []
    with service_of(call).db.read() as tx:
        for event in call.body["events"]:
            code = 400 if call.version < SINCE.get(event["name"], (2, 1)) else 200
            server = servers.get(tx, event["server_uuid"])
            if code == 200 and server is None:
                code = 404
            elif code == 200 and server is not None and server.host is None:
                code = 422
            shown.append(
                {**event, "status": "failed" if code != 200 else event.get("status", "completed"), "code": code}
            )
    if all(event["code"] != 200 for event in shown):
        raise NotFound("No instances found for any event")
    return Response(200 if all(event["code"] == 200 for event in shown) else 207, {"events": shown})


#: (alias, name) of what began as extensions and is built here
EXTENSIONS = (
    ("extensions", "Extensions"),
    ("flavors", "Flavors"),
    ("image-size", "ImageSize"),
    ("ips", "Ips"),
    ("limits", "Limits"),
    ("os-admin-actions", "AdminActions"),
    ("os-aggregates", "Aggregates"),
    ("os-attach-interfaces", "AttachInterfaces"),
    ("os-availability-zone", "AvailabilityZone"),
    ("os-block-device-mapping", "BlockDeviceMapping"),
    ("os-config-drive", "ConfigDrive"),
    ("os-console-output", "ConsoleOutput"),
    ("os-consoles", "Consoles"),
    ("os-disk-config", "DiskConfig"),
    ("os-extended-availability-zone", "ExtendedAvailabilityZone"),
    ("os-extended-server-attributes", "ExtendedServerAttributes"),
    ("os-extended-status", "ExtendedStatus"),
    ("os-extended-volumes", "ExtendedVolumes"),
    ("os-flavor-access", "FlavorAccess"),
    ("os-flavor-extra-specs", "FlavorExtraSpecs"),
    ("os-flavor-manage", "FlavorManage"),
    ("os-hosts", "Hosts"),
    ("os-hypervisors", "Hypervisors"),
    ("os-instance-actions", "InstanceActions"),
    ("os-keypairs", "Keypairs"),
    ("os-lock-server", "LockServer"),
    ("os-migrations", "Migrations"),
    ("os-multiple-create", "MultipleCreate"),
    ("os-pause-server", "PauseServer"),
    ("os-quota-class-sets", "QuotaClasses"),
    ("os-quota-sets", "Quotas"),
    ("os-remote-consoles", "Consoles"),
    ("os-scheduler-hints", "SchedulerHints"),
    ("os-security-groups", "SecurityGroups"),
    ("os-server-diagnostics", "ServerDiagnostics"),
    ("os-server-external-events", "ServerExternalEvents"),
    ("os-server-groups", "ServerGroups"),
    ("os-server-password", "ServerPassword"),
    ("os-server-usage", "ServerUsage"),
    ("os-services", "Services"),
    ("os-simple-tenant-usage", "SimpleTenantUsage"),
    ("os-suspend-server", "SuspendServer"),
    ("os-user-data", "UserData"),
    ("os-volumes", "Volumes"),
    ("server-metadata", "ServerMetadata"),
    ("servers", "Servers"),
    ("versions", "Versions"),
)


def _extension(alias: str, name: str) -> dict[str, Any]:
    return {
        "alias": alias,
        "name": name,
        "description": f"{name}.",
        "links": [],
        "namespace": "http://docs.openstack.org/compute/ext/fake_xml",
        "updated": "2014-12-03T00:00:00Z",
    }


def list_extensions(call: Call) -> Any:  # noqa: ARG001 - a handler's shape
    return {"extensions": [_extension(alias, name) for alias, name in EXTENSIONS]}


def show_extension(call: Call, alias: str) -> Any:  # noqa: ARG001 - a handler's shape
    known = dict(EXTENSIONS)
    if alias not in known:
        raise NotFound
    return {"extension": _extension(alias, known[alias])}


ROUTES: list[Route] = [
    Post(
        "/v2.1/os-server-external-events",
        external_events,
        may=f"{_P}os-server-external-events:create",
        takes=EVENTS,
        status=200,
    ),
    Get("/v2.1/extensions", list_extensions, may=ANYONE),
    Get("/v2.1/extensions/{alias}", show_extension, may=ANYONE),
]
