"""Compute hosts: their service and their hypervisor, one row each."""

from typing import Any

import msgspec
from sqlalchemy import bindparam, select, update

from cumulet.compute.tables import HOSTS as H
from cumulet.core.db import Tx

__all__ = ["Host", "all_hosts", "get", "put", "set_fields"]


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


_ALL = select(H).order_by(H.c.created_at, H.c.host)
_ONE = select(H).where(H.c.host == bindparam("host"))


def all_hosts(tx: Tx) -> list[Host]:
    return [msgspec.convert(row, Host) for row in tx.all(_ALL)]


def get(tx: Tx, host: str) -> Host | None:
    row = tx.one(_ONE, host=host)
    return None if row is None else msgspec.convert(row, Host)


def put(tx: Tx, host: Host) -> None:
    tx.upsert(H, msgspec.structs.asdict(host), ["host"])


def set_fields(tx: Tx, name: str, /, **values: Any) -> bool:
    return tx.run(update(H).where(H.c.host == name).values(**values)) == 1
