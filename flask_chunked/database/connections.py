"""How the library's connections are made: as the application's are, with its settings.

Knows engines, pools and drivers; nothing of uploads.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import AssertionPool, StaticPool

#: Pages of the write-ahead log (16 MiB) after which SQLite runs a checkpoint. Commits
#: write the same few pages repeatedly, and each checkpoint syncs the database file.
CHECKPOINT_PAGES = 4096
#: psycopg's default. The library leaves any other value unchanged.
PREPARE_THRESHOLD = 5
_CHECKED = "flask_chunked.checked_for_pooler"
#: ``sqlite3.LEGACY_TRANSACTION_CONTROL``, which Python has since 3.12.
_LEGACY_TRANSACTION_CONTROL = -1


@dataclass(frozen=True, slots=True)
class SQLiteSettings:
    """The settings of the library's connections to a SQLite file.

    :param durable: SQLite syncs each commit (``synchronous=FULL``).
    :param wal: SQLite keeps a write-ahead log, so that readers do not block writers.
    """

    durable: bool
    wal: bool


def is_in_memory(engine: Engine) -> bool:
    """True for a SQLite database that has no file."""
    url = engine.url
    if engine.dialect.name != "sqlite":
        return False
    database = url.database or ""
    return database in ("", ":memory:") or "mode=memory" in str(url)


def is_shared(engine: Engine) -> bool:
    """True if the library must use the connection that the application uses.

    A database in memory belongs to its connection, and some pools allow only one.
    """
    return is_in_memory(engine) or isinstance(engine.pool, StaticPool | AssertionPool)


def count_listeners(engine: Engine) -> int:
    """The number of functions that change the engine's new connections."""
    return len(engine.pool.dispatch.connect)


def separate_engine(theirs: Engine, settings: SQLiteSettings, timeout: float) -> Engine:
    """An engine whose connections are made as those of the application's engine.

    Its pool has the application's connection arguments, creator, options and
    listeners. The library's settings are applied after all of these.

    :param timeout: seconds that a statement waits for SQLite's lock.
    """
    dialect: Any = theirs.dialect
    engine = create_engine(
        theirs.url,
        pool=theirs.pool.recreate(),
        module=dialect.dbapi,
        native_datetime=dialect.native_datetime,
        json_serializer=dialect._json_serializer,
        json_deserializer=dialect._json_deserializer,
    )

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, _record: object) -> None:
        _restore_transactions(connection)
        with closing(connection.cursor()) as cursor:
            if settings.wal:
                cursor.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
                _switch_to_wal(cursor, dialect.dbapi.OperationalError)
            # At once: the next statement may meet a process that repairs the log.
            cursor.execute(f"PRAGMA busy_timeout={round(timeout * 1000)}")
            synchronous = "FULL" if settings.durable else "NORMAL"
            cursor.execute(f"PRAGMA synchronous={synchronous}")

    return engine


def _restore_transactions(connection: Any) -> None:
    """Let the driver begin transactions, whatever the application's listeners have set.

    Their other half, which begins transactions, listens to the application's engine
    only. Without it each statement would be a transaction of its own.
    """
    if hasattr(connection, "autocommit"):
        connection.autocommit = _LEGACY_TRANSACTION_CONTROL
    connection.isolation_level = ""
    # No pragma has an effect in a transaction that was left open.
    if connection.in_transaction:
        connection.rollback()


def _switch_to_wal(cursor: Any, driver_error: type[Exception]) -> None:
    """Switch the file to a write-ahead log, unless it is in use just now.

    The file keeps the mode. A later connection tries again.
    """
    cursor.execute("PRAGMA busy_timeout=0")
    with suppress(driver_error):
        cursor.execute("PRAGMA journal_mode=WAL")


@contextmanager
def usual_transaction(engine: Engine) -> Iterator[Connection]:
    """A transaction on PostgreSQL with the usual isolation, whatever the engine has.

    An application may have chosen autocommit, in which two statements are no
    transaction, or an isolation in which concurrent requests fail. The connection
    returns to the pool as it was.
    """
    with engine.connect() as connection:
        _set_usual_isolation(connection)
        with connection.begin():
            yield connection


def _set_usual_isolation(connection: Connection) -> None:
    """Let the next transaction be READ COMMITTED.

    :raises sqlalchemy.exc.DBAPIError: the server has closed the connection.
    """
    base: type[Exception] = connection.dialect.loaded_dbapi.Error
    try:
        connection.execution_options(isolation_level="READ COMMITTED")
    except base as error:
        # SQLAlchemy neither translates this error nor drops the connection.
        connection.invalidate(error)
        raise DBAPIError.instance(
            None, None, error, base, connection_invalidated=True
        ) from error


def watch_for_poolers(engine: Engine) -> None:
    """Look at each connection that psycopg opens: does it end at a pooler?"""
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
