"""Who may do what: OpenStack's policy names and check strings, decided once and remembered.

The default rules are decided by `core.policy_rules`, an operator's file by oslo.policy, as it may hold checks of any kind.  A decision is
kept under everything it depends on: the rule, the kind of scope, and what the rule reads of caller and target (`core.policy_reads`),
an operator's rule as well.  A rule that may read anything is decided anew each time.  A rule that was never registered denies.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from cumulet.core.context import Context
from cumulet.core.errors import Forbidden
from cumulet.core.policy_reads import Reads, reads_of
from cumulet.core.policy_rules import Check, Compare, parse

__all__ = ["Policy", "Rule"]

MEMO_MAX = 20_000
#: in place of what a rule reads, before anybody has looked
_UNREAD: Any = object()


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
        self._reads: dict[str, Reads | None] = {}
        self._parsed: dict[str, Check] | None = None
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
        reads = self._reads.get(name, _UNREAD)
        if reads is _UNREAD:
            if name not in self._rules:
                return False
            reads = self._reads[name] = reads_of(name, self._checks())
        whole = _whole(target)
        if reads is None:
            return self._decide(name, context, whole)
        scope = (not context.system_scope, not context.domain_id, not context.project_id)
        key = (name, scope, reads.facts(context, whole))
        decision = self._memo.get(key)
        if decision is None:
            if len(self._memo) >= MEMO_MAX:
                self._memo.clear()
            decision = self._memo[key] = self._decide(name, context, whole)
        return decision

    def _decide(self, name: str, context: Context, target: dict[str, Any]) -> bool:
        rule = self._rules[name]
        if rule.scope and self._scope(context) not in rule.scope:
            return False
        if self._overrides is not None:
            return bool(self._engine(self._overrides).enforce(name, target, context.credentials()))
        checks = self._checks()
        return checks[name].allows(target, context.credentials(), checks)

    @staticmethod
    def _scope(context: Context) -> str:
        if context.system_scope:
            return "system"
        if context.domain_id:
            return "domain"
        return "project" if context.project_id else "none"

    def _checks(self) -> dict[str, Check]:
        """Every rule, parsed at the first decision."""
        if self._parsed is None:
            if self._overrides is None:
                self._parsed = {rule.name: parse(rule.check) for rule in self._rules.values()}
            else:
                checks = self._engine(self._overrides).rules.items()
                self._parsed = {name: _as_far_as_known(str(check)) for name, check in checks}
        return self._parsed

    def _engine(self, overrides: Path) -> Any:
        if self._enforcer is None:
            from oslo_config import cfg
            from oslo_policy import policy

            conf = cfg.ConfigOpts()
            conf([], project="cumulet", default_config_files=[])
            enforcer = policy.Enforcer(conf, policy_file=str(overrides), use_conf=True)
            for rule in self._rules.values():
                enforcer.register_default(policy.RuleDefault(rule.name, rule.check))
            enforcer.load_rules()
            # the file is read once: what a rule reads is found once, too
            enforcer.set_rules(enforcer.rules, use_conf=False)
            self._enforcer = enforcer
        return self._enforcer


def _as_far_as_known(text: str) -> Check:
    """An operator's check; one of a form that only the engine knows looks, like one of an unknown kind, at anything."""
    try:
        return parse(text)
    except ValueError:
        return Compare("unknown", text)


def _whole(target: Mapping[str, Any]) -> dict[str, Any]:
    """A target with its project under both of its names; nobody's is the empty text, which no caller without a project matches."""
    whole = dict(target)
    whole.setdefault("tenant_id", whole.get("project_id"))
    for key in ("project_id", "tenant_id"):
        if key in whole and whole[key] is None:
            whole[key] = ""
    return whole
