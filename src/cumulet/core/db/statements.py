"""Compiled statements: SQLAlchemy Core in, text and parameter plan out, once per shape.

SQLAlchemy's cache key separates a statement's shape from its values; the shape's compiled text, its parameter order and its value
converters are kept here, so that a repeated statement costs a dictionary look-up.  The compiler's own attributes are used for that
(`_compile_w_cache`, `_bind_processors`, `_result_columns`): they are not public, so the version is pinned and a contract test holds
each of them on both engines.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Dialect, Float, Numeric
from sqlalchemy.sql.compiler import SQLCompiler

__all__ = ["Compiler", "Ready"]

_Convert = Callable[[Any], Any]


class Ready:
    """One shape, compiled: text, parameters in order, converters for the columns of a row."""

    __slots__ = ("columns", "compiled", "convert", "expanding", "positional", "text")

    def __init__(self, compiled: SQLCompiler, dialect: Dialect) -> None:
        self.compiled = compiled
        self.text: str = str(compiled)
        self.positional: Sequence[str] | None = compiled.positiontup
        self.expanding = bool(compiled.post_compile_params)
        result = compiled._result_columns  # noqa: SLF001 - see the module's docstring
        self.columns: tuple[str, ...] = tuple(
            entry.keyname + "" for entry in result
        )  # SQLAlchemy's own str class back to str
        converters: list[tuple[int, str, _Convert]] = []
        for index, entry in enumerate(result):
            if isinstance(entry.type, Numeric | Float):
                continue  # floats: both drivers give them as they are, and SQLAlchemy would ask psycopg's cursor
            processor = entry.type._cached_result_processor(dialect, None)  # noqa: SLF001 - see the module's docstring
            if processor is not None:
                converters.append((index, entry.keyname + "", processor))
        self.convert: tuple[tuple[int, str, _Convert], ...] = tuple(converters)

    def bind(self, values: Mapping[str, Any]) -> tuple[str, Any]:
        """Text and parameters for the driver, from values by bind name."""
        processors: dict[str, Any] = self.compiled._bind_processors  # type: ignore[assignment]  # noqa: SLF001 - see the module's docstring
        if self.expanding:
            state = self.compiled._process_parameters_for_postcompile(dict(values))  # noqa: SLF001 - see the module's docstring
            processors = {**processors, **state.processors}
            named = {
                key: processors[key](value) if key in processors else value for key, value in state.parameters.items()
            }
            if state.positiontup is not None:
                return state.statement, tuple(named[name] for name in state.positiontup)
            return state.statement, named
        if self.positional is not None:
            if not processors:
                return self.text, tuple([values[name] for name in self.positional])
            return self.text, tuple(
                [processors[name](values[name]) if name in processors else values[name] for name in self.positional]
            )
        return self.text, {key: processors[key](value) if key in processors else value for key, value in values.items()}

    def row(self, raw: Sequence[Any]) -> dict[str, Any]:
        row = dict(zip(self.columns, raw, strict=True))
        for _, key, convert in self.convert:
            row[key] = convert(row[key])
        return row

    def rows(self, raws: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
        columns, convert = self.columns, self.convert
        out = []
        for raw in raws:
            row = dict(zip(columns, raw, strict=True))
            for _, key, change in convert:
                row[key] = change(row[key])
            out.append(row)
        return out


class Compiler:
    """Turns statements into `Ready` ones for one dialect; shared by a database's threads."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self._cache: dict[Any, SQLCompiler] = {}
        self._ready: dict[int, Ready] = {}

    def prepare(
        self, statement: Any, params: Mapping[str, Any], keys: Sequence[str] = ()
    ) -> tuple[Ready, dict[str, Any]]:
        """The compiled shape of a statement and all its values: those written into it and those given in `params`."""
        compiled, extracted, collected, _ = statement._compile_w_cache(  # noqa: SLF001 - see the module's docstring
            self.dialect,
            compiled_cache=self._cache,
            column_keys=list(keys),
            for_executemany=False,
            schema_translate_map=None,
        )
        ready = self._ready.get(id(compiled))
        if ready is None:
            ready = self._ready[id(compiled)] = Ready(compiled, self.dialect)
        values = compiled.construct_params(
            params, extracted_parameters=extracted, _collected_params=collected, _check=True
        )
        return ready, dict(values)
