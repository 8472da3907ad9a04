"""A flow is a table of steps; a run is one saga's view of itself while a step works."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

import msgspec

from cumulet.core.clock import Clock
from cumulet.core.context import Context
from cumulet.core.ids import Ids
from cumulet.core.saga.messages import Entry

__all__ = ["Flow", "Run", "Step"]

T = TypeVar("T")


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One row that does something.

    row: its number in the flow's table (launch), or None.  where: "conductor", or "host".  do(run) returns the step's output (a
    struct, or None), or is a generator that yields slow pieces; undo(run) likewise: what it
    returns is what the subject's record has afterwards.  A step without undo must say so
    with `undo=None`.  stage: the task state shown while it runs.  hands_over: the step itself sends the next order, and
    records in one transaction that it is done, the host, and the deadline by which that host must have recorded something.
    keeps_on: what came before cannot be taken back, so this step is tried again until it succeeds.  light(run), of a host's step: it is
    going to leave nothing that anybody would have to know of before; that it began is recorded when it first waits, else with what follows.
    """

    name: str
    where: str
    what: str
    do: Callable[["Run"], Any]
    undo: Callable[["Run"], Any] | None
    row: int | None = None
    stage: str | None = None
    timeout_s: float = 300.0
    hands_over: bool = False
    keeps_on: bool = False
    light: Callable[["Run"], bool] | None = None


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of long work.

    input: the struct that a saga starts with.  action: its name in the server's action log.  hops: row numbers of the four hops
    between scheduler, host and conductor (sent, asked, answered, picked up), where the flow's table has them.  forward_only: a failing
    step is tried again until it succeeds (a deletion has no way back).  without_host: host steps are skipped when there is no host.
    """

    name: str
    action: str
    input: type[msgspec.Struct]
    steps: tuple[Step, ...]
    hops: tuple[int, int, int, int] | None = None
    forward_only: bool = False
    without_host: bool = False

    def step(self, name: str) -> Step:
        return next(step for step in self.steps if step.name == name)

    def keeps_on(self, name: str) -> bool:
        """Whether a step that fails is tried again instead of unwinding the saga."""
        return self.forward_only or self.step(name).keeps_on

    def after(self, name: str) -> Step | None:
        names = [step.name for step in self.steps]
        at = names.index(name) + 1
        return self.steps[at] if at < len(self.steps) else None


class Run:
    """What a step may use: its saga's data, the doors, the host's tools, the clock.  Made anew for each piece of work."""

    def __init__(
        self,
        *,
        saga_id: str,
        generation: int,
        flow: Flow,
        subject_id: str,
        context: Context,
        input: Any,
        subject: Any,
        outputs: dict[str, Any],
        token: str | None,
        host: str,
        tools: Any,
        clock: Clock,
        ids: Ids,
    ) -> None:
        self.saga_id = saga_id
        self.generation = generation
        self.flow = flow
        self.subject_id = subject_id
        self.context = context
        self.subject = subject
        self.token = token
        self.host = host
        #: doors and drivers of the place where the step runs
        self.tools = tools
        self.clock = clock
        self.ids = ids
        #: nothing that this step makes can be there: it has not begun before.  Only where that is certain, so never after a start
        #: of the coordinator, as a loss of power may take a record back
        self.first = False
        #: what a step has begun and a later one waits for, by a name of theirs: nothing else is taken up for the subject before it ends
        self.under_way: dict[str, Future[Any]] = {}
        #: of these, what need not wait for the later step to go on
        self.allowed: set[str] = set()
        self._input = input
        self._outputs = outputs
        self._details: list[str] = []
        self._notes: list[Entry] = []

    def input(self, kind: type[T]) -> T:
        """The saga's input."""
        return self._input if isinstance(self._input, kind) else msgspec.convert(self._input, kind)

    def subject_as(self, kind: type[T]) -> T:
        """The subject's record, as the service described it."""
        if not isinstance(self.subject, kind):
            self.subject = msgspec.convert(self.subject, kind)
        return self.subject

    def output(self, step: str, kind: type[T]) -> T | None:
        """What an earlier step returned, or None when it did not finish."""
        value = self._outputs.get(step)
        return None if value is None else (value if isinstance(value, kind) else msgspec.convert(value, kind))

    def keep(self, step: str, output: Any) -> None:
        self._outputs[step] = output

    def note(self, detail: str) -> None:
        """Words for the step's line in the trace; safe for the owner of the server."""
        self._details.append(detail)

    def served(self, row: int, name: str, started: str, finished: str, detail: str) -> None:
        """The row of another service that answered within this step."""
        self._notes.append(Entry(step=name, event="note", row=row, at=started, finished_at=finished, detail=detail))

    def skip(self, reason: str, *, row: int, name: str) -> None:
        """Nothing to do: said on the step's own line and on that of the service it would have asked."""
        now = self.clock.now()
        self.note(f"skipped: {reason}")
        self.served(row, name, now, now, f"skipped: {reason}")

    def take_detail(self) -> str:
        detail, self._details = "; ".join(self._details), []
        return detail

    def take_notes(self) -> list[Entry]:
        notes, self._notes = self._notes, []
        return notes
