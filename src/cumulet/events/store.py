"""The stream's SQL.  Every function takes the caller's transaction."""

from collections.abc import Iterable

import msgspec
from sqlalchemy import BindParameter, bindparam, delete, func, literal, or_, select, update

from cumulet.core.db import Tx
from cumulet.events.records import Event, Wanted
from cumulet.events.tables import EVENTS, POSITIONS

__all__ = ["LAST", "add", "move", "number_at", "oldest", "page", "positions", "trim"]

#: the name by which `positions` knows the last number given
LAST = ""

_E = EVENTS.c
_after = (
    select(EVENTS).where(_E.number > bindparam("after")).order_by(_E.number).limit(bindparam("page"))
)  # of every project
_project: BindParameter[str] = bindparam("project_id")
_of_project = _after.where(
    or_(
        _E.project_id == _project,
        _E.viewers == "*",
        (literal(" ") + _E.viewers + " ").like(literal("% ") + _project + " %"),
    )
)
_object: BindParameter[str] = bindparam("object_id")
_about = or_(_E.object_id == _object, _E.about == _object)
_after_about = _after.where(_about)
_of_project_about = _of_project.where(_about)
_move = (
    update(POSITIONS)
    .where(POSITIONS.c.source == bindparam("name"), POSITIONS.c.number == bindparam("old"))
    .values(number=bindparam("new"))
)
_oldest = select(func.min(_E.number))
_trim = delete(EVENTS).where(_E.number < bindparam("before"))
# not max(number), which SQLite looks for from the newest event back, through all that are kept
_number_at = select(_E.number).where(_E.at < bindparam("at")).order_by(_E.at.desc(), _E.number.desc()).limit(1)


def positions(tx: Tx) -> dict[str, int]:
    return {row["source"]: row["number"] for row in tx.find_all(POSITIONS, {})}


def move(tx: Tx, source: str, old: int, new: int) -> bool:
    """Compare-and-set: False when somebody else has moved it."""
    return tx.run(_move, name=source, old=old, new=new) == 1


def add(tx: Tx, events: Iterable[Event]) -> None:
    tx.insert_many(EVENTS, [msgspec.structs.asdict(event) for event in events])


def page(tx: Tx, wanted: Wanted, after: int, limit: int) -> list[Event]:
    """The next events after a number that a reader sees and wants."""
    given: dict[str, object] = {"after": after, "page": limit}
    if wanted.project_id is not None:
        given["project_id"] = wanted.project_id
    if wanted.object_id is not None:
        given["object_id"] = wanted.object_id
        statement = _after_about if wanted.project_id is None else _of_project_about
    else:
        statement = _after if wanted.project_id is None else _of_project
    return [Event(**row) for row in tx.all(statement, **given)]


def oldest(tx: Tx) -> int | None:
    """The lowest number that is kept."""
    return tx.value(_oldest)  # type: ignore[no-any-return]  # a number or NULL


def number_at(tx: Tx, at: str) -> int:
    """The last number given to a change before a time; 0 for none."""
    return tx.value(_number_at, at=at) or 0


def trim(tx: Tx, before: int) -> None:
    """Forget the events below a number."""
    tx.run(_trim, before=before)
