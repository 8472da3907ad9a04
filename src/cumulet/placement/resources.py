"""What placement's requests may say: their schemas."""

from typing import Any

__all__ = ["AGGREGATES", "ALLOCATIONS", "INVENTORIES", "INVENTORY", "NEW_CLASS", "PROVIDER", "TRAITS", "UUID"]

UUID: dict[str, Any] = {
    "type": "string",
    "pattern": "^[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}$",
}
NAME: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": 200}
INVENTORY: dict[str, Any] = {
    "type": "object",
    "properties": {
        "resource_provider_generation": {"type": "integer"},
        "resource_class": {"type": "string"},
        "total": {"type": "integer", "minimum": 1, "maximum": 2147483647},
        "reserved": {"type": "integer", "minimum": 0, "maximum": 2147483647},
        "min_unit": {"type": "integer", "minimum": 1, "maximum": 2147483647},
        "max_unit": {"type": "integer", "minimum": 1, "maximum": 2147483647},
        "step_size": {"type": "integer", "minimum": 1, "maximum": 2147483647},
        "allocation_ratio": {"type": "number", "exclusiveMinimum": 0, "maximum": 3.4028235e38},
    },
    "required": ["total"],
    "additionalProperties": False,
}
INVENTORIES: dict[str, Any] = {
    "type": "object",
    "properties": {
        "resource_provider_generation": {"type": "integer"},
        "inventories": {
            "type": "object",
            "patternProperties": {"^[A-Z0-9_]+$": INVENTORY},
            "additionalProperties": False,
        },
    },
    "required": ["resource_provider_generation", "inventories"],
    "additionalProperties": False,
}
PROVIDER: dict[str, Any] = {
    "type": "object",
    "properties": {"name": NAME, "uuid": UUID, "parent_provider_uuid": {"anyOf": [UUID, {"type": "null"}]}},
    "required": ["name"],
    "additionalProperties": False,
}
AMOUNTS: dict[str, Any] = {
    "type": "object",
    "minProperties": 1,
    "patternProperties": {"^[A-Z0-9_]+$": {"type": "integer", "minimum": 1}},
    "additionalProperties": False,
}
ALLOCATIONS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "allocations": {
            "anyOf": [
                {
                    "type": "object",
                    "additionalProperties": {
                        "type": "object",
                        "properties": {"generation": {"type": "integer"}, "resources": AMOUNTS},
                        "required": ["resources"],
                        "additionalProperties": False,
                    },
                },
                {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "object",
                        "properties": {
                            "resource_provider": {
                                "type": "object",
                                "properties": {"uuid": UUID},
                                "required": ["uuid"],
                            },
                            "resources": AMOUNTS,
                        },
                        "required": ["resource_provider", "resources"],
                        "additionalProperties": False,
                    },
                },
            ]
        },
        "project_id": {"type": "string", "minLength": 1, "maxLength": 255},
        "user_id": {"type": "string", "minLength": 1, "maxLength": 255},
        "consumer_generation": {"type": ["integer", "null"]},
        "consumer_type": {"type": "string", "pattern": "^[A-Z0-9_]+$", "minLength": 1, "maxLength": 255},
        "mappings": {"type": "object"},
    },
    "required": ["allocations"],
    "additionalProperties": False,
}

TRAITS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "resource_provider_generation": {"type": "integer"},
        "traits": {
            "type": "array",
            "items": {"type": "string", "pattern": "^[A-Z0-9_]+$", "minLength": 1, "maxLength": 255},
        },
    },
    "required": ["resource_provider_generation", "traits"],
    "additionalProperties": False,
}
AGGREGATES: dict[str, Any] = {
    "anyOf": [
        {"type": "array", "items": UUID, "uniqueItems": True},
        {
            "type": "object",
            "properties": {
                "resource_provider_generation": {"type": "integer"},
                "aggregates": {"type": "array", "items": UUID, "uniqueItems": True},
            },
            "required": ["resource_provider_generation", "aggregates"],
            "additionalProperties": False,
        },
    ]
}
NEW_CLASS: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string", "pattern": "^CUSTOM_[A-Z0-9_]+$", "maxLength": 255}},
    "required": ["name"],
    "additionalProperties": False,
}
