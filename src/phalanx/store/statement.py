"""Statements of almost every request: SQLAlchemy's, compiled once, and given to SQLite's driver as they are.

What SQLite does in ten microseconds takes sixty on SQLAlchemy's own way (docs/performance.md).
"""

from __future__ import annotations

import sqlite3
from collections import namedtuple
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, Dialect, Insert, Select, exc
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.schema import ScalarElementColumnDefault
from sqlalchemy.types import TypeEngine


class Statement:
    """A SELECT, or an INSERT of one row. All its methods raise sqlalchemy.exc.DBAPIError."""

    def __init__(self, statement: Select[Any] | Insert, *columns: str) -> None:
        """`columns`: what parameters an INSERT gets; a column with a constant default has that if it is none of them."""
        self._statement = statement
        self._columns = columns

    def run(self, connection: Connection, **parameters: Any) -> None:
        """Execute an INSERT on a connection that is in a transaction."""
        if _is_sqlite(connection):
            self._direct.execute(connection, parameters)
        else:
            connection.execute(self._statement, parameters)

    def first(self, connection: Connection, **parameters: Any) -> Any:
        """The first row that a SELECT finds, with an attribute for each column, or None."""
        if not _is_sqlite(connection):
            return connection.execute(self._statement, parameters).first()
        row = self._direct.execute(connection, parameters).fetchone()
        return None if row is None else self._direct.row(row)

    def all(self, connection: Connection, **parameters: Any) -> Sequence[Any]:
        """All rows that a SELECT finds."""
        if not _is_sqlite(connection):
            return connection.execute(self._statement, parameters).all()
        return [self._direct.row(row) for row in self._direct.execute(connection, parameters).fetchall()]

    @cached_property
    def _direct(self) -> _Direct:
        return _Direct(self._statement, self._columns)


def _is_sqlite(connection: Connection) -> bool:
    """PostgreSQL's way is long anyway, and that a connection to it broke is for SQLAlchemy to find out."""
    return connection.dialect.name == "sqlite"


class _Direct:
    """A statement in SQLite's words, with what turns values into the driver's and back."""

    def __init__(self, statement: Select[Any] | Insert, columns: Sequence[str]) -> None:
        dialect: Dialect = sqlite.dialect()
        compiled = statement.compile(dialect=dialect, column_keys=columns or None)
        self._text = str(compiled)
        defaults = {
            each.key: each.default.arg
            for each in compiled.insert_prefetch
            if isinstance(each.default, ScalarElementColumnDefault)
        }
        self._constants = {name: value for name, value in {**compiled.params, **defaults}.items() if name not in columns}
        self._parameters = [(name, _bind(compiled.binds[name].type, dialect)) for name in compiled.positiontup or ()]
        results = statement.selected_columns if isinstance(statement, Select) else ()
        self._row: Any = namedtuple("_row", [str(column.key) for column in results])  # type: ignore[misc]
        self._results = [
            (number, convert) for number, column in enumerate(results) if (convert := _result(column.type, dialect)) is not None
        ]

    def execute(self, connection: Connection, parameters: dict[str, Any]) -> sqlite3.Cursor:
        driver: sqlite3.Connection = connection.connection.driver_connection  # type: ignore[assignment]
        given = {**self._constants, **parameters}
        values = [given[name] if convert is None else convert(given[name]) for name, convert in self._parameters]
        try:
            return driver.execute(self._text, values)
        except sqlite3.Error as error:
            raise exc.DBAPIError.instance(self._text, values, error, sqlite3.Error) from error

    def row(self, found: tuple[Any, ...]) -> Any:
        values = list(found)
        for number, convert in self._results:
            values[number] = convert(values[number])
        return self._row._make(values)


def _bind(type_: TypeEngine[Any], dialect: Dialect) -> Callable[[Any], Any] | None:
    """How a parameter of a type is given to the driver; None for as it is."""
    return type_.dialect_impl(dialect).bind_processor(dialect)


def _result(type_: TypeEngine[Any], dialect: Dialect) -> Callable[[Any], Any] | None:
    """What a value of a type is that comes from the driver; None for as it comes."""
    return type_.dialect_impl(dialect).result_processor(dialect, None)
