"""The host's side of a saga: runs the steps that belong to a host, one server at a time, and records through the coordinator.

A host never touches the database.  It is ordered to run a saga (a hint), asks for its data, runs its steps in order and records each
boundary; "done n" and "started n+1" travel in one message.  An order that comes while the same server is at work waits for its turn,
so an undo never overtakes an action.
"""

from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from typing import Any, Final

import structlog

from cumulet.core.clock import Clock
from cumulet.core.errors import CloudError, Unavailable
from cumulet.core.ids import Ids
from cumulet.core.saga.failing import failpoint_off, failure_of
from cumulet.core.saga.flow import Flow, Run, Step
from cumulet.core.saga.messages import Entry, Failure, Fetch, Order, Record, SagaJournal, WorkSheet
from cumulet.core.work import After, TimedOutError, Until, Worker

__all__ = ["Executor"]

log = structlog.get_logger()

#: how long a step asks again for what is away, and the first pause: a dead daemon of the host is mostly back within half a second
AWAY_S: Final = 10.0
AWAY_PAUSE_S: Final = 0.2
#: after which an order is begun anew whose coordinator was out of reach
AGAIN_S: Final = 5.0


#: a step's output, or what it failed with
_End = tuple[Any, Exception | None]


class Executor:
    """Implements StepRunner for one host."""

    def __init__(
        self,
        host: str,
        *,
        flows: Iterable[Flow],
        journal: SagaJournal,
        tools: Any,
        worker: Worker,
        clock: Clock,
        ids: Ids,
        failpoint: Callable[[str], None] = failpoint_off,
    ) -> None:
        self._host = host
        self._flows = {flow.name: flow for flow in flows}
        self._journal = journal
        self._tools = tools
        self._worker = worker
        self._clock = clock
        self._ids = ids
        self._failpoint = failpoint
        #: by subject: the orders that wait for the one at work
        self._queues: dict[str, list[tuple[Order, str]]] = {}

    def run(self, order: Order) -> None:
        """Take an order.  On the worker."""
        received = self._clock.now()
        waiting = self._queues.get(order.subject_id)
        if waiting is not None:
            if any(self._same(one, order) for one, _ in waiting):
                return
            waiting.append((order, received))
            with suppress(CloudError):  # a sign that the order is here, and need not be sent again
                self._journal.fetch(self._question(order))
            return
        self._queues[order.subject_id] = []
        self._begin(order, received)

    @staticmethod
    def _same(one: Order, other: Order) -> bool:
        return one.saga_id == other.saga_id and one.generation == other.generation

    def _question(self, order: Order) -> Fetch:
        return Fetch(saga_id=order.saga_id, generation=order.generation, host=self._host)

    def _begin(self, order: Order, received: str) -> None:
        def ended(_: Any, error: BaseException | None) -> None:
            if error is not None:
                log.error("order failed", saga=order.saga_id, flow=order.flow, exc_info=error)
            if isinstance(error, CloudError):
                # the coordinator was out of reach; what was done is not recorded, and so is done again, until it says that it is too late
                self._worker.after(AGAIN_S, lambda: self.run(order))
            waiting = self._queues[order.subject_id]
            if waiting:
                self._begin(*waiting.pop(0))
            else:
                del self._queues[order.subject_id]

        self._worker.go_on(self._work(order, received), ended)

    def _work(self, order: Order, received: str) -> Generator[Any, Any, None]:
        asked = self._clock.now()
        sheet = self._journal.fetch(self._question(order))
        if sheet is None:
            return
        flow = self._flows[sheet.flow]
        run = Run(
            saga_id=sheet.saga_id,
            generation=sheet.generation,
            flow=flow,
            subject_id=sheet.subject_id,
            context=sheet.context,
            input=sheet.input,
            subject=sheet.subject,
            outputs=dict(sheet.outputs),
            token=order.token,
            host=self._host,
            tools=self._tools,
            clock=self._clock,
            ids=self._ids,
        )
        try:
            if sheet.unwinding:
                yield from self._undo(flow, run, sheet)
            else:
                yield from self._do(
                    flow, run, sheet, [] if flow.hops is None else self._hops(flow.hops, order, received, asked, sheet)
                )
        except Exception:  # raised again
            yield from self._ended(run)
            raise
        yield from self._ended(run)

    @staticmethod
    def _ended(run: Run) -> Generator[Any, Any, None]:
        """All that the steps have begun: what comes next, an undo above all, must not overtake it."""
        for future in run.under_way.values():
            with suppress(Exception):  # for the step that would have waited for it
                yield After(future)

    def _hops(
        self, hops: tuple[int, int, int, int], order: Order, received: str, asked: str, sheet: WorkSheet
    ) -> list[Entry]:
        """The messages' way here, and to the coordinator and back, as rows of the flow's table."""
        times = (
            ("cast_to_host", order.sent_at or received, received, "on the host's queue"),
            ("ask_conductor", asked, sheet.received_at, "asked for the server's data"),
            ("conductor_answers", sheet.received_at, sheet.answered_at, "read from the database"),
            ("pick_up_answer", sheet.answered_at, self._clock.now(), "picked up the answer"),
        )
        return [
            Entry(step=name, event="note", row=row, at=began, finished_at=ended, detail=detail)
            for row, (name, began, ended, detail) in zip(hops, times, strict=True)
        ]

    def _do(self, flow: Flow, run: Run, sheet: WorkSheet, ahead: list[Entry]) -> Generator[Any, Any, None]:
        """The steps; `ahead` is what the next record says besides."""
        for step in self._due(flow, sheet):
            ahead.append(Entry(step=step.name, event="started", at=self._clock.now()))
            light = step.light is not None and step.light(run)
            if not light and not self._tell(run, ahead):
                return
            self._failpoint(f"{flow.name}.{step.name}.before")
            run.first = sheet.generation == 1 and step.name not in sheet.started
            work = self._end_of(step, run)
            end = yield from self._told_late(run, work, ahead) if light else work
            if end is None:
                return
            output, error = end
            if error is not None:  # any failure of a step unwinds its saga
                if not isinstance(error, CloudError):
                    log.error("step failed", saga=run.saga_id, flow=flow.name, step=step.name, exc_info=error)
                self._tell(run, [*ahead, *run.take_notes(), self._failed(step, failure_of(error))])
                return
            self._failpoint(f"{flow.name}.{step.name}.after")
            run.keep(step.name, output)
            done = Entry(step=step.name, event="done", at=self._clock.now(), output=output, detail=run.take_detail())
            ahead += [*run.take_notes(), done]
        if ahead:
            self._tell(run, ahead)

    def _end_of(self, step: Step, run: Run) -> Generator[Any, Any, _End]:
        try:
            return (yield from self._attempt(step, run)), None
        except Exception as error:  # noqa: BLE001 - handed to whoever asked
            return None, error

    def _told_late(
        self, run: Run, work: Generator[Any, Any, _End], ahead: list[Entry]
    ) -> Generator[Any, Any, _End | None]:
        """A light step's end: what is ahead is told when it first waits, and left when it never does.  None: it is another's saga now."""
        try:
            piece = next(work)
            if not self._tell(run, ahead):
                return None
            while True:
                try:
                    value = yield piece
                except Exception as error:  # noqa: BLE001 - what it waits for has failed: the step decides
                    piece = work.throw(error)
                else:
                    piece = work.send(value)
        except StopIteration as stop:
            end: _End = stop.value
            return end

    def _attempt(self, step: Step, run: Run) -> Generator[Any, Any, Any]:
        """The step's output.

        What it finds away may be starting again at this moment, as a daemon of the host that died is.  So the step runs again, as it
        may at any time, until it counts as failed.
        """
        ends = self._clock.monotonic() + AWAY_S
        pause_s = AWAY_PAUSE_S
        while True:
            try:
                output = step.do(run)
                if isinstance(output, Generator):
                    output = yield from output
            except CloudError as error:
                if error.status != Unavailable.status or self._clock.monotonic() + pause_s > ends:
                    raise
                log.warning("step found something away", saga=run.saga_id, step=step.name, detail=error.detail)
            else:
                return output
            run.first = False
            run.take_notes()
            run.take_detail()
            with suppress(TimedOutError):  # its only end: not everything that may be away tells when it is back
                yield Until(("away", run.saga_id), pause_s)
            pause_s *= 2

    def _due(self, flow: Flow, sheet: WorkSheet) -> list[Step]:
        """This host's next steps: the first stretch of "host" steps that are not done."""
        due: list[Step] = []
        for step in flow.steps:
            if step.name in sheet.finished:
                continue
            if step.where != "host":
                break
            due.append(step)
        return due

    def _undo(self, flow: Flow, run: Run, sheet: WorkSheet) -> Generator[Any, Any, None]:
        began = set(sheet.started)
        for step in reversed(flow.steps):
            if step.name not in began:
                continue
            if step.where != "host":
                return
            output = None
            if step.undo is not None:
                if not self._tell(run, [Entry(step=step.name, event="undoing", at=self._clock.now())]):
                    return
                self._failpoint(f"{flow.name}.{step.name}.undo")
                try:
                    output = step.undo(run)
                    if isinstance(output, Generator):
                        output = yield from output
                except Exception as error:  # told to the coordinator, which tries again
                    log.exception("undo failed", saga=run.saga_id, flow=flow.name, step=step.name)
                    failed = Entry(step=step.name, event="undo_failed", at=self._clock.now(), failure=failure_of(error))
                    self._tell(run, [failed])
                    return
            if not self._tell(run, [Entry(step=step.name, event="undone", at=self._clock.now(), output=output)]):
                return

    def _failed(self, step: Step, failure: Failure) -> Entry:
        return Entry(step=step.name, event="failed", at=self._clock.now(), failure=failure)

    def _tell(self, run: Run, entries: list[Entry]) -> bool:
        """Whether the saga is still this run's.  What was told is taken out of `entries`."""
        record = Record(saga_id=run.saga_id, generation=run.generation, host=self._host, entries=entries)
        goes_on: bool = self._journal.record(record)
        entries.clear()
        return goes_on
