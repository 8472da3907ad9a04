"""The machine's clock says the time in the one form that is stored."""

import datetime
import time

import pytest

from cumulet.core.clock import SystemClock, parse


def test_now_is_utc_with_microseconds() -> None:
    """Between the calendar's time before and after."""
    before = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    now = SystemClock().now()
    after = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    assert before <= parse(now) <= after + datetime.timedelta(microseconds=1)
    assert len(now) == len("2026-01-31T12:00:00.000000")


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (1_000_000_000_000_000_000, "2001-09-09T01:46:40.000000"),
        (1_000_000_000_000_001_999, "2001-09-09T01:46:40.000001"),
        (1_000_000_000_999_999_999, "2001-09-09T01:46:40.999999"),
        (1_000_000_001_000_000_000, "2001-09-09T01:46:41.000000"),
        (1_709_164_799_000_000_000, "2024-02-28T23:59:59.000000"),
        (1_709_164_800_000_000_000, "2024-02-29T00:00:00.000000"),
    ],
)
def test_a_moment_is_said_exactly(nanoseconds: int, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut to the microsecond; one clock asked again says the next second, and a clock set back the earlier one."""
    clock = SystemClock()
    for moment, said in [(nanoseconds, text), (1_000_000_002_000_000_000, "2001-09-09T01:46:42.000000")] * 2:
        monkeypatch.setattr(time, "time_ns", lambda moment=moment: moment)
        assert clock.now() == said
