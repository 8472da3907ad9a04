"""Tokens leave two traces: the record of their issue, and their revocation."""

from sqlalchemy import delete, select

from cumulet.core.db import Tx
from cumulet.identity.records import Issue
from cumulet.identity.store import rows
from cumulet.identity.tables import ISSUE, REVOCATION

__all__ = ["forget", "is_revoked", "issue", "record", "revoke"]


def record(tx: Tx, issued: Issue) -> None:
    rows.add(tx, issued)


def issue(tx: Tx, audit_id: str) -> Issue | None:
    row = tx.one(select(ISSUE).where(ISSUE.c.audit_id == audit_id))
    return None if row is None else Issue(**row)


def revoke(tx: Tx, audit_id: str, expires_at: str) -> None:
    tx.upsert(REVOCATION, {"audit_id": audit_id, "expires_at": expires_at}, ("audit_id",))


def is_revoked(tx: Tx, audit_id: str) -> bool:
    return tx.value(select(REVOCATION.c.audit_id).where(REVOCATION.c.audit_id == audit_id)) is not None


def forget(tx: Tx, *, issued_before: str, expired_before: str) -> None:
    """Drop what no longer matters."""
    tx.run(delete(ISSUE).where(ISSUE.c.started < issued_before))
    tx.run(delete(REVOCATION).where(REVOCATION.c.expires_at < expired_before))
