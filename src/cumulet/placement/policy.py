"""Placement's rules, by the reference's names and defaults: admins and services; a project's own usage for its readers."""

from cumulet.core.policy import Rule

__all__ = ["RULES"]

_ADMIN = "role:admin or role:service"

_NAMES = (
    "resource_providers:list",
    "resource_providers:create",
    "resource_providers:show",
    "resource_providers:update",
    "resource_providers:delete",
    "resource_classes:list",
    "resource_classes:create",
    "resource_classes:show",
    "resource_classes:update",
    "resource_classes:delete",
    "resource_providers:inventories:list",
    "resource_providers:inventories:create",
    "resource_providers:inventories:show",
    "resource_providers:inventories:update",
    "resource_providers:inventories:delete",
    "resource_providers:aggregates:list",
    "resource_providers:aggregates:update",
    "resource_providers:usages",
    "traits:list",
    "traits:show",
    "traits:update",
    "traits:delete",
    "resource_providers:traits:list",
    "resource_providers:traits:update",
    "resource_providers:traits:delete",
    "allocations:manage",
    "allocations:list",
    "allocations:update",
    "allocations:delete",
    "resource_providers:allocations:list",
    "allocation_candidates:list",
)

RULES = [
    *(Rule(f"placement:{name}", _ADMIN) for name in _NAMES),
    Rule("cumulet:provider_states:list", _ADMIN),
    Rule("placement:usages", f"{_ADMIN} or (role:reader and project_id:%(project_id)s)"),
]
