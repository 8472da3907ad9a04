"""What roles imply, and how far an assignment reaches."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cumulet.identity.passwords import dummy, hash_password, hash_secret, is_quick, matches
from cumulet.identity.records import Assignment, Role
from cumulet.identity.roles import WHOLE_SYSTEM, Place, RoleGraph, reaches
from cumulet.identity.service.catalog import fill


def role(name: str, domain_id: str = "") -> Role:
    """A role whose id is its name."""
    return Role(id=name, name=name, domain_id=domain_id, description=None, options={}, extra={})


NAMES = "abcdef"


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)), max_size=20))
def test_a_closure_is_what_can_be_walked_to(rules: list[tuple[str, str]]) -> None:
    """Whatever the rules, also in circles: a role, what it implies, what that implies, and nothing else."""
    graph = RoleGraph([role(name) for name in NAMES], rules)
    for start in NAMES:
        walked = {start}
        for _ in NAMES:
            walked |= {implied for prior, implied in rules if prior in walked}
        assert graph.closure(start) == walked


def test_a_token_names_no_domains_own_role() -> None:
    """Such a role counts by what it implies; a role that is gone counts for nothing."""
    graph = RoleGraph([role("clerk", "shop"), role("reader")], [("clerk", "reader"), ("clerk", "gone")])
    assert [r.name for r in graph.in_token(graph.expand(["clerk", "gone"]))] == ["reader"]


def held(target: str, target_id: str, *, inherited: bool = False) -> Assignment:
    """A user's assignment."""
    return Assignment(actor="user", actor_id="u", target=target, target_id=target_id, role_id="r", inherited=inherited)


LEAF = Place(target="project", id="leaf", above=("middle", "top", "shop"), domain_id="shop")
DOMAIN = Place(target="domain", id="shop")


@pytest.mark.parametrize(
    ("assignment", "place", "counts"),
    [
        (held("project", "leaf"), LEAF, True),
        (held("project", "middle"), LEAF, False),
        (held("project", "middle", inherited=True), LEAF, True),
        (held("project", "leaf", inherited=True), LEAF, False),
        (held("domain", "shop"), LEAF, False),
        (held("domain", "shop", inherited=True), LEAF, True),
        (held("domain", "else", inherited=True), LEAF, False),
        (held("domain", "shop"), DOMAIN, True),
        (held("domain", "shop", inherited=True), DOMAIN, False),
        (held("project", "shop"), DOMAIN, False),
        (held("system", "system"), WHOLE_SYSTEM, True),
        (held("system", "system"), LEAF, False),
    ],
)
def test_where_an_assignment_counts(assignment: Assignment, place: Place, counts: bool) -> None:
    """On its target, or, inherited, on the projects below it and not on itself."""
    assert reaches(assignment, place) is counts


def test_a_password_matches_its_hash_only() -> None:
    """Both schemes; nothing matches the hash that stands for nobody."""
    slow, quick = hash_password("secret", 4), hash_secret("secret")
    assert (is_quick(slow), is_quick(quick)) == (False, True)
    for stored in (slow, quick):
        assert matches("secret", stored)
        assert not matches("Secret", stored)
        assert not matches("", stored)
    assert not matches("secret", dummy(4))
    longest = hash_password("p" * 72, 4)
    assert matches("p" * 72, longest)
    assert not matches("p" * 73, longest)


@pytest.mark.parametrize(
    ("url", "values", "filled"),
    [
        ("$(public_url)s/x", {"public_url": "http://a"}, "http://a/x"),
        ("http://a/%(tenant_id)s", {"tenant_id": "t"}, "http://a/t"),
        ("http://a/$(project_id)s", {"project_id": None}, None),
        ("http://a/$(other)s", {"project_id": "p"}, "http://a/$(other)s"),
        ("http://a/$(project_id)s/$(other)s", {"project_id": "p"}, "http://a/p/$(other)s"),
    ],
)
def test_placeholders_of_an_endpoint(url: str, values: dict[str, str | None], filled: str | None) -> None:
    """Known ones are filled, unknown ones stay, one without a value leaves the endpoint out."""
    assert fill(url, values) == filled
