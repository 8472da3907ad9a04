"""A server's NICs: list, show, plug, unplug."""

from collections.abc import Generator
from typing import Any

from cumulet.compute.api.server_schemas import TAG
from cumulet.compute.api.subject import known_query, owned, service_of, settled
from cumulet.compute.records import Interface, Server
from cumulet.compute.service.devices import INTERFACE_TIMEOUT_S
from cumulet.core.errors import NotFound
from cumulet.core.web import Call, Delete, Field, Get, Post, Resource, Route
from cumulet.core.work import After

__all__ = ["ROUTES"]

_P = "os_compute_api:os-attach-interfaces:"
UUID: dict[str, Any] = {"type": "string", "format": "uuid"}
FIXED_IPS: dict[str, Any] = {
    "type": "array",
    "minItems": 1,
    "maxItems": 1,
    "items": {
        "type": "object",
        "properties": {"ip_address": {"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}},
        "required": ["ip_address"],
        "additionalProperties": False,
    },
}
NEW_INTERFACE = Resource(
    "interfaceAttachment",
    {
        "net_id": Field(UUID),
        "port_id": Field(UUID),
        "fixed_ips": Field(FIXED_IPS),
        "tag": Field(TAG, since=(2, 49)),
    },
)


def _shown(call: Call, nic: Interface, state: str) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "port_id": nic.port_id,
        "net_id": nic.network_id,
        "mac_addr": nic.mac,
        "port_state": state,
        "fixed_ips": [{"ip_address": one.address, "subnet_id": one.subnet_id} for one in nic.addresses],
    }
    if call.version >= (2, 70):
        shown["tag"] = nic.tag
    return shown


def _states(call: Call, server: Server) -> dict[str, str]:
    """The ports' states, as the network service has them now."""
    service = service_of(call)
    ports = service.doors.network.list_ports(service.credentials(call.context), device_id=server.id)
    return {port.id: port.status for port in ports}


def list_interfaces(call: Call, id: str) -> Any:
    server = owned(call, id, f"{_P}list")
    known_query(call)
    found = _states(call, server) if server.interfaces else {}
    return {"interfaceAttachments": [_shown(call, nic, found.get(nic.port_id, "DOWN")) for nic in server.interfaces]}


def show_interface(call: Call, id: str, port_id: str) -> Any:
    server = owned(call, id, f"{_P}show")
    nic = next((nic for nic in server.interfaces if nic.port_id == port_id), None)
    if nic is None:
        raise NotFound(f"Instance {id} does not have a port with id {port_id}")
    return {"interfaceAttachment": _shown(call, nic, _states(call, server).get(port_id, "DOWN"))}


def create_interface(call: Call, id: str) -> Generator[After, Any, Any]:
    """Answered when the guest has the NIC: the caller learns the port's id from the answer."""
    service, context = service_of(call), call.context
    server = yield from settled(call, id, f"{_P}create")
    saga_id = service.devices.attach_interface(context, service.credentials(context), server, call.body)
    saga = yield from service.devices.wait_for(saga_id, INTERFACE_TIMEOUT_S)
    service.devices.check_attached(saga)
    before = {nic.port_id for nic in server.interfaces}
    after = service.server(call, id)
    nic = next((nic for nic in reversed(after.interfaces) if nic.port_id not in before), None)
    if nic is None:
        raise NotFound(f"Instance {id} does not have the new port any more.")
    return {"interfaceAttachment": _shown(call, nic, _states(call, after).get(nic.port_id, "DOWN"))}


def delete_interface(call: Call, id: str, port_id: str) -> Generator[After, Any, None]:
    server = yield from settled(call, id, f"{_P}delete")
    service_of(call).devices.detach_interface(call.context, server, port_id)


_I = "/v2.1/servers/{id}/os-interface"

ROUTES: list[Route] = [
    Get(_I, list_interfaces, may=f"{_P}list"),
    Post(_I, create_interface, may=f"{_P}create", takes=NEW_INTERFACE, status=200),
    Get(_I + "/{port_id}", show_interface, may=f"{_P}show"),
    Delete(_I + "/{port_id}", delete_interface, may=f"{_P}delete", status=202),
]
