"""Steps that are wrong on purpose: what chaos must find, or it proves nothing.  Only its own worlds are ever given these flows."""

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

import msgspec

from cumulet.compute.door import Server
from cumulet.core.saga import Flow, Run
from cumulet.launch import networking
from cumulet.launch.flow import LAUNCH
from cumulet.run import server_flows

__all__ = ["FLOWS"]


def _launch(step_name: str, **changes: Any) -> Sequence[Flow]:
    """All flows, with one step of the launch changed."""
    steps = tuple(msgspec.structs.replace(step, **changes) if step.name == step_name else step for step in LAUNCH.steps)
    broken = msgspec.structs.replace(LAUNCH, steps=steps)
    return tuple(broken if flow.name == LAUNCH.name else flow for flow in server_flows.FLOWS)


def _bind_anew(run: Run) -> networking.BoundPorts:
    """Not idempotent: does not look for the ports that an earlier run of it made, and lets others choose their ids."""
    tools = run.tools
    server, credentials = run.subject_as(Server), tools.credentials(run)
    requests = [msgspec.structs.replace(one, new=None) for one in server.requested_networks or []]
    interfaces = [networking.port_of(run, credentials, server, one, []) for one in requests]
    for interface in interfaces:
        networking.plug(run, interface)
    return networking.BoundPorts(interfaces=interfaces)


def _load_and_bind(load: Callable[[Run], Any]) -> Callable[[Run], Generator[Any, Any, Any]]:
    """Recorded late: the ports are made before it is written down that their step began."""

    def do(run: Run) -> Generator[Any, Any, Any]:
        loaded = yield from load(run)
        _bind_anew(run)
        return loaded

    return do


#: by the name that `./dev chaos --broken` takes
FLOWS: Mapping[str, Sequence[Flow]] = {
    "undo-missing": _launch("bind_ports", undo=None),
    "not-idempotent": _launch("bind_ports", do=_bind_anew),
    "recorded-late": _launch("load_image", do=_load_and_bind(LAUNCH.step("load_image").do)),
}
