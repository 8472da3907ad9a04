"""Who may do what: OpenStack's policy names and check strings, decided by oslo.policy, remembered here.

A decision costs oslo.policy about 0.1 ms, so it is kept under everything it depends on: the rule, the kind of scope, and what the
rule reads of caller and target (`core.policy_reads`), an operator's rule as well.  A rule that may read anything is decided anew each
time.  A rule that was never registered denies.
"""

import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from cumulet.core.context import Context
from cumulet.core.errors import Forbidden
from cumulet.core.policy_reads import Reads, reads_of

__all__ = ["Policy", "Rule"]

MEMO_MAX = 20_000
#: oslo.policy's kinds of checks are a variable of its module: services read their rules one after the other
_READING = threading.Lock()
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
        self._engine: Any = None

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
            reads = self._reads[name] = reads_of(name, self.engine.rules)
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
        return bool(self.engine.enforce(name, target, context.credentials()))

    @staticmethod
    def _scope(context: Context) -> str:
        if context.system_scope:
            return "system"
        if context.domain_id:
            return "domain"
        return "project" if context.project_id else "none"

    @property
    def engine(self) -> Any:
        """What has oslo.policy's `rules`, parsed at the first decision, and can `enforce` them."""
        if self._engine is None:
            with _READING:
                self._engine = _Defaults(self._rules.values()) if self._overrides is None else self._enforcer()
        return self._engine

    def _enforcer(self) -> Any:
        # for an operator's file only: it may hold checks that need more than the rules, and imports for 0.1 s
        from oslo_config import cfg
        from oslo_policy import policy

        conf = cfg.ConfigOpts()
        conf([], project="cumulet", default_config_files=[])
        enforcer = policy.Enforcer(conf, policy_file=str(self._overrides), use_conf=True)
        for rule in self._rules.values():
            enforcer.register_default(policy.RuleDefault(rule.name, rule.check))
        enforcer.load_rules()
        # the file is read once: what a rule reads is found once, too
        enforcer.set_rules(enforcer.rules, use_conf=False)
        return enforcer


class _Defaults:
    """The default rules as oslo.policy parses them, without its engine, whose work is an operator's file."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        # the parser has no public name; a test holds what it makes of the rules against the engine
        from oslo_policy import _checks, _parser

        parsed: dict[str, Any] = {}
        # without the installed kinds of checks, which ask servers and of which no default is: they import for 0.1 s
        installed, _checks.extension_checks = _checks.extension_checks, {}
        try:
            for check in {rule.check for rule in rules}:
                parsed[check] = _parser.parse_rule(check)
                if isinstance(parsed[check], _checks.FalseCheck) and check != "!":
                    msg = f"the policy check {check!r} cannot be read"
                    raise ValueError(msg)
        finally:
            _checks.extension_checks = installed
        self.rules = {rule.name: parsed[rule.check] for rule in rules}

    def enforce(self, name: str, target: dict[str, Any], credentials: dict[str, Any]) -> bool:
        return bool(self.rules[name](target, credentials, self, name))


def _whole(target: Mapping[str, Any]) -> dict[str, Any]:
    """A target with its project under both of its names; nobody's is the empty text, which no caller without a project matches."""
    whole = dict(target)
    whole.setdefault("tenant_id", whole.get("project_id"))
    for key in ("project_id", "tenant_id"):
        if key in whole and whole[key] is None:
            whole[key] = ""
    return whole
