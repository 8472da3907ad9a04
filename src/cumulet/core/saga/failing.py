"""How a failure is told, and where a test may make one."""

from cumulet.core.errors import CloudError
from cumulet.core.saga.messages import Failure
from cumulet.core.work import TimedOutError

__all__ = ["failpoint_off", "failure_of"]


def failpoint_off(name: str) -> None:
    """Where a test may kill the process.  Does nothing."""


def failure_of(error: BaseException) -> Failure:
    """An error in two languages: the tenant's and the operator's."""
    if isinstance(error, CloudError):
        return Failure(message=error.message, detail=error.detail or "", code=error.status, kind=error.kind)
    if isinstance(error, TimedOutError):
        return Failure(message="A part of the operation did not finish in time.", detail=str(error), kind="Timeout")
    return Failure(message="An internal error occurred.", detail=repr(error), kind=type(error).__name__)
