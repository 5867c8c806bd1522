"""Keeps the application's ``db.session`` from holding a connection during a transfer.

An open session keeps its pooled connection while the server waits for the client.
Therefore a session without unsaved work is rolled back before a body is read. The
library never commits the session.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

from sqlalchemy import Connection, Engine, event, inspect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm.attributes import set_committed_value

from .connections import is_shared
from .statement_kinds import StatementKind, kind_of

if TYPE_CHECKING:
    from flask_sqlalchemy import SQLAlchemy

_WATCHES = "flask_chunked.watches"
#: PostgreSQL's first version with ``pg_current_xact_id_if_assigned``.
_ASSIGNED_SINCE = (13,)
#: A session in one of these modes may begin a savepoint in a transaction of others.
_WITH_SAVEPOINT = frozenset({"conditional_savepoint", "create_savepoint"})
_is_ours: ContextVar[bool] = ContextVar("flask_chunked.our_statements", default=False)


@contextmanager
def our_statements() -> Iterator[None]:
    """Statements in this block are not the application's, whatever connection it is."""
    token = _is_ours.set(True)
    try:
        yield
    finally:
        _is_ours.reset(token)


def current_session(db: SQLAlchemy) -> Any:
    """The session that ``db.session`` stands for; ``None``: it is not in use."""
    session: Any = db.session
    registry = getattr(session, "registry", None)
    if registry is None:
        # A test has put a session in the place of Flask-SQLAlchemy's registry.
        return session
    return session() if registry.has() else None


class ConnectionWatch:
    """Sees what a transaction of the session writes on one connection.

    :param joins: the application has begun the transaction outside of the session.
    """

    def __init__(self, connection: Connection, *, joins: bool, is_private: bool):
        self.joins = joins
        self._connection = connection
        self._wrote = False
        self._must_ask = False
        name = connection.dialect.name
        #: SQLite counts all changes of a connection, those of others included.
        self._changes = self._count_changes() if is_private else None
        #: PostgreSQL knows whether a transaction has changed anything.
        self._can_ask = is_private and name == "postgresql"

    def see(self, statement: str, context: Any) -> None:
        """Note a statement that is about to be executed."""
        if self._wrote or _is_ours.get():
            return
        if context.isinsert or context.isupdate or context.isdelete or context.isddl:
            self._wrote = True
            return
        if context.compiled is not None and statement.startswith("SELECT"):
            return
        kind = kind_of(statement)
        if kind is StatementKind.WRITES:
            self._wrote = True
        elif kind is StatementKind.MAY_WRITE and self._changes is None:
            self._wrote = not self._can_ask
            self._must_ask = self._can_ask

    def has_writes(self) -> bool:
        """True if the transaction has changed anything."""
        if self._wrote:
            return True
        if self._connection.closed or self._connection.invalidated:
            return False
        if self._changes is not None:
            return self._changes != self._count_changes()
        return self._must_ask and self._has_number()

    def _count_changes(self) -> int | None:
        if self._connection.dialect.name != "sqlite":
            return None
        driver: Any = self._connection.connection.driver_connection
        return getattr(driver, "total_changes", None)

    def _has_number(self) -> bool:
        """True if PostgreSQL has numbered the transaction, as it does at a write."""
        version = self._connection.dialect.server_version_info or ()
        known = version >= _ASSIGNED_SINCE
        ask = "pg_current_xact_id_if_assigned" if known else "txid_current_if_assigned"
        try:
            found = self._connection.exec_driver_sql(f"SELECT {ask}()").scalar()
        # A statement has failed: PostgreSQL has given up the transaction.
        except DBAPIError:
            return False
        return found is not None


#: The connections on which a session is in a transaction.
_watched: WeakKeyDictionary[Connection, ConnectionWatch] = WeakKeyDictionary()
#: The engines whose statements are seen.
_engines: WeakSet[Engine] = WeakSet()


class SessionGuard:
    """Knows whether ``db.session`` has uncommitted writes. One for each ``db``."""

    def __init__(self, db: SQLAlchemy) -> None:
        self._db = db
        self._heard: object = None
        self._listen()

    @classmethod
    def of(cls, db: SQLAlchemy) -> SessionGuard:
        """The guard of this ``db``; the first call creates it."""
        info: dict[str, Any] = db.metadata.info
        guard: SessionGuard | None = info.get("flask_chunked.session_guard")
        if guard is None:
            guard = info["flask_chunked.session_guard"] = cls(db)
        return guard

    def release(self, source: str) -> None:
        """Roll back a session without writes, which returns its connection.

        :param source: the code that ran before, for the error's text.
        :raises RuntimeError: the session has uncommitted writes.
        """
        if not self.release_if_clean():
            raise RuntimeError(
                f"db.session has uncommitted writes after {source}; flask_chunked "
                "neither commits nor discards them: call db.session.commit() first"
            )

    def release_if_clean(self) -> bool:
        """Roll back a session without writes, which returns its connection.

        A session that joins a transaction of the application is only checked.

        :return: ``False``: the session has uncommitted writes and is unchanged.
        """
        if self._db.session is not self._heard:
            # Tests replace the session.
            self._listen()
        session = current_session(self._db)
        if session is None:
            return True
        if session.is_active:
            if _has_writes(session):
                return False
            if any(watch.joins for watch in session.info.get(_WATCHES, ())):
                return True
        if session.in_transaction():
            _roll_back(session)
        return True

    def rollback(self) -> None:
        """Roll back the session, with the writes of a hook that failed."""
        if not self.release_if_clean():
            _roll_back(current_session(self._db))

    def _listen(self) -> None:
        self._heard = session = self._db.session
        event.listen(session, "after_begin", self._watch)
        event.listen(session, "after_transaction_end", _forget)

    def _watch(self, session: Any, transaction: Any, connection: Connection) -> None:
        """Watch a connection that the session has begun to use."""
        if transaction.parent is not None:
            # A savepoint belongs to the transaction that is watched already.
            return
        engine = connection.engine
        if engine not in _engines:
            event.listen(engine, "before_cursor_execute", _see)
            _engines.add(engine)
        is_given = self._is_given(session, connection)
        own_savepoint = connection.in_nested_transaction() and (
            session.join_transaction_mode
            in ("conditional_savepoint", "create_savepoint")
        )
        _watched[connection] = watch = ConnectionWatch(
            connection,
            joins=is_given and not own_savepoint,
            is_private=not is_given and not is_shared(engine),
        )
        session.info.setdefault(_WATCHES, []).append(watch)

    def _is_given(self, session: Any, connection: Connection) -> bool:
        """True for a connection that the application has given to the session."""
        given = [session.bind]
        # Outside of an app context Flask-SQLAlchemy has no engines.
        with suppress(RuntimeError):
            given.extend(self._db.engines.values())
        return any(connection is each for each in given)


@contextmanager
def detached(instance: Any) -> Iterator[None]:
    """Leave an instance with its values when the block has deleted its row.

    :param instance: anything else is left alone.
    """
    state: Any = inspect(instance, raiseerr=False)
    session = getattr(state, "session", None)
    values = dict(getattr(state, "dict", {}))
    yield
    if session is None:
        return
    if instance in session:
        session.expunge(instance)
    for name, value in values.items():
        if name in state.mapper.column_attrs:
            set_committed_value(instance, name, value)


def _has_writes(session: Any) -> bool:
    if session.new or session.deleted:
        return True
    if any(session.is_modified(instance) for instance in session.dirty):
        return True
    return any(watch.has_writes() for watch in session.info.get(_WATCHES, ()))


def _see(
    connection: Connection,
    _cursor: object,
    statement: str,
    _parameters: object,
    context: Any,
    _many: bool,
) -> None:
    watch = _watched.get(connection)
    if watch is not None:
        watch.see(statement, context)


def _forget(session: Any, transaction: Any) -> None:
    if transaction.parent is None:
        session.info.pop(_WATCHES, None)


def _roll_back(session: Any) -> None:
    try:
        session.rollback()
    # The session has lost its connection, and the database has ended the transaction.
    except DBAPIError:
        session.invalidate()
