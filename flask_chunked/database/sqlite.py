"""Executes single statements with SQLite's own driver, each in autocommit mode.

SQLAlchemy compiles each statement once and supplies the type conversions. Its
connections and results cost ten times as much as SQLite itself. In autocommit mode a
thread holds SQLite's lock only while it runs C code. Knows nothing of uploads.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from types import TracebackType
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import JSON, Dialect, Engine, Select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.types import TypeEngine

from ..models import UTCDateTime

#: A statement object that the caller keeps, so that it is compiled only once.
Statement = Select[Any] | UpdateBase
#: Converts one value for the driver, or one value of the driver's for the caller.
Convert = Callable[[Any], Any]
#: SQLite's message while another connection holds the lock.
_BUSY = "database is locked"
#: Seconds: the first pause before the statement is executed again, and the longest.
FIRST_PAUSE, LONGEST_PAUSE = 0.00005, 0.0005
#: Most connections that are kept open for later statements.
MAX_IDLE = 8


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one statement.

    :param rows: in the order of the statement's columns.
    :param count: number of rows that the statement changed.
    """

    rows: list[Any]
    count: int


class PreparedStatement:
    """A compiled statement: its text and the conversions of its values and rows."""

    @classmethod
    def of(cls, statement: Statement, dialect: Any) -> PreparedStatement:
        """The compiled statement; it is shared by all dialects that are made alike.

        :param dialect: one of :func:`connections.separate_engine`.
        """
        made_of = (
            type(dialect),
            dialect.dbapi,
            dialect.native_datetime,
            dialect._json_serializer,
            dialect._json_deserializer,
        )
        known = _PREPARED.setdefault(statement, [])
        for others, prepared in known:
            if others == made_of:
                return prepared
        prepared = cls(statement, dialect)
        known.append((made_of, prepared))
        return prepared

    def __init__(self, statement: Statement, dialect: Dialect) -> None:
        self.writes = isinstance(statement, UpdateBase)
        compiled: Any = statement.compile(dialect=dialect)
        #: True if Python code supplies a value at each execution, as for a column with
        #: ``onupdate=``: only SQLAlchemy executes the statement correctly.
        self.needs_sqlalchemy = bool(
            compiled.insert_prefetch
            or compiled.update_prefetch
            or any(bind.callable is not None for bind in compiled.bind_names)
        )
        required = [bind for bind in compiled.bind_names if bind.required]
        if any(bind.expanding for bind in required):
            raise ValueError(
                "The statement has a list parameter, so its text changes with each "
                "execution; compare with each value separately"
            )
        unknown = dict.fromkeys(bind.key for bind in required)
        # The ORM adds a constant list for a class that shares its table with others.
        state = compiled.construct_expanded_state(unknown)
        self.text: str = state.statement
        listed = {
            name: bind
            for bind, names in state.parameter_expansion.items()
            for name in names
        }
        self._parameters = [
            _parameter(
                compiled.binds[listed.get(name, name)], state.parameters[name], dialect
            )
            for name in state.positiontup
        ]
        converters = [
            result_converter(column.type, dialect)
            for column in statement.exported_columns
        ]
        self._converters = [
            (number, convert)
            for number, convert in enumerate(converters)
            if convert is not None
        ]

    def arguments(self, values: Mapping[str, object]) -> list[Any]:
        """Convert values to the driver's arguments, in the order of the text."""
        return [
            constant
            if name is None
            else values[name]
            if convert is None
            else convert(values[name])
            for name, convert, constant in self._parameters
        ]

    def convert(self, row: tuple[Any, ...]) -> list[Any]:
        """Convert a row of the driver's to the values that SQLAlchemy would return."""
        converted = list(row)
        for number, convert in self._converters:
            if converted[number] is not None:
                converted[number] = convert(converted[number])
        return converted


#: Statement -> what a dialect is made of, and the statement that was compiled for it. A
#: process may have several executors for one table: those of blueprints and of apps.
_PREPARED: WeakKeyDictionary[
    Statement, list[tuple[tuple[object, ...], PreparedStatement]]
] = WeakKeyDictionary()


def _parameter(
    bind: Any, value: object, dialect: Dialect
) -> tuple[str | None, Convert | None, Any]:
    """Return the value's name and its conversion, or no name and a constant.

    :param value: the constant, not yet converted.
    """
    convert = bind_converter(bind.type, dialect)
    if bind.required:
        return bind.key, convert, None
    return None, None, value if convert is None else convert(value)


class _BorrowedConnection:
    """Lends a connection to a ``with`` block.

    :param idle: the list that takes the connection back. An error in the block, or a
        full list, closes the connection instead.
    """

    __slots__ = ("_connection", "_idle")

    def __init__(
        self, connection: sqlite3.Connection, idle: list[sqlite3.Connection]
    ) -> None:
        self._connection = connection
        self._idle = idle

    def __enter__(self) -> sqlite3.Connection:
        return self._connection

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None and len(self._idle) < MAX_IDLE:
            self._idle.append(self._connection)
        else:
            self._connection.close()


class SQLiteExecutor:
    """Executes statements on one SQLite file. Each process needs its own executor.

    :param engine: opens the connections and sets their pragmas.
    :param queue: the lock under which this process writes. Waiting for it is fairer
        than polling SQLite's lock.
    :param timeout: seconds to wait for the transaction of another process.
    """

    def __init__(self, engine: Engine, queue: threading.RLock, timeout: float) -> None:
        self._engine = engine
        #: SQLite's module, or another one with its interface.
        self._driver: Any = engine.dialect.dbapi
        self._queue = queue
        self._timeout = timeout
        self._idle: list[sqlite3.Connection] = []
        #: Id of a statement -> the statement, kept alive for its id, and its text.
        self._prepared: dict[int, tuple[Statement, PreparedStatement]] = {}

    def prepare(self, statement: Statement) -> PreparedStatement:
        """The compiled statement; the first call compiles it."""
        known = self._prepared.get(id(statement))
        if known is None:
            known = statement, PreparedStatement.of(statement, self._engine.dialect)
            self._prepared[id(statement)] = known
        return known[1]

    def execute(
        self, prepared: PreparedStatement, values: Mapping[str, object]
    ) -> Result:
        """Execute the statement and commit.

        :param prepared: does not need SQLAlchemy.
        :param values: values of the statement's parameters, by name.
        :raises sqlalchemy.exc.DBAPIError: the driver raised an error; SQLAlchemy's
            subclass for that error wraps it.
        """
        try:
            if not prepared.writes:
                return self.execute_prepared(prepared, values)
            with self._queue:
                return self.execute_prepared(prepared, values)
        except self._driver.Error as error:
            raise DBAPIError.instance(
                prepared.text, None, error, self._driver.Error
            ) from error

    def execute_prepared(
        self, prepared: PreparedStatement, values: Mapping[str, object]
    ) -> Result:
        """Execute a compiled statement and commit.

        Errors of the driver are not translated.
        """
        arguments = prepared.arguments(values)
        with self._connection() as connection:
            rows, count = self._execute_or_wait(connection, prepared.text, arguments)
        return Result([prepared.convert(row) for row in rows], count)

    def _execute_or_wait(
        self, connection: sqlite3.Connection, text: str, arguments: list[Any]
    ) -> tuple[list[Any], int]:
        """Execute the text, and repeat it while another process holds the lock.

        The other process's commit is shorter than the first sleep of SQLite's busy
        handler. During that sleep this process could not write, and the event loop of
        a greenlet server would stand still.
        """
        pause = FIRST_PAUSE
        deadline = 0.0
        while True:
            try:
                cursor = connection.execute(text, arguments)
                # Without a write-ahead log, fetchall() commits an UPDATE ... RETURNING.
                return cursor.fetchall(), cursor.rowcount
            except self._driver.OperationalError as error:
                now = time.monotonic()
                deadline = deadline or now + self._timeout
                if _BUSY not in str(error) or now >= deadline:
                    raise
            time.sleep(min(pause, deadline - now))
            pause = min(2 * pause, LONGEST_PAUSE)

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().close()

    def _connection(self) -> _BorrowedConnection:
        """Lend an idle connection, or a new one."""
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._connect()
        return _BorrowedConnection(connection, self._idle)

    def _connect(self) -> sqlite3.Connection:
        pooled = self._engine.raw_connection()
        connection: Any = pooled.driver_connection
        pooled.detach()
        connection.isolation_level = None
        connection.execute("PRAGMA busy_timeout = 0")
        return connection  # type: ignore[no-any-return]


def changed_nothing(error: DBAPIError) -> bool:
    """True if SQLite's error proves that the statement changed nothing."""
    text = str(error.orig).lower()
    return any(words in text for words in ("locked", "no such", "readonly", "to open"))


# -- conversions of values -------------------------------------------------------------
# SQLAlchemy's converters are general; for the mixin's types one or two calls suffice.


def bind_converter(kind: TypeEngine[Any], dialect: Dialect) -> Convert | None:
    """The conversion of a parameter of this type; ``None``: it needs no conversion."""
    if type(kind) is UTCDateTime:
        return _bind_datetime
    convert: Convert | None = kind.dialect_impl(dialect).bind_processor(dialect)
    if convert is not None and type(kind) is JSON:
        return _json_binder(convert)
    return convert


def result_converter(kind: TypeEngine[Any], dialect: Dialect) -> Convert | None:
    """The conversion of a column's value that is not NULL; ``None``: it needs none."""
    if type(kind) is UTCDateTime:
        return _read_datetime
    convert: Convert | None = kind.dialect_impl(dialect).result_processor(dialect, None)
    if convert is not None and type(kind) is JSON:
        return _json_reader(convert)
    return convert


def _bind_datetime(value: datetime | None) -> str | None:
    """Format a time as SQLAlchemy does: UTC, with microseconds, without an offset."""
    if value is None:
        return None
    return value.astimezone(timezone.utc).isoformat(" ", "microseconds")[:26]


def _read_datetime(text: str) -> datetime:
    # The offset in the text saves a second call that would set the time zone.
    return datetime.fromisoformat(text + "+00:00")


def _json_binder(convert: Convert) -> Convert:
    null = convert(None)

    def bind(value: Any) -> Any:
        return null if value is None else convert(value)

    return bind


def _json_reader(convert: Convert) -> Convert:
    def read(text: str) -> Any:
        return None if text == "null" else convert(text)

    return read
