"""Flavors in the database."""

import functools
from typing import Any

import msgspec
from sqlalchemy import Boolean, Integer, bindparam, cast, delete, or_, select, update

from cumulet.compute.records import FlavorSnapshot
from cumulet.compute.tables import FLAVOR_ACCESS as ACCESS
from cumulet.compute.tables import FLAVORS as F
from cumulet.core.db import Tx

__all__ = ["SORT_KEYS", "Flavor", "access", "add", "add_access", "get", "page", "remove", "remove_access", "set_fields"]


class Flavor(msgspec.Struct, frozen=True, kw_only=True):
    """A flavor's row."""

    id: str
    name: str
    description: str | None
    vcpus: int
    ram_mb: int
    disk_gb: int
    ephemeral_gb: int
    swap_mb: int
    rxtx_factor: float
    is_public: bool
    disabled: bool
    extra_specs: dict[str, str]
    created_at: str

    def snapshot(self) -> FlavorSnapshot:
        """The flavor as a server keeps it."""
        return FlavorSnapshot(
            id=self.id,
            name=self.name,
            vcpus=self.vcpus,
            ram_mb=self.ram_mb,
            disk_gb=self.disk_gb,
            ephemeral_gb=self.ephemeral_gb,
            swap_mb=self.swap_mb,
            rxtx_factor=self.rxtx_factor,
            extra_specs=self.extra_specs,
        )


_ONE = select(F).where(F.c.id == bindparam("flavor_id"))
_SORT = {
    "created_at": F.c.created_at,
    "flavorid": F.c.id,
    "id": F.c.id,
    "name": F.c.name,
    "memory_mb": F.c.ram_mb,
    "vcpus": F.c.vcpus,
    "root_gb": F.c.disk_gb,
    "ephemeral_gb": F.c.ephemeral_gb,
    "swap": F.c.swap_mb,
    "rxtx_factor": F.c.rxtx_factor,
    "is_public": F.c.is_public,
    "disabled": F.c.disabled,
    "updated_at": F.c.created_at,
}
SORT_KEYS = frozenset(_SORT)


def get(tx: Tx, flavor_id: str, *, project_id: str | None = None) -> Flavor | None:
    """A flavor; with `project_id`, only one that the project may use."""
    row = tx.one(_ONE, flavor_id=flavor_id)
    if row is None:
        return None
    flavor = msgspec.convert(row, Flavor)
    if project_id is not None and not flavor.is_public and project_id not in access(tx, flavor_id):
        return None
    return flavor


def page(
    tx: Tx,
    *,
    project_id: str | None,
    is_public: bool | None,
    min_disk: int = 0,
    min_ram: int = 0,
    sort_key: str = "flavorid",
    descending: bool = False,
    marker: Flavor | None = None,
    limit: int = 1000,
) -> list[Flavor]:
    """Flavors in order, after `marker`.  project_id: whose private flavors show; None for all."""
    given: dict[str, Any] = {"min_disk": min_disk, "min_ram": min_ram, "most": limit}
    if project_id is not None:
        given["project_id"] = project_id
    if marker is not None:
        at: Any = msgspec.structs.asdict(marker)[_SORT[sort_key].name]
        given |= {"marker": int(at) if isinstance(at, bool) else at, "marker_id": marker.id}
    statement = _page(sort_key, descending, is_public, "project_id" in given, "marker" in given)
    return [msgspec.convert(row, Flavor) for row in tx.all(statement, **given)]


@functools.lru_cache(maxsize=256)
def _page(sort_key: str, descending: bool, is_public: bool | None, of_project: bool, after_marker: bool) -> Any:
    column: Any = _SORT[sort_key]
    statement = select(F).where(
        F.c.disk_gb >= bindparam("min_disk"), F.c.ram_mb >= bindparam("min_ram"), F.c.disabled.is_(False)
    )
    if is_public is not None:
        statement = statement.where(F.c.is_public.is_(is_public))
    if of_project:
        mine = select(ACCESS.c.flavor_id).where(ACCESS.c.project_id == bindparam("project_id"))
        statement = statement.where(or_(F.c.is_public.is_(True), F.c.id.in_(mine)))
    if isinstance(column.type, Boolean):  # no engine-independent order of booleans but that of numbers
        column = cast(column, Integer)
    if after_marker:
        at: Any = bindparam("marker", type_=column.type)
        at_id: Any = bindparam("marker_id")
        beyond = column < at if descending else column > at
        after_id = F.c.id < at_id if descending else F.c.id > at_id
        statement = statement.where(or_(beyond, (column == at) & after_id))
    order = (column.desc(), F.c.id.desc()) if descending else (column.asc(), F.c.id.asc())
    return statement.order_by(*order).limit(bindparam("most"))


def add(tx: Tx, flavor: Flavor) -> None:
    """Raises Duplicate for a taken id or name."""
    tx.insert(F, msgspec.structs.asdict(flavor))


def set_fields(tx: Tx, flavor_id: str, **values: Any) -> bool:
    return tx.run(update(F).where(F.c.id == flavor_id).values(**values)) == 1


def remove(tx: Tx, flavor_id: str) -> bool:
    tx.run(delete(ACCESS).where(ACCESS.c.flavor_id == flavor_id))
    return tx.run(delete(F).where(F.c.id == flavor_id)) == 1


def access(tx: Tx, flavor_id: str) -> list[str]:
    """Projects that may use a private flavor."""
    statement = select(ACCESS.c.project_id).where(ACCESS.c.flavor_id == flavor_id).order_by(ACCESS.c.project_id)
    return [str(project) for project in tx.values(statement)]


def add_access(tx: Tx, flavor_id: str, project_id: str) -> None:
    """Raises Duplicate when it has access already."""
    tx.insert(ACCESS, {"flavor_id": flavor_id, "project_id": project_id})


def remove_access(tx: Tx, flavor_id: str, project_id: str) -> bool:
    return tx.run(delete(ACCESS).where(ACCESS.c.flavor_id == flavor_id, ACCESS.c.project_id == project_id)) == 1
