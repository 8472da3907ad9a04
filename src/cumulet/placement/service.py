"""What placement does: books of capacity and claims, each change one transaction.

Two kinds of change have two guards.  Inventories, traits and aggregates change under the provider's generation: who changes them must
have seen the newest.  Claims are guarded by capacity alone, so that neighbours never make each other retry.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import os_resource_classes
import os_traits

from cumulet.core.clock import Clock
from cumulet.core.db import Database, Duplicate, Tx
from cumulet.core.errors import BadRequest, CloudError, Conflict, NotFound
from cumulet.core.ids import Ids
from cumulet.placement import store
from cumulet.placement.records import Allocation, Consumer, InventoryRow, Provider, State
from cumulet.placement.tables import PROVIDERS

__all__ = ["Claim", "PlacementService"]

STANDARD_CLASSES = frozenset(os_resource_classes.STANDARDS)
STANDARD_TRAITS = frozenset(os_traits.get_traits())
#: the largest number an allocation or inventory may hold
INT_MAX = 0x7FFFFFFF

GENERATION = "placement.concurrent_update"


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What one consumer is to hold: provider → class → amount.  generation None: a new consumer."""

    consumer_id: str
    resources: dict[str, dict[str, int]]
    project_id: str
    user_id: str
    generation: int | None
    #: False for versions before consumers had generations
    check_generation: bool = True
    type: str | None = None


class _DoesNotFit(Exception):
    """A provider has not what a claim wants of it: what the claim did in its transaction is to be rolled back."""

    def __init__(self, provider_id: str, resources: Mapping[str, int]) -> None:
        super().__init__(provider_id)
        self.provider_id = provider_id
        self.resources = resources


def _newer(there: int | None, given: int | None) -> Conflict:
    """Somebody changed a consumer meanwhile."""
    return Conflict(f"consumer generation conflict - expected {there} but got {given or 'null'}", code=GENERATION)


def _return_all(tx: Tx, rows: Sequence[Allocation]) -> None:
    """Allocations of one consumer, given back."""
    for row in rows:
        store.give_back(tx, row.provider_id, row.resource_class, row.used)
    if rows:
        store.remove_allocations(tx, rows[0].consumer_id)
        store.note(tx, {row.provider_id: None for row in rows})


class PlacementService:
    """See the module's docstring."""

    def __init__(self, db: Database, *, clock: Clock, ids: Ids) -> None:
        self.db = db
        self._clock = clock
        self._ids = ids

    # --- providers -----------------------------------------------------------------------------------------------------------------

    def provider(self, tx: Tx, provider_id: str) -> Provider:
        found = store.provider(tx, provider_id)
        if found is None:
            raise NotFound(
                f"No resource provider with uuid {provider_id} found : No resource provider with uuid {provider_id} found"
            )
        return found

    def create_provider(self, name: str, provider_id: str | None, parent_id: str | None) -> Provider:
        with self.db.write() as tx:
            root = None
            if parent_id is not None:
                parent = store.provider(tx, parent_id)
                if parent is None:
                    raise BadRequest(f"parent provider UUID: {parent_id} does not exist")
                root = parent.root_id
            new_id = provider_id or self._ids.uuid()
            if parent_id == new_id:
                raise BadRequest("parent provider UUID cannot be same as UUID")
            new = Provider(
                id=new_id,
                name=name,
                generation=0,
                parent_id=parent_id,
                root_id=root or new_id,
                traits=[],
                aggregates=[],
                created_at=self._clock.now(),
            )
            if store.providers(tx, [PROVIDERS.c.name == name]):
                raise Conflict(
                    f"Conflicting resource provider name: {name} already exists.", code="placement.duplicate_name"
                )
            try:
                store.add_provider(tx, new)
            except Duplicate:
                raise Conflict(f"Conflicting resource provider uuid: {new_id} already exists.") from None
        return new

    def update_provider(self, provider_id: str, name: str, parent_id: str | None, *, parent_given: bool) -> Provider:
        with self.db.write() as tx:
            old = self.provider(tx, provider_id)
            taken = store.providers(tx, [PROVIDERS.c.name == name, PROVIDERS.c.id != provider_id])
            if taken:
                raise Conflict(
                    f"Conflicting resource provider name: {name} already exists.", code="placement.duplicate_name"
                )
            values: dict[str, Any] = {"name": name}
            if parent_given and parent_id != old.parent_id:
                values |= self._moved(tx, old, parent_id)
            store.rename_provider(tx, provider_id, **values)
            return self.provider(tx, provider_id)

    def _moved(self, tx: Tx, old: Provider, parent_id: str | None) -> dict[str, Any]:
        if parent_id is None:
            return {"parent_id": None, "root_id": old.id}
        parent = store.provider(tx, parent_id)
        if parent is None:
            raise BadRequest(f"parent provider UUID: {parent_id} does not exist")
        if old.id in {parent_id, parent.root_id}:
            raise BadRequest("creating loop in the provider tree is not allowed.")
        return {"parent_id": parent_id, "root_id": parent.root_id}

    def delete_provider(self, provider_id: str) -> None:
        with self.db.write() as tx:
            self.provider(tx, provider_id)
            if store.has_children(tx, provider_id):
                raise Conflict(
                    f"Unable to delete parent resource provider {provider_id}: It has child resource providers.",
                    code="placement.resource_provider.cannot_delete_parent",
                )
            if store.allocations_on(tx, provider_id):
                raise Conflict(
                    f"Unable to delete resource provider {provider_id}: Resource provider has allocations.",
                    code="placement.resource_provider.inuse",
                )
            store.remove_provider(tx, provider_id)
            store.note(tx, (provider_id,))

    def checked(self, tx: Tx, provider_id: str, generation: int | None) -> Provider:
        """The provider, if the caller has seen its newest generation."""
        found = self.provider(tx, provider_id)
        if generation is not None and generation != found.generation:
            raise Conflict("resource provider generation conflict", code=GENERATION)
        return found

    # --- inventories ---------------------------------------------------------------------------------------------------------------

    def set_inventories(
        self, provider_id: str, generation: int | None, wanted: Mapping[str, Mapping[str, Any]]
    ) -> Provider:
        """All of a provider's inventories."""
        with self.db.write() as tx:
            found = self.checked(tx, provider_id, generation)
            there = {row.resource_class: row for row in store.inventory(tx, provider_id)}
            for name, row in there.items():
                if name not in wanted:
                    self._unused(row)
                    store.remove_inventory(tx, provider_id, name)
            for name, fields in wanted.items():
                store.put_inventory(tx, self.inventory_row(tx, provider_id, name, fields, there.get(name)))
            store.set_provider(tx, found)
            store.note(tx, (provider_id,))
            return self.provider(tx, provider_id)

    def set_inventory(
        self, provider_id: str, name: str, fields: Mapping[str, Any], *, generation: int | None, create: bool
    ) -> Provider:
        """One inventory."""
        with self.db.write() as tx:
            found = self.checked(tx, provider_id, generation)
            there = {row.resource_class: row for row in store.inventory(tx, provider_id)}
            if create and name in there:
                raise Conflict(
                    f"Update conflict: Inventory of '{name}' on resource provider '{provider_id}' already exists."
                )
            if not create and name not in there:
                raise BadRequest(f"No inventory record with resource class {name} for provider {provider_id}")
            store.put_inventory(tx, self.inventory_row(tx, provider_id, name, fields, there.get(name)))
            store.set_provider(tx, found)
            store.note(tx, (provider_id,))
            return self.provider(tx, provider_id)

    def delete_inventory(self, provider_id: str, name: str) -> None:
        with self.db.write() as tx:
            found = self.provider(tx, provider_id)
            row = next((row for row in store.inventory(tx, provider_id) if row.resource_class == name), None)
            if row is None:
                raise NotFound(f"No inventory of class {name} found for delete")
            self._unused(row)
            store.remove_inventory(tx, provider_id, name)
            store.set_provider(tx, found)
            store.note(tx, (provider_id,))

    @staticmethod
    def _unused(row: InventoryRow) -> None:
        if row.used:
            raise Conflict(
                f"Inventory for '{row.resource_class}' on resource provider '{row.provider_id}' in use.",
                code="placement.inventory.inuse",
            )

    def inventory_row(
        self, tx: Tx, provider_id: str, name: str, fields: Mapping[str, Any], old: InventoryRow | None
    ) -> InventoryRow:
        self.known_class(tx, name)
        values = {"reserved": 0, "min_unit": 1, "max_unit": INT_MAX, "step_size": 1, "allocation_ratio": 1.0, **fields}
        values.pop("resource_provider_generation", None)
        values.pop("resource_class", None)
        if values["reserved"] > values["total"]:
            raise BadRequest(
                f"Unable to update inventory for resource provider {provider_id}: Invalid inventory for '{name}': reserved > total"
            )
        capacity = math.floor((values["total"] - values["reserved"]) * values["allocation_ratio"])
        return InventoryRow(
            provider_id=provider_id, resource_class=name, capacity=capacity, used=old.used if old else 0, **values
        )

    # --- traits, classes, aggregates -----------------------------------------------------------------------------------------------

    def known_class(self, tx: Tx, name: str) -> None:
        if name not in STANDARD_CLASSES and name not in store.names(tx, "resource_classes"):
            raise BadRequest(f"Unknown resource class in inventory: No such resource class {name}.")

    def known_traits(self, tx: Tx, wanted: list[str]) -> None:
        custom = set(store.names(tx, "traits"))
        unknown = sorted(set(wanted) - STANDARD_TRAITS - custom)
        if unknown:
            raise BadRequest(f"No such trait {', '.join(unknown)}")

    def set_traits(self, provider_id: str, generation: int | None, wanted: list[str]) -> Provider:
        with self.db.write() as tx:
            found = self.checked(tx, provider_id, generation)
            self.known_traits(tx, wanted)
            store.set_provider(tx, found, traits=sorted(set(wanted)))
            store.note(tx, (provider_id,))
            return self.provider(tx, provider_id)

    def set_aggregates(self, provider_id: str, generation: int | None, wanted: list[str]) -> Provider:
        with self.db.write() as tx:
            found = self.checked(tx, provider_id, generation)
            store.set_provider(tx, found, aggregates=sorted(set(wanted)))
            return self.provider(tx, provider_id)

    # --- claims --------------------------------------------------------------------------------------------------------------------

    def claim(self, claims: list[Claim]) -> int:
        """Make each consumer hold exactly what its claim says: all of them, or none.  Raises Conflict when something does not fit.

        Gives the number of the last change that this was, 0 if it was none.
        """
        now, number = self._clock.now(), 0
        try:
            with self.db.write() as tx:
                # first everything is given back, so that consumers may exchange what they hold
                there = [self._give_back(tx, claim) for claim in claims]
                for claim, consumer in zip(claims, there, strict=True):
                    number = self._take(tx, claim, consumer, now) or number
        except _DoesNotFit as short:
            raise self._why_not(short.provider_id, short.resources) from None
        return number

    @staticmethod
    def _give_back(tx: Tx, claim: Claim) -> Consumer | None:
        """The consumer as it was, if it is known; of a new one its own row will tell whether it was."""
        if claim.check_generation and claim.generation is None and any(claim.resources.values()):
            return None
        there = store.consumer(tx, claim.consumer_id)
        if claim.check_generation:
            if there is None:
                raise Conflict(
                    f"consumer generation conflict - expected null but got {claim.generation}", code=GENERATION
                )
            if claim.generation != there.generation:
                raise _newer(there.generation, claim.generation)
        if there is not None:
            _return_all(tx, store.allocations_of(tx, claim.consumer_id))
        return there

    @staticmethod
    def _take(tx: Tx, claim: Claim, there: Consumer | None, now: str) -> int:
        if not any(claim.resources.values()):
            store.remove_consumer(tx, claim.consumer_id)
            return 0
        consumer = Consumer(
            id=claim.consumer_id,
            generation=there.generation + 1 if there else 1,
            project_id=claim.project_id,
            user_id=claim.user_id,
            type=claim.type or (there.type if there else None),
            created_at=there.created_at if there else now,
        )
        if there is not None:
            store.put_consumer(tx, consumer)
        else:
            try:
                store.add_consumer(tx, consumer)
            except Duplicate:
                known = store.consumer(tx, claim.consumer_id)
                raise _newer(known.generation if known else None, None) from None
        rows = []
        for provider_id, resources in claim.resources.items():
            if not store.take(tx, provider_id, resources):
                raise _DoesNotFit(provider_id, resources)
            rows += [
                Allocation(consumer_id=claim.consumer_id, provider_id=provider_id, resource_class=name, used=amount)
                for name, amount in resources.items()
            ]
        store.add_allocations(tx, rows)
        return store.note(tx, claim.resources)

    def _why_not(self, provider_id: str, resources: Mapping[str, int]) -> CloudError:
        """Why a provider did not give this; asked when the claim has been rolled back."""
        with self.db.read() as tx:
            rows = {row.resource_class: row for row in store.inventory(tx, provider_id)}
            if not rows and store.provider(tx, provider_id) is None:
                return BadRequest(f"Allocation for resource provider '{provider_id}' that does not exist.")
            for name in resources:
                if name not in rows:
                    self.known_class(tx, name)
                    return Conflict(
                        f"Unable to allocate inventory: Inventory for '{name}' on resource provider '{provider_id}' invalid."
                    )
        wrong = [name for name, amount in resources.items() if not rows[name].allows(amount)]
        full = [name for name, amount in resources.items() if not rows[name].takes(amount)]
        # what was full a moment ago may have been given back by now
        name = (wrong or full or list(resources))[0]
        return Conflict(
            f"Unable to allocate inventory: Unable to create allocation for '{name}' on resource provider '{provider_id}'. "
            f"The requested amount would {'violate inventory constraints' if wrong else 'exceed the capacity'}."
        )

    def release(self, consumer_id: str) -> None:
        """Give everything back.  Raises NotFound when the consumer holds nothing."""
        with self.db.write() as tx:
            rows = store.allocations_of(tx, consumer_id)
            if not rows:
                raise NotFound(f"No allocations for consumer '{consumer_id}'")
            _return_all(tx, rows)
            store.remove_consumer(tx, consumer_id)

    # --- copies --------------------------------------------------------------------------------------------------------------------

    def states(self, after: str, limit: int) -> tuple[int, list[State]]:
        """The providers in order of their ids, a piece at a time; and the number of the newest change that is certain to be in it."""
        with self.db.read() as tx:
            return store.newest_change(tx), store.states(tx, after=after, limit=limit)

    def changed(self, since: int) -> tuple[int, list[State] | None]:
        """Providers that changed since that number, one that is gone without room; None when that is too long ago."""
        with self.db.read() as tx:
            changes = store.changes(tx, since)
            if changes.keys is None:
                return changes.number, None
            found = store.changed_states(tx, since, changes) if changes.keys else []
        gone = set(changes.keys) - {state.uuid for state in found}
        return changes.number, [*found, *(State(id_, {}, []) for id_ in sorted(gone))]

    # --- candidates ----------------------------------------------------------------------------------------------------------------

    def candidates(
        self,
        resources: Mapping[str, int],
        *,
        required: set[str],
        forbidden: set[str],
        members: set[str],
        limit: int | None,
    ) -> tuple[list[Provider], dict[str, list[InventoryRow]]]:
        """Providers that could hold it all, with every inventory of theirs."""
        with self.db.read() as tx:
            rows = store.inventories(tx)
            found = []
            for provider in store.providers(tx):
                mine = {row.resource_class: row for row in rows.get(provider.id, ())}
                if not all(name in mine and mine[name].takes(amount) for name, amount in resources.items()):
                    continue
                traits = set(provider.traits)
                if not required <= traits or forbidden & traits:
                    continue
                if members and not members & set(provider.aggregates):
                    continue
                found.append(provider)
        if limit is not None:
            found = found[:limit]
        return found, rows
