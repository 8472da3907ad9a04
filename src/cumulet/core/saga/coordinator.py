"""The coordinator: owns the sagas of one service's database, runs their steps or sends them to hosts, and unwinds what fails.

One worker thread runs `advance` for a saga whenever something about it changed: it was created, a host recorded, a deadline passed,
the process started again.  `advance` reads the log and does the next thing, so it may be called at any time and any number of times.
"""

from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any, Protocol

import msgspec
import structlog

from cumulet.core.clock import Clock, add_seconds
from cumulet.core.context import Context
from cumulet.core.db import Database, Tx
from cumulet.core.errors import CloudError
from cumulet.core.ids import Ids
from cumulet.core.saga.flow import Flow, Run, Step
from cumulet.core.saga.journal import Journal, Saga, StepRow
from cumulet.core.saga.messages import Entry, Failure, Fetch, Order, Record, WorkSheet
from cumulet.core.work import TimedOutError, Worker

__all__ = ["Coordinator", "Outcome", "failpoint_off", "failure_of"]

log = structlog.get_logger()

#: how often an order is sent again before its step counts as failed
ORDERS_MAX = 3
UNDO_TRIES_MAX = 5
UNDO_RETRY_S = 2.0
STUCK_RETRY_S = 60.0


class Outcome(Protocol):
    """What a flow means for its subject's own record.  Each runs inside the transaction that records the event."""

    def started(self, tx: Tx, saga: Saga, step: Step) -> None:
        """A step began."""

    def recorded(self, tx: Tx, saga: Saga, step: Step, output: Any) -> None:
        """A step is done; its output may belong on the subject's record."""

    def done(self, tx: Tx, saga: Saga, outputs: Mapping[str, Any]) -> None:
        """Every step is done."""

    def unwound(self, tx: Tx, saga: Saga, failure: Failure) -> None:
        """Everything that began is undone."""


def failpoint_off(name: str) -> None:
    """Where a test may kill the process.  Does nothing."""


def failure_of(error: BaseException) -> Failure:
    """An error in two languages: the tenant's and the operator's."""
    if isinstance(error, CloudError):
        return Failure(message=error.message, detail=error.detail or "", code=error.status, kind=error.kind)
    if isinstance(error, TimedOutError):
        return Failure(message="A part of the operation did not finish in time.", detail=str(error), kind="Timeout")
    return Failure(message="An internal error occurred.", detail=repr(error), kind=type(error).__name__)


class Coordinator:
    """See the module's docstring.

    describe(tx, saga): the subject's record for a host's work sheet.  order(host, order): sends an order.  tools: what steps that run
    here may use.  outcomes: by flow name.  failpoint(name): called at each boundary, for kill tests.
    """

    def __init__(
        self,
        db: Database,
        journal: Journal,
        *,
        flows: Iterable[Flow],
        outcomes: Mapping[str, Outcome],
        describe: Callable[[Tx, Saga], Any],
        order: Callable[[str, Order], None],
        tools: Any,
        worker: Worker,
        clock: Clock,
        ids: Ids,
        owner: str,
        failpoint: Callable[[str], None] = failpoint_off,
    ) -> None:
        self._db = db
        self.journal = journal
        self.flows = {flow.name: flow for flow in flows}
        self._outcomes = outcomes
        self._describe = describe
        self._order = order
        self._tools = tools
        self._worker = worker
        self._clock = clock
        self._ids = ids
        self._owner = owner
        self._failpoint = failpoint
        self._busy: set[str] = set()
        #: the users' tokens of sagas that began in this process: in memory only
        self._tokens: dict[str, str] = {}
        self._watchers: dict[str, list[Callable[[Saga], None]]] = {}

    # --- beginning -----------------------------------------------------------------------------------------------------------------

    def begin(
        self, tx: Tx, flow: Flow, *, subject_id: str, context: Context, input: msgspec.Struct, host: str | None = None
    ) -> str:
        """Write a new saga into the caller's transaction; it starts when that has committed.  Returns its id."""
        saga = Saga(
            id=self._ids.uuid(),
            flow=flow.name,
            subject_id=subject_id,
            project_id=context.project_id,
            request_id=context.request_id,
            context=context,
            input=input,
            state="running",
            generation=1,
            owner=self._owner,
            host=host,
            attempts=0,
            deadline=None,
            failure=None,
            requested_at=context.arrived or self._clock.now(),
            started_at=self._clock.now(),
            finished_at=None,
        )
        self.journal.add(tx, saga)
        token = context.token
        if token:
            tx.after_commit.append(lambda: self._tokens.__setitem__(saga.id, token))
        tx.after_commit.append(lambda: self.kick(saga.id))
        return saga.id

    def kick(self, saga_id: str) -> None:
        """Look at a saga soon.  Any thread may call it."""
        self._worker.post(lambda: self.advance(saga_id))

    def adopt(self) -> int:
        """At start: take over every saga that has not ended, under a new generation.  Returns how many."""
        with self._db.write() as tx:
            sagas = self.journal.live(tx)
            for saga in sagas:
                self.journal.change(
                    tx, saga, generation=saga.generation + 1, owner=self._owner, attempts=0, deadline=None
                )
        for saga in sagas:
            self.kick(saga.id)
        return len(sagas)

    def watch(self, saga_id: str, ended: Callable[[Saga], None]) -> None:
        """Call `ended` once the saga has ended (at once when it has)."""

        def register() -> None:
            with self._db.read() as tx:
                saga = self.journal.get(tx, saga_id)
            if saga is None or not saga.live:
                if saga is not None:
                    ended(saga)
                return
            self._watchers.setdefault(saga_id, []).append(ended)

        self._worker.post(register)

    # --- going on ------------------------------------------------------------------------------------------------------------------

    def advance(self, saga_id: str) -> None:
        """Do the next thing of a saga.  On the worker."""
        if saga_id in self._busy:
            return
        with self._db.read() as tx:
            saga = self.journal.get(tx, saga_id)
            steps = self.journal.steps(tx, saga_id) if saga else []
        if saga is None or not saga.live:
            return
        flow = self.flows[saga.flow]
        if saga.state == "running":
            self._forward(saga, flow, steps)
        else:
            self._backward(saga, flow, steps)

    def _forward(self, saga: Saga, flow: Flow, steps: list[StepRow]) -> None:
        done = {step.name for step in steps if step.state in {"done", "skipped"}}
        step = next((step for step in flow.steps if step.name not in done), None)
        if step is None:
            self._finish(saga, flow, steps)
        elif step.where == "conductor":
            self._run_here(saga, flow, step, steps)
        elif saga.host is None and flow.without_host:
            self._skip(saga, step)
        else:
            self._send_order(saga, flow, step)

    def _skip(self, saga: Saga, step: Step) -> None:
        now = self._clock.now()
        with self._db.write() as tx:
            if not self._own(tx, saga):
                return
            self.journal.begin_step(tx, saga.id, step.name, row=step.row, host=None, at=now)
            self.journal.set_step(
                tx, saga.id, step.name, state="skipped", finished_at=now, detail="the server is on no host"
            )
        self.advance(saga.id)

    def _run_here(self, saga: Saga, flow: Flow, step: Step, steps: list[StepRow]) -> None:
        self._failpoint(f"{flow.name}.{step.name}.before")
        with self._db.write() as tx:
            if not self._own(tx, saga):
                return
            self.journal.begin_step(tx, saga.id, step.name, row=step.row, host=self._owner, at=self._clock.now())
            self._outcomes[flow.name].started(tx, saga, step)
            subject = self._describe(tx, saga)
        run = self._run(saga, flow, steps, subject)
        self._busy.add(saga.id)

        def ended(value: Any, error: BaseException | None) -> None:
            self._busy.discard(saga.id)
            self._failpoint(f"{flow.name}.{step.name}.after")
            recorded = True
            if error is not None:
                self._fail(saga, step, failure_of(error), error)
            else:
                recorded = self._step_done(saga, step, run, value)
            if step.hands_over and error is None and recorded:
                self._expect(saga, step)
            elif error is not None and flow.forward_only:
                self._try_again(saga)
            else:
                self.advance(saga.id)

        self._start(step.do, run, ended)

    def _start(
        self, function: Callable[[Run], Any], run: Run, ended: Callable[[Any, BaseException | None], None]
    ) -> None:
        try:
            result = function(run)
        except Exception as error:  # noqa: BLE001 - any failure of a step unwinds its saga
            ended(None, error)
            return
        if isinstance(result, Generator):
            self._worker.go_on(result, ended)
        else:
            ended(result, None)

    def _step_done(self, saga: Saga, step: Step, run: Run, output: Any) -> bool:
        """False when the saga was turned back meanwhile."""
        now = self._clock.now()
        entries = [
            *run.take_notes(),
            Entry(step=step.name, event="done", at=now, output=output, detail=run.take_detail()),
        ]
        record = Record(saga_id=saga.id, generation=saga.generation, host=self._owner, entries=entries)
        return self.record(record, advance=False)

    def _send_order(self, saga: Saga, flow: Flow, step: Step) -> None:
        host = saga.host
        if host is None:
            self._fail(saga, step, Failure(message="The server is on no host.", kind="NoHost"), None)
            if flow.forward_only:
                self._try_again(saga)  # a kick would be a loop without a pause
            else:
                self.kick(saga.id)
            return
        if saga.attempts >= ORDERS_MAX and not flow.forward_only:
            words = f"The host did not finish the step '{step.what}' in time."
            self._fail(
                saga, step, Failure(message=words, detail=f"{host}: {saga.attempts} orders", kind="Timeout"), None
            )
            self.kick(saga.id)
            return
        self._expect(saga, step)
        self._order(host, self.order_for(saga))

    def order_for(self, saga: Saga) -> Order:
        """The order that makes a host run what is due of a saga."""
        return Order(
            saga_id=saga.id,
            generation=saga.generation,
            flow=saga.flow,
            subject_id=saga.subject_id,
            request_id=saga.request_id,
            token=self._tokens.get(saga.id),
            sent_at=self._clock.now(),
        )

    def _expect(self, saga: Saga, step: Step) -> None:
        """Set the deadline by which a host must have recorded something."""
        with self._db.write() as tx:
            current = self.journal.get(tx, saga.id)
            if current is None or not current.live or current.generation != saga.generation:
                return
            deadline = add_seconds(self._clock.now(), step.timeout_s)
            self.journal.change(tx, current, deadline=deadline, attempts=current.attempts + 1)
        self._worker.after(step.timeout_s, lambda: self._overdue(saga.id, deadline))

    def _overdue(self, saga_id: str, deadline: str) -> None:
        with self._db.read() as tx:
            saga = self.journal.get(tx, saga_id)
        if saga is not None and saga.live and saga.deadline == deadline:
            log.warning("saga overdue", saga=saga_id, flow=saga.flow, attempts=saga.attempts)
            self.advance(saga_id)

    def _own(self, tx: Tx, saga: Saga) -> bool:
        current = self.journal.get(tx, saga.id)
        return current is not None and current.generation == saga.generation and current.state == saga.state

    def _run(self, saga: Saga, flow: Flow, steps: list[StepRow], subject: Any) -> Run:
        return Run(
            saga_id=saga.id,
            generation=saga.generation,
            flow=flow,
            subject_id=saga.subject_id,
            context=saga.context,
            input=saga.input,
            subject=subject,
            outputs={step.name: step.output for step in steps if step.output is not None},
            token=self._tokens.get(saga.id),
            host=self._owner,
            tools=self._tools,
            clock=self._clock,
            ids=self._ids,
        )

    # --- ends ----------------------------------------------------------------------------------------------------------------------

    def _finish(self, saga: Saga, flow: Flow, steps: list[StepRow]) -> None:
        with self._db.write() as tx:
            if not self.journal.change(tx, saga, state="done", finished_at=self._clock.now(), deadline=None):
                return  # turned back, or taken over, in the last moment
            self._outcomes[flow.name].done(tx, saga, {step.name: step.output for step in steps})
        self._ended(saga.id)

    def _fail(self, saga: Saga, step: Step, failure: Failure, error: BaseException | None) -> None:
        log.warning(
            "saga step failed",
            saga=saga.id,
            flow=saga.flow,
            step=step.name,
            subject=saga.subject_id,
            reason=failure.message,
            detail=failure.detail,
            exc_info=error if error is not None and not isinstance(error, CloudError) else None,
        )
        with self._db.write() as tx:
            self._fail_in(tx, saga, step.name, failure)

    def _fail_in(self, tx: Tx, saga: Saga, step: str, failure: Failure) -> None:
        current = self.journal.get(tx, saga.id)
        if current is None or current.state != "running" or current.generation != saga.generation:
            return
        self.journal.set_step(tx, saga.id, step, state="failed", finished_at=self._clock.now(), failure=failure)
        if self.flows[saga.flow].forward_only:
            # no way back: the step is tried again, later each time
            self.journal.change(tx, current, failure=failure, deadline=None, attempts=current.attempts + 1)
            return
        self.journal.change(
            tx,
            current,
            state="unwinding",
            generation=current.generation + 1,
            failure=failure,
            attempts=0,
            deadline=None,
        )

    def _try_again(self, saga: Saga) -> None:
        self._worker.after(min(STUCK_RETRY_S, UNDO_RETRY_S * 2 ** min(saga.attempts, 8)), lambda: self.advance(saga.id))

    def cancel(self, tx: Tx, saga: Saga, failure: Failure) -> None:
        """Turn a running saga back, inside the caller's transaction."""
        if self.flows[saga.flow].forward_only or saga.state != "running":
            return
        self.journal.change(
            tx, saga, state="unwinding", generation=saga.generation + 1, failure=failure, attempts=0, deadline=None
        )
        tx.after_commit.append(lambda: self.kick(saga.id))

    def _ended(self, saga_id: str) -> None:
        self._worker.signal(("saga", saga_id))
        self._tokens.pop(saga_id, None)
        watchers = self._watchers.pop(saga_id, [])
        if watchers:
            with self._db.read() as tx:
                saga = self.journal.get(tx, saga_id)
            for ended in watchers:
                if saga is not None:
                    ended(saga)

    # --- unwinding -----------------------------------------------------------------------------------------------------------------

    def _backward(self, saga: Saga, flow: Flow, steps: list[StepRow]) -> None:
        began = {step.name for step in steps if step.state in {"started", "done", "failed", "undoing"}}
        due = next((step for step in reversed(flow.steps) if step.name in began), None)
        if due is None:
            failure = saga.failure or Failure(message="The operation was cancelled.")
            with self._db.write() as tx:
                if not self.journal.change(tx, saga, state="unwound", finished_at=self._clock.now(), deadline=None):
                    return
                self._outcomes[flow.name].unwound(tx, saga, failure)
            self._ended(saga.id)
        elif due.undo is None:
            with self._db.write() as tx:
                if self._own(tx, saga):
                    self.journal.set_step(tx, saga.id, due.name, state="undone")
            self.kick(saga.id)
        elif due.where == "conductor":
            self._undo_here(saga, flow, due, steps)
        elif saga.host is None:
            with self._db.write() as tx:
                self.journal.set_step(tx, saga.id, due.name, state="undone")
            self.kick(saga.id)
        else:
            self._expect(saga, due)
            self._order(saga.host, self.order_for(saga))

    def _undo_here(self, saga: Saga, flow: Flow, step: Step, steps: list[StepRow]) -> None:
        assert step.undo is not None  # noqa: S101 - the caller chose it so
        with self._db.write() as tx:
            if not self._own(tx, saga):
                return
            self.journal.set_step(tx, saga.id, step.name, state="undoing", undo_started_at=self._clock.now())
            subject = self._describe(tx, saga)
        run = self._run(saga, flow, steps, subject)
        self._busy.add(saga.id)

        def ended(_: Any, error: BaseException | None) -> None:
            self._busy.discard(saga.id)
            event = "undone" if error is None else "undo_failed"
            entry = Entry(
                step=step.name, event=event, at=self._clock.now(), failure=None if error is None else failure_of(error)
            )
            self.record(Record(saga_id=saga.id, generation=saga.generation, host=self._owner, entries=[entry]))

        self._start(step.undo, run, ended)

    # --- what hosts say (SagaJournal) ----------------------------------------------------------------------------------------------

    def fetch(self, request: Fetch) -> WorkSheet | None:
        """A host asks for a saga's data; the hops of the flow's table are written down on the way."""
        received = self._clock.now()
        with self._db.write() as tx:
            saga = self.journal.get(tx, request.saga_id)
            if saga is None or not saga.live or saga.generation != request.generation or saga.host != request.host:
                return None
            flow = self.flows[saga.flow]
            steps = self.journal.steps(tx, saga.id)
            subject = self._describe(tx, saga)
            answered = self._clock.now()
            if flow.hops and saga.state == "running":
                sent, asked, answers, _ = flow.hops
                note = self.journal.note
                started = next((s.started_at for s in steps if s.row == sent and s.started_at), request.received_at)
                note(
                    tx,
                    saga.id,
                    "cast_to_host",
                    row=sent,
                    host=request.host,
                    started_at=started,
                    finished_at=request.received_at,
                    detail="on the host's queue",
                )
                note(
                    tx,
                    saga.id,
                    "ask_conductor",
                    row=asked,
                    host=request.host,
                    started_at=request.asked_at,
                    finished_at=received,
                    detail="asked for the server's data",
                )
                note(
                    tx,
                    saga.id,
                    "conductor_answers",
                    row=answers,
                    host=self._owner,
                    started_at=received,
                    finished_at=answered,
                    detail="read from the database",
                )
        return WorkSheet(
            saga_id=saga.id,
            generation=saga.generation,
            flow=saga.flow,
            unwinding=saga.state != "running",
            subject_id=saga.subject_id,
            context=saga.context,
            input=saga.input,
            subject=msgspec.to_builtins(subject),
            outputs={step.name: step.output for step in steps if step.output is not None},
            finished=[step.name for step in steps if step.state in {"done", "skipped"}],
            started=[step.name for step in steps if step.state in {"started", "done", "failed", "undoing"}],
            answered_at=answered,
        )

    def record(self, record: Record, *, advance: bool = True) -> bool:
        """Write a place's events in one transaction; then look at the saga again if the next thing is not that place's own."""
        undo_failed = False
        with self._db.write() as tx:
            saga = self.journal.get(tx, record.saga_id)
            if saga is None or not saga.live or saga.generation != record.generation:
                return False
            flow = self.flows[saga.flow]
            for entry in record.entries:
                if entry.event == "undo_failed":
                    undo_failed = True
                self._write(tx, saga, flow, entry, record.host)
            if saga.deadline is not None and saga.state == "running":
                self._extend(tx, saga, flow, record)
        last = record.entries[-1]
        if undo_failed:
            self._undo_failed(saga, flow, last)
        elif last.event == "failed" and flow.forward_only:
            self._try_again(saga)
        elif advance and last.event in {"done", "failed", "undone"}:
            self.kick(record.saga_id)
        return True

    def _extend(self, tx: Tx, saga: Saga, flow: Flow, record: Record) -> None:
        """A host that records is alive: its next step has its own time."""
        started = next((entry for entry in reversed(record.entries) if entry.event == "started"), None)
        if started is None:
            return
        timeout = flow.step(started.step).timeout_s
        deadline = add_seconds(self._clock.now(), timeout)
        current = self.journal.get(tx, saga.id)
        if current is not None and current.state == "running":
            self.journal.change(tx, current, deadline=deadline, attempts=1)
            tx.after_commit.append(lambda: self._worker.after(timeout, lambda: self._overdue(saga.id, deadline)))

    def _write(self, tx: Tx, saga: Saga, flow: Flow, entry: Entry, host: str) -> None:
        journal, saga_id = self.journal, saga.id
        if entry.event == "note":
            assert entry.row is not None  # noqa: S101 - notes are rows of the table
            journal.note(
                tx,
                saga_id,
                entry.step,
                row=entry.row,
                host=host,
                started_at=entry.at,
                finished_at=entry.finished_at,
                detail=entry.detail,
            )
            return
        step = flow.step(entry.step)
        if entry.event == "started":
            journal.begin_step(tx, saga_id, step.name, row=step.row, host=host, at=entry.at)
            self._outcomes[flow.name].started(tx, saga, step)
        elif entry.event == "done":
            journal.set_step(
                tx, saga_id, step.name, state="done", finished_at=entry.at, output=entry.output, detail=entry.detail
            )
            self._outcomes[flow.name].recorded(tx, saga, step, msgspec.to_builtins(entry.output))
        elif entry.event == "failed":
            failure = entry.failure or Failure(message="The step failed.")
            log.warning(
                "saga step failed",
                saga=saga_id,
                flow=flow.name,
                step=step.name,
                host=host,
                subject=saga.subject_id,
                reason=failure.message,
                detail=failure.detail,
            )
            self._fail_in(tx, saga, step.name, failure)
        elif entry.event == "undoing":
            journal.set_step(tx, saga_id, step.name, state="undoing", undo_started_at=entry.at)
        elif entry.event == "undone":
            journal.set_step(tx, saga_id, step.name, state="undone", undo_finished_at=entry.at)
        elif entry.event == "undo_failed":
            journal.set_step(
                tx, saga_id, step.name, state="undoing", detail=(entry.failure.detail if entry.failure else "")
            )

    def _undo_failed(self, saga: Saga, flow: Flow, entry: Entry) -> None:
        """Try again soon; after some tries leave the saga visible as stuck, and try now and then."""
        with self._db.write() as tx:
            current = self.journal.get(tx, saga.id)
            if current is None or not current.live or current.state == "running":
                return
            steps = self.journal.steps(tx, saga.id)
            tries = next((s.attempts for s in steps if s.name == entry.step), 0)
            self.journal.set_step(tx, saga.id, entry.step, attempts=tries + 1)
            stuck = tries >= UNDO_TRIES_MAX
            if stuck and current.state != "stuck":
                self.journal.change(tx, current, state="stuck")
        log.error("undo failed", saga=saga.id, flow=flow.name, step=entry.step, tries=tries, failure=entry.failure)
        self._worker.after(STUCK_RETRY_S if stuck else UNDO_RETRY_S, lambda: self.advance(saga.id))
