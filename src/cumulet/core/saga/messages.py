"""What the coordinator and a host say to each other."""

from typing import Any

import msgspec

from cumulet.core.bus import Interface, call, cast
from cumulet.core.context import Context

__all__ = ["Entry", "Failure", "Fetch", "Order", "Record", "SagaJournal", "StepRunner", "WorkSheet"]


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why a step failed: words for the tenant, words for the operator, and the status an API would answer with."""

    message: str
    detail: str = ""
    code: int = 500
    kind: str = ""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """Please run what is due of this saga.  The token is the user's, carried along and never stored."""

    saga_id: str
    generation: int
    flow: str
    subject_id: str
    request_id: str
    token: str | None = None
    sent_at: str = ""

    def __repr__(self) -> str:
        return f"Order(saga={self.saga_id}, generation={self.generation}, flow={self.flow})"


class Fetch(msgspec.Struct, frozen=True, kw_only=True):
    """A host asks for the data of a saga it was ordered to run."""

    saga_id: str
    generation: int
    host: str


class WorkSheet(msgspec.Struct, frozen=True, kw_only=True):
    """The coordinator's answer: everything a host needs, so that it never touches the database."""

    saga_id: str
    generation: int
    flow: str
    unwinding: bool
    subject_id: str
    context: Context
    input: Any
    #: the subject's record as the service describes it (for a server: flavor, image, networks, …)
    subject: Any
    #: by step name: what finished steps returned
    outputs: dict[str, Any]
    #: steps that are done
    finished: list[str]
    #: steps that began and were not undone, in order
    started: list[str]
    received_at: str
    answered_at: str


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a step.  event: started, done, failed, undoing, undone, undo_failed, or note (a row of the table with its times)."""

    step: str
    event: str
    at: str
    row: int | None = None
    output: Any = None
    detail: str = ""
    finished_at: str | None = None
    failure: Failure | None = None


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Events of a saga, in order, to be written in one transaction."""

    saga_id: str
    generation: int
    host: str
    entries: list[Entry]


class SagaJournal(Interface, topic="conductor"):
    """The coordinator, as hosts see it."""

    @call
    def fetch(self, request: Fetch) -> WorkSheet | None:
        """The work that is due, or None when the order is out of date."""
        raise NotImplementedError

    @call
    def record(self, record: Record) -> bool:
        """Write events.  False: a newer generation owns the saga; stop."""
        raise NotImplementedError

    @call
    def host_started(self, host: str) -> None:
        """A host's process has begun, and knows nothing of the orders of the one before it."""
        raise NotImplementedError


class StepRunner(Interface, topic="compute.{host}"):
    """A host that runs steps."""

    @cast
    def run(self, order: Order) -> None:
        """Run, or undo, what is due of a saga on this host."""
        raise NotImplementedError
