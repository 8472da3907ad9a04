"""Placement's SQL on both engines: providers, inventories, claims, usages."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import MetaData, delete

from cumulet.core.db import Database, Duplicate
from cumulet.placement import store
from cumulet.placement.records import Allocation, Consumer, InventoryRow, Provider, State
from cumulet.placement.tables import CHANGES, METADATA, PROVIDERS

AT = "2026-01-31T12:00:00.000000"


@pytest.fixture
def db(database: Callable[[MetaData], Database]) -> Database:
    """Placement's tables with one provider of 16 processors."""
    made = database(METADATA)
    with made.write() as tx:
        store.add_provider(tx, provider("a"))
        store.put_inventory(tx, inventory("a", "VCPU", 16))
    return made


def provider(id: str, **fields: Any) -> Provider:
    """A provider named like its id."""
    values = {
        "name": id,
        "generation": 0,
        "parent_id": None,
        "root_id": id,
        "traits": ["HW_CPU_X86_AVX"],
        "aggregates": [],
    }
    return Provider(id=id, created_at=AT, **{**values, **fields})


def inventory(provider_id: str, resource_class: str, total: int) -> InventoryRow:
    """An inventory that is handed out one and a half times."""
    return InventoryRow(
        provider_id=provider_id,
        resource_class=resource_class,
        total=total,
        reserved=0,
        min_unit=1,
        max_unit=total,
        step_size=1,
        allocation_ratio=1.5,
        capacity=total * 3 // 2,
        used=0,
    )


def test_providers(db: Database) -> None:
    """Found, listed, changed under their generation, renamed, removed with their inventory."""
    with db.write() as tx:
        store.add_provider(tx, provider("b", parent_id="a", root_id="a"))
        for taken in (provider("a", name="other"), provider("other", name="a")):
            with pytest.raises(Duplicate):
                store.add_provider(tx, taken)
        old = store.provider(tx, "a")
        assert old == provider("a")
        assert store.set_provider(tx, old, traits=["X", "Y"], aggregates=["g"])
        assert not store.set_provider(tx, old, traits=[])
        store.rename_provider(tx, "b", name="bee")
        assert store.has_children(tx, "a")
        assert not store.has_children(tx, "b")
    with db.read() as tx:
        assert store.provider(tx, "a") == provider("a", generation=1, traits=["X", "Y"], aggregates=["g"])
        assert [one.name for one in store.providers(tx)] == ["a", "bee"]
        assert [one.id for one in store.providers(tx, [PROVIDERS.c.parent_id == "a"])] == ["b"]
    with db.write() as tx:
        store.remove_provider(tx, "a")
        assert (store.provider(tx, "a"), store.inventory(tx, "a")) == (None, [])


def test_inventories(db: Database) -> None:
    """Put, overwritten, listed by provider (of none, too), removed."""
    with db.write() as tx:
        store.put_inventory(tx, inventory("a", "MEMORY_MB", 2**33))
        store.put_inventory(tx, inventory("b", "VCPU", 2))
        store.put_inventory(tx, inventory("b", "VCPU", 4))
    with db.read() as tx:
        found = store.inventories(tx)
        assert {key: len(rows) for key, rows in found.items()} == {"a": 2, "b": 1}
        assert found["b"] == [inventory("b", "VCPU", 4)]
        assert list(store.inventories(tx, ["b", "z"])) == ["b"]
        assert store.inventories(tx, []) == {}
        assert store.class_in_use(tx, "MEMORY_MB")
        assert not store.class_in_use(tx, "DISK_GB")
    with db.write() as tx:
        store.remove_inventory(tx, "a", "MEMORY_MB")
        assert [row.resource_class for row in store.inventory(tx, "a")] == ["VCPU"]


def test_a_claim_fits_or_takes_nothing(db: Database) -> None:
    """Up to the capacity and not one more, and never more at once than one consumer may have; what is given back can be taken again."""
    with db.write() as tx:
        assert not store.take(tx, "a", {"VCPU": 17})
        assert store.take(tx, "a", {"VCPU": 16})
        assert store.take(tx, "a", {"VCPU": 4})
        assert not store.take(tx, "a", {"VCPU": 5})
        assert store.take(tx, "a", {"VCPU": 4})
        assert not store.take(tx, "a", {"DISK_GB": 1})
        store.give_back(tx, "a", "VCPU", 24)
        assert store.inventory(tx, "a") == [inventory("a", "VCPU", 16)]


def test_claims_from_many_threads_never_pass_the_capacity(db: Database) -> None:
    """Each claim is one compare-and-set; together they fill the provider exactly."""

    def claim(_: int) -> int:
        with db.write() as tx:
            return int(store.take(tx, "a", {"VCPU": 1}))

    with ThreadPoolExecutor(4) as pool:
        taken = sum(pool.map(claim, range(40)))
    with db.read() as tx:
        assert (taken, store.inventory(tx, "a")[0].used) == (24, 24)


def test_consumers_allocations_and_usages(db: Database) -> None:
    """What a project holds is summed as whole numbers, large ones too, of one user or of all."""
    with db.write() as tx:
        for number, user in enumerate(("u1", "u2", "u1")):
            row = Consumer(
                id=f"c{number}",
                generation=1,
                project_id="p",
                user_id=user,
                type=None if number else "INSTANCE",
                created_at=AT,
            )
            store.put_consumer(tx, row)
            store.put_consumer(tx, row)
            for name, used in (("VCPU", number + 1), ("MEMORY_MB", 2**33)):
                store.add_allocations(
                    tx, [Allocation(consumer_id=row.id, provider_id="a", resource_class=name, used=used)]
                )
    with db.read() as tx:
        assert store.usage_of_project(tx, "p", None) == {"VCPU": 6, "MEMORY_MB": 3 * 2**33}
        assert store.usage_of_project(tx, "p", "u1") == {"VCPU": 4, "MEMORY_MB": 2**34}
        assert store.usage_of_project(tx, "q", None) == {}
        assert [row.resource_class for row in store.allocations_of(tx, "c0")] == ["MEMORY_MB", "VCPU"]
        assert len(store.allocations_on(tx, "a")) == 6
        found = store.consumer(tx, "c0")
        assert found is not None
        assert (found.type, store.consumer(tx, "z")) == ("INSTANCE", None)
    with db.write() as tx:
        store.remove_allocations(tx, "c0")
        store.remove_consumer(tx, "c0")
        assert (store.allocations_of(tx, "c0"), store.consumer(tx, "c0")) == ([], None)


@pytest.mark.parametrize("table", ["resource_classes", "traits"])
def test_custom_names(table: str, db: Database) -> None:
    """Added once, listed in order, removed once."""
    with db.write() as tx:
        assert [store.add_name(tx, table, name) for name in ("CUSTOM_B", "CUSTOM_A", "CUSTOM_B")] == [True, True, False]
        assert store.names(tx, table) == ["CUSTOM_A", "CUSTOM_B"]
        assert [store.remove_name(tx, table, "CUSTOM_A") for _ in range(2)] == [True, False]


def test_changed_providers_are_told_as_they_are(db: Database) -> None:
    """Those that changed since a number, with their room and traits; one the log has dropped meanwhile as well, none that is gone."""
    with db.write() as tx:
        since = store.newest_change(tx)
        for id_ in ("b", "c", "d"):
            store.add_provider(tx, provider(id_))
            store.put_inventory(tx, inventory(id_, "VCPU", 4))
        store.note(tx, ("b", "c", "b", "d"))
        store.remove_provider(tx, "d")
    with db.read() as tx:
        changes = store.changes(tx, since)
        assert changes.keys == ("b", "c", "d")
    with db.write() as tx:
        store.note(tx, ("a",))
        assert store.take(tx, "c", {"VCPU": 3})
    with db.read() as tx:
        found = sorted(store.changed_states(tx, since, changes), key=lambda one: one.uuid)
        assert found == [
            State("b", {"VCPU": (6, 0, 4)}, ["HW_CPU_X86_AVX"]),
            State("c", {"VCPU": (6, 3, 4)}, ["HW_CPU_X86_AVX"]),
        ]
    with db.write() as tx:
        tx.run(delete(CHANGES.table).where(CHANGES.table.c.key == "b"))
    with db.read() as tx:
        assert sorted(store.changed_states(tx, since, changes), key=lambda one: one.uuid) == found
