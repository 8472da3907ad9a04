"""A domain's own configuration: values by group and option."""

from typing import Any

from sqlalchemy import delete, select

from cumulet.core.db import Tx
from cumulet.identity.tables import DOMAIN_OPTION

__all__ = ["read", "remove", "write"]


def read(tx: Tx, domain_id: str) -> dict[str, dict[str, Any]]:
    """Values by option by group."""
    found: dict[str, dict[str, Any]] = {}
    for row in tx.all(select(DOMAIN_OPTION).where(DOMAIN_OPTION.c.domain_id == domain_id)):
        found.setdefault(row["group"], {})[row["option"]] = row["value"]
    return found


def write(tx: Tx, domain_id: str, group: str, option: str, value: Any) -> None:
    row = {"domain_id": domain_id, "group": group, "option": option, "value": value}
    tx.upsert(DOMAIN_OPTION, row, ("domain_id", "group", "option"))


def remove(tx: Tx, domain_id: str, group: str | None = None, option: str | None = None) -> int:
    statement = delete(DOMAIN_OPTION).where(DOMAIN_OPTION.c.domain_id == domain_id)
    if group is not None:
        statement = statement.where(DOMAIN_OPTION.c.group == group)
    if option is not None:
        statement = statement.where(DOMAIN_OPTION.c.option == option)
    return tx.run(statement)
