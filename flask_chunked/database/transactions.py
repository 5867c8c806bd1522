"""Short transactions of the engine, independent of the application's ``db.session``.

Knows the differences between databases; nothing of uploads.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, Table
from sqlalchemy.exc import (
    DBAPIError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.sql.dml import UpdateBase

from ..exceptions import CommitUnanswered, DatabaseUnavailable
from .connections import (
    SQLiteSettings,
    count_listeners,
    is_in_memory,
    is_shared,
    separate_engine,
    usual_transaction,
    watch_for_poolers,
)
from .missing_tables import first_missing, is_unknown_name
from .session_guard import current_session, our_statements
from .sqlite import Result, SQLiteExecutor, Statement, changed_nothing

if TYPE_CHECKING:
    from flask_sqlalchemy import SQLAlchemy

logger = logging.getLogger("flask_chunked")

#: Seconds that a statement waits for SQLite's write lock.
BUSY_TIMEOUT = 5.0
#: SQLSTATEs: a prepared statement does not exist, or exists already.
_LOST_STATEMENTS = frozenset({"26000", "42P05"})


class Database:
    """Transactions on the database of one model.

    Connections are made as those of the application's engine are. They are made anew
    if the application replaces its engine, or adds listeners to it.

    :param bind_key: the model's ``__bind_key__``; ``None``: the default database.
    """

    def __init__(
        self, db: SQLAlchemy, bind_key: str | None, settings: SQLiteSettings
    ) -> None:
        self._db = db
        self._bind_key = bind_key
        self._settings = settings
        #: Flask-SQLAlchemy's engines of the app, in which tests replace some.
        self._engines: Mapping[str | None, Any] = {}
        #: What they had last under the key. At first nothing equals it.
        self._seen: object = self
        #: Flask-SQLAlchemy's own, and what stood in its place last.
        self._session = self._seen_session = db.session
        self._source: Any = None
        self._engine: Any = None
        #: What the application has put in the place of its engine.
        self._replacement: Connection | None = None
        self._is_shared = False
        self._listeners: int | None = None
        self._pid = 0
        self._own_executor: SQLiteExecutor | None = None
        #: ``None``: statements go through SQLAlchemy's connections.
        self._executor: SQLiteExecutor | None = None
        self._lock = threading.RLock()
        self._warned_of_sharing = False
        #: The tables that the statements need. An unknown name in an error is compared
        #: with them.
        self.tables: list[Table] = []

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Open a short transaction. The block's end commits, an error rolls back.

        :raises DatabaseUnavailable: the database cannot be reached, is locked, or the
            connection was lost.
        :raises CommitUnanswered: one of these happened during the commit, so that the
            outcome is unknown.
        :raises MissingTableError: a table does not exist or lacks a column.
        """
        failure: type[DatabaseUnavailable] = DatabaseUnavailable
        try:
            with self._begin() as connection:
                yield connection
                failure = CommitUnanswered
        except SQLAlchemyError as error:
            self._raise_ours(error, failure)
            raise

    def execute(self, statement: Statement, values: Mapping[str, object]) -> Result:
        """Execute one statement in its own transaction.

        Raises the same errors as :meth:`transaction`.

        :param statement: an object that the caller keeps for the process's lifetime.
        :param values: values of the statement's parameters, by name.
        """
        executor = self._sqlite_executor()
        prepared = None if executor is None else executor.prepare(statement)
        if executor is None or prepared is None or prepared.needs_sqlalchemy:
            with self.transaction() as connection:
                result = connection.execute(statement, values)
                rows = list(result) if result.returns_rows else []
                return Result(rows, result.rowcount)
        try:
            return executor.execute(prepared, values)
        except DBAPIError as error:
            unanswered = isinstance(statement, UpdateBase) and not changed_nothing(
                error
            )
            self._raise_ours(
                error, CommitUnanswered if unanswered else DatabaseUnavailable
            )
            raise

    @contextmanager
    def translate_errors(self) -> Iterator[None]:
        """Raise the errors of :meth:`transaction` for work of ``db.session``."""
        try:
            yield
        except SQLAlchemyError as error:
            self._raise_ours(error, DatabaseUnavailable)
            raise

    def engine(self) -> Engine:
        """The SQLAlchemy engine of these transactions.

        For a SQLite file it is a separate engine; else it is the application's.
        """
        if (
            self._engines.get(self._bind_key) is not self._seen
            or self._db.session is not self._seen_session
            # A forked worker must not share its parent's SQLite connections.
            or self._pid != os.getpid()
            or (
                self._listeners is not None
                and self._listeners != count_listeners(self._source)
            )
        ):
            with self._lock:
                self._look_up()
        return self._engine  # type: ignore[no-any-return]

    @property
    def supports_update_returning(self) -> bool:
        """True if the database supports ``UPDATE ... RETURNING``."""
        return self.engine().dialect.update_returning

    @property
    def supports_delete_returning(self) -> bool:
        """True if the database supports ``DELETE ... RETURNING``."""
        return self.engine().dialect.delete_returning

    def dispose(self) -> None:
        """Close the connections that this object opened, not the application's."""
        if self._own_executor is not None:
            self._own_executor.close()
        if self._listeners is not None:
            self._engine.dispose()

    def create_tables(self, tables: list[Table]) -> None:
        """Create the missing tables. Several processes may call it concurrently."""
        for attempt in range(5):
            try:
                with self._begin() as connection:
                    for table in tables:
                        table.create(connection, checkfirst=True)
                    if not self._uses_their_connection() and self._listeners is None:
                        # detach() closes the connection instead of pooling it: a
                        # server that forks later would share it among its workers.
                        connection.detach()
                self.dispose()
                return
            except (OperationalError, ProgrammingError, DBAPIError):
                # Another process created the table after this one checked for it.
                if attempt == 4:
                    raise

    def _look_up(self) -> None:
        """Make an engine and an executor for what the application has now."""
        self._engines = self._db.engines
        self._seen_session = self._db.session
        engine = self._engines[self._bind_key]
        theirs = self._bind_of_session() or engine
        source, pid = theirs.engine, os.getpid()
        listeners = count_listeners(source)
        if (source, pid) != (self._source, self._pid) or (
            self._listeners not in (None, listeners)
        ):
            if self._pid == pid:
                self.dispose()
            self._is_shared = is_shared(source)
            is_separate = source.dialect.name == "sqlite" and not self._is_shared
            self._listeners = listeners if is_separate else None
            self._engine = self._make_engine(source)
            self._own_executor = self._make_executor() if is_separate else None
            self._source, self._pid = source, pid
        self._replacement = theirs if isinstance(theirs, Connection) else None
        self._executor = None if self._replacement else self._own_executor
        self._seen = engine

    def _bind_of_session(self) -> Connection | None:
        """The connection of a session that a test has put in the place of another."""
        if self._db.session is self._session:
            return None
        bind = self._db.session.get_bind(clause=self.tables[0])
        return bind if isinstance(bind, Connection) else None

    def _make_engine(self, theirs: Engine) -> Engine:
        name = theirs.dialect.name
        if name not in ("sqlite", "postgresql"):
            logger.warning(
                "%s is not supported: if it ignores case in comparisons, the user Ann "
                "sees the uploads of the user ann (docs/deployment.rst, Databases)",
                name,
            )
        if self._listeners is not None:
            return separate_engine(theirs, self._settings, BUSY_TIMEOUT)
        if theirs.dialect.driver == "psycopg":
            watch_for_poolers(theirs)
        return theirs

    def _make_executor(self) -> SQLiteExecutor | None:
        dialect = self._engine.dialect
        if dialect.driver != "pysqlite" or not dialect.update_returning:
            return None
        # The executor converts times itself.
        if dialect.native_datetime:
            return None
        return SQLiteExecutor(self._engine, self._lock, BUSY_TIMEOUT)

    def _sqlite_executor(self) -> SQLiteExecutor | None:
        self.engine()
        return self._executor

    def _uses_their_connection(self) -> bool:
        return self._is_shared or self._replacement is not None

    @contextmanager
    def _begin(self) -> Iterator[Connection]:
        engine = self.engine()
        if self._uses_their_connection():
            with self._lock, our_statements(), self._begin_shared() as connection:
                yield connection
            return
        if engine.dialect.name == "postgresql":
            with usual_transaction(engine) as connection:
                yield connection
            return
        # SQLite allows one writer at a time. Waiting for a lock of this process is
        # fairer than polling SQLite's lock.
        queue = self._lock if engine.dialect.name == "sqlite" else nullcontext()
        with queue, engine.begin() as connection:
            yield connection

    @contextmanager
    def _begin_shared(self) -> Iterator[Connection]:
        """Use the one connection that the application's ``db.session`` uses too.

        If it is in a transaction, use a savepoint in it.
        """
        connection = self._replacement
        if connection is not None:
            _begin_at_the_driver(connection)
        else:
            self._warn_of_sharing()
            session = current_session(self._db)
            if session is None or not session.in_transaction():
                with self._engine.begin() as connection:
                    yield connection
                return
            connection = session.connection(bind_arguments={"bind": self._source})
        with connection.begin_nested():
            yield connection

    def _warn_of_sharing(self) -> None:
        if self._warned_of_sharing:
            return
        self._warned_of_sharing = True
        pool = type(self._source.pool).__name__
        logger.warning(
            "%s is for tests only: all threads share one connection, and committing an "
            "upload also commits the application's pending work",
            "SQLite in memory" if is_in_memory(self._source) else pool,
        )

    def _raise_ours(
        self, error: SQLAlchemyError, failure: type[DatabaseUnavailable]
    ) -> None:
        """Raise the library's error if a table or the database is missing.

        Returns if the error has another cause; the caller raises it again.
        """
        if getattr(getattr(error, "orig", None), "sqlstate", None) in _LOST_STATEMENTS:
            logger.error(
                "a connection pooler in front of PostgreSQL loses prepared statements; "
                "keep psycopg's default prepare_threshold or set it to None "
                '(SQLALCHEMY_ENGINE_OPTIONS = {"connect_args": {...}})'
            )
            raise failure() from error
        if is_unknown_name(error) and self._tables_are_complete(error):
            return
        lost = isinstance(error, OperationalError | InterfaceError | PoolTimeout)
        if lost or (isinstance(error, DBAPIError) and error.connection_invalidated):
            reason = getattr(error, "orig", None) or error
            logger.warning("database not available: %.200s", repr(str(reason)))
            raise failure() from error

    def _tables_are_complete(self, error: SQLAlchemyError) -> bool:
        """True if the unknown name is not one of the library's tables or columns.

        :raises MissingTableError: one of the tables is missing or lacks a column.
        """
        try:
            with self._begin() as connection:
                missing = first_missing(connection, self.tables)
        # The database cannot be reached: the caller reports the first error.
        except SQLAlchemyError:
            return False
        if missing is not None:
            raise missing from error
        return True


def _begin_at_the_driver(connection: Connection) -> None:
    """Begin the transaction in which tests have put a connection.

    Python's SQLite driver delays BEGIN. The end of a savepoint before it commits, and
    the test could not roll that back.
    """
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name == "sqlite" and not driver.in_transaction:
        connection.exec_driver_sql("BEGIN")
