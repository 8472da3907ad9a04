"""Each filter says why a pool is refused, or nothing."""

from collections.abc import Callable

import msgspec

from cumulet.volume.messages import SelectRequest
from cumulet.volume.records import Pool

__all__ = ["FILTERS", "Candidate"]


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A pool, and what the database has promised of it."""

    pool: Pool
    up: bool
    promised_gib: int
    oversubscription: float
    reserved_percentage: int


def in_service(candidate: Candidate, request: SelectRequest) -> str | None:  # noqa: ARG001 - one signature for all
    if candidate.pool.disabled:
        return f"its service is disabled: {candidate.pool.disabled_reason or 'no reason given'}"
    return None if candidate.up else f"its host was last heard of at {candidate.pool.seen_at}"


def availability_zone(candidate: Candidate, request: SelectRequest) -> str | None:
    if request.zone is None or request.zone == candidate.pool.zone:
        return None
    return f"it is in zone {candidate.pool.zone}, not in {request.zone}"


def beside_source(candidate: Candidate, request: SelectRequest) -> str | None:
    if request.beside is None or request.beside == candidate.pool.name:
        return None
    return f"what is to be copied lies on {request.beside}"


def capabilities(candidate: Candidate, request: SelectRequest) -> str | None:
    """The type's extra specs, as far as they speak of a back end."""
    has = {
        "volume_backend_name": candidate.pool.backend,
        "storage_protocol": candidate.pool.protocol,
        "vendor_name": candidate.pool.vendor,
        "multiattach": str(candidate.pool.multiattach),
        "thin_provisioning_support": str(candidate.pool.thin),
    }
    for key, wanted in request.extra_specs.items():
        scope, _, name = key.rpartition(":")
        if scope and scope != "capabilities":
            continue  # words for a driver
        there = has.get(name)
        if there is None:
            return f"it has no {name}"
        if not _matches(there, wanted):
            return f"its {name} is {there}, wanted is {wanted}"
    return None


def _matches(there: str, wanted: str) -> bool:
    word, _, value = wanted.strip().partition(" ")
    if word == "<is>":
        return there.lower() == value.strip().lower()
    if word == "<in>":
        return value.strip() in there
    if word == "<or>":
        return there in [part.strip() for part in wanted.split("<or>") if part.strip()]
    return there == wanted


def capacity(candidate: Candidate, request: SelectRequest) -> str | None:
    pool = candidate.pool
    reserved = pool.total_gib * candidate.reserved_percentage / 100
    if pool.thin:
        room = (pool.total_gib - reserved) * candidate.oversubscription - candidate.promised_gib
        return (
            None
            if request.size_gib <= room
            else f"{request.size_gib} GiB asked, {max(0, room):.0f} may still be promised"
        )
    room = pool.total_gib - reserved - candidate.promised_gib
    return None if request.size_gib <= room else f"{request.size_gib} GiB asked, {max(0, room):.0f} free"


FILTERS: tuple[Callable[[Candidate, SelectRequest], str | None], ...] = (
    in_service,
    availability_zone,
    beside_source,
    capabilities,
    capacity,
)
