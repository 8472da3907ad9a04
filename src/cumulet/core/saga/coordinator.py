"""The coordinator: owns the sagas of one service's database, runs their steps or sends them to hosts, and unwinds what fails.

One worker thread runs `advance` for a saga whenever something about it changed: it was created, a host recorded, a deadline passed,
the process started again.  `advance` reads the log and does the next thing, so it may be called at any time and any number of times.
"""

from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any

import msgspec
import structlog

from cumulet.core.clock import Clock, add_seconds
from cumulet.core.context import Context
from cumulet.core.db import Database, Tx
from cumulet.core.errors import CloudError
from cumulet.core.ids import Ids
from cumulet.core.saga.failing import failpoint_off, failure_of
from cumulet.core.saga.flow import Flow, Run, Step
from cumulet.core.saga.journal import Journal, Saga, StepRow
from cumulet.core.saga.ledger import Ledger, Outcome
from cumulet.core.saga.messages import Entry, Failure, Fetch, Order, Record, WorkSheet
from cumulet.core.saga.orders import Orders
from cumulet.core.work import Worker

__all__ = ["Coordinator"]

log = structlog.get_logger()

#: how often an order is sent again before its step counts as failed
ORDERS_MAX = 3
#: a deadline is looked at a little after it
DEADLINE_SLACK_S = 0.01
UNDO_TRIES_MAX = 5
UNDO_RETRY_S = 2.0
STUCK_RETRY_S = 60.0
#: after a failure of the coordinator's own, a database that refuses above all
LOOK_AGAIN_S = 2.0


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
        self._ledger = Ledger(journal, self.flows, outcomes, clock)
        #: sagas with a step at work here, and the generation it works for
        self._busy: dict[str, int] = {}
        #: sagas whose first step was written down as they began
        self._fresh: set[str] = set()
        #: the users' tokens of sagas that began in this process: in memory only
        self._tokens: dict[str, str] = {}
        #: what hosts were told to do
        self.orders = Orders(clock)
        self._watchers: dict[str, list[Callable[[Saga], None]]] = {}

    # --- beginning -----------------------------------------------------------------------------------------------------------------

    def begin(
        self, tx: Tx, flow: Flow, *, subject_id: str, context: Context, input: msgspec.Struct, host: str | None = None
    ) -> str:
        """Write a new saga into the caller's transaction; it starts when that has committed.  Returns its id.

        What would be written before its first step is written here too.  From here on the saga is resumed whatever happens, so
        this transaction is made durable, and the later ones need not be: what a loss of power takes from the log is done again.
        """
        now = self._clock.now()
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
            requested_at=context.arrived or now,
            started_at=now,
            finished_at=None,
        )
        first = self.flows[flow.name].steps[0]
        if first.where == "conductor":
            self.journal.add(tx, saga)
            self._ledger.started(tx, saga, flow, first, host=self._owner, at=now)
        elif host is not None:  # it is ordered at once
            deadline = add_seconds(now, first.timeout_s)
            self.journal.add(tx, msgspec.structs.replace(saga, deadline=deadline, attempts=1))
        else:
            self.journal.add(tx, saga)
        tx.durable = True
        tx.after_commit.append(lambda: self._begun(saga.id, context.token))
        return saga.id

    def begin_unwinding(
        self,
        tx: Tx,
        flow: Flow,
        *,
        subject_id: str,
        project_id: str | None,
        input: msgspec.Struct,
        host: str | None,
        failure: Failure,
    ) -> str:
        """For a subject whose saga was lost: one that undoes every step, as each may have begun.  Returns its id."""
        now = self._clock.now()
        context = Context(user_id="", project_id=project_id, request_id=self._ids.request_id(), arrived=now)
        saga_id = self.begin(tx, flow, subject_id=subject_id, context=context, input=input, host=host)
        for step in flow.steps:
            self.journal.begin_step(tx, saga_id, step.name, row=step.row, host=host, at=now)
        saga = self.journal.get(tx, saga_id)
        assert saga is not None  # noqa: S101 - written in this transaction
        self.journal.turn_back(tx, saga, failure)
        return saga_id

    def look_again(self, saga_id: str) -> bool:
        """For a saga that nothing has moved for too long: do what is due, or give its hanging step up.  On the worker.

        A step that hangs at the coordinator counts as failed; an undo, and a step without a way back, is begun again.  Whatever the
        hanging one says later is of an older generation and not heard.
        """
        with self._db.read() as tx:
            saga = self.journal.get(tx, saga_id)
            steps = self.journal.steps(tx, saga_id) if saga else []
        if saga is None or not saga.live:
            return False
        if saga_id not in self._busy:
            self.advance(saga_id)
            return True
        flow = self.flows[saga.flow]
        now = self._clock.now()
        hanging = next((row for row in steps if row.state in {"started", "undoing"}), None)
        since = None if hanging is None else hanging.undo_started_at or hanging.started_at
        if hanging is None or since is None or add_seconds(since, flow.step(hanging.name).timeout_s) > now:
            return False
        del self._busy[saga_id]
        if saga.state == "running" and not flow.forward_only:
            words = f"The step '{flow.step(hanging.name).what}' did not end in time."
            failure = Failure(message=words, detail=f"{hanging.name} began {since}", kind="Timeout")
            self._fail(saga, flow.step(hanging.name), failure, None)
        else:
            with self._db.write() as tx:
                self.journal.change(tx, saga, generation=saga.generation + 1, attempts=0, deadline=None)
        self.kick(saga_id)
        return True

    def send_order(self, saga: Saga, host: str) -> None:
        """Tell a host of what is due of a saga.  On the worker."""
        self.orders.note(saga.id, saga.generation)
        self._order(host, self.order_for(saga))

    def give_up(self, saga: Saga, step: Step, words: str, detail: str) -> None:
        """Count a step as failed whose host did nothing about it."""
        self._fail(saga, step, Failure(message=words, detail=detail, kind="Timeout"), None)
        self.kick(saga.id)

    def host_started(self, host: str) -> None:
        """A host's process has begun: what the one before it was told is forgotten there, and told again."""
        with self._db.read() as tx:
            sagas = [self.journal.get(tx, saga_id) for saga_id in self.orders.sent() if saga_id not in self._busy]
        for saga in sagas:
            if saga is not None and saga.live and saga.host == host:
                with self._db.write() as tx:  # what the one before it may still say is not heard
                    self.journal.change(tx, saga, generation=saga.generation + 1, attempts=0, deadline=None)
                self.kick(saga.id)

    def _free(self, saga: Saga) -> None:
        """A step here has ended, unless it was given up."""
        if self._busy.get(saga.id) == saga.generation:
            del self._busy[saga.id]

    def _begun(self, saga_id: str, token: str | None) -> None:
        if token:
            self._tokens[saga_id] = token
        self._fresh.add(saga_id)
        self._worker.post_new(lambda: self._look(saga_id))

    def kick(self, saga_id: str) -> None:
        """Look at a saga soon.  Any thread may call it."""
        self._worker.post(lambda: self._look(saga_id))

    def _look(self, saga_id: str) -> None:
        self._guarded(saga_id, lambda: self.advance(saga_id))

    def _guarded(self, saga_id: str, act: Callable[[], None]) -> None:
        """Whatever the coordinator itself fails with, the saga is looked at again: nobody else would."""
        try:
            act()
        except Exception:  # as said; the log is the truth, and reading it again is always right
            log.exception("saga not looked after", saga=saga_id)
            self._worker.after(LOOK_AGAIN_S, lambda: self._look(saga_id))

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
        if saga.id in self._fresh:
            self._fresh.discard(saga.id)
            with self._db.read() as tx:
                subject = self._describe(tx, saga)
        else:
            with self._db.write() as tx:
                if not self._own(tx, saga):
                    return
                self._ledger.started(tx, saga, flow, step, host=self._owner, at=self._clock.now())
                subject = self._describe(tx, saga)
        run = self._run(saga, flow, steps, subject)
        self._busy[saga.id] = saga.generation
        self.orders.drop(saga.id)
        if step.hands_over:  # whom the step orders may be heard of before the step ends
            self.orders.note(saga.id, saga.generation)

        def ended(value: Any, error: BaseException | None) -> None:
            self._free(saga)
            self._failpoint(f"{flow.name}.{step.name}.after")
            if error is not None:
                self._fail(saga, step, failure_of(error), error)
                if flow.keeps_on(step.name):
                    self._try_again(saga)
                else:
                    self.advance(saga.id)
            elif step.hands_over and self._stands(saga):
                self._watch_deadline(saga.id, step.timeout_s)
            elif step.hands_over or not self._step_done(saga, step, run, value):
                self.advance(saga.id)

        self._start(step.do, run, lambda value, error: self._guarded(saga.id, lambda: ended(value, error)))

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
        """Whether it was the last, and the saga has ended with it."""
        now = self._clock.now()
        entries = [
            *run.take_notes(),
            Entry(step=step.name, event="done", at=now, output=output, detail=run.take_detail()),
        ]
        record = Record(saga_id=saga.id, generation=saga.generation, host=self._owner, entries=entries)
        return self._record(record)[1]

    def _send_order(self, saga: Saga, flow: Flow, step: Step) -> None:
        host = saga.host
        if host is None:
            self._fail(saga, step, Failure(message="The server is on no host.", kind="NoHost"), None)
            if flow.keeps_on(step.name):
                self._try_again(saga)  # a kick would be a loop without a pause
            else:
                self.kick(saga.id)
            return
        if saga.attempts >= ORDERS_MAX and not flow.keeps_on(step.name):
            words = f"The host did not finish the step '{step.what}' in time."
            self.give_up(saga, step, words, f"{host}: {saga.attempts} orders")
            return
        if saga.id in self._fresh:
            self._fresh.discard(saga.id)
            self._watch_deadline(saga.id, step.timeout_s)
        else:
            self._expect(saga, step)
        self.send_order(saga, host)

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
        self._watch_deadline(saga.id, step.timeout_s)

    def _watch_deadline(self, saga_id: str, timeout_s: float) -> None:
        """Look at a saga when its time is up."""
        self._worker.after(timeout_s + DEADLINE_SLACK_S, lambda: self._guarded(saga_id, lambda: self._overdue(saga_id)))

    def _overdue(self, saga_id: str) -> None:
        with self._db.read() as tx:
            saga = self.journal.get(tx, saga_id)
        if saga is not None and saga.live and saga.deadline is not None and saga.deadline <= self._clock.now():
            log.warning("saga overdue", saga=saga_id, flow=saga.flow, attempts=saga.attempts)
            self.advance(saga_id)

    def _stands(self, saga: Saga) -> bool:
        """Whether nobody has turned the saga back, or taken it over."""
        with self._db.read() as tx:
            return self._own(tx, saga)

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
            ended = self._ledger.finish(tx, saga, flow, {step.name: step.output for step in steps})
        if ended:
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
            self._ledger.failed(tx, saga, step.name, failure)

    def _try_again(self, saga: Saga) -> None:
        self._worker.after(min(STUCK_RETRY_S, UNDO_RETRY_S * 2 ** min(saga.attempts, 8)), lambda: self._look(saga.id))

    def cancel(self, tx: Tx, saga: Saga, failure: Failure) -> None:
        """Turn a running saga back, inside the caller's transaction."""
        if self.flows[saga.flow].forward_only or saga.state != "running":
            return
        self.journal.turn_back(tx, saga, failure)
        tx.after_commit.append(lambda: self.kick(saga.id))

    def _ended(self, saga_id: str) -> None:
        self._worker.signal(("saga", saga_id))
        self._tokens.pop(saga_id, None)
        self.orders.drop(saga_id)
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
            self.send_order(saga, saga.host)

    def _undo_here(self, saga: Saga, flow: Flow, step: Step, steps: list[StepRow]) -> None:
        assert step.undo is not None  # noqa: S101 - the caller chose it so
        with self._db.write() as tx:
            if not self._own(tx, saga):
                return
            self.journal.set_step(tx, saga.id, step.name, state="undoing", undo_started_at=self._clock.now())
            subject = self._describe(tx, saga)
        run = self._run(saga, flow, steps, subject)
        self._busy[saga.id] = saga.generation
        self.orders.drop(saga.id)

        def ended(output: Any, error: BaseException | None) -> None:
            self._free(saga)
            now = self._clock.now()
            if error is None:
                entry = Entry(step=step.name, event="undone", at=now, output=output)
            else:
                entry = Entry(step=step.name, event="undo_failed", at=now, failure=failure_of(error))
            self.record(Record(saga_id=saga.id, generation=saga.generation, host=self._owner, entries=[entry]))

        self._start(step.undo, run, lambda value, error: self._guarded(saga.id, lambda: ended(value, error)))

    # --- what hosts say (SagaJournal) ----------------------------------------------------------------------------------------------

    def fetch(self, request: Fetch) -> WorkSheet | None:
        """A host asks for a saga's data."""
        received = self._clock.now()
        self.orders.heard(request.saga_id, request.generation)
        with self._db.read() as tx:
            saga = self.journal.get(tx, request.saga_id)
            if saga is None or not saga.live or saga.generation != request.generation or saga.host != request.host:
                return None
            steps = self.journal.steps(tx, saga.id)
            subject = self._describe(tx, saga)
        return WorkSheet(
            saga_id=saga.id,
            generation=saga.generation,
            flow=saga.flow,
            unwinding=saga.state != "running",
            subject_id=saga.subject_id,
            context=saga.context,
            input=saga.input,
            subject=subject,
            outputs={step.name: step.output for step in steps if step.output is not None},
            finished=[step.name for step in steps if step.state in {"done", "skipped"}],
            started=[step.name for step in steps if step.state in {"started", "done", "failed", "undoing"}],
            received_at=received,
            answered_at=self._clock.now(),
        )

    def record(self, record: Record) -> bool:
        """Write a place's events in one transaction; then look at the saga again if the next thing is not that place's own."""
        self.orders.heard(record.saga_id, record.generation)
        saga, ended = self._record(record)
        if saga is None:
            return False
        last = record.entries[-1]
        if ended:
            return True
        if last.event == "undo_failed":
            self._undo_failed(saga, self.flows[saga.flow], last)
        elif last.event == "failed" and self.flows[saga.flow].keeps_on(last.step):
            self._try_again(saga)
        elif last.event in {"done", "failed", "undone"}:
            self.kick(record.saga_id)
        return True

    def _record(self, record: Record) -> tuple[Saga | None, bool]:
        """The saga as it was, None when the recorder is not its owner any more; and whether it has ended with this."""
        with self._db.write() as tx:
            saga = self.journal.get(tx, record.saga_id)
            if saga is None or not saga.live or saga.generation != record.generation:
                return None, False
            ended = self._ledger.write(tx, saga, self.flows[saga.flow], record)
            timeout = None if ended else self._ledger.extend(tx, saga, self.flows[saga.flow], record)
        if timeout is not None:
            self._watch_deadline(saga.id, timeout)
        if ended:
            self._ended(saga.id)
        return saga, ended

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
        self._worker.after(STUCK_RETRY_S if stuck else UNDO_RETRY_S, lambda: self._look(saga.id))
