"""What a project's live servers take, counted once and then kept: a launch's quota costs the same after a million servers."""

from typing import Any

import msgspec
from sqlalchemy import bindparam, func, select, update

from cumulet.compute.tables import SERVERS as S
from cumulet.compute.tables import USAGE as U
from cumulet.core.db import Tx

__all__ = ["COUNTED", "Taken", "add", "astray", "forget", "move", "of_project", "of_server"]

#: a server's columns that a change of changes what is taken
COUNTED = frozenset({"deleted", "vcpus", "memory_mb"})
#: stands for all users of a project
EVERYBODY = ""


class Taken(msgspec.Struct, frozen=True):
    """What one server takes: nothing once it is deleted."""

    project_id: str
    user_id: str
    instances: int
    cores: int
    ram: int


_SUMS = (
    func.count().label("instances"),
    func.coalesce(func.sum(S.c.vcpus), 0).label("cores"),
    func.coalesce(func.sum(S.c.memory_mb), 0).label("ram"),
)
_LIVE = (S.c.project_id == bindparam("project_id"), S.c.deleted.is_(False))
_BY_USER = select(S.c.user_id, *_SUMS).where(*_LIVE).group_by(S.c.user_id)
_BY_PROJECT = select(S.c.project_id, *_SUMS).where(S.c.deleted.is_(False)).group_by(S.c.project_id)
_SERVER = select(S.c.project_id, S.c.user_id, S.c.deleted, S.c.vcpus, S.c.memory_mb).where(
    S.c.id == bindparam("server_id")
)
_ADD = (
    update(U)
    .where(U.c.project_id == bindparam("project"), U.c.user_id == bindparam("user"))
    .values(
        {name: U.c[name] + bindparam(f"more_{name}", type_=U.c[name].type) for name in ("instances", "cores", "ram")}
    )
)


def of_server(tx: Tx, server_id: str) -> Taken | None:
    row = tx.one(_SERVER, server_id=server_id)
    if row is None:
        return None
    if row["deleted"]:
        return Taken(row["project_id"], row["user_id"], 0, 0, 0)
    return Taken(row["project_id"], row["user_id"], 1, row["vcpus"], row["memory_mb"])


def of_project(tx: Tx, project_id: str, user_id: str | None = None) -> dict[str, int]:
    """What a project (or one user in it) holds: {"instances", "cores", "ram"}."""
    found = _kept(tx, project_id, EVERYBODY)
    if found is None:
        by_user = {row["user_id"]: _numbers(row) for row in tx.all(_BY_USER, project_id=project_id)}
        found = {name: sum(each[name] for each in by_user.values()) for name in ("instances", "cores", "ram")}
        if tx.writes:
            for user, numbers in {**by_user, EVERYBODY: found}.items():
                tx.upsert(U, {"project_id": project_id, "user_id": user, **numbers}, ("project_id", "user_id"))
        return found if user_id is None else by_user.get(user_id) or _numbers({})
    return found if user_id is None else _kept(tx, project_id, user_id) or _numbers({})


def add(tx: Tx, project_id: str, user_id: str, instances: int, cores: int, ram: int) -> None:
    """More of it, or with negative numbers less; a project that was not counted yet is left to be counted."""
    more = {"more_instances": instances, "more_cores": cores, "more_ram": ram}
    if tx.run(_ADD, project=project_id, user=EVERYBODY, **more) and not tx.run(
        _ADD, project=project_id, user=user_id, **more
    ):
        tx.insert(U, {"project_id": project_id, "user_id": user_id, "instances": instances, "cores": cores, "ram": ram})


def move(tx: Tx, before: Taken, after: Taken) -> None:
    """A server takes something else than before."""
    if before != after:
        more = (after.instances - before.instances, after.cores - before.cores, after.ram - before.ram)
        add(tx, after.project_id, after.user_id, *more)


def astray(tx: Tx) -> list[str]:
    """Projects for which other numbers are kept than their servers make."""
    counted = {row["project_id"]: _numbers(row) for row in tx.all(_BY_PROJECT)}
    kept = tx.find_all(U, {"user_id": EVERYBODY})
    return [row["project_id"] for row in kept if _numbers(row) != counted.get(row["project_id"], _numbers({}))]


def forget(tx: Tx, project_id: str) -> None:
    """Let a project be counted anew."""
    tx.delete(U, {"project_id": project_id})


def _kept(tx: Tx, project_id: str, user_id: str) -> dict[str, int] | None:
    row = tx.find(U, {"project_id": project_id, "user_id": user_id})
    return None if row is None else _numbers(row)


def _numbers(row: dict[str, Any]) -> dict[str, int]:
    return {name: int(row.get(name, 0)) for name in ("instances", "cores", "ram")}
