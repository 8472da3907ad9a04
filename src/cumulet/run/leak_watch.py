"""The leak check in the background, and what the cloud says of itself: /metrics for Prometheus, numbers for `cumulet status`."""

from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from cumulet.core.clock import Clock, seconds_between
from cumulet.core.db import Tx
from cumulet.core.meters import Histogram, render
from cumulet.core.policy import Policy
from cumulet.core.saga import Failure, Outcome, Saga, Step
from cumulet.core.saga.journal import Journal
from cumulet.core.web import App, Call, Get, Response
from cumulet.core.web.envelope import compute_error
from cumulet.core.web.route import PUBLIC
from cumulet.core.work import Slow, Worker
from cumulet.run.leaks import Leak, Look, in_order, look

if TYPE_CHECKING:
    from cumulet.run.services import Services

__all__ = ["LeakWatch", "MeteredLaunch", "Meters", "metrics_application", "overview"]

log = structlog.get_logger()

#: between the end of one look and the next
LOOK_S = 30.0
#: a look goes over everything there is: of the time it may take so small a part, so that a large cloud is looked at more seldom
LOOK_SHARE = 20
LAUNCH_BOUNDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0)
PORT_BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Meters:
    """What is counted as it happens, since the start."""

    def __init__(self) -> None:
        self.launches = {"done": 0, "failed": 0}
        self.launch_seconds = Histogram(LAUNCH_BOUNDS)
        self.port_up_seconds = Histogram(PORT_BOUNDS)


class MeteredLaunch(Outcome):
    """The launch's outcome, counted once its transaction has committed."""

    def __init__(self, inner: Outcome, meters: Meters, clock: Clock) -> None:
        self._inner = inner
        self._meters = meters
        self._clock = clock

    def started(self, tx: Tx, saga: Saga, step: Step) -> None:
        self._inner.started(tx, saga, step)

    def recorded(self, tx: Tx, saga: Saga, step: Step, output: Any) -> None:
        self._inner.recorded(tx, saga, step, output)

    def done(self, tx: Tx, saga: Saga, outputs: Mapping[str, Any]) -> None:
        self._inner.done(tx, saga, outputs)
        tx.after_commit.append(lambda: self._count(saga))

    def unwound(self, tx: Tx, saga: Saga, failure: Failure) -> None:
        self._inner.unwound(tx, saga, failure)
        tx.after_commit.append(self._failed)

    def _count(self, saga: Saga) -> None:
        self._meters.launches["done"] += 1
        self._meters.launch_seconds.observe(seconds_between(saga.requested_at, self._clock.now()))

    def _failed(self) -> None:
        self._meters.launches["failed"] += 1


class LeakWatch:
    """Looks every half minute, from a pool's thread.  A leak is what two complete looks, one after the other, agree on."""

    def __init__(self, services: "Services", worker: Worker, *, every_s: float = LOOK_S) -> None:
        self._services = services
        self._worker = worker
        self._every_s = every_s
        self._last: Look | None = None
        #: None until two looks have agreed
        self.leaks: list[Leak] | None = None
        self.guests: dict[str, int] = {}
        self.missing: tuple[str, ...] = ()
        self.looked_at: str | None = None
        self.seconds = 0.0

    def start(self) -> None:
        self._worker.after(self._every_s, self._begin)

    def _begin(self) -> None:
        def ended(_: Any, error: BaseException | None) -> None:
            if error is not None:  # the next look tries again; the number stays what it was
                log.error("leak check failed", exc_info=error)
            self._worker.after(max(self._every_s, self.seconds * LOOK_SHARE), self._begin)

        self._worker.go_on(self.look(), ended)

    def look(self) -> Generator[Slow, Any, None]:
        """One look, and what follows from it and the one before."""
        began = self._services.clock.monotonic()
        seen: Look = yield Slow("calls", look, (self._services,))
        self.seconds = self._services.clock.monotonic() - began
        self.looked_at = self._services.clock.now()
        self.missing, self.guests = seen.missing, seen.guests
        if not seen.complete:
            self._last = None
            return
        if self._last is not None:
            before = self.leaks
            self.leaks = in_order(self._last.leaks & seen.leaks)
            if self.leaks and self.leaks != before:
                log.error("leaks", number=len(self.leaks), leaks=[f"{leak.kind} {leak.id}" for leak in self.leaks[:20]])
        elif not seen.leaks:
            self.leaks = []  # what nothing was found in needs no second look
        self._last = seen


def _sagas(services: "Services") -> dict[tuple[str, str], int]:
    """Live sagas by flow and state, of both coordinators."""
    found: dict[tuple[str, str], int] = {}
    for db, coordinator in (
        (services.compute_db, services.coordinator),
        (services.volume.db, services.volume_parts.coordinator),
    ):
        journal: Journal = coordinator.journal
        with db.read() as tx:
            found |= journal.counts(tx)
    return found


def overview(services: "Services") -> dict[str, Any]:
    """What `cumulet status` shows of the inside."""
    watch, sagas = services.leak_watch, _sagas(services)
    return {
        "leaks": None if watch.leaks is None else [msgspec.to_builtins(leak) for leak in watch.leaks],
        "looked_at": watch.looked_at,
        "missing": list(watch.missing),
        "sagas": [{"flow": flow, "state": state, "number": n} for (flow, state), n in sorted(sagas.items())],
        "stuck": sum(n for (_, state), n in sagas.items() if state == "stuck"),
        "cured": sum(services.reconciler.cured.values()),
    }


def text(services: "Services") -> str:
    """Everything in Prometheus' format: numbers only, nothing that names a tenant."""
    watch, meters, sagas = services.leak_watch, services.meters, _sagas(services)
    lines: list[str] = []

    def tell(*metric: Any) -> None:
        lines.extend(render(*metric))

    if watch.leaks is not None:
        tell("cumulet_leaks", "gauge", "Things without an owner, by two looks that agree.", len(watch.leaks))
        by_kind: dict[tuple[tuple[str, str], ...], float] = {}
        for leak in watch.leaks:
            key = (("kind", leak.kind),)
            by_kind[key] = by_kind.get(key, 0) + 1
        tell("cumulet_leaks_by_kind", "gauge", "The same, by kind.", by_kind)
    tell("cumulet_check_complete", "gauge", "Whether all answered to the last look.", float(not watch.missing))
    tell("cumulet_check_seconds", "gauge", "How long the last look took.", watch.seconds)
    live = {(("flow", flow), ("state", state)): float(n) for (flow, state), n in sagas.items()}
    tell("cumulet_sagas", "gauge", "Long operations under way.", live)
    stuck = sum(n for (_, state), n in sagas.items() if state == "stuck")
    tell("cumulet_sagas_stuck", "gauge", "Those whose undo keeps failing.", stuck)
    cured = {(("kind", kind), ("state", state)): float(n) for (kind, state), n in services.reconciler.cured.items()}
    tell("cumulet_overdue_cured_total", "counter", "What was past its deadline, and was resumed or unwound.", cured)
    waiting = {(("queue", worker.name),): float(worker.waiting) for worker in services.workers()}
    tell("cumulet_queue_length", "gauge", "Pieces of work that wait for a thread.", waiting)
    launches = {(("outcome", outcome),): float(n) for outcome, n in meters.launches.items()}
    tell("cumulet_launches_total", "counter", "Launches that ended.", launches)
    tell("cumulet_launch_seconds", "histogram", "From the request to ACTIVE.", meters.launch_seconds)
    tell("cumulet_port_up_seconds", "histogram", "From a port's binding until it is up.", meters.port_up_seconds)
    guests = {(("state", state),): float(n) for state, n in watch.guests.items()}
    tell("cumulet_guests", "gauge", "Guests on the host, as the last look saw them.", guests)
    return "\n".join(lines) + "\n"


def metrics_application(services: "Services") -> App:
    """Mounted at /metrics; open, as Prometheus asks without a token, and only numbers."""

    def show(_: Call) -> Response:
        return Response(200, text(services), {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    return App(
        "metrics",
        [Get("/", show, may=PUBLIC)],
        service=services,
        policy=Policy([]),
        authenticate=services.authenticate,
        clock=services.clock,
        ids=services.ids,
        error=compute_error,
    )
