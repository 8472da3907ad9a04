"""The guest: made, paused, while the network service makes its ports, as all that it needs to know of these is known before.

It is begun in row 15 and let run in row 19.  Who fails, or is turned back, in between undoes it with row 15.  A guest that must be told
of ports or volumes which others make is made in row 19 altogether.
"""

from collections.abc import Generator
from pathlib import Path
from typing import Any

from cumulet.compute.door import BlockDevice, Domain, HostTools, Interface, NetworkRequest, Server
from cumulet.core.saga import Run
from cumulet.core.work import After, Begin, Slow
from cumulet.launch.image import LoadedImage
from cumulet.launch.volumes import device_names
from cumulet.network.door import mac_of

__all__ = ["NAME", "begin", "drop", "end", "let_run", "may_begin", "prepared"]

#: what it is called among what a launch has under way
NAME = "guest"


def may_begin(server: Server) -> bool:
    """Whether all of the guest is known before there are ports; a config drive tells of their addresses."""
    new = all(request.new is not None for request in server.requested_networks or [])
    return new and not server.config_drive and all(device.destination == "local" for device in server.block_devices)


def begin(run: Run) -> Generator[Any, Any, None]:
    """Begin to make it, on ports that are yet to be made."""
    tools: HostTools = run.tools
    server = run.subject_as(Server)
    if NAME in run.under_way:  # by this step's first attempt
        return
    interfaces = [_interface(tools, request) for request in server.requested_networks or []]

    def prepare() -> Domain:
        for interface in interfaces:
            tools.vif.make(interface.port_id, mac=interface.mac, server_id=server.id, mtu=interface.mtu)
        return prepared(run, server, interfaces, device_names(server.block_devices))

    def make() -> bool:
        """Whether it runs already: in row 19, whose thread is otherwise told, and tells another."""
        tools.hypervisor.start(domain, True)
        runs = NAME in run.allowed
        if runs:
            tools.hypervisor.unpause(server.id)
        return runs

    # QEMU first, and only then what computes: it is QEMU that takes its time
    domain = yield Slow(tools.pool, prepare, (), server.project_id)
    run.under_way[NAME] = yield Begin(Slow(tools.pool, make, (), server.project_id))


def _interface(tools: HostTools, request: NetworkRequest) -> Interface:
    """What the guest must know of a NIC."""
    assert request.new is not None  # noqa: S101 - see `may_begin`
    return Interface(
        port_id=request.new.id,
        network_id=request.network_id or "",
        network_name=request.new.network_name,
        mac=mac_of(request.new.id),
        mtu=request.new.mtu,
        addresses=(),
        created=True,
        tap=tools.vif.tap_name(request.new.id),
        tag=request.tag,
    )


def prepared(run: Run, server: Server, interfaces: list[Interface], devices: list[BlockDevice]) -> Domain:
    """Make the server's files; the domain that stands on them.  On any thread."""
    tools: HostTools = run.tools
    image = run.output("load_image", LoadedImage) or LoadedImage(image_id=None)
    base = Path(image.base) if image.base else None
    tools.instances.prepare(server, interfaces, devices, base, image.direct)
    return tools.domain(server, interfaces=interfaces, devices=devices, base=base, generation=run.generation)


def let_run(run: Run) -> Generator[Any, Any, None]:
    """Have one that was begun run, as soon as it is made."""
    tools: HostTools = run.tools
    run.allowed.add(NAME)
    if not (yield After(run.under_way.pop(NAME))):
        yield Slow(tools.pool, tools.hypervisor.unpause, (run.subject_id,))


def drop(run: Run) -> Generator[Any, Any, None]:
    """Take away one that was begun, in this run of its step or in an earlier one; its files and taps are right whatever it was told."""
    tools: HostTools = run.tools
    if NAME in run.under_way:
        yield After(run.under_way.pop(NAME))
    yield Slow(tools.pool, tools.hypervisor.destroy, (run.subject_id,))


def end(run: Run) -> Generator[Any, Any, None]:
    """Stop the domain if there is one, and remove the server's files."""
    tools: HostTools = run.tools
    yield Slow(tools.pool, tools.hypervisor.destroy, (run.subject_id,))
    yield Slow(tools.pool, tools.instances.remove, (run.subject_id,))
