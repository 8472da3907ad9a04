"""OpenStack's policy language: check strings parsed, and decided.

    role:reader and (project_id:%(project_id)s or rule:admin_only) or not 'private':%(visibility)s

It means what oslo.policy makes of it (a test compares the two over every default rule).  That engine takes 0.2 s and 20 MiB to import
and so is loaded only where an operator's own file may hold checks of other kinds.
"""

import ast
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

__all__ = ["All", "Always", "Check", "Compare", "Either", "Negated", "Refer", "Role", "parse"]

Target = Mapping[str, Any]
Caller = Mapping[str, Any]


class Always(msgspec.Struct, frozen=True):
    """`@` and `!`."""

    value: bool

    def allows(self, target: Target, caller: Caller, rules: "Rules") -> bool:
        return self.value


class Negated(msgspec.Struct, frozen=True):
    part: "Check"

    def allows(self, target: Target, caller: Caller, rules: "Rules") -> bool:
        return not self.part.allows(target, caller, rules)


class All(msgspec.Struct, frozen=True):
    parts: tuple["Check", ...]

    def allows(self, target: Target, caller: Caller, rules: "Rules") -> bool:
        return all(part.allows(target, caller, rules) for part in self.parts)


class Either(msgspec.Struct, frozen=True):
    parts: tuple["Check", ...]

    def allows(self, target: Target, caller: Caller, rules: "Rules") -> bool:
        return any(part.allows(target, caller, rules) for part in self.parts)


class Refer(msgspec.Struct, frozen=True):
    """`rule:NAME`; a rule that does not exist refuses."""

    name: str

    def allows(self, target: Target, caller: Caller, rules: "Rules") -> bool:
        found = rules.get(self.name)
        return found is not None and found.allows(target, caller, rules)


class Role(msgspec.Struct, frozen=True):
    """`role:NAME`: one of the caller's, in whatever case."""

    pattern: str

    def allows(self, target: Target, caller: Caller, rules: "Rules") -> bool:
        try:
            wanted = self.pattern % target
        except KeyError:
            return False
        return wanted.lower() in [role.lower() for role in caller["roles"]]


class Compare(msgspec.Struct, frozen=True):
    """`LEFT:PATTERN`: a literal, or what the caller has there, is as text what the pattern makes of the target."""

    left: str
    pattern: str

    def allows(self, target: Target, caller: Caller, rules: "Rules") -> bool:
        try:
            wanted = self.pattern % target
        except KeyError:
            return False
        try:
            return wanted == str(ast.literal_eval(self.left))
        except ValueError:  # a name
            return _has(caller, self.left.split("."), wanted)


Check = Always | Negated | All | Either | Refer | Role | Compare
Rules = Mapping[str, Check]


def _has(value: Any, path: list[str], wanted: str) -> bool:
    """Whether what lies at the end of a path is this text; of a list, whether something in it is."""
    if not path:
        return wanted == str(value)
    if path[0] not in value:
        return False
    found = value[path[0]]
    return any(_has(one, path[1:], wanted) for one in (found if isinstance(found, list) else [found]))


def parse(text: str) -> Check:
    """A check string's meaning; the empty one allows.  Raises ValueError: it cannot be read."""
    words = list(_words(text))
    if not words:
        return Always(value=True)
    check = _either(words)
    if words:
        msg = f"the check {text!r} goes on after its end"
        raise ValueError(msg)
    return check


def _words(text: str) -> Iterator[str]:
    """Parentheses stand at the beginning and the end of words; those inside belong to `%(name)s`."""
    for word in text.split():
        bare = word.lstrip("(")
        yield from "(" * (len(word) - len(bare))
        inner = bare.rstrip(")")
        if inner:
            yield inner
        yield from ")" * (len(bare) - len(inner))


def _either(words: list[str]) -> Check:
    parts = [_all(words)]
    while words and words[0].lower() == "or":
        words.pop(0)
        parts.append(_all(words))
    return parts[0] if len(parts) == 1 else Either(tuple(parts))


def _all(words: list[str]) -> Check:
    parts = [_one(words)]
    while words and words[0].lower() == "and":
        words.pop(0)
        parts.append(_one(words))
    return parts[0] if len(parts) == 1 else All(tuple(parts))


def _one(words: list[str]) -> Check:
    if not words:
        msg = "a check ends too early"
        raise ValueError(msg)
    word = words.pop(0)
    if word.lower() == "not":
        return Negated(_one(words))
    if word == "(":
        inner = _either(words)
        if not words or words.pop(0) != ")":
            msg = "a check has a parenthesis that is not closed"
            raise ValueError(msg)
        return inner
    if word in {"@", "!"}:
        return Always(word == "@")
    left, colon, right = word.partition(":")
    if not colon:
        msg = f"{word!r} is no check"
        raise ValueError(msg)
    if left == "rule":
        return Refer(right)
    return Role(right) if left == "role" else Compare(left, right)
