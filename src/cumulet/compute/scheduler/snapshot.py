"""What is asked of the hosts, and one host as words about it need it.  Decisions are made on columns.py."""

from collections.abc import Iterable
from typing import Any

import msgspec

__all__ = ["DOWN_AFTER_S", "HostState", "Wanted"]

#: a host that has not reported for so long is down
DOWN_AFTER_S = 60.0


class HostState(msgspec.Struct, frozen=True, kw_only=True):
    """One host: its service's state and what is free on it.  No decision is made from it: it explains what was decided."""

    host: str
    zone: str
    enabled: bool
    up: bool
    hypervisor_type: str
    traits: frozenset[str]
    #: by resource class, after reservation and allocation ratio
    free: dict[str, int]
    total: dict[str, int]
    #: what one server may have at most: no more than the machine itself has, whatever is promised beyond
    largest: dict[str, int] = {}
    #: of the servers that matter to the choice, those that are here
    servers: frozenset[str] = frozenset()


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for."""

    resources: dict[str, int]
    zone: str | None = None
    host: str | None = None
    exclude: tuple[str, ...] = ()
    extra_specs: dict[str, str] = {}
    image_properties: dict[str, Any] = {}
    #: server ids by hint
    same_host: tuple[str, ...] = ()
    different_host: tuple[str, ...] = ()
    group_policy: str | None = None
    group_members: frozenset[str] = frozenset()
    max_server_per_host: int = 1
    #: servers that matter to the choice, those of the hints and of the group, and the host of each
    placed: dict[str, str | None] = {}

    def hosts_of(self, server_ids: Iterable[str]) -> list[str | None]:
        """Where some of them are."""
        return [self.placed.get(server_id) for server_id in server_ids]
