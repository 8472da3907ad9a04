"""A server goes: what runs on its host, then its ports, its volumes, its claim.  There is no way back, so a failing step is tried again."""

from collections.abc import Generator
from typing import Any

import msgspec

from cumulet.compute.door import ConductorTools, HostTools, Server
from cumulet.core.saga import Flow, Run, Step
from cumulet.core.work import Slow
from cumulet.launch.networking import give_back, unplug
from cumulet.launch.volumes import MARK, delete_volume

__all__ = ["DELETE", "DeleteRequest"]

OTHERS_TIMEOUT_S = 600.0


class DeleteRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing beyond the server's own record."""


def settle_others(run: Run) -> Generator[Any, Any, None]:
    """Wait until every other saga of the server has ended; a launch under way was told to turn back."""
    tools: ConductorTools = run.tools
    yield from tools.others.settle(run, timeout_s=OTHERS_TIMEOUT_S)


def destroy_domain(run: Run) -> Generator[Any, Any, None]:
    """Stop the domain, remove taps and files."""
    tools: HostTools = run.tools
    yield Slow(tools.pool, tools.hypervisor.destroy, (run.subject_id,))
    for port_id in tools.vif.ports_of(run.subject_id):
        unplug(tools, port_id)
    yield Slow(tools.pool, tools.instances.remove, (run.subject_id,))


def release_ports(run: Run) -> None:
    """Delete the ports that were made for the server, give back those the user brought."""
    tools: ConductorTools = run.tools
    server = run.subject_as(Server)
    own = tools.own(run)
    brought = {request.port_id for request in server.requested_networks or [] if request.port_id}
    brought |= {interface.port_id for interface in server.interfaces if not interface.created}
    give_back(tools, own, run.subject_id, brought)


def release_volumes(run: Run) -> None:
    """Delete the attachments, then the volumes that are to end with the server."""
    tools: ConductorTools = run.tools
    server = run.subject_as(Server)
    own = tools.own(run)
    for attachment in tools.volume.attachments_of(own, server_id=run.subject_id):
        tools.volume.delete_attachment(own, attachment.id)
    for device in server.block_devices:
        if device.destination != "volume" or not device.delete_on_termination:
            continue
        ids = (
            [device.volume_id] if device.volume_id else [v.id for v in tools.volume.list_marked(own, {MARK: device.id})]
        )
        for volume_id in ids:
            delete_volume(tools, own, volume_id)


def release_claim(run: Run) -> None:
    """Give the host's resources back."""
    tools: ConductorTools = run.tools
    tools.placement.release(run.subject_id, tools.own(run))


DELETE = Flow(
    name="delete",
    action="delete",
    input=DeleteRequest,
    forward_only=True,
    without_host=True,
    steps=(
        Step(
            name="settle_others",
            where="conductor",
            what="wait for other work on the server",
            do=settle_others,
            undo=None,
        ),
        Step(
            name="destroy_domain",
            where="host",
            what="stop the domain, remove its taps and files",
            do=destroy_domain,
            undo=None,
        ),
        Step(name="release_ports", where="conductor", what="release the ports", do=release_ports, undo=None),
        Step(name="release_volumes", where="conductor", what="release the volumes", do=release_volumes, undo=None),
        Step(name="release_claim", where="conductor", what="release the claim", do=release_claim, undo=None),
    ),
)
