"""Time, as an argument.

Nothing outside `core` and the drivers reads the system's clock: whoever needs the time is handed a `Clock`, so that a test or a
simulated world can own it.  Stored times are text, UTC, microseconds (`2026-01-31T12:00:00.000000`): they sort as text on every
database, and each API's format is a cut of it.
"""

import datetime
import time
from typing import Protocol

__all__ = ["Clock", "SystemClock", "add_seconds", "iso_seconds", "iso_z", "parse", "seconds_between"]


class Clock(Protocol):
    """Where the time comes from."""

    def now(self) -> str:
        """UTC now, ISO 8601 with microseconds and no zone."""

    def epoch(self) -> float:
        """UTC now, seconds since 1970."""

    def monotonic(self) -> float:
        """Seconds that never go back; only differences mean something."""


class SystemClock:
    """The machine's own clock."""

    def __init__(self) -> None:
        #: a second, and its text: the calendar is asked once for each
        self._second = (0, "")

    def now(self) -> str:
        seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
        second, text = self._second
        if second != seconds:
            text = datetime.datetime.fromtimestamp(seconds, datetime.UTC).replace(tzinfo=None).isoformat()
            self._second = (seconds, text)  # one assignment: another thread sees both or neither
        return f"{text}.{nanoseconds // 1000:06d}"

    def epoch(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


def parse(stamp: str) -> datetime.datetime:
    """A stored time as a naive UTC datetime.  Also takes a trailing `Z` and missing microseconds."""
    return datetime.datetime.fromisoformat(stamp.removesuffix("Z"))


def add_seconds(stamp: str, seconds: float) -> str:
    return (parse(stamp) + datetime.timedelta(seconds=seconds)).isoformat(timespec="microseconds")


def seconds_between(earlier: str, later: str) -> float:
    return (parse(later) - parse(earlier)).total_seconds()


def iso_z(stamp: str | None) -> str | None:
    """`2026-01-31T12:00:00Z`, as compute, image and network show times."""
    return None if stamp is None else stamp[:19] + "Z"


def iso_seconds(stamp: str | None) -> str | None:
    """`2026-01-31T12:00:00.000000`, as volume and identity show times (identity adds a `Z`)."""
    return stamp
