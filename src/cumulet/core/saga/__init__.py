"""Long work that is either complete or gone: a table of steps, each recorded before the next begins, each with its undo.

`flow.py`   what a flow is: a table of steps.
`journal.py`  the log: two tables and their SQL.  An event is written before the next thing happens.
`ledger.py`  what each event means for the log and for the subject's record.
`coordinator.py`  drives sagas from the database's side: runs steps that belong there, sends the others to their hosts, unwinds.
`orders.py`  what hosts were told and whether they were heard of since; `keeper.py` sends again.
`others.py`  the other sagas of the same subject.
`executor.py`  the host's side: runs the steps that belong to a host, recording through the coordinator.

Rules.  Actions and undos may run twice.  An undo runs for every step that *started*, because a call that timed out may have worked.
Only the holder of the newest generation may record; an older one is told to stop.  A message is a hint: what it asks for stands in
the log, so one whose host is not heard of is sent again, and a doubled one finds nothing to do.
TaskFlow, DBOS and Temporal were weighed and turned down: docs/decisions/0004-saga.md.
"""

from cumulet.core.saga.coordinator import Coordinator
from cumulet.core.saga.executor import Executor
from cumulet.core.saga.flow import Flow, Run, Step
from cumulet.core.saga.journal import Saga, saga_tables, watched_steps
from cumulet.core.saga.ledger import Outcome
from cumulet.core.saga.messages import Entry, Failure, Fetch, Order, Record, SagaJournal, StepRunner, WorkSheet
from cumulet.core.saga.others import OtherSagas

__all__ = [
    "Coordinator",
    "Entry",
    "Executor",
    "Failure",
    "Fetch",
    "Flow",
    "Order",
    "OtherSagas",
    "Outcome",
    "Record",
    "Run",
    "Saga",
    "SagaJournal",
    "Step",
    "StepRunner",
    "WorkSheet",
    "saga_tables",
    "watched_steps",
]
