"""What an event means for the log and for the subject's own record: both are written in one transaction."""

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec
import structlog

from cumulet.core.clock import Clock, add_seconds
from cumulet.core.db import Tx
from cumulet.core.saga.flow import Flow, Step
from cumulet.core.saga.journal import Journal, Saga
from cumulet.core.saga.messages import Entry, Failure, Record

__all__ = ["Ledger", "Outcome"]

log = structlog.get_logger()


class Outcome(Protocol):
    """What a flow means for its subject's own record.  Each runs inside the transaction that records the event."""

    def started(self, tx: Tx, saga: Saga, step: Step) -> None:
        """A step began."""

    def recorded(self, tx: Tx, saga: Saga, step: Step, output: Any) -> None:
        """A step is done, or undone; its output, or its undo's, may belong on the subject's record."""

    def done(self, tx: Tx, saga: Saga, outputs: Mapping[str, Any]) -> None:
        """Every step is done."""

    def unwound(self, tx: Tx, saga: Saga, failure: Failure) -> None:
        """Everything that began is undone."""


class Ledger:
    """Writes events.  Every method takes the caller's transaction."""

    def __init__(
        self, journal: Journal, flows: Mapping[str, Flow], outcomes: Mapping[str, Outcome], clock: Clock
    ) -> None:
        self._journal = journal
        self._flows = flows
        self._outcomes = outcomes
        self._clock = clock

    def started(self, tx: Tx, saga: Saga, flow: Flow, step: Step, *, host: str, at: str) -> None:
        self._journal.begin_step(tx, saga.id, step.name, row=step.row, host=host, at=at)
        self._outcomes[flow.name].started(tx, saga, step)

    def write(self, tx: Tx, saga: Saga, flow: Flow, record: Record) -> bool:
        """A place's events, in order.  True when the saga has ended with the last of them."""
        for entry in record.entries:
            self._write(tx, saga, flow, entry, record.host)
        last = record.entries[-1]
        if last.event != "done" or last.step != flow.steps[-1].name or saga.state != "running":
            return False
        steps = {step.name: step for step in self._journal.steps(tx, saga.id)}
        if any(step.name not in steps or steps[step.name].state not in {"done", "skipped"} for step in flow.steps):
            return False
        return self.finish(tx, saga, flow, {name: step.output for name, step in steps.items()})

    def finish(self, tx: Tx, saga: Saga, flow: Flow, outputs: Mapping[str, Any]) -> bool:
        """Every step is done.  False when the saga was turned back, or taken over, in the last moment."""
        if not self._journal.change(tx, saga, state="done", finished_at=self._clock.now(), deadline=None):
            return False
        self._outcomes[flow.name].done(tx, saga, outputs)
        return True

    def extend(self, tx: Tx, saga: Saga, flow: Flow, record: Record) -> float | None:
        """A host that records is alive: its next step has its own time, in seconds.  None when nothing is waited for."""
        if saga.deadline is None or saga.state != "running":
            return None
        started = next((entry for entry in reversed(record.entries) if entry.event == "started"), None)
        if started is None:
            return None
        timeout = flow.step(started.step).timeout_s
        deadline = add_seconds(self._clock.now(), timeout)
        return timeout if self._journal.change(tx, saga, deadline=deadline, attempts=1) else None

    def failed(self, tx: Tx, saga: Saga, step: str, failure: Failure) -> None:
        """A step failed: from here the saga unwinds, or, where there is no way back, the step is tried again."""
        current = self._journal.get(tx, saga.id)
        if current is None or current.state != "running" or current.generation != saga.generation:
            return
        self._journal.set_step(tx, saga.id, step, state="failed", finished_at=self._clock.now(), failure=failure)
        if self._flows[saga.flow].keeps_on(step):
            # no way back: the step is tried again, later each time
            self._journal.change(tx, current, failure=failure, deadline=None, attempts=current.attempts + 1)
            return
        self._journal.turn_back(tx, current, failure)

    def _write(self, tx: Tx, saga: Saga, flow: Flow, entry: Entry, host: str) -> None:
        journal, saga_id = self._journal, saga.id
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
            self.started(tx, saga, flow, step, host=host, at=entry.at)
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
            self.failed(tx, saga, step.name, failure)
        elif entry.event == "undoing":
            journal.set_step(tx, saga_id, step.name, state="undoing", undo_started_at=entry.at)
        elif entry.event == "undone":
            journal.set_step(tx, saga_id, step.name, state="undone", undo_finished_at=entry.at)
            if entry.output is not None:
                self._outcomes[flow.name].recorded(tx, saga, step, msgspec.to_builtins(entry.output))
        elif entry.event == "undo_failed":
            journal.set_step(
                tx, saga_id, step.name, state="undoing", detail=(entry.failure.detail if entry.failure else "")
            )
