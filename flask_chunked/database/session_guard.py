"""The application's ``db.session``: never committed by us, never kept waiting.

A pooled connection that an open session holds would wait for the client with us, so
sessions are rolled back before a body is read; one with unsaved work is an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

if TYPE_CHECKING:
    from flask_sqlalchemy import SQLAlchemy

_WRITES = "flask_chunked.uncommitted_writes"


class SessionGuard:
    """Knows whether ``db.session`` holds uncommitted writes. One for each ``db``."""

    def __init__(self, db: SQLAlchemy) -> None:
        self._db = db
        # Flushed and bulk writes leave no trace in session.new or session.dirty.
        event.listen(db.session, "after_flush", _remember_flush)
        event.listen(db.session, "do_orm_execute", _remember_execute)
        event.listen(db.session, "after_commit", _forget)
        event.listen(db.session, "after_rollback", _forget)

    @classmethod
    def of(cls, db: SQLAlchemy) -> SessionGuard:
        """The guard of this ``db``, made at the first call."""
        info: dict[str, Any] = db.metadata.info
        guard: SessionGuard | None = info.get("flask_chunked.session_guard")
        if guard is None:
            guard = info["flask_chunked.session_guard"] = cls(db)
        return guard

    def release(self, who: str) -> None:
        """Give a pooled connection back by rolling a session without writes back.

        :param who: what came before; for the error's text.
        :raises RuntimeError: there are uncommitted writes.
        """
        if not self.rest():
            raise RuntimeError(
                f"db.session holds uncommitted writes after {who}; flask_chunked "
                "neither commits nor discards them: call db.session.commit() first"
            )

    def rest(self) -> bool:
        """Give a pooled connection back, unless uncommitted writes would be lost.

        :return: was there nothing to lose?
        """
        if not self._db.session.registry.has():
            return True
        session = self._db.session()
        if session.new or session.dirty or session.deleted or session.info.get(_WRITES):
            return False
        if session.in_transaction():
            _roll_back(session)
        return True

    def discard(self) -> None:
        """Roll back whatever a failed hook left."""
        if self._db.session.registry.has():
            _roll_back(self._db.session())


def _roll_back(session: Any) -> None:
    try:
        session.rollback()
    # The connection was lost while the session held it, and the transaction with it.
    except DBAPIError:
        session.invalidate()


def _remember_flush(session: Any, _context: object) -> None:
    session.info[_WRITES] = True


def _remember_execute(state: Any) -> None:
    if state.is_insert or state.is_update or state.is_delete:
        state.session.info[_WRITES] = True


def _forget(session: Any) -> None:
    session.info.pop(_WRITES, None)
