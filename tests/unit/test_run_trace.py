"""`cumulet trace`: what is printed of a launch."""

import io

from rich.console import Console
from tests.http.dashboard_cloud import event

from cumulet.dashboard.trace import waterfall
from cumulet.launch.flow import ROWS
from cumulet.run.trace import _table

NOW = "2026-01-01T00:00:00.100000"


def test_every_row_is_printed_with_its_times_or_its_reason() -> None:
    """Nineteen lines below the title and the heads: a bar for what ran, a word for what did not."""
    events = [
        event("request", 0, 10),
        event("ask_scheduler", 50, 50),
        {**event("bind_ports", 60, 5, "Error"), "details": "none left"},
    ]
    out = io.StringIO()
    Console(file=out, width=160).print(_table("vm", waterfall(events, running=False, now=NOW)))
    title, _, *lines = out.getvalue().splitlines()
    assert title.split() == ["launch", "of", "vm:", "100.0", "ms"]
    assert [line.split()[0] for line in lines] == [str(row.n) for row in ROWS]
    assert "identity's record is not kept" in lines[0]
    assert "50.0     50.0" in lines[6]
    assert lines[6].count("━") == 14
    assert lines[14].rstrip().endswith("none left")
    assert lines[18].rstrip().endswith("not reached")
