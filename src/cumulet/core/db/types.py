"""Column types the two engines share."""

from collections.abc import Callable
from typing import Any

import msgspec
from sqlalchemy import Dialect, Text
from sqlalchemy.sql import operators
from sqlalchemy.types import TypeDecorator

__all__ = ["Json"]

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_PATTERNS = frozenset(
    {operators.like_op, operators.not_like_op, operators.ilike_op, operators.not_ilike_op, operators.contains_op}
)


class Json(TypeDecorator[Any]):
    """A JSON document kept as text: built-in types or msgspec structs in, built-in types out."""

    impl = Text
    cache_ok = True

    def coerce_compared_value(self, op: Any, value: Any) -> Any:
        # a pattern is text to look for in the document's text, not a document
        return self.impl if op in _PATTERNS else self

    # the converters themselves, and not the two methods that SQLAlchemy would call through two more

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], str | None]:
        return _text

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[str | None], Any]:
        return _document


def _text(value: Any) -> str | None:
    return None if value is None else _encode(value).decode()


def _document(text: str | None) -> Any:
    return None if text is None else _decode(text)
