"""What a policy rule looks at, found in its parsed form: all that a remembered decision may and must be kept under.

The reads follow oslo.policy's checks: a role is looked for among the caller's; `A:%(b)s` compares the caller's A, or a literal, with
the target's b as text.  A check of any other kind (one that asks a server, or an operator's own) may look at anything, so decisions
of a rule with one are not remembered.
"""

import ast
from collections.abc import Mapping
from typing import Any

import msgspec

from cumulet.core.context import Context

__all__ = ["Reads", "reads_of"]

#: the caller as the engine is given it: by attribute of the context
_ATTRIBUTES = {
    "user_id": "user_id",
    "user_domain_id": "user_domain_id",
    "project_id": "project_id",
    "tenant_id": "project_id",
    "project_domain_id": "project_domain_id",
    "domain_id": "domain_id",
    "system_scope": "system_scope",
    "system": "system_scope",
    "roles": "roles",
    "service_roles": "service_roles",
    "is_admin": "is_admin",
}
_LISTS = frozenset({"roles", "service_roles"})


class Reads(msgspec.Struct, frozen=True):
    """The parts of caller and target that a rule's decision can depend on."""

    #: (attribute of the caller, key of the target): whether they are equal is all that is looked at
    pairs: tuple[tuple[str, str], ...]
    #: keys of the target whose value matters
    target: tuple[str, ...]
    #: attributes of the caller whose value matters
    caller: tuple[str, ...]

    def facts(self, context: Context, target: Mapping[str, Any]) -> tuple[Any, ...]:
        """What this rule sees of this caller and this target: two calls with equal facts have the same decision."""
        found: list[Any] = []
        for attribute, key in self.pairs:
            if key in target:
                own, value = getattr(context, attribute), target[key]
                found.append(own == value if type(own) is type(value) is str else str(own) == str(value))
            else:
                found.append(None)
        found.extend([str(target[key]) if key in target else None for key in self.target])
        found.extend([getattr(context, attribute) for attribute in self.caller])
        return tuple(found)


class _UnknownCheckError(Exception):
    """A check that may look at anything."""


class _Value:
    """Stands for a target's value while a pattern is read: only its text may be asked for."""

    def __str__(self) -> str:
        return ""

    def __repr__(self) -> str:
        raise _UnknownCheckError


class _Keys(dict[str, Any]):
    """A target that writes down which keys a pattern asks for."""

    def __missing__(self, key: str) -> _Value:
        self[key] = value = _Value()
        return value


def _keys(pattern: str) -> list[str]:
    """The target's keys in a pattern such as `%(project_id)s`."""
    keys = _Keys()
    try:
        _ = pattern % keys
    except (TypeError, ValueError):
        raise _UnknownCheckError from None
    return list(keys)


def reads_of(name: str, rules: Mapping[str, Any]) -> Reads | None:
    """What the rule `name` of these parsed rules reads; None when it may read anything."""
    walk = _Walk(rules)
    try:
        walk.rule(name)
    except _UnknownCheckError:
        return None
    return Reads(tuple(sorted(walk.pairs)), tuple(sorted(walk.target)), tuple(sorted(walk.caller)))


class _Walk:
    """One walk over a rule and all that it refers to."""

    def __init__(self, rules: Mapping[str, Any]) -> None:
        self._rules = rules
        self._seen: set[str] = set()
        self.pairs: set[tuple[str, str]] = set()
        self.target: set[str] = set()
        self.caller: set[str] = set()

    def rule(self, name: str) -> None:
        if name in self._seen:
            return
        self._seen.add(name)
        try:
            found = self._rules[name]
        except KeyError:
            return  # refused whatever there is to read
        self._check(found)

    def _check(self, check: Any) -> None:
        from oslo_policy import _checks  # the engine has no other names for its parts

        kind = type(check)
        if kind in {_checks.TrueCheck, _checks.FalseCheck}:
            return
        if kind is _checks.NotCheck:
            self._check(check.rule)
        elif kind in {_checks.AndCheck, _checks.OrCheck}:
            for part in check.rules:
                self._check(part)
        elif kind is _checks.RuleCheck:
            self.rule(check.match)
        elif kind is _checks.RoleCheck:
            self.caller.add("roles")
            self.target.update(_keys(check.match))
        elif kind is _checks.GenericCheck:
            self._comparison(check.kind, check.match)
        else:
            raise _UnknownCheckError

    def _comparison(self, left: str, right: str) -> None:
        keys = _keys(right)
        try:
            ast.literal_eval(left)
        except ValueError:
            pass
        except (SyntaxError, TypeError, MemoryError, RecursionError):
            raise _UnknownCheckError from None
        else:
            self.target.update(keys)
            return
        attribute = _ATTRIBUTES.get(left.partition(".")[0])
        if attribute is None:
            raise _UnknownCheckError  # nothing that a caller has today
        if left in _ATTRIBUTES and attribute not in _LISTS and keys and right == f"%({keys[0]})s":
            self.pairs.add((attribute, keys[0]))
        else:
            self.caller.add(attribute)
            self.target.update(keys)
