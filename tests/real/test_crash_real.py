"""Eight kills out of the table of `./dev crash`, on a real cloud: each kind of victim, in launches and deletions."""

from pathlib import Path

import pytest

from cumulet.dev import crash
from cumulet.dev.kills import Row

pytestmark = pytest.mark.real

ROWS = (
    Row("launch.claim_host.after", "program"),
    Row("launch.bind_ports.during", "ovn-vswitchd"),
    Row("launch.attach_volumes.after", "ovn-sb"),
    Row("launch.start_domain.during", "libvirtd"),
    Row("launch.start_domain.after", "guest"),
    Row("delete.destroy_domain.before", "keeper"),
    Row("delete.release_ports.before", "ovn-nb"),
    Row("delete.release_volumes.after", "program"),
)


def test_what_is_killed_during_a_launch_or_a_deletion_ends_well(tmp_path: Path) -> None:
    """The server is usable, or gone, or in ERROR with nothing left; all daemons run, a bystander answers, nothing leaks."""
    table = crash.run("--real", rows=ROWS, state=tmp_path / "state")
    assert {outcome.row for outcome in table.outcomes} == set(ROWS)
    assert [str(outcome) for outcome in table.outcomes if not outcome.well or outcome.leaks] == []
    assert table.good
