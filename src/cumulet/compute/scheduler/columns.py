"""The hosts as a decision sees them: a column per fact, a place in it per host.

Filters and weights look at whole columns at once: 10,000 hosts cost some 50 microseconds, 100,000 half a millisecond, where one object
per host costs a millisecond for every thousand.  numpy is what they calculate with; this module is imported with the first decision,
as numpy takes 40 ms and 16 MiB, which a cloud that only starts need not have.
"""

import copy
import math
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Self, TypeAlias

import msgspec

# else its library for matrices, of which nothing is used here, starts a thread per core
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from cumulet.compute.scheduler.snapshot import DOWN_AFTER_S, HostState, Wanted

__all__ = ["Column", "Columns", "HostFacts", "Mask"]

#: a number for each host
Column: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
#: yes or no for each host
Mask: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]

FIRST_ROOM = 64
#: so many changes of what is free are remembered
MOVED_MAX = 4096


class HostFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What compute knows of a host.  seen_s: when it was heard of, in seconds since 1970; largest: what one server may have at most."""

    host: str
    provider_id: str
    zone: str
    hypervisor_type: str
    disabled: bool
    forced_down: bool
    seen_s: float
    largest: dict[str, int]


class _Resource:
    """One resource class."""

    __slots__ = ("free", "largest", "room", "total")

    def __init__(self, size: int) -> None:
        self.total = np.zeros(size)
        self.free = np.zeros(size)
        #: no more than the machine itself has, whatever is promised beyond
        self.largest = np.full(size, math.inf)
        #: what one more server may have: the less of both
        self.room = np.zeros(size)

    def resize(self, size: int) -> None:
        for name, empty in (("total", 0.0), ("free", 0.0), ("largest", math.inf), ("room", 0.0)):
            setattr(self, name, _longer(getattr(self, name), size, empty))

    def picked(self, places: Any) -> "_Resource":
        made = _Resource(0)
        for name in self.__slots__:
            setattr(made, name, getattr(self, name)[places])
        return made


class Columns:
    """See the module's docstring.  A host keeps its place.  Columns are `size` long; nobody but this class writes into them."""

    def __init__(self) -> None:
        self.size = 0
        self.names: list[str] = []
        self.places: dict[str, int] = {}
        #: when the columns were brought up to date, in seconds since 1970
        self.now_s = 0.0
        #: raised by every change but that of what is free
        self.era = 0
        #: places where what is free has changed in this era, in order, for who keeps what was calculated from it (kept.py)
        self.moved: list[int] = []
        self._provider_ids: list[str] = []
        self._by_provider: dict[str, int] = {}
        #: zones and types of hypervisor by the number that stands for them
        self.zones: dict[str, int] = {}
        self.hypervisors: dict[str, int] = {}
        self._arrays: dict[str, Any] = {
            "disabled": np.zeros(FIRST_ROOM, dtype=np.bool_),
            "seen_s": np.zeros(FIRST_ROOM),
            "zone": np.zeros(FIRST_ROOM, dtype=np.int32),
            "hypervisor": np.zeros(FIRST_ROOM, dtype=np.int32),
        }
        self._traits: dict[str, Any] = {}
        self._resources: dict[str, _Resource] = {}
        self._room = FIRST_ROOM
        self._scratch = (np.zeros(FIRST_ROOM), np.zeros(FIRST_ROOM))
        #: what placement has said of providers that are no hosts, or no hosts yet
        self._early: dict[str, tuple[Mapping[str, tuple[int, int, int]], Collection[str]]] = {}

    # --- what filters and weights read ---------------------------------------------------------------------------------------------

    @property
    def disabled(self) -> Mask:
        disabled: Mask = self._cut("disabled")
        return disabled

    @property
    def silent(self) -> Mask:
        """Hosts that are down: not heard of for too long, or said to be."""
        silent: Mask = self._cut("seen_s") <= self.now_s - DOWN_AFTER_S
        return silent

    def up_until_s(self) -> float:
        """When the first of those that are up will be silent, if nothing is heard of it."""
        seen_s = self._cut("seen_s")
        up = seen_s[seen_s > self.now_s - DOWN_AFTER_S]
        return float(up.min()) + DOWN_AFTER_S if up.size else math.inf

    def not_in_zone(self, zone: str) -> Mask:
        others: Mask = self._cut("zone") != self.zones.get(zone, -1)
        return others

    def of_hypervisor(self, hypervisor_type: str) -> Mask:
        these: Mask = self._cut("hypervisor") == self.hypervisors[hypervisor_type]
        return these

    def with_trait(self, trait: str) -> Mask:
        there: Mask | None = self._traits.get(trait)
        return self.nobody() if there is None else there[: self.size]

    def free(self, resource: str) -> Column:
        there = self._resources.get(resource)
        return np.zeros(self.size) if there is None else there.free[: self.size]

    def room(self, resource: str) -> Column:
        """What one more server may have of it."""
        there = self._resources.get(resource)
        return np.zeros(self.size) if there is None else there.room[: self.size]

    def scratch(self, size: int) -> tuple[Column, Column]:
        """Two columns to calculate in, overwritten by the next decision: new ones each time would cost more than what is done in them."""
        return self._scratch[0][:size], self._scratch[1][:size]

    def nobody(self) -> Mask:
        return np.zeros(self.size, dtype=np.bool_)

    def these(self, hosts: Iterable[str | None]) -> Mask:
        """Hosts by name."""
        mask = self.nobody()
        for host in hosts:
            if host is not None and (place := self.places.get(host)) is not None:
                mask[place] = True
        return mask

    def _cut(self, name: str) -> Any:
        return self._arrays[name][: self.size]

    # --- one host, for its explanation ---------------------------------------------------------------------------------------------

    def zone_of(self, place: int) -> str:
        return _key_of(self.zones, self._arrays["zone"][place])

    def state(self, place: int, wanted: Wanted) -> HostState:
        """A host, as a filter's words need it."""
        host = self.names[place]

        def of_each(name: str) -> dict[str, int]:
            return {
                resource: int(value)
                for resource, columns in self._resources.items()
                if math.isfinite(value := getattr(columns, name)[place])
            }

        return HostState(
            host=host,
            zone=self.zone_of(place),
            enabled=not self._arrays["disabled"][place],
            up=bool(self._arrays["seen_s"][place] > self.now_s - DOWN_AFTER_S),
            hypervisor_type=_key_of(self.hypervisors, self._arrays["hypervisor"][place]),
            traits=frozenset(trait for trait, there in self._traits.items() if there[place]),
            free=of_each("free"),
            total=of_each("total"),
            largest=of_each("largest"),
            servers=frozenset(id_ for id_, where in wanted.placed.items() if where == host),
        )

    @property
    def provider_ids(self) -> Sequence[str]:
        """Of all hosts."""
        return self._provider_ids

    # --- how they come to be -------------------------------------------------------------------------------------------------------

    def put_host(self, facts: HostFacts) -> None:
        """A host that is new, or as it is now."""
        place = self.places.get(facts.host)
        if place is None:
            place = self.size
            if place == self._room:
                self._grow(self._room * 2)
            self.size += 1
            self.names.append(facts.host)
            self._provider_ids.append(facts.provider_id)
            self.places[facts.host] = self._by_provider[facts.provider_id] = place
        self._new_era()
        arrays = self._arrays
        arrays["disabled"][place] = facts.disabled
        arrays["seen_s"][place] = -math.inf if facts.forced_down else facts.seen_s
        arrays["zone"][place] = self.zones.setdefault(facts.zone, len(self.zones))
        arrays["hypervisor"][place] = self.hypervisors.setdefault(facts.hypervisor_type, len(self.hypervisors))
        for name, amount in facts.largest.items():
            resource = self._resource(name)
            resource.largest[place] = amount
            resource.room[place] = min(amount, resource.free[place])
        if (early := self._early.pop(facts.provider_id, None)) is not None:
            self.put_room(facts.provider_id, *early)

    def heard_of(self, host: str, seen_s: float) -> None:
        """A host gave a sign of life; one that is said to be down stays down."""
        place = self.places.get(host)
        if place is None:
            return
        before = self._arrays["seen_s"][place]
        if before != -math.inf:
            self._arrays["seen_s"][place] = seen_s
            if min(before, seen_s) <= self.now_s - DOWN_AFTER_S:
                self._new_era()

    def put_room(
        self, provider_id: str, resources: Mapping[str, tuple[int, int, int]], traits: Collection[str]
    ) -> None:
        """What placement says of a host: by class capacity and what is used of it; its traits."""
        place = self._by_provider.get(provider_id)
        if place is None:
            self._early[provider_id] = (resources, traits)
            return
        moved = False
        for name in self._resources.keys() | resources.keys():
            capacity, used, _ = resources.get(name, (0, 0, 0))
            resource = self._resource(name)
            if (resource.total[place], resource.free[place]) != (capacity, capacity - used):
                resource.total[place] = capacity
                self._set_free(resource, place, capacity - used)
                moved = True
        if moved:
            self._has_moved(place)
        for trait in self._traits.keys() | set(traits):
            if trait not in self._traits:
                self._traits[trait] = np.zeros(self._room, dtype=np.bool_)
            if self._traits[trait][place] != (trait in traits):
                self._traits[trait][place] = trait in traits
                self._new_era()

    def take(self, place: int, resources: Mapping[str, int]) -> None:
        """A server was put there; less than nothing: it is gone."""
        for name, amount in resources.items():
            resource = self._resource(name)
            self._set_free(resource, place, resource.free[place] - amount)
        self._has_moved(place)

    @staticmethod
    def _set_free(resource: _Resource, place: int, free: float) -> None:
        resource.free[place] = free
        resource.room[place] = min(free, resource.largest[place])

    def _has_moved(self, place: int) -> None:
        self.moved.append(place)
        if len(self.moved) > MOVED_MAX:
            self._new_era()

    def _new_era(self) -> None:
        self.era += 1
        self.moved = []

    def with_held(
        self, held: Mapping[str, Mapping[str, int]], *, only: Iterable[str] | None = None, enabled: bool = False
    ) -> Self:
        """A copy on which what a server itself holds, by provider, counts as free.

        only: of these hosts; enabled: whatever is said of them.
        """
        made = copy.copy(self)
        made.keep_only(self.names if only is None else only)
        made.give_back(held)
        if enabled:
            made.enable()
        return made

    def keep_only(self, hosts: Iterable[str]) -> None:
        """Let go of the others."""
        self._new_era()
        places = [self.places[host] for host in hosts if host in self.places]
        self.size = self._room = len(places)
        self.names = [self.names[place] for place in places]
        self.places = {host: place for place, host in enumerate(self.names)}
        self._provider_ids = [self._provider_ids[place] for place in places]
        self._by_provider = {id_: place for place, id_ in enumerate(self._provider_ids)}
        self._arrays = {name: array[places] for name, array in self._arrays.items()}
        self._traits = {name: array[places] for name, array in self._traits.items()}
        self._resources = {name: resource.picked(places) for name, resource in self._resources.items()}

    def give_back(self, held: Mapping[str, Mapping[str, int]]) -> None:
        """By provider, what is free now."""
        for provider_id, resources in held.items():
            if (place := self._by_provider.get(provider_id)) is not None:
                self.take(place, {name: -amount for name, amount in resources.items()})

    def enable(self) -> None:
        """Every host."""
        self._new_era()
        self._arrays["disabled"][:] = False

    def _resource(self, name: str) -> _Resource:
        resource = self._resources.get(name)
        if resource is None:
            resource = self._resources[name] = _Resource(self._room)
        return resource

    def _grow(self, room: int) -> None:
        self._arrays = {name: _longer(array, room, 0) for name, array in self._arrays.items()}
        self._traits = {name: _longer(array, room, 0) for name, array in self._traits.items()}
        for resource in self._resources.values():
            resource.resize(room)
        self._scratch = (np.zeros(room), np.zeros(room))
        self._room = room


def _longer(array: Any, size: int, empty: float) -> Any:
    made = np.full(size, empty, dtype=array.dtype)
    made[: len(array)] = array
    return made


def _key_of(numbers: Mapping[str, int], number: int) -> str:
    return next(name for name, value in numbers.items() if value == number)
