"""Stop, start, reboot, pause, suspend: one step each, on the server's host.

None has an undo: what a power action did to a guest cannot be taken back, and each may be asked for again.
"""

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import msgspec

from cumulet.compute.door import BlockDevice, HostTools, Interface, Server
from cumulet.core.saga import Flow, Run, Step
from cumulet.core.work import Slow
from cumulet.launch.networking import plug, wait_up

__all__ = ["PAUSE", "REBOOT", "RESUME", "START", "STOP", "SUSPEND", "UNPAUSE", "PowerRequest", "domain_of", "replug"]

SHUTDOWN_TIMEOUT_S = 60.0


class PowerRequest(msgspec.Struct, frozen=True, kw_only=True):
    """hard: pull the plug instead of pressing the button."""

    hard: bool = False


def domain_of(run: Run, *, interfaces: list[Interface] | None = None, devices: list[BlockDevice] | None = None) -> Any:
    """The server's domain, generated anew from its record."""
    tools: HostTools = run.tools
    server = run.subject_as(Server)
    base = tools.instances.base_of(server)
    return tools.domain(
        server,
        interfaces=server.interfaces if interfaces is None else interfaces,
        devices=server.block_devices if devices is None else devices,
        base=Path(base) if base else None,
        generation=run.generation,
    )


def replug(run: Run) -> Generator[Any, Any, None]:
    """The taps are there and the ports up: a tap may have gone with a reboot of the host."""
    tools: HostTools = run.tools
    server = run.subject_as(Server)
    for interface in server.interfaces:
        plug(run, interface)
    yield from wait_up(run, tools.credentials(run), server.interfaces)


def stop(run: Run) -> Generator[Any, Any, None]:
    tools: HostTools = run.tools
    timeout = 0.0 if run.input(PowerRequest).hard else SHUTDOWN_TIMEOUT_S
    yield Slow(tools.pool, lambda: tools.hypervisor.shutdown(run.subject_id, timeout_s=timeout))


def start(run: Run) -> Generator[Any, Any, None]:
    tools: HostTools = run.tools
    yield from replug(run)
    yield Slow(tools.pool, tools.hypervisor.start, (domain_of(run),))


def reboot(run: Run) -> Generator[Any, Any, None]:
    tools: HostTools = run.tools
    hard = run.input(PowerRequest).hard
    yield from replug(run)
    yield Slow(tools.pool, lambda: tools.hypervisor.reboot(domain_of(run), hard=hard, timeout_s=SHUTDOWN_TIMEOUT_S))


def _verb(name: str) -> Callable[[Run], Any]:
    """A step that is one verb of the hypervisor."""

    def do(run: Run) -> Generator[Any, Any, None]:
        yield Slow(run.tools.pool, getattr(run.tools.hypervisor, name), (run.subject_id,))

    return do


def _flow(name: str, action: str, do: Callable[[Run], Any], *, stage: str, what: str) -> Flow:
    step = Step(name=name, where="host", what=what, do=do, undo=None, stage=stage, timeout_s=300)
    return Flow(name=name, action=action, input=PowerRequest, steps=(step,))


STOP = _flow("stop", "stop", stop, stage="powering-off", what="shut the guest down")
START = _flow("start", "start", start, stage="powering-on", what="start the domain")
REBOOT = _flow("reboot", "reboot", reboot, stage="reboot_started", what="reboot the guest")
PAUSE = _flow("pause", "pause", _verb("pause"), stage="pausing", what="stop the guest's processors")
UNPAUSE = _flow("unpause", "unpause", _verb("unpause"), stage="unpausing", what="let the guest's processors go on")
SUSPEND = _flow("suspend", "suspend", _verb("suspend"), stage="suspending", what="save the guest's memory and stop it")
RESUME = _flow("resume", "resume", _verb("resume"), stage="resuming", what="go on from the saved memory")
