"""Who may do what: OpenStack's policy names and check strings, decided by oslo.policy, remembered here.

A decision costs oslo.policy about 0.2 ms, so it is kept under everything it depends on: rule, roles, scope, and whether the target's
project, user and domain are the caller's own.  A rule that looks at anything else of the target is decided anew each time.  A rule
that was never registered denies.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from cumulet.core.context import Context
from cumulet.core.errors import Forbidden

__all__ = ["Policy", "Rule"]

MEMO_MAX = 20_000

#: what a memorised decision may depend on in the target, also of its parent (`network:project_id`): is it the caller's own?
_OWN = {"project_id": "project_id", "tenant_id": "project_id", "user_id": "user_id", "domain_id": "domain_id"}


def _facts(target: Mapping[str, Any], context: Context) -> tuple[tuple[str, bool], ...] | None:
    """A target as far as a decision may be remembered by it: what is the caller's own, and flags; None when it holds anything else."""
    facts = []
    for key, value in target.items():
        own = _OWN.get(key.rpartition(":")[2])
        if own is not None:
            facts.append((key, value == getattr(context, own)))
        elif isinstance(value, bool):
            facts.append((key, value))
        else:
            return None
    return tuple(facts)


class Rule(msgspec.Struct, frozen=True):
    """A policy name and who passes by default, as an oslo.policy check string."""

    name: str
    check: str
    #: which token scopes make sense ("project", "domain", "system"); empty: any
    scope: tuple[str, ...] = ()


class Policy:
    """The rules of one service.

    rules: defaults; overrides: a `policy.yaml` of the operator, or None.
    """

    def __init__(self, rules: Iterable[Rule], *, overrides: Path | None = None) -> None:
        self._rules = {rule.name: rule for rule in rules}
        self._overrides = overrides
        self._memo: dict[Any, bool] = {}
        self._enforcer: Any = None

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._rules)

    def require(self, name: str) -> None:
        """Raise at wiring time when a route names a rule that does not exist."""
        if name not in self._rules:
            msg = f"policy {name!r} is not registered"
            raise LookupError(msg)

    def enforce(self, name: str, context: Context, target: Mapping[str, Any]) -> None:
        if not self.allows(name, context, target):
            msg = f"Policy doesn't allow {name} to be performed."
            raise Forbidden(msg)

    def enforce_route(self, name: str, context: Context) -> None:
        """The first look, before any object is known: whether the caller may do this to something of its own."""
        self.enforce(
            name,
            context,
            {"project_id": context.project_id, "user_id": context.user_id, "domain_id": context.domain_id},
        )

    def allows(self, name: str, context: Context, target: Mapping[str, Any]) -> bool:
        if name not in self._rules:
            return False
        facts = _facts(target, context)
        key = (
            (
                name,
                context.roles,
                context.service_roles,
                context.system_scope,
                context.project_id is None,
                context.domain_id is None,
                facts,
            )
            if facts is not None
            else None
        )
        if key is not None and key in self._memo:
            return self._memo[key]
        decision = self._decide(name, context, target)
        if key is not None:
            if len(self._memo) >= MEMO_MAX:
                self._memo.clear()
            self._memo[key] = decision
        return decision

    def _decide(self, name: str, context: Context, target: Mapping[str, Any]) -> bool:
        rule = self._rules[name]
        if rule.scope and self._scope(context) not in rule.scope:
            return False
        if self._enforcer is None:
            self._enforcer = self._build()
        whole = dict(target)
        whole.setdefault("tenant_id", whole.get("project_id"))
        for key in ("project_id", "tenant_id"):
            if key in whole and whole[key] is None:
                whole[key] = ""  # nobody's: it must not match a caller without a project
        return bool(self._enforcer.enforce(name, whole, context.credentials()))

    @staticmethod
    def _scope(context: Context) -> str:
        if context.system_scope:
            return "system"
        if context.domain_id:
            return "domain"
        return "project" if context.project_id else "none"

    def _build(self) -> Any:
        # imported at the first decision: 0.1 s that a start need not pay
        from oslo_config import cfg
        from oslo_policy import policy

        conf = cfg.ConfigOpts()
        conf([], project="cumulet", default_config_files=[])
        enforcer = policy.Enforcer(
            conf, policy_file=str(self._overrides) if self._overrides else "", use_conf=bool(self._overrides)
        )
        for rule in self._rules.values():
            enforcer.register_default(policy.RuleDefault(rule.name, rule.check))
        if not self._overrides:
            # without a file the engine never takes over its registered defaults by itself
            enforcer.set_rules(
                policy.Rules.from_dict({rule.name: rule.check for rule in self._rules.values()}), use_conf=False
            )
        return enforcer
