"""Rows 15 and 16: allocate the server's ports and plug them into this host; OVN then says when they are up."""

import contextlib
from collections.abc import Generator
from typing import Any

import msgspec

from cumulet.compute.door import ConductorTools, FixedAddress, HostTools, Interface, NetworkRequest, Server
from cumulet.core.errors import NotFound, ServerFault
from cumulet.core.saga import Run
from cumulet.core.web.client import Credentials
from cumulet.core.work import TimedOutError, Until
from cumulet.launch import guest
from cumulet.network.door import PortInfo, mac_of

__all__ = [
    "BoundPorts",
    "all_up",
    "bind",
    "give_back",
    "plug",
    "plug_tap",
    "port_of",
    "say_up",
    "unbind",
    "unplug",
    "wait_up",
]

PORT_UP_TIMEOUT_S = 60.0


class PortNotUpError(ServerFault):
    """The network did not bring a port up in time."""

    default = "Virtual interface creation failed: the network did not bring the port up in time."


class BoundPorts(msgspec.Struct, frozen=True, kw_only=True):
    """The server's NICs in their order."""

    interfaces: list[Interface]


def bind(run: Run) -> Generator[Any, Any, BoundPorts]:
    """Create or take the ports, bind them to this host, and make their taps; beside that begin to make the guest where it can be.

    The taps are plugged, and OVN brings the ports up, some ten milliseconds in all, while the guest is made; it does not run
    before they are (row 19).
    """
    tools: HostTools = run.tools
    server = run.subject_as(Server)
    credentials = tools.credentials(run)
    requests = server.requested_networks or []
    if not requests:
        run.skip("no network asked for", row=16, name="network_answers")
        return BoundPorts(interfaces=[])
    asked = run.clock.now()
    begun = guest.may_begin(server)
    if begun:
        yield from guest.begin(run)
    # a step that runs again finds the ports that its first run made
    there = [] if run.first else tools.network.list_ports(credentials, device_id=server.id)
    interfaces = [port_of(run, credentials, server, request, there) for request in requests]
    if begun and any(interface.mac != mac_of(interface.port_id) for interface in interfaces):
        # another port of the network has the MAC that the guest was begun with: it is made anew, in row 19
        yield from guest.drop(run)
        begun = False
    for interface in interfaces:
        if not begun:
            tools.vif.make(interface.port_id, mac=interface.mac, server_id=server.id, mtu=interface.mtu)
        # before the guest can ask, somebody listens
        tools.metadata.join(interface.network_id, interface.port_id)
    run.served(16, "network_answers", asked, run.clock.now(), f"{_addresses(interfaces)}: bound")
    run.note(f"{len(interfaces)} port{'s' if len(interfaces) != 1 else ''}")
    return BoundPorts(interfaces=interfaces)


def port_of(
    run: Run, credentials: Credentials, server: Server, request: NetworkRequest, there: list[PortInfo]
) -> Interface:
    """The NIC of one request: the port named, one of `there` that fits (taken out of it), or a new one; bound to this host."""
    port = _port(run, credentials, server, request, there)
    return _interface(run.tools, credentials, port, request)


def _port(
    run: Run, credentials: Credentials, server: Server, request: NetworkRequest, there: list[PortInfo]
) -> PortInfo:
    """The port of one requested NIC, bound to this host."""
    tools: HostTools = run.tools
    if request.port_id is not None:
        return tools.network.bind_port(
            credentials, request.port_id, device_id=server.id, device_owner=_owner(server), host=tools.host
        )
    for port in there:
        if port.id == request.new.id if request.new is not None else _fits(port, request):
            there.remove(port)
            return port
    return tools.network.create_port(
        credentials,
        network_id=request.network_id or "",
        project_id=server.project_id,
        id=request.new.id if request.new is not None else None,
        device_id=server.id,
        device_owner=_owner(server),
        host=tools.host,
        fixed_ip=request.fixed_ip,
        security_groups=[group.id for group in server.security_groups] or None,
    )


def _fits(port: PortInfo, request: NetworkRequest) -> bool:
    return port.network_id == request.network_id and (request.fixed_ip is None or request.fixed_ip in port.addresses)


def _owner(server: Server) -> str:
    return f"compute:{server.availability_zone or 'nova'}"


def _interface(tools: HostTools, credentials: Credentials, port: PortInfo, request: NetworkRequest) -> Interface:
    if request.new is not None:
        name, mtu = request.new.network_name, request.new.mtu
    else:
        network = tools.network.get_network(credentials, port.network_id)
        name, mtu = network.name, network.mtu
    return Interface(
        port_id=port.id,
        network_id=port.network_id,
        network_name=name,
        mac=port.mac_address,
        mtu=mtu,
        addresses=tuple(
            FixedAddress(address=ip.ip_address, version=6 if ":" in ip.ip_address else 4, subnet_id=ip.subnet_id)
            for ip in port.fixed_ips
        ),
        created=request.port_id is None,
        tap=tools.vif.tap_name(port.id),
        tag=request.tag,
    )


def plug(run: Run, interface: Interface) -> None:
    """Make the tap and put it on the integration bridge."""
    tools: HostTools = run.tools
    plug_tap(tools, run.subject_id, interface)
    # before the guest can ask, somebody listens
    tools.metadata.join(interface.network_id, interface.port_id)


def plug_tap(tools: HostTools, server_id: str, interface: Interface) -> None:
    """Like `plug`, for a port that is answered for already.  On any thread."""
    tools.vif.plug(interface.port_id, mac=interface.mac, server_id=server_id, mtu=interface.mtu)


def unplug(tools: HostTools, port_id: str) -> None:
    """Take the tap off the bridge and away, and stop answering for the port."""
    tools.vif.unplug(port_id)
    tools.ports_up.take(port_id)
    tools.metadata.leave(port_id)


def _addresses(interfaces: list[Interface]) -> str:
    return ", ".join(address.address for nic in interfaces for address in nic.addresses)


def all_up(run: Run, interfaces: list[Interface]) -> bool:
    """Whether every port is up now.

    Not asked where the first run of the step that plugs them has ports that the launch made: nobody has plugged those yet.
    """
    if run.first and any(interface.created for interface in interfaces):
        return False
    tools: HostTools = run.tools
    credentials = tools.credentials(run)
    return all(tools.network.port_is_up(credentials, interface.port_id) for interface in interfaces)


def say_up(run: Run, interfaces: list[Interface]) -> None:
    """Row 16 ends when the ports are up."""
    if interfaces:
        now = run.clock.now()
        run.served(16, "network_answers", now, now, f"{_addresses(interfaces)}: bound, up")


def wait_up(run: Run, credentials: Credentials, interfaces: list[Interface]) -> Generator[Any, Any, None]:
    """Until each port is up: read the level, unless it was told with the event, then wait for the event, never polling."""
    tools: HostTools = run.tools
    for interface in interfaces:
        # the word that it is up may have come already
        while not (tools.ports_up.take(interface.port_id) or tools.network.port_is_up(credentials, interface.port_id)):
            try:
                yield Until(("port", interface.port_id), PORT_UP_TIMEOUT_S)
            except TimedOutError as error:
                if tools.network.port_is_up(credentials, interface.port_id):  # the event was a hint, and hints get lost
                    break
                raise PortNotUpError(detail=f"port {interface.port_id}: {error}") from error


def unbind(run: Run) -> Generator[Any, Any, None]:
    """Take away the guest that was begun; unplug every tap; delete the ports that the launch made, give back those the user brought."""
    yield from guest.end(run)
    tools: HostTools = run.tools
    server = run.subject_as(Server)
    credentials = tools.own(run)
    brought = {request.port_id for request in server.requested_networks or [] if request.port_id}
    for port_id in tools.vif.ports_of(run.subject_id):
        unplug(tools, port_id)
    give_back(tools, credentials, run.subject_id, brought)


def give_back(doors: HostTools | ConductorTools, own: Credentials, server_id: str, brought: set[str]) -> None:
    """Delete the server's ports, but for those that the user brought: these are untied."""
    for port in doors.network.list_ports(own, device_id=server_id):
        with contextlib.suppress(NotFound):  # gone meanwhile
            if port.id in brought:
                doors.network.unbind_port(own, port.id)
            else:
                doors.network.delete_port(own, port.id)
