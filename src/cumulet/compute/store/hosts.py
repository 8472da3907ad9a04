"""Compute hosts: their service and their hypervisor, one row each."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import bindparam, select, update

from cumulet.compute.tables import HOST_CHANGES
from cumulet.compute.tables import HOSTS as H
from cumulet.core.db import Changes, Tx

__all__ = [
    "Host",
    "HostRow",
    "all_hosts",
    "any_in_zone",
    "changes",
    "get",
    "heard_of",
    "heard_since",
    "newest_change",
    "put",
    "rows",
    "set_fields",
    "some",
]


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """A compute host."""

    host: str
    service_id: str
    hypervisor_id: str
    hypervisor_type: str
    hypervisor_version: int
    vcpus: int
    memory_mb: int
    local_gb: int
    cpu_info: dict[str, Any]
    host_ip: str
    zone: str
    disabled: bool
    disabled_reason: str | None
    forced_down: bool
    traits: list[str]
    seen_at: str
    created_at: str
    updated_at: str | None


class HostRow(msgspec.Struct, frozen=True):
    """A host without what is long: for schedulers and for lists."""

    host: str
    service_id: str
    hypervisor_id: str
    hypervisor_type: str
    zone: str
    disabled: bool
    disabled_reason: str | None
    forced_down: bool
    vcpus: int
    memory_mb: int
    local_gb: int
    seen_at: str


_ROWS = select(*(H.c[name] for name in HostRow.__struct_fields__)).order_by(H.c.created_at, H.c.host)
_SOME = _ROWS.where(H.c.host.in_(bindparam("names", expanding=True)))
_HEARD = select(H.c.host, H.c.seen_at).where(H.c.seen_at >= bindparam("since"))
_HEARD_OF = (
    update(H)
    .where(H.c.host == bindparam("name"), H.c.seen_at > bindparam("silent_since"))
    .values(seen_at=bindparam("at", type_=H.c.seen_at.type))
)
_ALL = select(H).order_by(H.c.created_at, H.c.host)
_SOME_WHOLE = _ALL.where(H.c.host.in_(bindparam("names", expanding=True)))
_IN_ZONE = select(H.c.host).where(H.c.zone == bindparam("zone")).limit(1)
_ONE = select(H).where(H.c.host == bindparam("host"))


def all_hosts(tx: Tx) -> list[Host]:
    return [msgspec.convert(row, Host) for row in tx.all(_ALL)]


def any_in_zone(tx: Tx, zone: str) -> bool:
    return tx.value(_IN_ZONE, zone=zone) is not None


def some(tx: Tx, names: Sequence[str]) -> list[Host]:
    """In order of their coming."""
    return [msgspec.convert(row, Host) for row in tx.all(_SOME_WHOLE, names=list(names))] if names else []


def rows(tx: Tx, names: Sequence[str] | None = None) -> list[HostRow]:
    """In order of their coming; all of them when `names` is None."""
    if names is None:
        return [HostRow(**row) for row in tx.all(_ROWS)]
    return [HostRow(**row) for row in tx.all(_SOME, names=list(names))] if names else []


def get(tx: Tx, host: str) -> Host | None:
    row = tx.one(_ONE, host=host)
    return None if row is None else msgspec.convert(row, Host)


def put(tx: Tx, host: Host) -> None:
    tx.upsert(H, msgspec.structs.asdict(host), ["host"])
    HOST_CHANGES.note(tx, (host.host,))


def set_fields(tx: Tx, name: str, /, **values: Any) -> bool:
    found = tx.update(H, {"host": name}, values) == 1
    if found:
        HOST_CHANGES.note(tx, (name,))
    return found


def heard_of(tx: Tx, name: str, at: str, *, silent_since: str) -> bool:
    """A sign of life, and nothing else that changed.  Schedulers look for these now and then: no change is noted.

    False, and nothing is written, for a host that is not known, or was silent for so long that its return is a change.
    """
    return tx.run(_HEARD_OF, name=name, at=at, silent_since=silent_since) == 1


# --- for schedulers ------------------------------------------------------------------------------------------------------------------


def changes(tx: Tx, since: int) -> Changes:
    return HOST_CHANGES.since(tx, since)


def newest_change(tx: Tx) -> int:
    return HOST_CHANGES.newest(tx)


def heard_since(tx: Tx, since: str) -> list[tuple[str, str]]:
    """Hosts that were heard of since then, and when."""
    return [(row["host"], row["seen_at"]) for row in tx.all(_HEARD, since=since)]
