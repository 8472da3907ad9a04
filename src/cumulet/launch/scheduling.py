"""Rows 7 to 9: ask the scheduler for a host; it claims the resources and passes the order on to the host."""

from cumulet.compute.door import ConductorTools, Selected, SelectRequest, Server
from cumulet.core.saga import Run
from cumulet.launch.request import LaunchRequest

__all__ = ["HAND_OVER_S", "ask", "release"]

#: how long choosing a host may take, and then how long the host to take up its work
HAND_OVER_S = 60.0


def ask(run: Run) -> Selected:
    """Ask for a host on the scheduler's queue.  The scheduler takes the resources in one allocation and writes the host down."""
    tools: ConductorTools = run.tools
    selected: Selected = tools.scheduler.select(
        SelectRequest(
            order=tools.order(run),
            server=run.subject_as(Server),
            asked_at=run.clock.now(),
            hand_over_s=HAND_OVER_S,
            exclude=run.input(LaunchRequest).exclude_hosts,
        )
    )
    return selected


def release(run: Run) -> None:
    """Give the resources back.  The server is the allocation's key, so a second call finds nothing to do."""
    tools: ConductorTools = run.tools
    tools.placement.release(run.subject_id, tools.own(run))
