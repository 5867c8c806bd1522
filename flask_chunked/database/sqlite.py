"""Single statements straight on SQLite's driver, each a transaction of its own.

SQLAlchemy compiles a statement once and converts its values; its connections and
results cost ten times what SQLite does. In autocommit SQLite's lock is held in C only.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from sqlalchemy import Dialect, Engine, Select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.dml import UpdateBase

from .sqlite_values import Convert, binder, reader

#: A statement that is kept for ever, so that it is compiled once.
Statement = Select[Any] | UpdateBase
#: What SQLite says while another connection has its lock.
_BUSY = "database is locked"
#: Seconds of the first pause until it is asked again, and of the longest one.
FIRST_PAUSE, LONGEST_PAUSE = 0.00005, 0.0005
#: Connections that are kept open while nobody needs them.
IDLE = 8


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a statement gave.

    :param rows: in the order of the statement's columns.
    :param count: rows that it changed.
    """

    rows: list[Any]
    count: int


class Prepared:
    """A statement as text, with what its values and its rows go through."""

    def __init__(self, statement: Statement, dialect: Dialect) -> None:
        #: Kept alive, for its id is the key to this.
        self.statement = statement
        self.writes = isinstance(statement, UpdateBase)
        compiled: Any = statement.compile(dialect=dialect)
        self.text = str(compiled)
        self._values = [
            _question_mark(compiled.binds[name], dialect)
            for name in compiled.positiontup
        ]
        converters = [
            reader(column.type, dialect) for column in statement.exported_columns
        ]
        self._converters = [
            (number, convert)
            for number, convert in enumerate(converters)
            if convert is not None
        ]

    def arguments(self, values: Mapping[str, object]) -> list[Any]:
        """The driver's arguments for these values."""
        return [
            constant
            if name is None
            else values[name]
            if convert is None
            else convert(values[name])
            for name, convert, constant in self._values
        ]

    def convert(self, row: tuple[Any, ...]) -> list[Any]:
        """A row of the driver's, as SQLAlchemy would give it."""
        converted = list(row)
        for number, convert in self._converters:
            if converted[number] is not None:
                converted[number] = convert(converted[number])
        return converted


def _question_mark(
    bind: Any, dialect: Dialect
) -> tuple[str | None, Convert | None, Any]:
    """Name of the value and what it goes through; or no name, and a constant."""
    if bind.expanding:
        raise ValueError("a list of values makes another text each time")
    convert = binder(bind.type, dialect)
    if bind.required:
        return bind.key, convert, None
    return None, None, bind.value if convert is None else convert(bind.value)


class _Borrowed:
    """A connection for the length of a block.

    :param idle: where it goes afterwards, unless there are enough.
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
        if kind is None and len(self._idle) < IDLE:
            self._idle.append(self._connection)
        else:
            self._connection.close()


class Driver:
    """Connections of the driver to one SQLite file; for one process.

    :param engine: makes the connections, its pragmas included.
    :param queue: writers queue here: fairer than polling for SQLite's lock.
    :param patience: seconds to wait for another process's transaction.
    """

    def __init__(self, engine: Engine, queue: threading.RLock, patience: float) -> None:
        self._engine = engine
        self._queue = queue
        self._patience = patience
        self._idle: list[sqlite3.Connection] = []
        self._prepared: dict[int, Prepared] = {}

    def run(self, statement: Statement, values: Mapping[str, object]) -> Outcome:
        """Execute and commit.

        :raises sqlalchemy.exc.DBAPIError: what the driver raised, wrapped as usual.
        """
        prepared = self._prepared.get(id(statement))
        if prepared is None:
            prepared = Prepared(statement, self._engine.dialect)
            self._prepared[id(statement)] = prepared
        try:
            if not prepared.writes:
                return self.execute(prepared, values)
            with self._queue:
                return self.execute(prepared, values)
        except sqlite3.Error as error:
            raise DBAPIError.instance(
                prepared.text, None, error, sqlite3.Error
            ) from error

    def execute(self, prepared: Prepared, values: Mapping[str, object]) -> Outcome:
        """The same, with the driver's own errors."""
        arguments = prepared.arguments(values)
        with self._connection() as connection:
            rows, count = self._ask(connection, prepared.text, arguments)
        return Outcome([prepared.convert(row) for row in rows], count)

    def _ask(
        self, connection: sqlite3.Connection, text: str, arguments: list[Any]
    ) -> tuple[list[Any], int]:
        """Execute to the end; another process that writes just now is waited for.

        Its commit takes less time than the first sleep of SQLite's own busy handler,
        which nobody in this process could use: writers queue behind this one, and a
        server of greenlets would stand still.
        """
        pause = FIRST_PAUSE
        deadline = 0.0
        while True:
            try:
                cursor = connection.execute(text, arguments)
                # Without a write-ahead log a change that tells its row commits here.
                return cursor.fetchall(), cursor.rowcount
            except sqlite3.OperationalError as error:
                now = time.monotonic()
                deadline = deadline or now + self._patience
                if _BUSY not in str(error) or now >= deadline:
                    raise
            time.sleep(min(pause, deadline - now))
            pause = min(2 * pause, LONGEST_PAUSE)

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().close()

    def _connection(self) -> _Borrowed:
        """An idle connection, or a new one; not kept after an error."""
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._connect()
        return _Borrowed(connection, self._idle)

    def _connect(self) -> sqlite3.Connection:
        pooled = self._engine.raw_connection()
        connection: Any = pooled.driver_connection
        pooled.detach()
        connection.isolation_level = None
        connection.execute("PRAGMA busy_timeout = 0")
        return connection  # type: ignore[no-any-return]


def is_refused(error: DBAPIError) -> bool:
    """Did SQLite say that it did nothing, so that nobody has to look?"""
    text = str(error.orig).lower()
    return any(words in text for words in ("locked", "no such", "readonly", "to open"))
