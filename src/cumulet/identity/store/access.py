"""Who holds which role on what: memberships, assignments, implications."""

from collections.abc import Collection, Iterable

from sqlalchemy import ColumnElement, delete, select

from cumulet.core.db import Duplicate, Tx
from cumulet.identity.records import AccessRule, ApplicationCredential, Assignment, Credential, Group, Role, Trust, User
from cumulet.identity.store import rows
from cumulet.identity.tables import ASSIGNMENT, GROUP, IMPLICATION, MEMBERSHIP, USER

__all__ = [
    "add_implication",
    "add_member",
    "assign",
    "group_ids",
    "groups_of",
    "held",
    "implications",
    "is_member",
    "member_ids",
    "members",
    "remove_delegations",
    "remove_implication",
    "remove_member",
    "roles",
    "unassign",
    "withdraw",
]


def group_ids(tx: Tx, user_id: str) -> list[str]:
    return [str(value) for value in tx.values(select(MEMBERSHIP.c.group_id).where(MEMBERSHIP.c.user_id == user_id))]


def member_ids(tx: Tx, groups: Collection[str]) -> list[tuple[str, str]]:
    """(group, user) pairs of several groups."""
    found = tx.all(select(MEMBERSHIP.c.group_id, MEMBERSHIP.c.user_id).where(MEMBERSHIP.c.group_id.in_(sorted(groups))))
    return [(row["group_id"], row["user_id"]) for row in found]


def members(tx: Tx, group_id: str) -> list[User]:
    joined = select(USER).join(MEMBERSHIP, MEMBERSHIP.c.user_id == USER.c.id).where(MEMBERSHIP.c.group_id == group_id)
    return [User(**row) for row in tx.all(joined.order_by(USER.c.id))]


def groups_of(tx: Tx, user_id: str) -> list[Group]:
    joined = select(GROUP).join(MEMBERSHIP, MEMBERSHIP.c.group_id == GROUP.c.id).where(MEMBERSHIP.c.user_id == user_id)
    return [Group(**row) for row in tx.all(joined.order_by(GROUP.c.id))]


def is_member(tx: Tx, group_id: str, user_id: str) -> bool:
    found = select(MEMBERSHIP.c.user_id).where(MEMBERSHIP.c.group_id == group_id, MEMBERSHIP.c.user_id == user_id)
    return tx.value(found) is not None


def add_member(tx: Tx, group_id: str, user_id: str) -> None:
    tx.upsert(MEMBERSHIP, {"user_id": user_id, "group_id": group_id}, ("user_id", "group_id"))


def remove_member(tx: Tx, *, group_id: str | None = None, user_id: str | None = None) -> int:
    """One membership, or all of a group or of a user."""
    statement = delete(MEMBERSHIP)
    if group_id is not None:
        statement = statement.where(MEMBERSHIP.c.group_id == group_id)
    if user_id is not None:
        statement = statement.where(MEMBERSHIP.c.user_id == user_id)
    return tx.run(statement)


def roles(tx: Tx) -> list[Role]:
    return rows.find(tx, Role)


def implications(tx: Tx) -> list[tuple[str, str]]:
    """(prior, implied) pairs."""
    return [(row["prior_id"], row["implied_id"]) for row in tx.all(select(IMPLICATION))]


def add_implication(tx: Tx, prior_id: str, implied_id: str) -> None:
    tx.upsert(IMPLICATION, {"prior_id": prior_id, "implied_id": implied_id}, ("prior_id", "implied_id"))


def remove_implication(tx: Tx, *, prior_id: str | None = None, implied_id: str | None = None) -> int:
    """One implication, or all that begin or end at a role."""
    statement = delete(IMPLICATION)
    if prior_id is not None:
        statement = statement.where(IMPLICATION.c.prior_id == prior_id)
    if implied_id is not None:
        statement = statement.where(IMPLICATION.c.implied_id == implied_id)
    return tx.run(statement)


def held(tx: Tx, actor_ids: Iterable[str], target_ids: Iterable[str] | None = None) -> list[Assignment]:
    """What the actors hold: everywhere, or on some targets."""
    if target_ids is None:
        return rows.find(tx, Assignment, actor_id=list(actor_ids))
    return rows.find(tx, Assignment, actor_id=list(actor_ids), target_id=list(target_ids))


def assign(tx: Tx, assignment: Assignment) -> bool:
    """False when it was there already."""
    where = _same(assignment)
    if tx.value(select(ASSIGNMENT.c.role_id).where(*where)) is not None:
        return False
    try:
        rows.add(tx, assignment)
    except Duplicate:
        return False
    return True


def unassign(tx: Tx, assignment: Assignment) -> bool:
    """False when there was none."""
    return tx.run(delete(ASSIGNMENT).where(*_same(assignment))) > 0


def withdraw(
    tx: Tx, *, actors: Collection[str] = (), targets: Collection[str] = (), role_id: str | None = None
) -> None:
    """Remove every assignment of these actors, on these targets, of this role: when one of them goes."""
    if actors:
        rows.remove(tx, Assignment, actor_id=actors)
    if targets:
        rows.remove(tx, Assignment, target_id=targets)
    if role_id is not None:
        rows.remove(tx, Assignment, role_id=role_id)


def remove_delegations(tx: Tx, user_ids: Collection[str]) -> None:
    """What users have given on: application credentials, their rules, trusts, credentials."""
    rows.remove(tx, ApplicationCredential, user_id=user_ids)
    rows.remove(tx, AccessRule, user_id=user_ids)
    rows.remove(tx, Credential, user_id=user_ids)
    rows.remove(tx, Trust, trustor_user_id=user_ids)
    rows.remove(tx, Trust, trustee_user_id=user_ids)


def _same(assignment: Assignment) -> list[ColumnElement[bool]]:
    return [
        ASSIGNMENT.c.actor_id == assignment.actor_id,
        ASSIGNMENT.c.target == assignment.target,
        ASSIGNMENT.c.target_id == assignment.target_id,
        ASSIGNMENT.c.role_id == assignment.role_id,
        ASSIGNMENT.c.inherited == assignment.inherited,
    ]
