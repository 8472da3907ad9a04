"""`./dev conformance` accounts for every test of a tier, whatever the suite prints."""

import configparser
import re
from pathlib import Path

import pytest

from cumulet.dev import conformance
from cumulet.dev.cloud import CloudFailed
from cumulet.dev.conformance import Outcome

_A = "tempest.api.things.ThingsTest.test_one[id-1,smoke]"
_B = "tempest.api.things.ThingsTest.test_two[id-2]"
_C = "tempest.api.others.OthersTest.test_three[id-3]"


def _outcome(*lines: str) -> Outcome:
    outcome = Outcome([_A, _B, _C])
    for line in lines:
        outcome.hear(line + "\n")
    return outcome


def test_all_passed_is_good() -> None:
    """The closing line has the form that is asked for."""
    outcome = _outcome(*(f"{{0}} {one} [0.123456s] ... ok" for one in (_A, _B, _C)))
    assert outcome.good
    assert outcome.closing_line() == "3 passed, 0 failed, 0 skipped"


def test_a_test_that_never_ran_has_failed() -> None:
    """A run that ends early does not look like a good one."""
    outcome = _outcome(f"{{1}} {_A} [0.1s] ... ok", f"{{0}} {_B} [0.1s] ... FAILED")
    assert outcome.not_run == [_C]
    assert not outcome.good
    assert outcome.closing_line() == "1 passed, 2 failed, 0 skipped"


def test_a_class_that_could_not_be_set_up_stands_for_its_tests() -> None:
    """The suite prints one line for the class; each of its tests has failed."""
    outcome = _outcome(
        "{0} setUpClass (tempest.api.things.ThingsTest) [0.000000s] ... FAILED", f"{{0}} {_C} [1.0s] ... ok"
    )
    assert outcome.failed == {_A, _B}
    assert outcome.closing_line() == "1 passed, 2 failed, 0 skipped"


def test_a_skipped_class_has_no_duration() -> None:
    """That line has a form of its own, and its reason counts for all its tests."""
    outcome = _outcome("{0} setUpClass (tempest.api.things.ThingsTest) ... SKIPPED: router extension not enabled.")
    assert outcome.unexplained_skips.keys() == {_A, _B}


def test_a_class_that_cannot_be_torn_down_has_not_passed() -> None:
    """Its tests passed, but something was left behind."""
    lines = [f"{{0}} {one} [0.1s] ... ok" for one in (_A, _B, _C)]
    outcome = _outcome(*lines, "{0} tearDownClass (tempest.api.others.OthersTest) [0.0s] ... FAILED")
    assert outcome.closing_line() == "2 passed, 1 failed, 0 skipped"


@pytest.mark.parametrize(
    ("why", "fine"),
    [
        ("Swift is not available", True),
        ("fwaas extension not enabled", True),
        ("spice_console not available.", True),
        ("Live migration is not available.", False),
        ("This test prevents testing with bogus image data", True),
        ("network provider extension not enabled", False),
    ],
)
def test_a_skip_needs_a_good_reason(why: str, *, fine: bool) -> None:
    """Only what no cloud of this kind has may be skipped."""
    outcome = _outcome(f"{{0}} {_A} [0.1s] ... SKIPPED: {why}")
    assert (outcome.unexplained_skips == {}) is fine
    assert outcome.closing_line() == "0 passed, 2 failed, 1 skipped"


def test_leftovers_are_the_parts_that_are_not_empty() -> None:
    """A clean report has every key, and nothing under any."""
    clean = {"flavors": [], "regions": {}, "_projects_to_clean": {}}
    assert conformance.leftovers(clean) == {}
    assert conformance.leftovers({**clean, "_projects_to_clean": {"p": {"name": "left"}}}) == {
        "_projects_to_clean": {"p": {"name": "left"}}
    }


def test_the_configuration_is_complete() -> None:
    """Each name in the template is filled, what comes out is a configuration file, and a missing value is not passed
    over."""
    template = (conformance._LISTS / "tempest.conf").read_text()
    values = {name: f"<{name}>" for name in re.findall(r"\$\{(\w+)\}", template)}
    settings = configparser.ConfigParser(interpolation=None)
    settings.read_string(conformance.render(values))
    assert settings["compute"]["flavor_ref"] == "<flavor>"
    assert not [name for section in settings.sections() for name, value in settings.items(section) if "$" in value]
    del values["flavor"]
    with pytest.raises(KeyError):
        conformance.render(values)


@pytest.mark.parametrize(
    ("tier", "count"), [(0, 38), (1, 90), (2, 227), (3, 1197), (4, 73), (5, 774), (6, 2160), (7, 66)]
)
def test_the_tiers_are_whole(tier: int, count: int) -> None:
    """No id is lost or doubled."""
    ids = conformance.tier_file(tier).read_text().split()
    assert len(ids) == len(set(ids)) == count


def test_an_unknown_tier_is_refused() -> None:
    """The message names those that there are."""
    with pytest.raises(CloudFailed, match="tier-0-boot-a-server"):
        conformance.tier_file(8)


def test_the_images_for_import_are_served_on_loopback(tmp_path: Path) -> None:
    """A test that has the cloud fetch an image finds one."""
    import urllib.request

    with (
        conformance._images_on_loopback(tmp_path / "images") as url,
        urllib.request.urlopen(f"{url}/image.raw") as answer,  # noqa: S310 - our own address
    ):
        assert len(answer.read()) == 1 << 20
