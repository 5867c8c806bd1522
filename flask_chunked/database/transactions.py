"""Short transactions of the engine's own, beside the application's ``db.session``.

Knows databases and their habits; nothing of uploads.
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
from .missing import first_missing, is_unknown_name
from .sqlite import Driver, Outcome, Statement, is_refused

if TYPE_CHECKING:
    from flask_sqlalchemy import SQLAlchemy

logger = logging.getLogger("flask_chunked")

#: Seconds that a statement waits for SQLite's one writer.
BUSY_TIMEOUT = 5.0
#: Pages of the write-ahead log, 16 MiB, until they are carried over into the database:
#: commits write the same few again and again, and whoever carries them over also syncs.
CHECKPOINT_PAGES = 4096
#: psycopg's own; any other was chosen by somebody, and stays.
PREPARE_THRESHOLD = 5
#: SQLSTATEs of prepared statements that are not there, or were there before.
_LOST_STATEMENTS = frozenset({"26000", "42P05"})
_LOOKED = "flask_chunked.looked_for_a_pooler"


class Database:
    """Transactions on the database of one model.

    :param durable: SQLite syncs every commit (``synchronous=FULL``).
    :param wal: SQLite keeps a write-ahead log, so that readers do not block.
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
        self._driver: Driver | None = None
        self._lock = threading.RLock()
        self._warned = False
        #: The tables that statements need; the first failure looks at them.
        self.tables: list[Table] = []

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """One short transaction; committed at the end, rolled back by an error.

        :raises DatabaseUnavailable: no connection, no lock or a lost connection.
        :raises CommitUnanswered: the same at the commit, so that it may have happened.
        :raises MissingTableError: a table does not exist, or lacks a column.
        """
        failure: type[DatabaseUnavailable] = DatabaseUnavailable
        try:
            with self._begin() as connection:
                yield connection
                failure = CommitUnanswered
        except SQLAlchemyError as error:
            self._raise_ours(error, failure)
            raise

    def run(self, statement: Statement, values: Mapping[str, object]) -> Outcome:
        """One statement that is kept for ever, as a transaction of its own.

        :raises: as :meth:`transaction`.
        """
        driver = self._file_driver()
        if driver is None:
            with self.transaction() as connection:
                result = connection.execute(statement, values)
                rows = list(result) if result.returns_rows else []
                return Outcome(rows, result.rowcount)
        try:
            return driver.run(statement, values)
        except DBAPIError as error:
            unanswered = isinstance(statement, UpdateBase) and not is_refused(error)
            self._raise_ours(
                error, CommitUnanswered if unanswered else DatabaseUnavailable
            )
            raise

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Errors as in :meth:`transaction`, for what the application's session does."""
        try:
            yield
        except SQLAlchemyError as error:
            self._raise_ours(error, DatabaseUnavailable)
            raise

    def engine(self) -> Engine:
        """The SQLAlchemy engine of these transactions; for SQLite files our own."""
        # A forked worker must not share its parent's SQLite connections.
        if self._engine is None or self._pid != os.getpid():
            with self._lock:
                self._engine = self._make_engine()
                self._driver = self._make_driver(self._engine)
                self._pid = os.getpid()
        return self._engine

    @property
    def returns_changes(self) -> bool:
        """Can an UPDATE tell the row that it changed?"""
        return self.engine().dialect.update_returning

    def dispose(self) -> None:
        """Close pooled connections of an engine that is ours."""
        if self._engine is not None and self._engine is not self._app_engine():
            self._engine.dispose()
        if self._driver is not None:
            self._driver.close()

    def create_tables(self, tables: list[Table]) -> None:
        """Create what is missing; several processes may do it at once."""
        for attempt in range(5):
            try:
                with self._begin() as connection:
                    for table in tables:
                        table.create(connection, checkfirst=True)
                    if connection.dialect.name != "sqlite":
                        # Closed, not pooled: a server that loads the application first
                        # and forks then would share it among its workers.
                        connection.detach()
                return
            except (OperationalError, ProgrammingError, DBAPIError):
                # Another process was faster between the look and the creation.
                if attempt == 4:
                    raise

    def _app_engine(self) -> Engine:
        return self._db.engines[self._bind_key]

    def _make_engine(self) -> Engine:
        theirs = self._app_engine()
        if theirs.dialect.name not in ("sqlite", "postgresql"):
            logger.warning(
                "%s is not supported: where it compares without regard to case, Ann "
                "is shown the uploads of ann (docs/deployment.rst, Databases)",
                theirs.dialect.name,
            )
        if theirs.dialect.driver == "psycopg":
            _watch_for_poolers(theirs)
        if theirs.dialect.name != "sqlite" or _is_in_memory(theirs):
            return theirs
        ours = create_engine(
            theirs.url, connect_args={"timeout": BUSY_TIMEOUT}, pool_size=8
        )
        statements = [f"PRAGMA synchronous={'FULL' if self._durable else 'NORMAL'}"]
        if self._wal:
            statements.insert(0, "PRAGMA journal_mode=WAL")
            statements.append(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")

        @event.listens_for(ours, "connect")
        def set_pragmas(connection: Any, _record: object) -> None:
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement)
            cursor.close()

        return ours

    def _make_driver(self, engine: Engine) -> Driver | None:
        dialect = engine.dialect
        if dialect.name != "sqlite" or _is_in_memory(engine):
            return None
        suits = dialect.driver == "pysqlite" and dialect.update_returning
        return Driver(engine, self._lock, BUSY_TIMEOUT) if suits else None

    def _file_driver(self) -> Driver | None:
        self.engine()
        return self._driver

    @contextmanager
    def _begin(self) -> Iterator[Connection]:
        engine = self.engine()
        if _is_in_memory(engine):
            with self._lock, self._begin_in_memory(engine) as connection:
                yield connection
            return
        # SQLite has one writer; queueing in the process is fairer than its busy loop.
        queue = self._lock if engine.dialect.name == "sqlite" else nullcontext()
        with queue, engine.begin() as connection:
            yield connection

    @contextmanager
    def _begin_in_memory(self, engine: Engine) -> Iterator[Connection]:
        """All threads share one connection, so the session's work must be respected."""
        if not self._warned:
            self._warned = True
            logger.warning(
                "SQLite in memory is for tests: one connection serves all threads, and "
                "uploads are committed with whatever the application has pending"
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
        """Where a table or the database is away; other errors are the caller's."""
        if getattr(getattr(error, "orig", None), "sqlstate", None) in _LOST_STATEMENTS:
            logger.error(
                "a pooler between here and PostgreSQL loses prepared statements; leave "
                "psycopg's prepare_threshold alone or set it to None "
                '(SQLALCHEMY_ENGINE_OPTIONS = {"connect_args": {...}})'
            )
            raise failure() from error
        if is_unknown_name(error) and self._are_tables_whole(error):
            return
        lost = isinstance(error, OperationalError | InterfaceError | PoolTimeout)
        if lost or (isinstance(error, DBAPIError) and error.connection_invalidated):
            reason = getattr(error, "orig", None) or error
            logger.warning("database not available: %.200s", repr(str(reason)))
            raise failure() from error

    def _are_tables_whole(self, error: SQLAlchemyError) -> bool:
        """True if the name that the database does not know is none of ours.

        :raises MissingTableError: one of the tables is missing, or lacks a column.
        """
        try:
            with self._begin() as connection:
                missing = first_missing(connection, self.tables)
        # The database itself is away: what failed first says so.
        except SQLAlchemyError:
            return False
        if missing is not None:
            raise missing from error
        return True


def _watch_for_poolers(engine: Engine) -> None:
    watch = ("checkout", _prepare_nothing_behind_a_pooler)
    if not event.contains(engine, *watch):
        event.listen(engine, *watch)


def _prepare_nothing_behind_a_pooler(
    connection: Any, record: Any, _proxy: object
) -> None:
    """Look once whether psycopg's connection is the server's, too.

    PgBouncer in transaction mode gives each transaction another one of its connections,
    where the name of a prepared statement may be that of somebody else's. Poolers give
    a process id of their own to their clients.
    """
    if record.info.get(_LOOKED) or connection.prepare_threshold != PREPARE_THRESHOLD:
        return
    try:
        (pid,) = connection.execute("SELECT pg_backend_pid()", prepare=False).fetchone()
        connection.rollback()
    # It is lost, or not usable: the statement that it is meant for will tell.
    except Exception:
        return
    record.info[_LOOKED] = True
    if pid != connection.info.backend_pid:
        connection.prepare_threshold = None


def _is_in_memory(engine: Engine) -> bool:
    url = engine.url
    if engine.dialect.name != "sqlite":
        return False
    database = url.database or ""
    return database in ("", ":memory:") or "mode=memory" in str(url)
