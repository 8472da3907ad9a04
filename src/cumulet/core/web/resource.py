"""A resource is a declaration: one Field per attribute, with where and in which versions it appears.

    SERVER = Resource("server", {
        "name":        Field(NAME, on=WRITE | SHOW, required=True),
        "description": Field(TEXT, on=WRITE | SHOW, since=(2, 19)),
    })

From it come the JSON schema that a request body is checked with (compiled once per version range) and the view that a record is
shown as.  Handlers know only the newest version.  Several fields may share a name with disjoint ranges: give a list.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jsonschema_rs
import msgspec

from cumulet.core.errors import BadRequest
from cumulet.core.web.versions import Version

__all__ = ["ALL", "CREATE", "LIST", "SHOW", "UPDATE", "WRITE", "Field", "Resource", "check"]

CREATE, UPDATE, SHOW, LIST = 1, 2, 4, 8
WRITE = CREATE | UPDATE
ALL = WRITE | SHOW

_FIRST: Version = (0, 0)
_LAST: Version = (99, 999)

Schema = Mapping[str, Any]


class Field(msgspec.Struct, frozen=True, kw_only=False):
    """One attribute.

    schema: JSON schema of its value in requests.  on: CREATE, UPDATE, SHOW, LIST added up (SHOW includes a detailed list; LIST is the
    brief one).  read: how a record gives the value, `read(record, call)`; without it the record's attribute or key of the same name.
    required: must be in a create request.
    """

    schema: Mapping[str, Any] = {}
    on: int = ALL
    since: Version = _FIRST
    until: Version = _LAST
    required: bool = False
    read: Callable[[Any, Any], Any] | None = None


class Resource:
    """A kind of thing that an API takes and shows.

    name: its key in bodies; plural: its key in lists; extra: whether unknown attributes are accepted (identity keeps them).
    envelope: whether bodies are wrapped in {name: …}.
    """

    def __init__(
        self,
        name: str,
        fields: Mapping[str, Field | Sequence[Field]],
        *,
        plural: str | None = None,
        extra: bool = False,
        envelope: bool = True,
        siblings: bool = False,
    ) -> None:
        self.name = name
        self.plural = plural or f"{name}s"
        self.extra = extra
        self.envelope = envelope
        #: whether the body may have other keys beside the envelope's (scheduler hints stand so)
        self.siblings = siblings
        self.fields: list[tuple[str, Field]] = [
            (key, field) for key, value in fields.items() for field in ([value] if isinstance(value, Field) else value)
        ]
        self._validators: dict[tuple[int, Version], Any] = {}
        self._views: dict[tuple[int, Version], list[tuple[str, Callable[[Any, Any], Any] | None]]] = {}

    def at(self, operation: int, version: Version) -> list[tuple[str, Field]]:
        """The fields of an operation in a version."""
        return [(key, f) for key, f in self.fields if f.on & operation and f.since <= version <= f.until]

    def schema(self, operation: int, version: Version) -> dict[str, Any]:
        fields = self.at(operation, version)
        inner: dict[str, Any] = {
            "type": "object",
            "properties": {key: dict(f.schema) for key, f in fields},
            "additionalProperties": self.extra,
        }
        if operation == CREATE:
            inner["required"] = [key for key, f in fields if f.required]
        if not self.envelope:
            return inner
        return {
            "type": "object",
            "properties": {self.name: inner},
            "required": [self.name],
            "additionalProperties": self.siblings,
        }

    def validate(self, body: Any, operation: int, version: Version) -> Any:
        """The body, checked; unwrapped from its envelope.  Raises BadRequest with the place and the reason."""
        key = (operation, version)
        validator = self._validators.get(key)
        if validator is None:
            validator = self._validators[key] = jsonschema_rs.validator_for(
                self.schema(operation, version), validate_formats=True
            )
        check(validator, body)
        return body[self.name] if self.envelope and not self.siblings else body

    def view(self, record: Any, call: Any, operation: int = SHOW) -> dict[str, Any]:
        """A record as this version shows it, without the envelope."""
        version: Version = call.version
        key = (operation, version)
        plan = self._views.get(key)
        if plan is None:
            plan = self._views[key] = [(name, f.read) for name, f in self.at(operation, version)]
        if isinstance(record, dict):
            return {name: record.get(name) if read is None else read(record, call) for name, read in plan}
        return {name: getattr(record, name) if read is None else read(record, call) for name, read in plan}


def check(validator: Any, value: Any) -> None:
    """Raise BadRequest with the first error's place and reason, in the reference's words."""
    if validator.is_valid(value):
        return
    error = next(validator.iter_errors(value))
    path = [str(part) for part in error.instance_path]
    message = str(error.message)
    if path:
        msg = f"Invalid input for field/attribute {path[-1]}. Value: {_shown(value, error.instance_path)}. {message}"
        raise BadRequest(msg)
    raise BadRequest(message)


def _shown(value: Any, path: Sequence[Any]) -> str:
    try:
        for part in path:
            value = value[part]
    except (KeyError, IndexError, TypeError):
        return "?"
    return str(value)[:200]
