"""Servers in the database."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Boolean, Integer, and_, bindparam, cast, func, or_, select, update

from cumulet.compute.records import Server
from cumulet.compute.store import usages
from cumulet.compute.tables import SERVERS as S
from cumulet.core.db import Not, RowCache, Tx

__all__ = [
    "Page",
    "add",
    "change",
    "count",
    "get",
    "hosts_of",
    "live_on_host",
    "names",
    "of_reservation",
    "page",
    "power_state",
    "set_fields",
    "set_floating",
    "set_unless_deleting",
]

_BY_ID = select(S).where(S.c.id == bindparam("server_id"), S.c.deleted.is_(False))
_ON_HOST = select(S).where(S.c.host == bindparam("host"), S.c.deleted.is_(False))
_POWER = select(S.c.power_state).where(S.c.id == bindparam("server_id"), S.c.deleted.is_(False))
_BY_ID_ANY = select(S).where(S.c.id == bindparam("server_id"))

SORT_KEYS = {
    "created_at": S.c.created_at,
    "display_name": S.c.name,
    "name": S.c.name,
    "updated_at": S.c.updated_at,
    "uuid": S.c.id,
    "id": S.c.id,
    "host": S.c.host,
    "vm_state": S.c.vm_state,
    "task_state": S.c.task_state,
    "project_id": S.c.project_id,
    "user_id": S.c.user_id,
    "power_state": S.c.power_state,
    "launched_at": S.c.launched_at,
    "launch_index": S.c.launch_index,
    "key_name": S.c.key_name,
    "availability_zone": S.c.availability_zone,
    "image_ref": S.c.image_id,
    "display_description": S.c.description,
    "node": S.c.node,
    "progress": S.c.progress,
    "root_device_name": S.c.root_device_name,
    "access_ip_v4": S.c.access_ip_v4,
    "access_ip_v6": S.c.access_ip_v6,
    "config_drive": S.c.config_drive,
    "locked": S.c.locked,
}


def _server(row: dict[str, Any]) -> Server:
    return msgspec.convert(row, Server)


#: of the servers seen last; one object of some 6 KB each
_SEEN: RowCache[Server] = RowCache(_server, size_max=2048)


def add(tx: Tx, server: Server) -> None:
    sizes = {"vcpus": server.flavor.vcpus, "memory_mb": server.flavor.ram_mb}
    tx.insert(S, {**msgspec.structs.asdict(server), **sizes})
    usages.add(tx, server.project_id, server.user_id, 1, *sizes.values())


def get(tx: Tx, server_id: str, *, project_id: str | None = None, deleted: bool = False) -> Server | None:
    """A server, of one project unless `project_id` is None; a deleted one only when asked for."""
    found = tx.records(_BY_ID_ANY if deleted else _BY_ID, _SEEN, server_id=server_id)
    return found[0] if found and project_id in {None, found[0].project_id} else None


def power_state(tx: Tx, server_id: str) -> int | None:
    """What is on the record of its guest; None for a server that is not there."""
    value: int | None = tx.value(_POWER, server_id=server_id)
    return value


def change(tx: Tx, server: Server, *, at: str, **values: Any) -> bool:
    """Compare-and-set on (vm_state, task_state): False when somebody else was first."""
    where = {"id": server.id, "deleted": False, "vm_state": server.vm_state, "task_state": server.task_state}
    return _update(tx, server.id, where, {"updated_at": at, **values})


def set_fields(tx: Tx, server_id: str, *, at: str | None = None, **values: Any) -> bool:
    """Write fields that are no state, whatever the state is."""
    if at is not None:
        values["updated_at"] = at
    return _update(tx, server_id, {"id": server_id}, values)


def set_unless_deleting(tx: Tx, server_id: str, *, at: str, **values: Any) -> bool:
    """Write fields, unless the server is being deleted or is."""
    where = {"id": server_id, "deleted": False, "task_state": Not("deleting")}
    return _update(tx, server_id, where, {"updated_at": at, **values})


def _update(tx: Tx, server_id: str, where: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    """Write it, and with it what the project's servers take."""
    counts = not usages.COUNTED.isdisjoint(values)
    before = usages.of_server(tx, server_id) if counts else None
    done = tx.update(S, where, values) == 1
    if done and before is not None and (after := usages.of_server(tx, server_id)) is not None:
        usages.move(tx, before, after)
    return done


class Page(msgspec.Struct, frozen=True):
    """Some servers in order, after `marker`.  where: SQLAlchemy conditions on compute.tables.SERVERS; project_id: None is every one."""

    project_id: str | None
    where: tuple[Any, ...] = ()
    sort: tuple[tuple[str, str], ...] = (("created_at", "desc"), ("uuid", "desc"))
    marker: Server | None = None
    limit: int = 1000
    deleted: bool = False


def page(tx: Tx, wanted: Page) -> list[Server]:
    return tx.records(_of_page(select(S), wanted), _SEEN)


def names(tx: Tx, wanted: Page) -> list[tuple[str, str]]:
    """Of such servers the id and the name, which is a tenth of the work."""
    return [(row["id"], row["name"]) for row in tx.all(_of_page(select(S.c.id, S.c.name), wanted))]


def _of_page(statement: Any, wanted: Page) -> Any:
    statement = statement.where(*wanted.where)
    if not wanted.deleted:
        statement = statement.where(S.c.deleted.is_(False))
    if wanted.project_id is not None:
        statement = statement.where(S.c.project_id == wanted.project_id)
    keys = [(SORT_KEYS[key], direction) for key, direction in wanted.sort]
    if not any(column is S.c.id for column, _ in keys):
        keys.append((S.c.id, keys[-1][1] if keys else "desc"))
    if wanted.marker is not None:
        statement = statement.where(_after(keys, msgspec.structs.asdict(wanted.marker)))
    for column, direction in keys:
        plain = _comparable(column)
        statement = statement.order_by(plain.desc() if direction == "desc" else plain.asc())
    return statement.limit(wanted.limit)


def _comparable(column: Any) -> Any:
    """A column as both engines order and compare it alike: booleans as numbers, NULL as the empty text."""
    if isinstance(column.type, Boolean):
        return cast(column, Integer)
    return func.coalesce(column, "") if column.nullable else column


def _after(keys: Sequence[tuple[Any, str]], marker: dict[str, Any]) -> Any:
    """Rows that come after the marker: equal on the first keys, beyond it on the next."""
    options: list[Any] = []
    equal: list[Any] = []
    for column, direction in keys:
        value = marker[column.name]
        plain = _comparable(column)
        mark = "" if value is None else int(value) if isinstance(value, bool) else value
        options.append(and_(*equal, plain < mark if direction == "desc" else plain > mark))
        equal.append(plain == mark)
    return or_(*options)


def count(tx: Tx, *, project_id: str | None, where: Sequence[Any] = ()) -> int:
    statement = select(func.count()).select_from(S).where(S.c.deleted.is_(False), *where)
    if project_id is not None:
        statement = statement.where(S.c.project_id == project_id)
    return int(tx.value(statement))


def live_on_host(tx: Tx, host: str) -> list[Server]:
    """Every server that a host holds."""
    return tx.records(_ON_HOST, _SEEN, host=host)


def set_floating(tx: Tx, server: Server, port_id: str, by_fixed: Mapping[str, Sequence[str]]) -> None:
    """The floating addresses of one NIC, by the fixed address each leads to."""
    interfaces = [
        nic
        if nic.port_id != port_id
        else msgspec.structs.replace(
            nic,
            addresses=tuple(
                msgspec.structs.replace(address, floating=tuple(by_fixed.get(address.address, ())))
                for address in nic.addresses
            ),
        )
        for nic in server.interfaces
    ]
    tx.run(update(S).where(S.c.id == server.id).values(interfaces=interfaces))


def hosts_of(tx: Tx, server_ids: Sequence[str]) -> dict[str, str | None]:
    """Where servers are, by id."""
    if not server_ids:
        return {}
    rows = tx.all(select(S.c.id, S.c.host).where(S.c.id.in_(list(server_ids)), S.c.deleted.is_(False)))
    return {row["id"]: row["host"] for row in rows}


def of_reservation(tx: Tx, reservation_id: str) -> list[Server]:
    return [
        _server(row) for row in tx.all(select(S).where(S.c.reservation_id == reservation_id, S.c.deleted.is_(False)))
    ]


class HostUse(msgspec.Struct, kw_only=True):
    """What the servers of a host take of it, by their flavors."""

    vcpus: int = 0
    memory_mb: int = 0
    disk_gb: int = 0
    #: (id, name)
    servers: list[tuple[str, str]] = []


def by_host(tx: Tx, names: Sequence[str] | None = None) -> dict[str, HostUse]:
    """The use of every host that has servers; of these, or of all."""
    found: dict[str, HostUse] = {}
    where = S.c.host.is_not(None) if names is None else S.c.host.in_(list(names))
    statement = select(S.c.host, S.c.id, S.c.name, S.c.vcpus, S.c.memory_mb, S.c.flavor)
    for row in tx.all(statement.where(S.c.deleted.is_(False), where).order_by(S.c.created_at)):
        use = found.setdefault(row["host"], HostUse())
        use.vcpus += row["vcpus"]
        use.memory_mb += row["memory_mb"]
        use.disk_gb += row["flavor"]["disk_gb"] + row["flavor"].get("ephemeral_gb", 0)
        use.servers.append((row["id"], row["name"]))
    return found


def live_between(tx: Tx, start: str, end: str, *, project_id: str | None = None) -> list[Server]:
    """Servers that ran at some time between two moments, deleted ones too, by id."""
    statement = select(S).where(
        S.c.launched_at.is_not(None),
        S.c.launched_at <= end,
        or_(S.c.terminated_at.is_(None), S.c.terminated_at >= start),
    )
    if project_id is not None:
        statement = statement.where(S.c.project_id == project_id)
    return [_server(row) for row in tx.all(statement.order_by(S.c.id))]
