"""The table of the nineteen rows is what happens: compared with the events that a launch records, and with what a client sees."""

import pytest
from tests.launch.world import World

from cumulet.core.clock import parse
from cumulet.launch.flow import LAUNCH, ROWS

pytestmark = pytest.mark.xdist_group("launch")

STAGES = ["scheduling", "networking", "block_device_mapping", "spawning", None]
#: rows 1 and 2 are identity's own record of the token
RECORDED = ROWS[2:]
#: rows that answer a row: they begin and end within it
ANSWERS = {14: 13, 16: 15, 18: 17}


def test_the_recorded_events_are_the_table(world: World) -> None:
    """A server with a port and a volume has an event for each of the nineteen rows, in the table's order, each ended well."""
    with world.launched(world.with_volume()) as server_id:
        events = world.events(server_id)
    assert [event["event"] for event in events] == [row.name for row in ROWS]
    assert all(event["result"] == "Success" and event["finish_time"] for event in events)


def test_rows_begin_in_the_table_s_order_and_answers_lie_within_their_questions(world: World) -> None:
    """Times agree with the table: no row begins before the one above it, no answer lies outside the step that asked."""
    with world.launched(world.with_volume()) as server_id:
        by_name = {event["event"]: event for event in world.events(server_id)}
    span = {
        row.n: (parse(by_name[row.name]["start_time"]), parse(by_name[row.name]["finish_time"])) for row in RECORDED
    }
    starts = [span[row.n][0] for row in RECORDED]
    assert starts == sorted(starts)
    assert all(start <= finish for start, finish in span.values())
    for answer, question in ANSWERS.items():
        assert span[question][0] <= span[answer][0] <= span[answer][1]
        # the ports come up while the guest is made, which does not run before
        assert span[answer][1] <= span[19 if answer == 16 else question][1]


def test_the_token_s_issue_comes_before_the_request(world: World) -> None:
    """Rows 1 and 2 are identity's record of the token that the request came with: before row 3, one record for two launches."""
    with world.launched(world.body()) as one, world.launched(world.body()) as other:
        first, second = world.events(one), world.events(other)
    assert [event["event"] for event in first[:3]] == [row.name for row in ROWS[:3]]
    assert first[1]["finish_time"] <= first[2]["start_time"]
    assert first[:2] == second[:2]
    assert first[2:] != second[2:]


def test_a_row_with_nothing_to_do_is_there_with_its_reason(world: World) -> None:
    """Without volumes rows 17 and 18 are shown as skipped, and say why; without networks so are rows 15 and 16."""
    with world.launched(world.body(networks="none")) as server_id:
        by_name = {event["event"]: event for event in world.events(server_id)}
    assert set(by_name) == {row.name for row in ROWS}
    for name, reason in (
        ("bind_ports", "no network asked for"),
        ("network_answers", "no network asked for"),
        ("attach_volumes", "no volumes asked for"),
        ("volume_answers", "no volumes asked for"),
    ):
        assert by_name[name]["details"] == f"skipped: {reason}"


def test_every_step_of_the_saga_is_a_row_of_the_table() -> None:
    """The saga and the table cannot drift apart: numbers and names of the steps are those of their rows."""
    names = {row.n: row.name for row in ROWS}
    assert [row.n for row in ROWS] == list(range(1, 20))
    assert [names[step.row] for step in LAUNCH.steps if step.row] == [step.name for step in LAUNCH.steps]
    assert [step.row for step in LAUNCH.steps] == sorted(step.row or 0 for step in LAUNCH.steps)


def test_a_client_sees_the_stages_in_order(world: World) -> None:
    """A client that polls sees scheduling, networking, block_device_mapping, spawning, none: in this order, and in the
    end each of them.
    """
    missing = set(STAGES)
    for _ in range(10):
        server_id = world.post(world.with_volume())
        seen = world.task_states(server_id)
        world.delete(server_id)
        assert seen == [stage for stage in STAGES if stage in seen]
        assert seen[-1] is None
        missing -= set(seen)
        if not missing:
            break
    assert missing == set()
