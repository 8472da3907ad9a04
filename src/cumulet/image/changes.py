"""What a request may say of an image's attributes: the whole of a create, and the JSON patch of an update.

A patch comes in two dialects: RFC 6902 (`{"op": "replace", "path": "/name", "value": …}`) and the older one that
names the operation by its key (`{"replace": "/name", "value": …}`).
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from cumulet.core.errors import BadRequest, Conflict, Forbidden
from cumulet.core.web.resource import CREATE, SHOW, UPDATE, WRITE
from cumulet.image.records import QUEUED, Image
from cumulet.image.resources import IMAGE

__all__ = ["PATCH_MEDIA", "Changes", "Operation", "changes_of", "operations_of", "split_attributes"]

PATCH_MEDIA = ("application/openstack-images-v2.1-json-patch", "application/openstack-images-v2.0-json-patch")

_WRITABLE = frozenset(name for name, field in IMAGE.fields if field.on & WRITE)
_READ_ONLY = frozenset(name for name, field in IMAGE.fields if field.on == SHOW) | {"direct_url"}
_RESERVED = frozenset({"location", "deleted", "deleted_at"})
_RESERVED_PREFIX = "os_glance"
_FORMATS = frozenset({"container_format", "disk_format"})
#: free text of one property
_VALUE_MAX = 65_535
_NAME_MAX = 255
_VERSION = (0, 0)


class Operation(msgspec.Struct, frozen=True):
    """One step of a patch: add, replace or remove the attribute `name`."""

    op: str
    name: str
    value: Any = None


class Changes(msgspec.Struct, frozen=True):
    """What an update comes to: columns, properties to set and to remove, and the tags if they change."""

    columns: dict[str, Any]
    properties: dict[str, str]
    removed: list[str]
    tags: list[str] | None


def split_attributes(body: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The attributes of a create (checked by IMAGE already), and its free properties."""
    for name in body:
        _check_settable(name)
    attributes = {name: value for name, value in body.items() if name in _WRITABLE}
    properties = {name: _checked_property(name, value) for name, value in body.items() if name not in _WRITABLE}
    return attributes, properties


def operations_of(document: Any) -> list[Operation]:
    """The steps of a patch, in either dialect.  Raises BadRequest."""
    if not isinstance(document, list):
        raise BadRequest("Request body must be a JSON array of operation objects.")
    return [_operation(step) for step in document]


def _operation(step: Any) -> Operation:
    if not isinstance(step, dict):
        raise BadRequest("Operations must be JSON objects.")
    if "op" in step:
        op, path = step["op"], step.get("path")
    else:
        named = [op for op in ("add", "replace", "remove") if op in step]
        if len(named) != 1:
            raise BadRequest("Operation objects must contain exactly one member named add, remove or replace.")
        op, path = named[0], step[named[0]]
    if op not in ("add", "replace", "remove"):  # a tuple: a stranger's value may have no hash
        raise BadRequest(f"Operation objects must contain only one member named add, remove or replace, not {op!r}.")
    if op != "remove" and "value" not in step:
        raise BadRequest(f'Operation "{op}" requires a member named "value".')
    return Operation(op, _attribute(path), step.get("value"))


def _attribute(pointer: Any) -> str:
    """The one attribute that a JSON pointer names."""
    if not isinstance(pointer, str) or not pointer.startswith("/"):
        raise BadRequest(f"Pointer `{pointer}` does not start with '/'.")
    name = pointer[1:]
    if not name or "/" in name or "~" in name.replace("~0", "").replace("~1", ""):
        raise BadRequest(f"Invalid JSON pointer for this resource: '{pointer}'")
    return name.replace("~1", "/").replace("~0", "~")


def changes_of(image: Image, operations: list[Operation]) -> Changes:
    """What the steps, one after the other, make of an image.  Raises BadRequest, Forbidden, Conflict."""
    columns: dict[str, Any] = {}
    properties = dict(image.properties)
    for step in operations:
        _check_settable(step.name)
        if step.name in _WRITABLE:
            columns[step.name] = _column(image, step)
        else:
            _change_property(properties, step)
    tags = columns.pop("tags", None)
    return Changes(
        columns=columns,
        properties={name: value for name, value in properties.items() if image.properties.get(name) != value},
        removed=sorted(set(image.properties) - set(properties)),
        tags=None if tags is None else list(dict.fromkeys(tags)),
    )


def _column(image: Image, step: Operation) -> Any:
    if step.op == "remove":
        raise Forbidden(f"Property {step.name} may not be removed.")
    if step.name == "id":
        raise Forbidden("Attribute 'id' is read-only.")
    if step.name in _FORMATS and image.status != QUEUED:
        raise Forbidden(f"Attribute {step.name} cannot be replaced.")
    IMAGE.validate({step.name: step.value}, UPDATE, _VERSION)
    return step.value


def _change_property(properties: dict[str, str], step: Operation) -> None:
    if step.op != "add" and step.name not in properties:
        raise Conflict(f"Property {step.name} does not exist.")
    if step.op == "remove":
        del properties[step.name]
    else:
        properties[step.name] = _checked_property(step.name, step.value)


def _check_settable(name: str) -> None:
    if name in _READ_ONLY:
        raise Forbidden(f"Attribute '{name}' is read-only.")
    if name in _RESERVED or name.startswith(_RESERVED_PREFIX):
        raise Forbidden(f"Attribute '{name}' is reserved.")
    if name == "locations":
        raise Forbidden("It's not allowed to set locations: image data comes in by upload or import only.")


def _checked_property(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise BadRequest(
            f"Invalid input for field/attribute {name}. Value: {value!r:.200}. A property's value must be a string."
        )
    if not name or len(name) > _NAME_MAX or len(value) > _VALUE_MAX or "\0" in name + value:
        raise BadRequest(
            f"Invalid input for field/attribute {name[:_NAME_MAX]!r}: too long, empty, or with a null character."
        )
    return value


def check_attributes(attributes: Mapping[str, Any]) -> None:
    """The same checks for images that the operator adds.  Raises BadRequest."""
    IMAGE.validate(dict(attributes), CREATE, _VERSION)
