"""Placement's frozen records."""

import msgspec

__all__ = ["CHANGE", "Allocation", "Consumer", "InventoryRow", "Provider", "State"]

#: the header in which a claim's answer says which change it was, for who follows `/provider_states`
CHANGE = "x-cumulet-change"


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    name: str
    generation: int
    parent_id: str | None
    root_id: str
    traits: list[str]
    aggregates: list[str]
    created_at: str


class InventoryRow(msgspec.Struct, frozen=True, kw_only=True):
    provider_id: str
    resource_class: str
    total: int
    reserved: int
    min_unit: int
    max_unit: int
    step_size: int
    allocation_ratio: float
    capacity: int
    used: int

    def allows(self, amount: int) -> bool:
        """Whether an allocation may be of this amount."""
        return self.min_unit <= amount <= self.max_unit and amount % self.step_size == 0

    def takes(self, amount: int) -> bool:
        """Whether an allocation of this amount is allowed and fits."""
        return self.allows(amount) and self.used + amount <= self.capacity


class Consumer(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    generation: int
    project_id: str
    user_id: str
    type: str | None
    created_at: str


class Allocation(msgspec.Struct, frozen=True, kw_only=True):
    consumer_id: str
    provider_id: str
    resource_class: str
    used: int


class State(msgspec.Struct, frozen=True):
    """A provider for a copy of it: by class capacity, what is used of it, and what one consumer may hold at most; and its traits."""

    uuid: str
    resources: dict[str, tuple[int, int, int]]
    traits: list[str]
