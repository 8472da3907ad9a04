"""Who may do what: the personas of the reference on things of their own and of others, and an operator's own rules."""

from pathlib import Path
from typing import Any

import pytest

from cumulet.core.context import Context
from cumulet.core.errors import Forbidden
from cumulet.identity.policy import IdentityPolicy

ROLES = {
    "admin": {"admin", "manager", "member", "reader"},
    "manager": {"manager", "member", "reader"},
    "member": {"member", "reader"},
    "reader": {"reader"},
}


def caller(persona: str) -> Context:
    """`project-member`, `domain-manager`, `system-reader` …: user u, project p in domain d."""
    scope, _, role = persona.partition("-")
    return Context(
        user_id="u",
        project_id="p" if scope == "project" else None,
        project_domain_id="d" if scope == "project" else None,
        domain_id="d" if scope == "domain" else None,
        system_scope="all" if scope == "system" else None,
        roles=frozenset(ROLES.get(role, set())),
    )


EVERYBODY = {f"{scope}-{role}" for scope in ("project", "domain", "system") for role in ROLES}
ADMINS = {"project-admin", "domain-admin", "system-admin"}
CLOUD_READERS = {"system-manager", "system-member", "system-reader"}
DOMAIN = {"domain-manager", "domain-member", "domain-reader"}


@pytest.mark.parametrize(
    ("rule", "target", "may"),
    [
        ("get_user", {"target.user.id": "x", "target.user.domain_id": "d"}, ADMINS | CLOUD_READERS | DOMAIN),
        ("get_user", {"target.user.id": "x", "target.user.domain_id": "else"}, ADMINS | CLOUD_READERS),
        ("get_user", {"target.user.id": "u", "target.user.domain_id": "else"}, EVERYBODY),
        ("create_user", {"target.user.domain_id": "d"}, ADMINS | {"domain-manager"}),
        ("create_user", {"target.user.domain_id": "else"}, ADMINS),
        ("create_user", {}, ADMINS),
        ("get_project", {"target.project.id": "p", "target.project.domain_id": "else"}, None),
        ("create_project", {"target.project.domain_id": "d"}, ADMINS | {"domain-manager"}),
        ("create_project", {"target.project.domain_id": None}, ADMINS),
        ("list_projects", {"target.domain_id": "d"}, ADMINS | CLOUD_READERS | DOMAIN),
        ("list_projects", {}, ADMINS | CLOUD_READERS),
        ("create_domain", {}, ADMINS - {"domain-admin"}),
        ("list_services", {}, (ADMINS | CLOUD_READERS) - {"domain-admin"}),
        ("validate_token", {"target.token.user_id": "x"}, ADMINS | CLOUD_READERS),
        ("validate_token", {"target.token.user_id": "u"}, EVERYBODY),
        ("revoke_token", {"target.token.user_id": "x"}, ADMINS),
        ("create_application_credential", {"user_id": "x"}, set()),
        ("delete_access_rule", {"target.user.id": "x"}, {"system-admin"}),
        ("get_role", {"target.role.name": "member"}, ADMINS | CLOUD_READERS | {"project-manager", "domain-manager"}),
        ("get_role", {"target.role.name": "admin"}, ADMINS | CLOUD_READERS),
    ],
)
def test_a_persona_may(rule: str, target: dict[str, Any], may: set[str] | None) -> None:
    """Exactly these, twice: what was decided is remembered and remains so."""
    policy = IdentityPolicy()
    projects = {persona for persona in EVERYBODY if persona.startswith("project")}
    expected = projects | ADMINS | CLOUD_READERS if may is None else may
    for _ in range(2):
        allowed = {persona for persona in EVERYBODY if policy.allows(f"identity:{rule}", caller(persona), target)}
        assert allowed == expected


@pytest.mark.parametrize("role", ["manager", "member", "reader", "admin", "service"])
def test_a_domains_manager_gives_only_what_it_manages(role: str) -> None:
    """Up to manager, to its users and groups, on its projects."""
    policy = IdentityPolicy()
    target = {
        "target.user.domain_id": "d",
        "target.project.domain_id": "d",
        "target.role.name": role,
        "target.role.domain_id": None,
    }
    manager = caller("domain-manager")
    assert policy.allows("identity:create_grant", manager, target) is (role in {"manager", "member", "reader"})
    for elsewhere in ("target.user.domain_id", "target.project.domain_id"):
        assert not policy.allows("identity:create_grant", manager, {**target, elsewhere: "else"})


def test_a_rule_that_does_not_exist_denies() -> None:
    """Nobody may do what was never written down, not even the administrator."""
    with pytest.raises(Forbidden, match="identity:fly"):
        IdentityPolicy().enforce("identity:fly", caller("system-admin"), {})


def test_an_operators_rules_take_the_place_of_the_defaults(tmp_path: Path) -> None:
    """Also such as look at a particular domain: no decision on one is remembered for another."""
    file = tmp_path / "policy.yaml"
    file.write_text('"identity:list_users": "role:reader"\n"identity:get_user": "\'shop\':%(target.user.domain_id)s"\n')
    policy = IdentityPolicy(overrides=file)
    reader = caller("project-reader")
    assert policy.allows("identity:list_users", reader, {})
    for domain, allowed in (("shop", True), ("else", False), ("shop", True)):
        assert policy.allows("identity:get_user", reader, {"target.user.domain_id": domain}) is allowed
    assert not policy.allows("identity:create_domain", reader, {})
    assert policy.allows("identity:create_domain", caller("project-admin"), {})
