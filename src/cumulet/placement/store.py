"""Placement's only SQL."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Integer, and_, bindparam, case, delete, func, or_, select, update

from cumulet.core.db import Changes, Tx
from cumulet.placement.records import Allocation, Consumer, InventoryRow, Provider, State
from cumulet.placement.tables import ALLOCATIONS as A
from cumulet.placement.tables import CHANGES, CLASSES, CONSUMERS, TRAITS
from cumulet.placement.tables import INVENTORIES as I
from cumulet.placement.tables import PROVIDERS as P

_ONE = select(P).where(P.c.id == bindparam("provider_id"))
_INVENTORY = select(I).where(I.c.provider_id == bindparam("provider_id"))
_OF_CONSUMER = (
    select(A).where(A.c.consumer_id == bindparam("consumer_id")).order_by(A.c.provider_id, A.c.resource_class)
)
_AMOUNT = bindparam("amount", type_=I.c.used.type)
_ROW = update(I).where(I.c.provider_id == bindparam("provider"), I.c.resource_class == bindparam("resource"))
_GIVE_BACK = _ROW.values(used=I.c.used - _AMOUNT)
_STATES = (
    select(P.c.id, P.c.traits)
    .where(P.c.id > bindparam("after"))
    .order_by(P.c.id)
    .limit(bindparam("limit", type_=Integer))
)
_ROOMS = select(I.c.provider_id, I.c.resource_class, I.c.capacity, I.c.used, I.c.max_unit).where(
    I.c.provider_id > bindparam("after"), I.c.provider_id <= bindparam("last")
)
_CHANGED = select(CHANGES.table.c.key).where(
    CHANGES.table.c.number > bindparam("after"), CHANGES.table.c.number <= bindparam("upto")
)
_STATES_CHANGED = select(P.c.id, P.c.traits).where(P.c.id.in_(_CHANGED))
_ROOMS_CHANGED = select(I.c.provider_id, I.c.resource_class, I.c.capacity, I.c.used, I.c.max_unit).where(
    I.c.provider_id.in_(_CHANGED)
)
_PROVIDERS = select(P).order_by(P.c.created_at, P.c.id)
_HELD = select(func.coalesce(func.sum(A.c.used), 0)).where(
    A.c.provider_id == I.c.provider_id, A.c.resource_class == I.c.resource_class
)
_ASTRAY = select(I.c.provider_id).where(I.c.used != _HELD.scalar_subquery()).distinct()
_RECOUNT = update(I).where(I.c.provider_id == bindparam("provider")).values(used=_HELD.scalar_subquery())
_CONSUMER = select(CONSUMERS).where(CONSUMERS.c.id == bindparam("consumer_id"))


def provider(tx: Tx, provider_id: str) -> Provider | None:
    row = tx.one(_ONE, provider_id=provider_id)
    return None if row is None else msgspec.convert(row, Provider)


def providers(tx: Tx, where: Sequence[Any] = ()) -> list[Provider]:
    statement = _PROVIDERS.where(*where) if where else _PROVIDERS
    return [msgspec.convert(row, Provider) for row in tx.all(statement)]


def states(tx: Tx, *, after: str, limit: int) -> list[State]:
    """Providers in order of their ids, with their room."""
    found = tx.all(_STATES, after=after, limit=limit)
    rows = tx.all(_ROOMS, after=after, last=found[-1]["id"]) if found else []
    return _states(found, rows)


def changed_states(tx: Tx, since: int, changes: Changes) -> list[State]:
    """Those of the changed providers that there are.  Two statements that are always the same, however many have changed."""
    found = tx.all(_STATES_CHANGED, after=since, upto=changes.number)
    there = _states(found, tx.all(_ROOMS_CHANGED, after=since, upto=changes.number) if found else [])
    # the oldest changes may have been dropped from the log meanwhile
    missing = tuple(set(changes.keys or ()) - {row["id"] for row in found})
    if missing and (found := tx.find_all(P, {"id": missing})):
        there += _states(found, tx.find_all(I, {"provider_id": tuple(row["id"] for row in found)}))
    return there


def _states(found: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]) -> list[State]:
    rooms: dict[str, dict[str, tuple[int, int, int]]] = {row["id"]: {} for row in found}
    for row in rows:
        if (room := rooms.get(row["provider_id"])) is not None:  # else its provider came between the two statements
            room[row["resource_class"]] = (row["capacity"], row["used"], row["max_unit"])
    return [State(row["id"], rooms[row["id"]], row["traits"]) for row in found]


def note(tx: Tx, provider_ids: Iterable[str]) -> int:
    """The room or the traits of these providers changed; the number of the last of these changes."""
    return CHANGES.note(tx, provider_ids)


def changes(tx: Tx, since: int) -> Changes:
    """Which providers changed since then."""
    return CHANGES.since(tx, since)


def newest_change(tx: Tx) -> int:
    return CHANGES.newest(tx)


def add_provider(tx: Tx, new: Provider) -> None:
    tx.insert(P, msgspec.structs.asdict(new))


def set_provider(tx: Tx, old: Provider, **values: Any) -> bool:
    """Compare-and-set on the generation, which it raises."""
    statement = update(P).where(P.c.id == old.id, P.c.generation == old.generation)
    return tx.run(statement.values(generation=old.generation + 1, **values)) == 1


def rename_provider(tx: Tx, provider_id: str, **values: Any) -> None:
    tx.run(update(P).where(P.c.id == provider_id).values(**values))


def remove_provider(tx: Tx, provider_id: str) -> None:
    tx.run(delete(I).where(I.c.provider_id == provider_id))
    tx.run(delete(P).where(P.c.id == provider_id))


def has_children(tx: Tx, provider_id: str) -> bool:
    return tx.value(select(P.c.id).where(P.c.parent_id == provider_id).limit(1)) is not None


def inventory(tx: Tx, provider_id: str) -> list[InventoryRow]:
    return [msgspec.convert(row, InventoryRow) for row in tx.all(_INVENTORY, provider_id=provider_id)]


def inventories(tx: Tx, provider_ids: Iterable[str] | None = None) -> dict[str, list[InventoryRow]]:
    """By provider; of all providers when `provider_ids` is None."""
    where = {} if provider_ids is None else {"provider_id": tuple(provider_ids)}
    found: dict[str, list[InventoryRow]] = {}
    for row in tx.find_all(I, where):
        found.setdefault(row["provider_id"], []).append(msgspec.convert(row, InventoryRow))
    return found


def put_inventory(tx: Tx, row: InventoryRow) -> None:
    tx.upsert(I, msgspec.structs.asdict(row), ["provider_id", "resource_class"])


def remove_inventory(tx: Tx, provider_id: str, resource_class: str) -> None:
    tx.run(delete(I).where(I.c.provider_id == provider_id, I.c.resource_class == resource_class))


def take(tx: Tx, provider_id: str, resources: Mapping[str, int]) -> bool:
    """The claim itself, one statement: add to what is used of each class, if it is allowed and fits.

    False when it does not in one of them; the caller must then roll back, as others may have been added to.
    """
    statement = _takes.get(len(resources))
    if statement is None:
        statement = _takes[len(resources)] = _take(len(resources))
    values: dict[str, Any] = {"provider": provider_id}
    for number, (name, amount) in enumerate(resources.items()):
        values[f"class_{number}"] = name
        values[f"amount_{number}"] = amount
    return tx.run(statement, **values) == len(resources)


def _take(classes: int) -> Any:
    """For so many classes at once.  No other claim can come between its reading and its writing of `used`."""
    each = [
        (
            bindparam(f"class_{number}", type_=I.c.resource_class.type),
            bindparam(f"amount_{number}", type_=I.c.used.type),
        )
        for number in range(classes)
    ]
    fits = [
        and_(
            I.c.resource_class == name,
            I.c.used + amount <= I.c.capacity,
            I.c.min_unit <= amount,
            amount <= I.c.max_unit,
            amount % I.c.step_size == 0,
        )
        for name, amount in each
    ]
    added = case(*((I.c.resource_class == name, amount) for name, amount in each), else_=0)
    return update(I).where(I.c.provider_id == bindparam("provider"), or_(*fits)).values(used=I.c.used + added)


#: by number of classes
_takes: dict[int, Any] = {}


def give_back(tx: Tx, provider_id: str, resource_class: str, amount: int) -> None:
    tx.run(_GIVE_BACK, provider=provider_id, resource=resource_class, amount=amount)


def astray(tx: Tx) -> list[str]:
    """Providers of which something else is used than their allocations hold."""
    return [str(provider_id) for provider_id in tx.values(_ASTRAY)]


def recount(tx: Tx, provider_id: str) -> None:
    tx.run(_RECOUNT, provider=provider_id)


def consumer(tx: Tx, consumer_id: str) -> Consumer | None:
    row = tx.one(_CONSUMER, consumer_id=consumer_id)
    return None if row is None else msgspec.convert(row, Consumer)


def add_consumer(tx: Tx, row: Consumer) -> None:
    tx.insert(CONSUMERS, msgspec.structs.asdict(row))


def put_consumer(tx: Tx, row: Consumer) -> None:
    tx.upsert(CONSUMERS, msgspec.structs.asdict(row), ["id"])


def remove_consumer(tx: Tx, consumer_id: str) -> None:
    tx.run(delete(CONSUMERS).where(CONSUMERS.c.id == consumer_id))


def allocations_of(tx: Tx, consumer_id: str) -> list[Allocation]:
    return [msgspec.convert(row, Allocation) for row in tx.all(_OF_CONSUMER, consumer_id=consumer_id)]


def allocations_on(tx: Tx, provider_id: str) -> list[Allocation]:
    rows = tx.all(select(A).where(A.c.provider_id == provider_id).order_by(A.c.consumer_id, A.c.resource_class))
    return [msgspec.convert(row, Allocation) for row in rows]


def add_allocations(tx: Tx, rows: Sequence[Allocation]) -> None:
    tx.insert_many(A, [msgspec.structs.asdict(row) for row in rows])


def remove_allocations(tx: Tx, consumer_id: str) -> None:
    tx.delete(A, {"consumer_id": consumer_id})


def usage_of_project(tx: Tx, project_id: str, user_id: str | None) -> dict[str, int]:
    statement = (
        select(A.c.resource_class, func.sum(A.c.used).label("used"))
        .join(CONSUMERS, CONSUMERS.c.id == A.c.consumer_id)
        .where(CONSUMERS.c.project_id == project_id)
        .group_by(A.c.resource_class)
    )
    if user_id is not None:
        statement = statement.where(CONSUMERS.c.user_id == user_id)
    return {row["resource_class"]: int(row["used"]) for row in tx.all(statement)}


def names(tx: Tx, table: str) -> list[str]:
    """The custom resource classes or traits."""
    t = CLASSES if table == "resource_classes" else TRAITS
    return [str(name) for name in tx.values(select(t.c.name).order_by(t.c.name))]


def add_name(tx: Tx, table: str, name: str) -> bool:
    t = CLASSES if table == "resource_classes" else TRAITS
    if tx.value(select(t.c.name).where(t.c.name == name)) is not None:
        return False
    tx.insert(t, {"name": name})
    return True


def remove_name(tx: Tx, table: str, name: str) -> bool:
    t = CLASSES if table == "resource_classes" else TRAITS
    return tx.run(delete(t).where(t.c.name == name)) == 1


def class_in_use(tx: Tx, name: str) -> bool:
    return tx.value(select(I.c.provider_id).where(I.c.resource_class == name).limit(1)) is not None
