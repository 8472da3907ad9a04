"""A server as the API shows it, by microversion and by what the caller may see."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from cumulet.compute import states
from cumulet.compute.api.subject import service_of
from cumulet.compute.records import FlavorSnapshot, Interface, Server, host_id
from cumulet.core.clock import iso_z
from cumulet.core.web import Call

__all__ = ["Shown", "addresses", "brief", "detail", "flavor_fields", "plain"]

#: vm_states that show a fault
_FAULTY = {states.ERROR, states.DELETED}


def _links(call: Call, kind: str, id_: str) -> list[dict[str, str]]:
    base = call.request.base_url
    return [
        {"rel": "self", "href": f"{base}/v2.1/{kind}/{id_}"},
        {"rel": "bookmark", "href": f"{base.removesuffix('/v2.1')}/{kind}/{id_}"},
    ]


def brief(call: Call, server_id: str, name: str) -> dict[str, Any]:
    return {"id": server_id, "name": name, "links": _links(call, "servers", server_id)}


def addresses(interfaces: list[Interface]) -> dict[str, list[dict[str, Any]]]:
    """By network name: fixed addresses, each followed by the floating ones that lead to it."""
    found: dict[str, list[dict[str, Any]]] = {}
    for nic in interfaces:
        shown = found.setdefault(nic.network_name, [])
        for address in nic.addresses:
            entry = {"OS-EXT-IPS-MAC:mac_addr": nic.mac, "OS-EXT-IPS:type": "fixed"}
            shown.append({"version": address.version, "addr": address.address, **entry})
            for floating in address.floating:
                entry = {"OS-EXT-IPS-MAC:mac_addr": nic.mac, "OS-EXT-IPS:type": "floating"}
                shown.append({"version": 4, "addr": floating, **entry})
    return found


def plain(found: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Addresses without what began as extensions."""
    return {
        name: [{"version": entry["version"], "addr": entry["addr"]} for entry in entries]
        for name, entries in found.items()
    }


def flavor_fields(flavor: FlavorSnapshot, *, extra_specs: bool) -> dict[str, Any]:
    """A flavor as a server shows it from 2.47 on."""
    shown: dict[str, Any] = {
        "original_name": flavor.name,
        "vcpus": flavor.vcpus,
        "ram": flavor.ram_mb,
        "disk": flavor.disk_gb,
        "ephemeral": flavor.ephemeral_gb,
        "swap": flavor.swap_mb,
    }
    if extra_specs:
        shown["extra_specs"] = flavor.extra_specs
    return shown


class Shown:
    """Servers as JSON, kept while the record is the same object (the store gives out the same one while the row is the same).

    An entry has one text per way of seeing: microversion, URL, what policy shows to the caller, and how the server's host is.
    """

    def __init__(self, size_max: int) -> None:
        self._size_max = size_max
        self._kept: dict[str, tuple[Server, dict[Any, msgspec.Raw]]] = {}

    def of(self, call: Call, server: Server, hosts: Mapping[str, str]) -> msgspec.Raw:
        return self.each(call, [server], hosts)[0]

    def each(self, call: Call, servers: Sequence[Server], hosts: Mapping[str, str]) -> list[msgspec.Raw]:
        """Of all servers of a project on a host the way is the same: policy is asked once for them."""
        ways: dict[tuple[str, str | None], tuple[Any, ...]] = {}
        found = []
        for server in servers:
            place = (server.project_id, server.host)
            way = ways.get(place)
            if way is None:
                way = ways[place] = self._way(call, server.project_id, hosts.get(server.host or ""))
            found.append(self._text(call, server, hosts, way))
        return found

    @staticmethod
    def _way(call: Call, project: str, host_status: str | None) -> tuple[Any, ...]:
        version, rule = call.version, "os_compute_api:servers:show:host_status"
        return (
            version,
            call.request.base_url,
            "{id}" in call.route.path,
            call.context.is_admin,
            call.allowed("os_compute_api:os-extended-server-attributes", project_id=project),
            version >= (2, 47) and call.allowed("os_compute_api:os-flavor-extra-specs:index", project_id=project),
            version >= (2, 16) and call.allowed(rule, project_id=project),
            version >= (2, 16) and call.allowed(f"{rule}:unknown-only", project_id=project),
            host_status,
        )

    def _text(self, call: Call, server: Server, hosts: Mapping[str, str], way: tuple[Any, ...]) -> msgspec.Raw:
        there = self._kept.get(server.id)
        if there is None or there[0] is not server:
            if len(self._kept) >= self._size_max:
                for key in list(itertools.islice(self._kept, self._size_max // 8)):
                    self._kept.pop(key, None)
            there = self._kept[server.id] = (server, {})
        text = there[1].get(way)
        if text is None:
            text = there[1][way] = msgspec.Raw(_encode(detail(call, server, hosts=hosts)))
        return text


_encode = msgspec.json.Encoder().encode


def detail(call: Call, server: Server, *, after: str = "", hosts: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The whole server.  after: "update" or "rebuild", whose answers show less before 2.75; hosts: how every host is, where the
    caller has looked already."""
    version = call.version
    project = server.project_id
    shown: dict[str, Any] = {
        "id": server.id,
        "name": server.name,
        "status": states.status_of(server.vm_state, server.task_state),
        "tenant_id": project,
        "user_id": server.user_id,
        "metadata": server.metadata,
        "hostId": host_id(server.host, project),
        "image": _image(call, server),
        "flavor": _flavor(call, server),
        "created": iso_z(server.created_at),
        "updated": iso_z(server.updated_at),
        "addresses": plain(addresses(server.interfaces))
        if after and version < (2, 75)
        else addresses(server.interfaces),
        "accessIPv4": server.access_ip_v4 or "",
        "accessIPv6": server.access_ip_v6 or "",
        "links": _links(call, "servers", server.id),
        "OS-DCF:diskConfig": server.disk_config,
    }
    if server.vm_state in {states.ACTIVE, states.BUILDING} or server.task_state in {"rebuilding", "resize_prep"}:
        shown["progress"] = server.progress
    if server.fault is not None and server.vm_state in _FAULTY:
        shown["fault"] = _fault(call, server)
    if version >= (2, 9):
        shown["locked"] = server.locked
    if version >= (2, 19):
        shown["description"] = server.description
    if version >= (2, 26):
        shown["tags"] = server.tags
    if version >= (2, 63):
        shown["trusted_image_certificates"] = None
    if version >= (2, 73):
        shown["locked_reason"] = server.locked_reason
    if not after or version >= (2, 75):
        shown |= _extended(call, server, hosts)
    if version >= (2, 71) and "{id}" in call.route.path:
        shown["server_groups"] = [server.group_id] if server.group_id else []
    if after == "rebuild":
        # the one answer that shows user data to whoever sent it, under a name of its own
        shown.pop("OS-EXT-SRV-ATTR:user_data", None)
        if version >= (2, 54):
            shown["key_name"] = server.key_name
        else:
            shown.pop("key_name", None)
        if version >= (2, 57):
            shown["user_data"] = server.user_data
    return shown


def _extended(call: Call, server: Server, hosts: Mapping[str, str] | None) -> dict[str, Any]:
    """What began as extensions of the API."""
    version = call.version
    shown: dict[str, Any] = {
        "key_name": server.key_name,
        "config_drive": "True" if server.config_drive else "",
        "OS-EXT-AZ:availability_zone": server.availability_zone or server.requested_zone or "",
        "OS-EXT-STS:task_state": server.task_state,
        "OS-EXT-STS:vm_state": server.vm_state,
        "OS-EXT-STS:power_state": server.power_state,
        "OS-SRV-USG:launched_at": server.launched_at,
        "OS-SRV-USG:terminated_at": server.terminated_at,
        "os-extended-volumes:volumes_attached": _volumes(call, server),
    }
    names = [group.name for group in server.security_groups] or ["default"]
    if server.vm_state != states.BUILDING or server.interfaces or version >= (2, 75):
        shown["security_groups"] = [{"name": name} for name in names]
    if call.allowed("os_compute_api:os-extended-server-attributes", project_id=server.project_id):
        shown |= {
            "OS-EXT-SRV-ATTR:host": server.host,
            "OS-EXT-SRV-ATTR:hypervisor_hostname": server.node,
            "OS-EXT-SRV-ATTR:instance_name": f"instance-{server.id}",
        }
        if version >= (2, 3):
            shown |= {
                "OS-EXT-SRV-ATTR:reservation_id": server.reservation_id,
                "OS-EXT-SRV-ATTR:launch_index": server.launch_index,
                "OS-EXT-SRV-ATTR:hostname": server.hostname,
                "OS-EXT-SRV-ATTR:kernel_id": server.image_properties.get("kernel_id", ""),
                "OS-EXT-SRV-ATTR:ramdisk_id": server.image_properties.get("ramdisk_id", ""),
                "OS-EXT-SRV-ATTR:root_device_name": server.root_device_name,
                "OS-EXT-SRV-ATTR:user_data": server.user_data,
            }
    if version >= (2, 90):
        shown["OS-EXT-SRV-ATTR:hostname"] = server.hostname
    if version >= (2, 16):
        shown |= _host_status(call, server, hosts)
    if version >= (2, 96):
        shown["pinned_availability_zone"] = server.requested_zone
    return shown


def _host_status(call: Call, server: Server, hosts: Mapping[str, str] | None) -> dict[str, str]:
    """How the server's host is, to whom it may concern; some are told only that nobody knows."""
    rule = "os_compute_api:servers:show:host_status"
    all_of_it = call.allowed(rule, project_id=server.project_id)
    if not all_of_it and not call.allowed(f"{rule}:unknown-only", project_id=server.project_id):
        return {}
    known = service_of(call).fleet.host_statuses([server.host]) if hosts is None else hosts
    status = known.get(server.host or "", "")
    return {"host_status": status} if all_of_it or status == "UNKNOWN" else {}


def _image(call: Call, server: Server) -> Any:
    if server.image_id is None:
        return ""
    bookmark = call.request.base_url.removesuffix("/v2.1")
    return {"id": server.image_id, "links": [{"rel": "bookmark", "href": f"{bookmark}/images/{server.image_id}"}]}


def _flavor(call: Call, server: Server) -> dict[str, Any]:
    if call.version >= (2, 47):
        return flavor_fields(
            server.flavor,
            extra_specs=call.allowed("os_compute_api:os-flavor-extra-specs:index", project_id=server.project_id),
        )
    bookmark = call.request.base_url.removesuffix("/v2.1")
    links = [{"rel": "bookmark", "href": f"{bookmark}/flavors/{server.flavor.id}"}]
    return {"id": server.flavor.id, "links": links}


def _fault(call: Call, server: Server) -> dict[str, Any]:
    """The owner's words; the detail is for admins only."""
    assert server.fault is not None  # noqa: S101 - the caller looked
    shown = {"code": server.fault.code, "created": iso_z(server.fault.created), "message": server.fault.message}
    if call.context.is_admin and server.fault.details:
        shown["details"] = server.fault.details
    return shown


def _volumes(call: Call, server: Server) -> list[dict[str, Any]]:
    shown = []
    for device in server.block_devices:
        if device.destination != "volume" or device.volume_id is None:
            continue
        entry: dict[str, Any] = {"id": device.volume_id}
        if call.version >= (2, 3):
            entry["delete_on_termination"] = device.delete_on_termination
        shown.append(entry)
    return shown
