"""The places where faults on demand strike.  Nothing of this is in a cloud that was started without them.

Steps are wrapped in their flows' tables; requests are struck once they are known and allowed; a port's level is held down; a host's
queue and signs of life are cut.
"""

from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from cumulet.compute.messages import HostReport
from cumulet.compute.store import hosts
from cumulet.core.clock import add_seconds
from cumulet.core.errors import BadRequest, Unavailable
from cumulet.core.faults import Faults, InjectedFault
from cumulet.core.saga import Flow, Order, Run, Step
from cumulet.core.web import App, Call
from cumulet.core.work import TimedOutError, Until
from cumulet.network.service import NetworkService
from cumulet.volume.drivers.driver import VolumeBackendFull

if TYPE_CHECKING:
    from cumulet.compute.agent.service import Agent
    from cumulet.run.services import Services

__all__ = ["HeldPorts", "MortalHost", "check_names", "faulty", "strike_request"]

#: by flow and step: what reads or writes an image, and what takes room on a volume back end
_IMAGE_STEPS = frozenset(
    {
        ("launch", "load_image"),
        ("rebuild", "load_image"),
        ("snapshot", "upload_image"),
        ("volume_create", "create"),
        ("volume_upload", "upload"),
        ("volume_upload_of_guest", "upload"),
    }
)
_ROOM_STEPS = frozenset(
    {
        ("volume_create", "create"),
        ("volume_create_from_guest", "create"),
        ("volume_extend", "extend"),
        ("snapshot_create", "keep"),
        ("snapshot_create_of_guest", "keep"),
    }
)
#: a host that was not heard of for so long is down
SILENT_S = 3600.0


def faulty(flows: Iterable[Flow], faults: Faults | None) -> tuple[Flow, ...]:
    """The same flows, their steps struck by faults; without a registry the very same."""
    if faults is None:
        return tuple(flows)
    return tuple(
        msgspec.structs.replace(flow, steps=tuple(_faulty_step(flow.name, step, faults) for step in flow.steps))
        for flow in flows
    )


def _faulty_step(flow: str, step: Step, faults: Faults) -> Step:
    def fail(run: Run, when: str) -> None:
        """when: before or after the step's effect, or undo."""
        if faults.strike("step_fails", run.context.project_id, flow=flow, step=step.name, when=when):
            raise InjectedFault(f"A fault was injected: {step.what}.", detail=f"{flow}.{step.name}, {when}")

    def do(run: Run) -> Generator[Any, Any, Any]:
        project = run.context.project_id
        if (flow, step.name) in _IMAGE_STEPS and (slow := faults.strike("image_slow", project)):
            try:
                yield Until(("fault", slow.id), float(slow.params["seconds"]))
            except TimedOutError:
                run.note(f"an injected fault made this {slow.params['seconds']} s slower")
        if (flow, step.name) in _ROOM_STEPS and faults.strike("volume_full", project):
            raise VolumeBackendFull(detail="a fault was injected")
        fail(run, "before")
        result = step.do(run)
        if isinstance(result, Generator):
            result = yield from result
        fail(run, "after")
        return result

    def undo(run: Run) -> Any:
        fail(run, "undo")
        assert step.undo is not None  # noqa: S101 - else the step keeps its None
        return step.undo(run)

    return msgspec.structs.replace(step, do=do, undo=None if step.undo is None else undo)


def strike_request(faults: Faults) -> Callable[[App, Call], None]:
    """Answers requests with errors, once they are authenticated and allowed."""

    def strike(app: App, call: Call) -> None:
        route = f"{call.route.method} {call.route.path}"
        fault = faults.strike("api_error", call.context.project_id, service=app.name, route=route)
        if fault is not None:
            error = Unavailable if fault.params.get("status") == 503 else InjectedFault
            raise error(detail=f"injected by fault {fault.id}")

    return strike


class HeldPorts:
    """Ports that do not come up.  A port that was struck stays down for as long as the fault is there."""

    def __init__(self, network: NetworkService, faults: Faults) -> None:
        self._network = network
        self._faults = faults
        self._struck: dict[str, str] = {}

    def __call__(self, port_id: str) -> bool:
        by = self._struck.get(port_id)
        if by is None:
            fault = self._faults.strike("port_never_up", self._network.project_of_port(port_id))
            if fault is None:
                return False
            by = self._struck[port_id] = fault.id
        if self._faults.holds(by):
            return True
        del self._struck[port_id]
        return False

    def let_go(self) -> None:
        """A fault went: levels are as the data plane has them."""
        for port_id, by in list(self._struck.items()):
            if not self._faults.holds(by):
                self._struck.pop(port_id, None)
                self._network.levels.reread_port(port_id)


class MortalHost:
    """Stands before a host's agent: a dead one takes no orders, answers nothing and is not heard of."""

    def __init__(self, services: "Services", faults: Faults, host: str) -> None:
        self._services = services
        self._faults = faults
        self._host = host
        self._dead_by: str | None = None

    @property
    def dead(self) -> bool:
        return self._dead_by is not None

    def before(self, agent: "Agent") -> Any:
        """What is served on the host's queue in the agent's place."""
        return _Before(agent, self)

    def report(self) -> HostReport:
        """Raises Unavailable when it is dead."""
        if self._dead_by is not None and self._faults.holds(self._dead_by):
            raise Unavailable(detail=f"{self._host} is dead by an injected fault")
        return self._services.host_part.report()

    def look(self) -> None:
        """A fault came or went."""
        if self._dead_by is not None and self._faults.holds(self._dead_by):
            return
        fault = self._faults.strike("host_dies", None, host=self._host)
        was = self.dead
        self._dead_by = None if fault is None else fault.id
        services = self._services
        if self.dead and not was:
            self._reach(reachable=False)
            with services.compute_db.write() as tx:
                hosts.set_fields(tx, self._host, seen_at=add_seconds(services.clock.now(), -SILENT_S))
        elif was and not self.dead:
            self._reach(reachable=True)
            services.host_part.report_now()
            services.coordinator.host_started(self._host)  # a host that was dead has forgotten what it was told

    def _reach(self, *, reachable: bool) -> None:
        """A simulated hypervisor goes with its host; a real guest runs on beside an agent that is cut off."""
        set_reachable = getattr(self._services.machine.hypervisor, "set_reachable", None)
        if set_reachable is not None:
            set_reachable(reachable)


class _Before:
    """The agent's interface, as long as the host lives."""

    def __init__(self, agent: "Agent", host: MortalHost) -> None:
        self._agent = agent
        self._host = host

    def run(self, order: Order) -> None:
        if not self._host.dead:  # an order to a dead host is lost
            self._agent.run(order)

    def wake(self, kind: str, id: str, up: bool) -> None:
        self._agent.wake(kind, id, up)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._agent, name)

        def answer(*arguments: Any) -> Any:
            if self._host.dead:
                raise Unavailable(detail="the host is dead by an injected fault")
            return method(*arguments)

        return answer


def check_names(asked: dict[str, Any], services: "Services") -> None:
    """Raise BadRequest for a service, route, flow, step or host that this cloud does not have: such a fault would strike nowhere."""
    flows = services.flows
    steps = {flow.name: {step.name for step in flow.steps} for flow in flows}
    known: dict[str, set[str]] = {
        "service": set(services.apps),
        "flow": set(steps),
        "step": set().union(*steps.values()) if asked.get("flow") not in steps else steps[asked["flow"]],
        "host": {services.machine.host},
        "route": {
            f"{route.method} {route.path}"
            for name, app in services.apps.items()
            if asked.get("service") in {None, name}
            for route in app.router.routes
        },
    }
    for name, words in known.items():
        value = asked.get(name)
        if isinstance(value, str) and value not in words:
            shown = ", ".join(sorted(words)) if len(words) < 40 else f"{len(words)} of them"
            raise BadRequest(f"There is no {name} {value!r}; there are {shown}.")
