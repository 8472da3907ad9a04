"""A decision that is remembered is the decision that would be made: whatever an operator's rule looks at."""

import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cumulet.compute.policy import RULES
from cumulet.core.context import Context
from cumulet.core.policy import Policy, Rule, _whole
from cumulet.core.policy_reads import reads_of
from cumulet.identity.policy import IdentityPolicy
from cumulet.image.policy import RULES as IMAGE_RULES
from cumulet.network.policy import RULES as NETWORK_RULES
from cumulet.placement.policy import RULES as PLACEMENT_RULES
from cumulet.volume.policy import RULES as VOLUME_RULES

READER = Context(user_id="u", project_id="p", roles=frozenset({"reader"}))


def policy(tmp_path: Path, **checks: str) -> Policy:
    """A policy of the operator's over defaults that allow nothing."""
    file = tmp_path / "policy.yaml"
    file.write_text(yaml.safe_dump(checks))
    return Policy([Rule(name, "!") for name in checks], overrides=file)


@pytest.mark.parametrize(
    ("check", "target", "may"),
    [
        ("project_id:%(project_id)s", {"project_id": "p"}, True),
        ("project_id:%(tenant_id)s", {"project_id": "p"}, True),
        ("'q':%(project_id)s", {"project_id": "q"}, True),
        ("'q':%(project_id)s", {"project_id": "other"}, False),
        ("not 'q':%(project_id)s", {"project_id": "other"}, True),
        ("not 'q':%(project_id)s", {"project_id": "q"}, False),
        ("'p-x':p-%(name)s", {"name": "x"}, True),
        ("'p-x':p-%(name)s", {"name": "y"}, False),
        ("role:%(wanted)s", {"wanted": "reader"}, True),
        ("role:%(wanted)s", {"wanted": "member"}, False),
        ("5:%(size)s", {"size": 5}, True),
        ("5:%(size)s", {"size": 6}, False),
        ("project_id:%(absent)s", {}, False),
        ("project_domain_id:%(domain)s", {"domain": "None"}, True),
        ("rule:same", {"project_id": "other"}, False),
    ],
)
def test_a_rule_of_the_operators_reads_the_target(
    tmp_path: Path, check: str, target: dict[str, Any], may: bool
) -> None:
    """Asked of other targets before and after, the answer is the same as without a memory."""
    rules = policy(tmp_path, look=check, same="project_id:%(project_id)s")
    others = ["p", "q", "other", "x", "y", "reader", "member", 5, 6, None]
    for _ in range(2):
        for value in others:
            rules.allows("look", READER, dict.fromkeys(target, value))
        assert rules.allows("look", READER, target) is may


@pytest.mark.parametrize("check", ["user_id:u", "user_id:%(owner)s", "project_id:p", "is_admin:False"])
def test_a_rule_of_the_operators_reads_the_caller(tmp_path: Path, check: str) -> None:
    """One caller's decision is not another's, with equal roles and scope."""
    rules = policy(tmp_path, look=check)
    stranger = Context(user_id="v", project_id="q", roles=frozenset({"reader", "admin"}))
    for _ in range(2):
        assert rules.allows("look", READER, {"owner": "u"})
        assert not rules.allows("look", stranger, {"owner": "u"})


def test_what_may_look_at_anything_is_never_remembered(tmp_path: Path) -> None:
    """A rule that asks a server has no known reads, nor one that refers to it, that names a fact unknown here or wants another form."""
    rules = policy(
        tmp_path,
        remote="http://127.0.0.1:9/%(name)s",
        through="role:reader and rule:remote",
        unknown="colour:red",
        form="user_id:%(name)r",
        plain="role:reader",
    )
    parsed = rules.engine.rules
    for name in ("remote", "through", "unknown", "form"):
        assert reads_of(name, parsed) is None, name
    assert reads_of("plain", parsed) is not None


def test_a_file_that_changes_changes_nothing_before_the_next_start(tmp_path: Path) -> None:
    """Rules and what they read are found together, once."""
    rules = policy(tmp_path, look="role:reader", other="role:reader")
    assert rules.allows("look", READER, {})
    (tmp_path / "policy.yaml").write_text('"look": "!"\n"other": "!"\n')
    assert rules.allows("look", READER, {"project_id": "x"})
    assert rules.allows("other", READER, {})


def test_a_remembered_decision_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine is asked once for all callers and targets that are alike to the rule."""
    rules = Policy(RULES)
    asked: list[str] = []
    enforce = rules.engine.enforce
    monkeypatch.setattr(rules.engine, "enforce", lambda name, *rest: asked.append(name) or enforce(name, *rest))
    for number in range(3):
        member = Context(user_id=f"u{number}", project_id=f"p{number}", roles=frozenset({"member", "reader"}))
        target = {"project_id": f"p{number}", "user_id": "another"}
        assert rules.allows("os_compute_api:servers:show", member, target)
    assert asked == ["os_compute_api:servers:show"]


SERVICES: list[Policy] = [
    Policy(NETWORK_RULES),
    Policy(RULES),
    Policy(IMAGE_RULES),
    Policy(PLACEMENT_RULES),
    Policy(VOLUME_RULES),
    IdentityPolicy(),
]


def draws(rules: Policy) -> Iterator[tuple[str, Context, dict[str, Any]]]:
    """Every default rule, with callers and targets drawn at random (a fixed seed)."""
    draw = random.Random(3)  # noqa: S311 - no secret
    keys = sorted({key for rule in rules._rules.values() for key in re.findall(r"%\((.+?)\)s", rule.check)})
    for name in sorted(rules.names):
        for _ in range(8):
            caller = Context(
                user_id=draw.choice("uv"),
                project_id=draw.choice(["p", "q", None]),
                domain_id=draw.choice([None, None, "d"]),
                project_domain_id=draw.choice(["d", "e", None]),
                system_scope=draw.choice([None, None, "all"]),
                roles=frozenset(draw.sample(["admin", "manager", "member", "reader", "service"], draw.randint(0, 3))),
                service_roles=frozenset(draw.sample(["service"], draw.randint(0, 1))),
            )
            values = ["u", "v", "p", "q", "d", "e", None, True, False, "member", "admin", "public"]
            yield name, caller, {key: draw.choice(values) for key in draw.sample(keys, draw.randint(0, len(keys)))}


@pytest.mark.parametrize("rules", SERVICES)
def test_a_remembered_decision_is_the_one_that_would_be_made(rules: Policy) -> None:
    """For every default rule, with a memory that fills as it goes."""
    for name, caller, target in draws(rules):
        assert rules.allows(name, caller, target) is rules._decide(name, caller, _whole(target)), (name, target)


@pytest.mark.parametrize("rules", SERVICES)
def test_the_default_rules_mean_what_oslo_policy_makes_of_them(rules: Policy, tmp_path: Path) -> None:
    """Its whole engine, given an operator's file that changes nothing, decides every rule alike."""
    file = tmp_path / "policy.yaml"
    file.write_text("{}\n")
    theirs = type(rules)(rules._rules.values(), overrides=file)
    for name, caller, target in draws(rules):
        assert rules.allows(name, caller, target) is theirs._decide(name, caller, _whole(target)), (name, target)


@pytest.mark.parametrize("check", ["role:a or", "and role:a", "(role:a", "role:a)", "role:a role:b", "admin", "not"])
def test_a_default_that_cannot_be_read_is_a_defect(check: str) -> None:
    """It is not taken for one that refuses, or allows."""
    with pytest.raises(ValueError, match="cannot be read"):
        Policy([Rule("look", check)]).allows("look", READER, {})


def test_a_cloud_without_an_operators_file_does_without_the_engine() -> None:
    """A first decision imports what reads check strings and no more: the engine with its configuration takes 0.1 s."""
    program = """
import sys
from cumulet.compute.policy import RULES
from cumulet.core.context import Context
from cumulet.core.policy import Policy
assert Policy(RULES).allows("os_compute_api:servers:show", Context(user_id="u", roles=frozenset({"admin"})), {})
assert not {"oslo_config", "requests"} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)
