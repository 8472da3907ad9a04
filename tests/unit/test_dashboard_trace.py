"""A launch's events as nineteen lines."""

from tests.http.dashboard_cloud import event

from cumulet.dashboard.trace import BAR_MIN, waterfall
from cumulet.launch.flow import ROWS

NOW = "2026-01-01T00:00:00.100000"


def test_every_row_has_a_line_in_order() -> None:
    """Nineteen lines however few events there are; before the first, all wait."""
    for events in ([], [event("request", 0, 1)]):
        trace = waterfall(events, running=True, now=NOW)
        assert [line.row for line in trace.lines] == list(ROWS)
    assert waterfall([], running=True, now=NOW).total_ms is None


def test_times_are_relative_to_the_request() -> None:
    """Start, duration and total in milliseconds; the bar lies where the time lay."""
    trace = waterfall([event("request", 50, 10), event("start_domain", 100, 50)], running=False, now=NOW)
    last = trace.lines[18]
    assert (last.start_ms, last.took_ms, trace.total_ms) == (50.0, 50.0, 100.0)
    assert (last.left, last.width, last.state) == (50.0, 50.0, "done")


def test_a_running_step_reaches_to_now() -> None:
    """A step without an end is drawn up to now, and what comes after it waits."""
    trace = waterfall([event("request", 0, 1), event("ask_scheduler", 20, None, None)], running=True, now=NOW)
    asked = trace.lines[6]
    assert (asked.state, asked.took_ms, asked.left, asked.width) == ("running", None, 20.0, 80.0)
    assert trace.lines[18].state == "waiting"
    assert trace.total_ms == 100.0


def test_a_failed_launch_says_where() -> None:
    """The step that failed is marked with its reason; later ones were not reached."""
    failed = {**event("bind_ports", 10, 5, "Error"), "details": "No more addresses."}
    trace = waterfall([event("request", 0, 1), failed], running=False, now=NOW)
    assert (trace.lines[14].state, trace.lines[14].detail) == ("failed", "No more addresses.")
    assert (trace.lines[18].state, trace.lines[18].detail) == ("skipped", "not reached")


def test_what_had_nothing_to_do_is_skipped() -> None:
    """A row without an event in a launch that has ended well."""
    trace = waterfall([event("request", 0, 1), event("start_domain", 5, 5)], running=False, now=NOW)
    assert (trace.lines[17].state, trace.lines[17].detail) == ("skipped", "nothing to do")


def test_bars_stay_in_the_picture() -> None:
    """However short or late a step, its bar is visible and ends within the frame."""
    events = [event("request", 0, 0), event("load_image", 1, 0), event("start_domain", 5000, 0)]
    for line in waterfall(events, running=False, now=NOW).lines:
        if line.state == "done":
            assert line.width >= BAR_MIN
            assert line.left + line.width <= 100


def test_the_tokens_issue_lies_before() -> None:
    """Rows 1 and 2 carry negative starts and no bar, and stay out of the total."""
    issue = {"started_at": "2025-12-31T23:59:59.000000Z", "finished_at": "2025-12-31T23:59:59.200000Z"}
    trace = waterfall([event("request", 0, 10)], running=False, now=NOW, issue=issue)
    sent, issued = trace.lines[:2]
    assert (sent.start_ms, issued.start_ms, issued.took_ms) == (-1000.0, -1000.0, 200.0)
    assert (sent.width, issued.width, trace.total_ms) == (0.0, 0.0, 10.0)
