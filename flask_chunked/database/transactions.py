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

from sqlalchemy import Connection, Engine, Table, create_engine, event
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
from .missing_tables import first_missing, is_unknown_name
from .sqlite import Result, SQLiteExecutor, Statement, changed_nothing

if TYPE_CHECKING:
    from flask_sqlalchemy import SQLAlchemy

logger = logging.getLogger("flask_chunked")

#: Seconds that a statement waits for SQLite's write lock.
BUSY_TIMEOUT = 5.0
#: Pages of the write-ahead log (16 MiB) after which SQLite runs a checkpoint. Commits
#: write the same few pages repeatedly, and each checkpoint syncs the database file.
CHECKPOINT_PAGES = 4096
#: psycopg's default. The library leaves any other value unchanged.
PREPARE_THRESHOLD = 5
#: SQLSTATEs: a prepared statement does not exist, or exists already.
_LOST_STATEMENTS = frozenset({"26000", "42P05"})
_CHECKED = "flask_chunked.checked_for_pooler"


class Database:
    """Transactions on the database of one model.

    :param bind_key: the model's ``__bind_key__``; ``None``: the default database.
    :param durable: SQLite syncs each commit (``synchronous=FULL``).
    :param wal: SQLite keeps a write-ahead log, so that readers do not block writers.
    """

    def __init__(
        self, db: SQLAlchemy, bind_key: str | None, *, durable: bool, wal: bool
    ) -> None:
        self._db = db
        self._bind_key = bind_key
        self._durable = durable
        self._wal = wal
        self._engine: Engine | None = None
        self._pid = 0
        self._executor: SQLiteExecutor | None = None
        self._lock = threading.RLock()
        self._warned_of_memory = False
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
        if executor is None:
            with self.transaction() as connection:
                result = connection.execute(statement, values)
                rows = list(result) if result.returns_rows else []
                return Result(rows, result.rowcount)
        try:
            return executor.execute(statement, values)
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
        # A forked worker must not share its parent's SQLite connections.
        if self._engine is None or self._pid != os.getpid():
            with self._lock:
                self._engine = self._make_engine()
                self._executor = self._make_executor(self._engine)
                self._pid = os.getpid()
        return self._engine

    @property
    def supports_update_returning(self) -> bool:
        """True if the database supports ``UPDATE ... RETURNING``."""
        return self.engine().dialect.update_returning

    @property
    def supports_delete_returning(self) -> bool:
        """True if the database supports ``DELETE ... RETURNING``."""
        return self.engine().dialect.delete_returning

    def dispose(self) -> None:
        """Close the connections that this object opened. Only tests need it."""
        if self._engine is not None and self._engine is not self._app_engine():
            self._engine.dispose()
        if self._executor is not None:
            self._executor.close()

    def create_tables(self, tables: list[Table]) -> None:
        """Create the missing tables. Several processes may call it concurrently."""
        for attempt in range(5):
            try:
                with self._begin() as connection:
                    for table in tables:
                        table.create(connection, checkfirst=True)
                    if connection.dialect.name != "sqlite":
                        # detach() closes the connection instead of pooling it: a
                        # server that forks later would share it among its workers.
                        connection.detach()
                return
            except (OperationalError, ProgrammingError, DBAPIError):
                # Another process created the table after this one checked for it.
                if attempt == 4:
                    raise

    def _app_engine(self) -> Engine:
        return self._db.engines[self._bind_key]

    def _make_engine(self) -> Engine:
        shared = self._app_engine()
        if shared.dialect.name not in ("sqlite", "postgresql"):
            logger.warning(
                "%s is not supported: if it ignores case in comparisons, the user Ann "
                "sees the uploads of the user ann (docs/deployment.rst, Databases)",
                shared.dialect.name,
            )
        if shared.dialect.driver == "psycopg":
            _watch_for_poolers(shared)
        if shared.dialect.name != "sqlite" or _is_in_memory(shared):
            return shared
        separate = create_engine(
            shared.url, connect_args={"timeout": BUSY_TIMEOUT}, pool_size=8
        )
        statements = [f"PRAGMA synchronous={'FULL' if self._durable else 'NORMAL'}"]
        if self._wal:
            statements.insert(0, "PRAGMA journal_mode=WAL")
            statements.append(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")

        @event.listens_for(separate, "connect")
        def set_pragmas(connection: Any, _record: object) -> None:
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement)
            cursor.close()

        return separate

    def _make_executor(self, engine: Engine) -> SQLiteExecutor | None:
        dialect = engine.dialect
        if dialect.name != "sqlite" or _is_in_memory(engine):
            return None
        if dialect.driver != "pysqlite" or not dialect.update_returning:
            return None
        return SQLiteExecutor(engine, self._lock, BUSY_TIMEOUT)

    def _sqlite_executor(self) -> SQLiteExecutor | None:
        self.engine()
        return self._executor

    @contextmanager
    def _begin(self) -> Iterator[Connection]:
        engine = self.engine()
        if _is_in_memory(engine):
            with self._lock, self._begin_in_memory(engine) as connection:
                yield connection
            return
        # SQLite allows one writer at a time. Waiting for a lock of this process is
        # fairer than polling SQLite's lock.
        queue = self._lock if engine.dialect.name == "sqlite" else nullcontext()
        with queue, engine.begin() as connection:
            yield connection

    @contextmanager
    def _begin_in_memory(self, engine: Engine) -> Iterator[Connection]:
        """Use the one connection that all threads and ``db.session`` share.

        If ``db.session`` is in a transaction, use a savepoint in it.
        """
        if not self._warned_of_memory:
            self._warned_of_memory = True
            logger.warning(
                "SQLite in memory is for tests only: all threads share one connection, "
                "and committing an upload also commits the application's pending work"
            )
        session = self._db.session()
        if session.in_transaction():
            connection = session.connection(bind_arguments={"bind": self._app_engine()})
            with connection.begin_nested():
                yield connection
            return
        with engine.begin() as connection:
            yield connection

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


def limit_waiting(connection: Connection) -> None:
    """Let the transaction wait for locks no longer than on SQLite.

    An application's transaction that inserts a reference to an upload locks the
    upload's row on PostgreSQL, and may wait for this request itself.
    """
    if connection.dialect.name == "postgresql":
        milliseconds = int(BUSY_TIMEOUT * 1000)
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {milliseconds}")


def _watch_for_poolers(engine: Engine) -> None:
    watch = ("checkout", _disable_prepared_statements)
    if not event.contains(engine, *watch):
        event.listen(engine, *watch)


def _disable_prepared_statements(connection: Any, record: Any, _proxy: object) -> None:
    """Disable prepared statements if psycopg is connected to a pooler.

    PgBouncer in transaction mode may use another server connection for each
    transaction, on which another client may have prepared a statement of the same name.
    A pooler reports its own process id to its clients. The check runs once for each
    connection.
    """
    if record.info.get(_CHECKED) or connection.prepare_threshold != PREPARE_THRESHOLD:
        return
    try:
        (pid,) = connection.execute("SELECT pg_backend_pid()", prepare=False).fetchone()
        connection.rollback()
    # The connection is not usable: the caller's statement raises the error.
    except Exception:
        return
    record.info[_CHECKED] = True
    if pid != connection.info.backend_pid:
        connection.prepare_threshold = None


def _is_in_memory(engine: Engine) -> bool:
    url = engine.url
    if engine.dialect.name != "sqlite":
        return False
    database = url.database or ""
    return database in ("", ":memory:") or "mode=memory" in str(url)
