"""A server gets another flavor on its host: claim, restart with the new sizes, then confirm or revert.

While the resize waits for confirmation both flavors are claimed, the old one under a consumer of its own, so that a revert always fits.
"""

import contextlib
from collections.abc import Generator
from typing import Any

import msgspec

from cumulet.compute.door import ConductorTools, FlavorSnapshot, HostTools, RefitRequest, Server
from cumulet.core.errors import NotFound
from cumulet.core.saga import Flow, Run, Step
from cumulet.core.work import Slow
from cumulet.flows.power import replug

__all__ = ["CONFIRM_RESIZE", "RESIZE", "REVERT_RESIZE", "ResizeRequest"]


class ResizeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The new flavor, and the one to go back to."""

    new_flavor: FlavorSnapshot
    old_flavor: FlavorSnapshot
    was_stopped: bool = False


def claim(run: Run) -> None:
    """Make the server's claim that of the larger of both flavors in each resource: either fits from now on.

    The scheduler does it, as for a launch, and keeps why it could or could not.
    """
    tools: ConductorTools = run.tools
    request = run.input(ResizeRequest)
    asked = RefitRequest(
        order=tools.order(run),
        server=run.subject_as(Server),
        flavors=[request.old_flavor, request.new_flavor],
        action=run.flow.action,
    )
    run.note(tools.scheduler.refit(asked))


def claim_old(run: Run) -> None:
    """Back to the old flavor's resources."""
    tools: ConductorTools = run.tools
    tools.claim_flavors(run, run.subject_as(Server), [run.input(ResizeRequest).old_flavor])


def claim_new(run: Run) -> None:
    """Only the new flavor's resources."""
    tools: ConductorTools = run.tools
    tools.claim_flavors(run, run.subject_as(Server), [run.input(ResizeRequest).new_flavor])


def _shut_down(run: Run) -> Generator[Any, Any, None]:
    tools: HostTools = run.tools
    with contextlib.suppress(NotFound):  # rebuilt while it was stopped, the server has no domain before its next start
        yield Slow(tools.pool, lambda: tools.hypervisor.shutdown(run.subject_id, timeout_s=10.0))


def _restart(run: Run, flavor: FlavorSnapshot) -> Generator[Any, Any, None]:
    """Stop the guest, grow its root disk if the flavor's is larger, start it with the flavor's sizes."""
    tools: HostTools = run.tools
    request = run.input(ResizeRequest)
    server = msgspec.structs.replace(run.subject_as(Server), flavor=flavor)
    yield from _shut_down(run)
    yield Slow(tools.pool, tools.instances.grow_root, (server,))
    if request.was_stopped:
        return
    yield from replug(run)
    domain = tools.domain(
        server,
        interfaces=server.interfaces,
        devices=server.block_devices,
        base=tools.instances.base_of(server),
        generation=run.generation,
    )
    yield Slow(tools.pool, tools.hypervisor.start, (domain,))


def restart_new(run: Run) -> Generator[Any, Any, None]:
    """Run with the new flavor."""
    tools: HostTools = run.tools
    yield Slow(tools.pool, tools.instances.keep_root, (run.subject_id,))
    yield from _restart(run, run.input(ResizeRequest).new_flavor)


def restart_old(run: Run) -> Generator[Any, Any, None]:
    """Run with the old flavor again, on the root disk as it was."""
    tools: HostTools = run.tools
    server = run.subject_as(Server)
    yield from _shut_down(run)
    yield Slow(tools.pool, tools.instances.restore_root, (server.id,))
    yield from _restart(run, run.input(ResizeRequest).old_flavor)


def drop_kept_root(run: Run) -> Generator[Any, Any, None]:
    """The copy kept for a revert is no longer needed."""
    tools: HostTools = run.tools
    yield Slow(tools.pool, tools.instances.drop_kept_root, (run.subject_id,))


RESIZE = Flow(
    name="resize",
    action="resize",
    input=ResizeRequest,
    steps=(
        Step(
            name="claim_both",
            where="conductor",
            what="claim both flavors",
            do=claim,
            undo=claim_old,
            stage="resize_prep",
        ),
        Step(
            name="restart_new",
            where="host",
            what="restart with the new flavor",
            do=restart_new,
            undo=restart_old,
            stage="resize_migrating",
            timeout_s=600,
        ),
    ),
)

CONFIRM_RESIZE = Flow(
    name="confirm_resize",
    action="confirmResize",
    input=ResizeRequest,
    steps=(
        Step(name="drop_kept_root", where="host", what="drop the old root disk", do=drop_kept_root, undo=None),
        Step(
            name="claim_new",
            where="conductor",
            what="claim the new flavor only",
            do=claim_new,
            undo=None,
            keeps_on=True,
        ),
    ),
)

REVERT_RESIZE = Flow(
    name="revert_resize",
    action="revertResize",
    input=ResizeRequest,
    steps=(
        Step(
            name="restart_old",
            where="host",
            what="restart with the old flavor",
            do=restart_old,
            undo=None,
            stage="resize_reverting",
            timeout_s=600,
        ),
        Step(
            name="claim_old",
            where="conductor",
            what="claim the old flavor only",
            do=claim_old,
            undo=None,
            keeps_on=True,
        ),
    ),
)
