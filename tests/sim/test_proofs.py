"""Every saga, whatever it is: complete or gone, and nothing without an owner.  A flow added to the program is tried here too."""

from collections.abc import Iterator

import pytest

from cumulet.dev.chaos.outside import Template
from cumulet.dev.chaos.proofs import ALL_FLOWS, ORDERS_ALL, SCENARIOS, Proof, calls_of, prove
from cumulet.dev.chaos.world import template
from cumulet.run.services import FLOWS

FAILING = [
    Proof(flow=flow.name, step=step.name, when=when)
    for flow in ALL_FLOWS.values()
    for step in flow.steps
    for when in ("before", "after")
]
UNWOUND_TWICE = [
    Proof(flow=flow.name, step=flow.steps[-1].name, when="after", undos_twice=True)
    for flow in ALL_FLOWS.values()
    if any(step.undo is not None for step in flow.steps)
]


@pytest.fixture(scope="session")
def made() -> Iterator[Template]:
    """A cloud that has been started once."""
    with template() as one:
        yield one


def test_every_flow_has_a_request_that_begins_it() -> None:
    """Else it could not be tried: a new flow needs one line in SCENARIOS."""
    assert set(SCENARIOS) == set(ALL_FLOWS)


@pytest.mark.parametrize("flow", ALL_FLOWS)
def test_it_succeeds(flow: str, made: Template) -> None:
    """Alone and undisturbed it is done, and nothing is left."""
    assert prove(Proof(flow=flow), made) == []


@pytest.mark.parametrize("flow", ALL_FLOWS)
def test_it_succeeds_when_each_action_runs_twice(flow: str, made: Template) -> None:
    """As after a death between an effect and its record."""
    assert prove(Proof(flow=flow, actions_twice=True), made) == []


@pytest.mark.parametrize("proof", FAILING, ids=str)
def test_it_unwinds_cleanly_when_a_step_fails(proof: Proof, made: Template) -> None:
    """Each step in turn, before its effect and after it; a step without a way back is done in the end."""
    assert prove(proof, made) == []


@pytest.mark.parametrize("proof", UNWOUND_TWICE, ids=str)
def test_it_unwinds_cleanly_when_each_undo_runs_twice(proof: Proof, made: Template) -> None:
    """All that began is undone, each step of it twice."""
    assert prove(proof, made) == []


@pytest.mark.parametrize("flow", ALL_FLOWS)
def test_an_order_that_gets_lost_is_sent_again(flow: str, made: Template) -> None:
    """It is carried out within the time that is promised for that."""
    assert prove(Proof(flow=flow, lost=1), made) == []


@pytest.mark.parametrize("flow", [flow.name for flow in FLOWS])
def test_a_host_that_was_gone_before_it_acted_is_told_again(flow: str, made: Template) -> None:
    """Its order was lost with it: soon after its return the flow is done."""
    assert prove(Proof(flow=flow, lost=1, gone_s=120), made) == []


@pytest.mark.parametrize("flow", [flow.name for flow in FLOWS])
def test_who_hears_no_word_looks(flow: str, made: Template) -> None:
    """Every word of a port or a volume is lost: who waits for one looks by itself, long before it would give up."""
    assert prove(Proof(flow=flow, wordless=True), made) == []


@pytest.mark.parametrize("flow", ALL_FLOWS)
def test_what_no_host_takes_up_is_given_up_or_kept_for_it(flow: str, made: Template) -> None:
    """Order after order is lost: a flow with a way back is unwound, one without is done once an order arrives."""
    assert prove(Proof(flow=flow, lost=ORDERS_ALL), made) == []


@pytest.mark.parametrize("moment", [0, 2, 5, 9])
@pytest.mark.parametrize("flow", ["detach_volume", "attach_interface", "detach_interface", "snapshot"])
def test_a_host_that_dies_at_work_goes_on_when_it_is_back(flow: str, moment: int, made: Template) -> None:
    """Whatever its process had taken up and not recorded is begun again, and ends within the time that is promised."""
    assert prove(Proof(flow=flow, dies=moment), made) == []


@pytest.mark.parametrize("flow", ["attach_volume", "detach_volume", "attach_interface", "detach_interface", "snapshot"])
def test_a_task_whose_flow_vanished_is_resumed_or_unwound(flow: str, made: Template) -> None:
    """At each of its calls in turn the flow's rows go from the database: what is left is found and brought in line with the record."""
    for number, call in enumerate(calls_of(flow, made)):
        assert prove(Proof(flow=flow, forgotten=number), made, named=True) == [], call


@pytest.mark.parametrize("flow", ALL_FLOWS)
def test_what_comes_too_late_is_refused_or_named(flow: str, made: Template) -> None:
    """Each call in turn times out and has its effect when all is undone: nothing comes of it, or the leak check names what did."""
    for number, call in enumerate(calls_of(flow, made)):
        assert prove(Proof(flow=flow, late=number), made, named=True) == [], call


PLAIN = [
    Proof(flow="launch", plain=True),
    Proof(flow="launch", plain=True, actions_twice=True),
    Proof(flow="launch", plain=True, step="start_domain", when="after", undos_twice=True),
    Proof(flow="launch", plain=True, lost=1),
    Proof(flow="launch", plain=True, wordless=True),
    *(
        Proof(flow="launch", plain=True, step=step.name, when=when)
        for step in ALL_FLOWS["launch"].steps
        for when in ("before", "after")
    ),
    *(Proof(flow="launch", plain=True, dies=moment) for moment in range(12)),
]


@pytest.mark.parametrize("proof", PLAIN, ids=str)
def test_a_guest_that_is_made_beside_its_ports(proof: Proof, made: Template) -> None:
    """Whatever fails or dies while both are at work: the launch is complete or gone."""
    assert prove(proof, made) == []


def test_what_comes_too_late_of_a_guest_made_beside_its_ports(made: Template) -> None:
    """Each call in turn, as above."""
    for number, call in enumerate(calls_of("launch", made, plain=True)):
        assert prove(Proof(flow="launch", plain=True, late=number), made, named=True) == [], call
