"""The image service's only SQL.  Who may see which image stands here, in the queries."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, and_, bindparam, delete, false, or_, select, true, update

from cumulet.core.db import Tx
from cumulet.image.records import Image, Member, Task, Viewer
from cumulet.image.tables import IMAGES as I
from cumulet.image.tables import MEMBERS as M
from cumulet.image.tables import PROPERTIES as P
from cumulet.image.tables import RETIRED, TASKS
from cumulet.image.tables import TAGS as T

_MEMBER = select(M).where(M.c.image_id == bindparam("image_id"), M.c.member_id == bindparam("member_id"))
_MEMBERS = select(M).where(M.c.image_id == bindparam("image_id")).order_by(M.c.created_at, M.c.member_id)
_RETIRED = select(RETIRED.c.id).where(RETIRED.c.id == bindparam("image_id"))


# --- who sees what ----------------------------------------------------------------------------------------------------


def _shared_with(project_id: str, member_status: str | None) -> ColumnElement[bool]:
    members = select(M.c.image_id).where(M.c.member_id == project_id)
    if member_status is not None:
        members = members.where(M.c.status == member_status)
    return and_(I.c.visibility == "shared", I.c.id.in_(members))


def _visible(viewer: Viewer) -> ColumnElement[bool]:
    """Images that a viewer may name: whoever knows a community image's id may use it."""
    if viewer.sees_all:
        return true()
    open_to_all = I.c.visibility.in_(["public", "community"])
    if viewer.project_id is None:
        return open_to_all
    return or_(open_to_all, I.c.owner == viewer.project_id, _shared_with(viewer.project_id, None))


def listed(viewer: Viewer, visibility: str | None, member_status: str | None) -> ColumnElement[bool]:
    """Images in a viewer's list.  Strangers' community images are there only when asked for (visibility community or
    all), shared ones when the membership has this status; None takes any."""
    wanted = true() if visibility in {None, "all"} else I.c.visibility == visibility
    if viewer.sees_all:
        return wanted
    open_to_all = I.c.visibility.in_(["public", "community"] if visibility in {"all", "community"} else ["public"])
    if viewer.project_id is None:
        return and_(wanted, open_to_all)
    shared = _shared_with(viewer.project_id, member_status)
    return and_(wanted, or_(open_to_all, I.c.owner == viewer.project_id, shared))


def with_property(name: str, value: str) -> ColumnElement[bool]:
    return I.c.id.in_(select(P.c.image_id).where(P.c.name == name, P.c.value == value))


def with_tag(tag: str) -> ColumnElement[bool]:
    return I.c.id.in_(select(T.c.image_id).where(T.c.tag == tag))


# --- images -----------------------------------------------------------------------------------------------------------


def image(tx: Tx, image_id: str, viewer: Viewer | None = None) -> Image | None:
    """An image that the viewer may see; with no viewer, any."""
    row = tx.find(I, {"id": image_id})
    if row is None:
        return None
    if (
        viewer is not None
        and not viewer.sees_all
        and row["visibility"] not in {"public", "community"}
        and (viewer.project_id is None or row["owner"] != viewer.project_id)
    ):
        row = tx.one(select(I).where(I.c.id == image_id, _visible(viewer)))
    return None if row is None else _with_children(tx, [row])[0]


def images(
    tx: Tx, where: Sequence[ColumnElement[bool]], order: Sequence[Any] = (), limit: int | None = None
) -> list[Image]:
    return _with_children(tx, tx.all(select(I).where(*where).order_by(*order).limit(limit)))


def ids_in_status(tx: Tx, status: str) -> set[str]:
    return set(tx.values(select(I.c.id).where(I.c.status == status)))


def from_files(name: str, **values: Any) -> list[ColumnElement[bool]]:
    """Images of this name, with these values, that were made from files of the operator's."""
    return [I.c.name == name, I.c.origin.is_not(None), *(I.c[column] == value for column, value in values.items())]


def _with_children(tx: Tx, rows: list[dict[str, Any]]) -> list[Image]:
    if not rows:
        return []
    properties: dict[str, dict[str, str]] = {row["id"]: {} for row in rows}
    tags: dict[str, list[str]] = {row["id"]: [] for row in rows}
    ids = list(properties)
    for row in tx.find_all(P, {"image_id": ids}, ("name",)):
        properties[row["image_id"]][row["name"]] = row["value"]
    for row in tx.find_all(T, {"image_id": ids}, ("tag",)):
        tags[row["image_id"]].append(row["tag"])
    return [
        msgspec.convert({**row, "properties": properties[row["id"]], "tags": tags[row["id"]]}, Image, strict=False)
        for row in rows
    ]


def add_image(tx: Tx, new: Image) -> None:
    """Raises Duplicate when the identifier is taken."""
    row = msgspec.structs.asdict(new)
    properties, tags = row.pop("properties"), row.pop("tags")
    tx.insert(I, row)
    put_properties(tx, new.id, properties)
    for tag in tags:
        put_tag(tx, new.id, tag)


def set_image(tx: Tx, image_id: str, values: Mapping[str, Any], *, status: Iterable[str] | None = None) -> bool:
    """Change columns, if the image is (still) there and in one of these states."""
    statement = update(I).where(I.c.id == image_id)
    if status is not None:
        statement = statement.where(I.c.status.in_(list(status)))
    return tx.run(statement.values(**values)) == 1


def set_status_of_all(tx: Tx, old: str, new: str, updated_at: str) -> int:
    return tx.run(update(I).where(I.c.status == old).values(status=new, updated_at=updated_at))


def remove_image(tx: Tx, image_id: str, retired_at: str) -> bool:
    """The image with all that hangs on it, unless it is protected (again).  Its identifier is never used again."""
    if not tx.run(delete(I).where(I.c.id == image_id, I.c.protected == false())):
        return False
    for table in (P, T, M, TASKS):
        tx.run(delete(table).where(table.c.image_id == image_id))
    tx.insert(RETIRED, {"id": image_id, "retired_at": retired_at})
    return True


def is_retired(tx: Tx, image_id: str) -> bool:
    return tx.value(_RETIRED, image_id=image_id) is not None


def put_properties(tx: Tx, image_id: str, values: Mapping[str, str]) -> None:
    for name, value in values.items():
        tx.upsert(P, {"image_id": image_id, "name": name, "value": value}, ["image_id", "name"])


def remove_properties(tx: Tx, image_id: str, names: Iterable[str]) -> None:
    tx.run(delete(P).where(P.c.image_id == image_id, P.c.name.in_(list(names))))


def put_tag(tx: Tx, image_id: str, tag: str) -> None:
    tx.upsert(T, {"image_id": image_id, "tag": tag}, ["image_id", "tag"])


def remove_tag(tx: Tx, image_id: str, tag: str) -> bool:
    return tx.run(delete(T).where(T.c.image_id == image_id, T.c.tag == tag)) == 1


def set_tags(tx: Tx, image_id: str, tags: Iterable[str]) -> None:
    tx.run(delete(T).where(T.c.image_id == image_id))
    for tag in tags:
        put_tag(tx, image_id, tag)


# --- members and tasks ------------------------------------------------------------------------------------------------


def member(tx: Tx, image_id: str, member_id: str) -> Member | None:
    row = tx.one(_MEMBER, image_id=image_id, member_id=member_id)
    return None if row is None else msgspec.convert(row, Member)


def members(tx: Tx, image_id: str) -> list[Member]:
    return [msgspec.convert(row, Member) for row in tx.all(_MEMBERS, image_id=image_id)]


def add_member(tx: Tx, new: Member) -> None:
    """Raises Duplicate when the project is a member already."""
    tx.insert(M, msgspec.structs.asdict(new))


def set_member(tx: Tx, image_id: str, member_id: str, *, status: str, updated_at: str) -> bool:
    statement = update(M).where(M.c.image_id == image_id, M.c.member_id == member_id)
    return tx.run(statement.values(status=status, updated_at=updated_at)) == 1


def remove_member(tx: Tx, image_id: str, member_id: str) -> bool:
    return tx.run(delete(M).where(M.c.image_id == image_id, M.c.member_id == member_id)) == 1


def add_task(tx: Tx, new: Task) -> None:
    tx.insert(TASKS, msgspec.structs.asdict(new))


def set_task(tx: Tx, task_id: str, *, status: str, message: str, updated_at: str) -> None:
    tx.run(update(TASKS).where(TASKS.c.id == task_id).values(status=status, message=message, updated_at=updated_at))


def fail_tasks(tx: Tx, message: str, updated_at: str) -> None:
    """Imports that a stop of the program interrupted."""
    values = {"status": "failure", "message": message, "updated_at": updated_at}
    tx.run(update(TASKS).where(TASKS.c.status == "processing").values(**values))


def fail_tasks_of(tx: Tx, image_id: str, message: str, updated_at: str) -> None:
    """Imports of one image that nobody works on any more."""
    values = {"status": "failure", "message": message, "updated_at": updated_at}
    tx.run(update(TASKS).where(TASKS.c.image_id == image_id, TASKS.c.status == "processing").values(**values))


def in_status_since(tx: Tx, states: Sequence[str], before: str) -> list[dict[str, Any]]:
    """id, status and updated_at of images that have been in one of these states since before a moment."""
    return tx.all(
        select(I.c.id, I.c.status, I.c.updated_at).where(I.c.status.in_(list(states)), I.c.updated_at < before)
    )


def tasks(tx: Tx, image_id: str) -> list[Task]:
    rows = tx.all(select(TASKS).where(TASKS.c.image_id == image_id).order_by(TASKS.c.created_at, TASKS.c.id))
    return [msgspec.convert(row, Task) for row in rows]
