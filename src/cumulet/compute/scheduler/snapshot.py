"""What a decision is made from: the hosts as they are now, and what is asked of them."""

from typing import Any

import msgspec

__all__ = ["HostState", "Wanted"]


class HostState(msgspec.Struct, frozen=True, kw_only=True):
    """One host: its service's state and what is free on it."""

    host: str
    provider_id: str
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
    #: servers of the asking server's group, and of the caller's hints, that are here
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
