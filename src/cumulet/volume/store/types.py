"""Volume types, who may use them, which is whose default, and their QoS specs."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, bindparam, delete, func, or_, select, update

from cumulet.core.db import Tx
from cumulet.volume.records import Qos, VolumeType
from cumulet.volume.store import pages
from cumulet.volume.tables import DEFAULT_TYPES as D
from cumulet.volume.tables import QOS as Q
from cumulet.volume.tables import TYPE_ACCESS as X
from cumulet.volume.tables import TYPES as T
from cumulet.volume.tables import VOLUMES as V

__all__ = [
    "add",
    "add_access",
    "add_qos",
    "all_qos",
    "by_name",
    "default_of",
    "defaults",
    "find",
    "get",
    "get_qos",
    "in_use",
    "page",
    "projects_of",
    "remove",
    "remove_access",
    "remove_qos",
    "set_default",
    "set_fields",
    "set_qos",
    "types_of_qos",
    "usable_by",
]


def usable_by(project_id: str | None) -> list[ColumnElement[bool]]:
    """Public types and those given to the project; None is every type."""
    if project_id is None:
        return []
    return [or_(T.c.is_public, T.c.id.in_(select(X.c.type_id).where(X.c.project_id == project_id)))]


_USABLE = or_(T.c.is_public, T.c.id.in_(select(X.c.type_id).where(X.c.project_id == bindparam("project_id"))))
_NAMED = select(T).where(or_(T.c.id == bindparam("key"), T.c.name == bindparam("key")))
_NAMED_USABLE = _NAMED.where(_USABLE)
_BY_ID_USABLE = select(T).where(T.c.id == bindparam("id"), _USABLE)
_DEFAULT_OF = select(D.c.type_id).where(D.c.project_id == bindparam("project_id"))


def find(tx: Tx, key: str, *, project_id: str | None = None) -> VolumeType | None:
    """By id or else by name, among those the project may use."""
    rows = tx.all(_NAMED, key=key) if project_id is None else tx.all(_NAMED_USABLE, key=key, project_id=project_id)
    row = next((row for row in rows if row["id"] == key), rows[0] if rows else None)
    return None if row is None else msgspec.convert(row, VolumeType)


def get(tx: Tx, id: str, *, project_id: str | None = None) -> VolumeType | None:
    row = tx.find(T, {"id": id}) if project_id is None else tx.one(_BY_ID_USABLE, id=id, project_id=project_id)
    return None if row is None else msgspec.convert(row, VolumeType)


def by_name(tx: Tx, name: str) -> VolumeType | None:
    row = tx.find(T, {"name": name})
    return None if row is None else msgspec.convert(row, VolumeType)


def page(tx: Tx, where: Sequence[ColumnElement[bool]], asked: pages.Page) -> list[VolumeType]:
    return [msgspec.convert(row, VolumeType) for row in pages.rows_of(tx, T, where, asked)]


def add(tx: Tx, type_: VolumeType) -> None:
    """Raises Duplicate when the name is taken."""
    tx.insert(T, msgspec.structs.asdict(type_))


def set_fields(tx: Tx, id: str, **values: Any) -> bool:
    return tx.run(update(T).where(T.c.id == id).values(**values)) == 1


def in_use(tx: Tx, id: str) -> bool:
    return bool(tx.value(select(func.count()).select_from(V).where(V.c.type_id == id)))


def remove(tx: Tx, id: str) -> None:
    tx.run(delete(X).where(X.c.type_id == id))
    tx.run(delete(T).where(T.c.id == id))


# --- access --------------------------------------------------------------------------------------------------------


def projects_of(tx: Tx, type_id: str) -> list[str]:
    return tx.values(select(X.c.project_id).where(X.c.type_id == type_id).order_by(X.c.project_id))


def add_access(tx: Tx, type_id: str, project_id: str) -> None:
    """Raises Duplicate when the project has it."""
    tx.insert(X, {"type_id": type_id, "project_id": project_id})


def remove_access(tx: Tx, type_id: str, project_id: str) -> bool:
    return tx.run(delete(X).where(X.c.type_id == type_id, X.c.project_id == project_id)) == 1


# --- defaults of projects ------------------------------------------------------------------------------------------


def default_of(tx: Tx, project_id: str) -> str | None:
    found: str | None = tx.value(_DEFAULT_OF, project_id=project_id)
    return found


def defaults(tx: Tx) -> list[dict[str, Any]]:
    return tx.all(select(D).order_by(D.c.project_id))


def set_default(tx: Tx, project_id: str, type_id: str | None) -> bool:
    """None takes it away; False when there was none."""
    if type_id is None:
        return tx.run(delete(D).where(D.c.project_id == project_id)) == 1
    tx.upsert(D, {"project_id": project_id, "type_id": type_id}, ["project_id"])
    return True


# --- QoS specs -----------------------------------------------------------------------------------------------------


def all_qos(tx: Tx) -> list[Qos]:
    return [msgspec.convert(row, Qos) for row in tx.all(select(Q).order_by(Q.c.created_at, Q.c.id))]


def get_qos(tx: Tx, id: str) -> Qos | None:
    row = tx.find(Q, {"id": id})
    return None if row is None else msgspec.convert(row, Qos)


def add_qos(tx: Tx, qos: Qos) -> None:
    """Raises Duplicate when the name is taken."""
    tx.insert(Q, msgspec.structs.asdict(qos))


def set_qos(tx: Tx, id: str, *, consumer: str, specs: Mapping[str, str]) -> None:
    tx.run(update(Q).where(Q.c.id == id).values(consumer=consumer, specs=dict(specs)))


def types_of_qos(tx: Tx, qos_id: str) -> list[VolumeType]:
    return [
        msgspec.convert(row, VolumeType)
        for row in tx.all(select(T).where(T.c.qos_specs_id == qos_id).order_by(T.c.name))
    ]


def remove_qos(tx: Tx, id: str) -> None:
    tx.run(update(T).where(T.c.qos_specs_id == id).values(qos_specs_id=None))
    tx.run(delete(Q).where(Q.c.id == id))
