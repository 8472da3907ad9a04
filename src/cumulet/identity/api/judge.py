"""The second look, at the thing that was found: may the caller do this to it.

A thing that is not there is judged too, with nothing known of it: who could not see it is told 403, who could is told
404.  (A few rows answer 404 first, because the reference does: `policy.DEFERRED`.)
"""

from typing import Any, TypeVar

import msgspec

from cumulet.core.errors import BadRequest
from cumulet.core.web import Call
from cumulet.identity.records import Assignment, Credential, Group, Project, Role, Trust, User
from cumulet.identity.service.realm import missing
from cumulet.identity.service.tokens import Standing

__all__ = ["changes", "judge", "need", "standing"]

T = TypeVar("T", bound=msgspec.Struct)


def judge(
    call: Call, rule: str, *, path_user_id: str | None = None, domain_id: str | None = None, **things: Any
) -> None:
    """Raise Forbidden unless the caller may do `rule` to these things.

    path_user_id: the user in the path, for rules about an owner; domain_id: what a list is limited to; things:
    records by the name that rules use (`user`, `project`, …); None for one that is not there.
    """
    target: dict[str, Any] = {}
    for name, thing in things.items():
        target |= _facts(name, thing)
    if path_user_id is not None:
        target["user_id"] = path_user_id
    if domain_id is not None:
        target["target.domain_id"] = domain_id
    call.authorize(f"identity:{rule}", **target)


def need(call: Call, rule: str, kind: type[T], id: str, *, word: str, **more: Any) -> T:
    """The record that the caller may do `rule` to.  Raises Forbidden, then NotFound."""
    found = call.service.realm.find(kind, id=id)
    record: T | None = found[0] if found else None
    if word == "domain" and isinstance(record, Project) and not record.is_domain:
        record = None
    things: dict[str, Any] = {word: record, **more}
    judge(call, rule, **things)
    if record is None:
        raise missing(word, id)
    return record


def standing(call: Call) -> Standing:
    """What the caller's own token stands for."""
    found: Standing = call.service.tokens.validate(call.context.token or "")
    return found


def _facts(name: str, thing: Any) -> dict[str, Any]:
    prefix = f"target.{name}"
    match thing:
        case Project():
            domain = {f"{prefix}.domain_id": thing.domain_id or None} if name == "project" else {}
            return {f"{prefix}.id": thing.id, **domain}
        case User() | Group():
            return {f"{prefix}.id": thing.id, f"{prefix}.domain_id": thing.domain_id}
        case Role():
            return {f"{prefix}.name": thing.name, f"{prefix}.domain_id": thing.domain_id or None}
        case Credential():
            return {f"{prefix}.user_id": thing.user_id}
        case Trust():
            return {
                f"{prefix}.trustor_user_id": thing.trustor_user_id,
                f"{prefix}.trustee_user_id": thing.trustee_user_id,
            }
        case Assignment() | None:
            return {}
        case dict():
            return {f"{prefix}.{key}": value for key, value in thing.items() if value is not None}
        case _:
            return {}


def changes(call: Call, id: str) -> dict[str, Any]:
    """The attributes of an update.  Raises BadRequest where they name another id."""
    given: dict[str, Any] = call.body
    if given.get("id", id) != id:
        msg = "Cannot change the ID of a resource."
        raise BadRequest(msg)
    return given
