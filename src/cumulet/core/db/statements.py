"""Compiled statements: SQLAlchemy Core in, text and parameter plan out, once per shape.

SQLAlchemy's cache key separates a statement's shape from its values; the shape's compiled text, its parameter order and its value
converters are kept here.  Making a statement and its key costs ten times what the database takes to run it, so there are two ways
around both: a statement that is kept (a module's constant, its values given as parameters) is known by its identity, and the plain
ways to rows (`find`, `insert`, `update`, `delete` of `Tx`) by their table and columns.  The compiler's own attributes are used for that
(`_compile_w_cache`, `_bind_processors`, `_result_columns`): they are not public, so the version is pinned and a contract test holds
each of them on both engines.
"""

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    Dialect,
    Float,
    Numeric,
    Table,
    bindparam,
    delete,
    false,
    insert,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.sql.compiler import SQLCompiler

__all__ = ["Compiler", "Not", "Ready"]

_Convert = Callable[[Any], Any]


class Ready:
    """One shape, compiled: text, parameters in order, converters for the columns of a row."""

    __slots__ = ("columns", "compiled", "convert", "expanding", "plan", "text", "writes")

    def __init__(self, compiled: SQLCompiler, dialect: Dialect) -> None:
        self.compiled = compiled
        self.text: str = str(compiled)
        self.writes: bool = compiled.isinsert or compiled.isupdate or compiled.isdelete
        self.expanding = bool(compiled.post_compile_params)
        processors: Mapping[str, Any] = compiled._bind_processors  # noqa: SLF001 - see the module's docstring
        #: the parameters in order, each with its converter; None where they go by name
        self.plan: tuple[tuple[str, _Convert | None], ...] | None = None
        if compiled.positiontup is not None:
            self.plan = tuple((name, processors.get(name)) for name in compiled.positiontup)
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
        if self.plan is not None and not self.expanding:
            return self.text, tuple(
                [values[name] if convert is None else convert(values[name]) for name, convert in self.plan]
            )
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


class _Kept:
    """A statement that was seen: its shape, and the values written into it."""

    __slots__ = ("constants", "ready", "required", "statement")

    def __init__(self, statement: Any, ready: Ready, values: Mapping[str, Any], given: Mapping[str, Any]) -> None:
        self.statement = weakref.ref(statement)
        self.ready = ready
        self.constants = {name: value for name, value in values.items() if name not in given}
        self.required = frozenset(given)


class Compiler:
    """Turns statements into `Ready` ones for one dialect; shared by a database's threads."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self._cache: dict[Any, SQLCompiler] = {}
        self._ready: dict[int, Ready] = {}
        self._kept: dict[int, _Kept] = {}
        self._plain: dict[Any, Ready] = {}

    def prepare(self, statement: Any, params: Mapping[str, Any]) -> tuple[Ready, Mapping[str, Any]]:
        """The compiled shape of a statement and all its values: those written into it and those given in `params`."""
        kept = self._kept.get(id(statement))
        if kept is not None and kept.statement() is statement and kept.required == params.keys():
            return kept.ready, {**kept.constants, **params} if kept.constants else params
        ready, values = self._compile(statement, params)
        if values and not params:  # its values are written into it: it will hardly come again
            return ready, values
        key = id(statement)
        self._kept[key] = _Kept(statement, ready, values, params)
        weakref.finalize(statement, self._kept.pop, key, None).atexit = False
        return ready, values

    def insert(self, table: Table, names: tuple[str, ...]) -> Ready:
        """INSERT of these columns; parameters by their names."""
        ready = self._plain.get((table, names))
        if ready is None:
            ready = self._plain[table, names] = self._shape(self._insert(table), names)
        return ready

    def _insert(self, table: Table) -> Any:
        if self.dialect.name != "postgresql":
            return insert(table)
        from sqlalchemy.dialects.postgresql import insert as postgres_insert

        # an error would end PostgreSQL's transaction, and the caller who catches Duplicate means to go on with it
        return postgres_insert(table).on_conflict_do_nothing()

    def find(self, table: Table, where: Mapping[str, Any], order: tuple[str, ...]) -> tuple[Ready, dict[str, Any]]:
        """SELECT of whole rows, and the parameters of its condition."""
        shape, values = _condition(where)
        ready = self._plain.get((table, order, shape, "find"))
        if ready is None:
            statement = select(table).where(*_clauses(table, shape)).order_by(*(table.c[name] for name in order))
            ready = self._plain[table, order, shape, "find"] = self._shape(statement)
        return ready, values

    def upsert(self, table: Table, names: tuple[str, ...], key: tuple[str, ...]) -> Ready:
        """INSERT of these columns, or UPDATE of those that are not the key's."""
        ready = self._plain.get((table, names, key, "upsert"))
        if ready is None:
            if self.dialect.name == "postgresql":
                from sqlalchemy.dialects.postgresql import insert as dialect_insert
            else:
                from sqlalchemy.dialects.sqlite import insert as dialect_insert  # type: ignore[assignment]  # same shape
            statement = dialect_insert(table)
            changed = {name: statement.excluded[name] for name in names if name not in key}
            final = (
                statement.on_conflict_do_update(index_elements=list(key), set_=changed)
                if changed
                else statement.on_conflict_do_nothing(index_elements=list(key))
            )
            ready = self._plain[table, names, key, "upsert"] = self._shape(final, names)
        return ready

    def update(
        self, table: Table, where: Mapping[str, Any], names: tuple[str, ...], one_more: tuple[str, ...]
    ) -> tuple[Ready, dict[str, Any]]:
        """UPDATE of these columns, with one added to those of `one_more`, and the parameters of its condition."""
        shape, values = _condition(where)
        ready = self._plain.get((table, names, shape, one_more))
        if ready is None:
            new: dict[str, Any] = {name: bindparam(name, type_=table.c[name].type) for name in names}
            new |= {name: table.c[name] + literal_column("1") for name in one_more}
            ready = self._shape(update(table).where(*_clauses(table, shape)).values(new))
            self._plain[table, names, shape, one_more] = ready
        return ready, values

    def delete(self, table: Table, where: Mapping[str, Any]) -> tuple[Ready, dict[str, Any]]:
        """DELETE, and the parameters of its condition."""
        shape, values = _condition(where)
        ready = self._plain.get((table, None, shape))
        if ready is None:
            ready = self._plain[table, None, shape] = self._shape(delete(table).where(*_clauses(table, shape)))
        return ready, values

    def _shape(self, statement: Any, names: Sequence[str] = ()) -> Ready:
        return Ready(statement.compile(dialect=self.dialect, column_keys=list(names) or None), self.dialect)

    def _compile(self, statement: Any, params: Mapping[str, Any]) -> tuple[Ready, dict[str, Any]]:
        compiled, extracted, collected, _ = statement._compile_w_cache(  # noqa: SLF001 - see the module's docstring
            self.dialect,
            compiled_cache=self._cache,
            column_keys=[],
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


_Shape = tuple[tuple[str, int], ...]

#: an IN of up to so many values is a shape of its own; a longer one is expanded each time
_IN_MAX = 8
_NULL, _MANY, _NOT = -1, -2, -3


class Not:
    """In a condition: any value but this one, NULL included."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def _condition(where: Mapping[str, Any]) -> tuple[_Shape, dict[str, Any]]:
    """The shape of a condition: per column how many values, NULL, or many; and its values by parameter name."""
    shape: list[tuple[str, int]] = []
    values: dict[str, Any] = {}
    for name, value in where.items():
        if type(value) is str:  # nearly every one
            shape.append((name, 1))
            values[f"where_{name}"] = value
        elif value is None:
            shape.append((name, _NULL))
        elif isinstance(value, Not):
            shape.append((name, _NOT))
            values[f"where_{name}"] = value.value
        elif not isinstance(value, tuple | list):
            shape.append((name, 1))
            values[f"where_{name}"] = value
        elif len(value) <= _IN_MAX:
            shape.append((name, len(value) << 8))
            for index, each in enumerate(value):
                values[f"where_{name}_{index}"] = each
        else:
            shape.append((name, _MANY))
            values[f"where_{name}"] = list(value)
    return tuple(shape), values


def _clauses(table: Table, shape: _Shape) -> list[Any]:
    clauses: list[Any] = []
    for name, kind in shape:
        column = table.c[name]
        parameter = f"where_{name}"
        if kind == _NULL:
            clauses.append(column.is_(None))
        elif kind == _NOT:
            clauses.append(column.is_distinct_from(bindparam(parameter, type_=column.type)))
        elif kind == 1:
            clauses.append(column == bindparam(parameter, type_=column.type))
        elif kind == _MANY:
            clauses.append(column.in_(bindparam(parameter, type_=column.type, expanding=True)))
        else:
            each = [column == bindparam(f"{parameter}_{index}", type_=column.type) for index in range(kind >> 8)]
            clauses.append(or_(*each) if each else false())
    return clauses
