"""The nineteen steps of one launch as a waterfall, from the events that the compute API shows.

Times are relative to the arrival of the launch request (row 3).  Rows 1 and 2 are the token's issue and lie before it.
"""

from dataclasses import dataclass
from typing import Any

from cumulet.core.clock import seconds_between
from cumulet.launch.flow import ROWS, Row

__all__ = ["Line", "Trace", "waterfall"]

#: a bar never gets thinner than this, of 100
BAR_MIN = 0.4


@dataclass(frozen=True)
class Line:
    """One row.  state: waiting, running, done, failed, skipped, before; left and width: the bar, of 100."""

    row: Row
    state: str
    start_ms: float | None = None
    took_ms: float | None = None
    left: float = 0.0
    width: float = 0.0
    detail: str = ""


@dataclass(frozen=True)
class Trace:
    """All nineteen.  total_ms is None before the launch has begun."""

    lines: tuple[Line, ...]
    total_ms: float | None
    running: bool


def waterfall(events: list[dict[str, Any]], *, running: bool, now: str, issue: dict[str, Any] | None = None) -> Trace:
    """events: of the create action; running: whether the launch goes on; issue: identity's record of the token's issue."""
    by_name = {event["event"]: event for event in events}
    zero = (by_name.get("request") or {}).get("start_time")
    if zero is None:
        return Trace(tuple(Line(row, "waiting") for row in ROWS), None, running)
    ends = [event["finish_time"] or (now if running else event["start_time"]) for event in by_name.values()]
    total_ms = max(0.001, *(_ms(zero, end) for end in ends))
    failed = any(event["result"] == "Error" for event in events)
    lines = [*_before(by_name, zero, issue)]
    for row in ROWS[2:]:
        event = by_name.get(row.name)
        if event is None:
            lines.append(_absent(row, running=running, failed=failed))
        else:
            lines.append(_line(row, event, zero, total_ms, now=now, running=running))
    return Trace(tuple(lines), total_ms, running)


def _before(by_name: dict[str, dict[str, Any]], zero: str, issue: dict[str, Any] | None) -> list[Line]:
    """Rows 1 and 2: asked and answered."""
    lines = []
    for row in ROWS[:2]:
        event = by_name.get(row.name)
        if event is not None and event["finish_time"]:
            start, end = event["start_time"], event["finish_time"]
        elif issue is not None:
            start, end = issue["started_at"], issue["finished_at"]
            end = start if row.n == 1 else end
        else:
            lines.append(Line(row, "before", detail="issued to another login"))
            continue
        lines.append(Line(row, "before", start_ms=_ms(zero, start), took_ms=_ms(start, end), detail=row.how))
    return lines


def _absent(row: Row, *, running: bool, failed: bool) -> Line:
    if running:
        return Line(row, "waiting")
    return Line(row, "skipped", detail="not reached" if failed else "nothing to do")


def _line(row: Row, event: dict[str, Any], zero: str, total_ms: float, *, now: str, running: bool) -> Line:
    start_ms = _ms(zero, event["start_time"])
    took_ms = _ms(event["start_time"], event["finish_time"]) if event["finish_time"] else None
    if event["result"] == "Error":
        state = "failed"
    elif took_ms is None:
        state = "running" if running else "skipped"
    else:
        state = "done"
    shown_ms = took_ms or 0.0
    if state == "running":
        shown_ms = max(0.0, _ms(event["start_time"], now))
    left = min(100 - BAR_MIN, max(0.0, start_ms / total_ms * 100))
    width = min(100 - left, max(BAR_MIN, shown_ms / total_ms * 100))
    return Line(row, state, start_ms, took_ms, round(left, 2), round(width, 2), event.get("details") or row.how)


def _ms(start: str, end: str) -> float:
    return seconds_between(start.removesuffix("Z"), end.removesuffix("Z")) * 1000
