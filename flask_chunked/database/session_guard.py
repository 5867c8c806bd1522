"""Keeps the application's ``db.session`` from holding a connection during a transfer.

An open session keeps its pooled connection while the server waits for the client.
Therefore a session without unsaved work is rolled back before a body is read. The
library never commits the session.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

if TYPE_CHECKING:
    from flask_sqlalchemy import SQLAlchemy

_WRITES = "flask_chunked.uncommitted_writes"


class SessionGuard:
    """Knows whether ``db.session`` has uncommitted writes. One for each ``db``."""

    def __init__(self, db: SQLAlchemy) -> None:
        self._db = db
        # After a flush or a bulk write, session.new and session.dirty are empty.
        event.listen(db.session, "after_flush", _remember_flush)
        event.listen(db.session, "do_orm_execute", _remember_execute)
        event.listen(db.session, "after_commit", _forget)
        event.listen(db.session, "after_rollback", _forget)

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

        :return: ``False``: the session has uncommitted writes and is unchanged.
        """
        if not self._db.session.registry.has():
            return True
        session = self._db.session()
        if session.new or session.dirty or session.deleted or session.info.get(_WRITES):
            return False
        if session.in_transaction():
            _roll_back(session)
        return True

    def rollback(self) -> None:
        """Roll back the session, with the writes of a hook that failed."""
        if self._db.session.registry.has():
            _roll_back(self._db.session())


def _roll_back(session: Any) -> None:
    try:
        session.rollback()
    # The session has lost its connection, and the database has ended the transaction.
    except DBAPIError:
        session.invalidate()


def _remember_flush(session: Any, _context: object) -> None:
    session.info[_WRITES] = True


def _remember_execute(state: Any) -> None:
    if state.is_insert or state.is_update or state.is_delete:
        state.session.info[_WRITES] = True


def _forget(session: Any) -> None:
    session.info.pop(_WRITES, None)
