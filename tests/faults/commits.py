"""Commits whose reply is lost: they happened, or did not, and the caller gets an error.

Where the driver calls the database, so that everything above it is the real thing.
"""

from __future__ import annotations

import importlib
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event

from flask_chunked.database.sqlite import Result
from flask_chunked.database.transactions import Database
from tests.statements import around_single

#: Told the number of a commit; what becomes of it: "" (nothing), "after", "before".
Choose = Callable[[int], str]

NOTHING, AFTER, BEFORE = "", "after", "before"


class Commits:
    """Counts commits of an engine that change something, and those that were lost.

    For one thread at a time.
    """

    def __init__(self, choose: Choose) -> None:
        self.count = 0
        self.lost = 0
        self._choose = choose
        self._wrote = False

    def look(self, *arguments: object) -> None:
        """Listen to ``before_cursor_execute``."""
        self._wrote |= not str(arguments[2]).startswith(("SELECT", "SAVEPOINT"))

    def answer_single(self, text: str, execute: Callable[[], Result]) -> Result:
        """Stand around statements that commit themselves."""
        if text.startswith("SELECT"):
            return execute()
        fate = self._choose(self.count)
        self.count += 1
        outcome = None if fate == BEFORE else execute()
        if outcome is None or fate != NOTHING:
            self.lost += 1
            raise sqlite3.OperationalError("disk I/O error")
        return outcome

    def answer(self, real: Callable[[Any], None], connection: Any) -> None:
        """Stand for the dialect's ``do_commit``."""
        if not self._wrote:
            real(connection)
            return
        self._wrote = False
        fate = self._choose(self.count)
        self.count += 1
        if fate == BEFORE:
            connection.rollback()
        else:
            real(connection)
        if fate != NOTHING:
            self.lost += 1
            raise _lost(connection.driver_connection)


def _lost(connection: Any) -> Exception:
    """What the driver says then; the connection is as useless as it would be."""
    if isinstance(connection, sqlite3.Connection):
        return sqlite3.OperationalError("disk I/O error")
    driver: Any = importlib.import_module("psycopg")
    connection.close()
    error: Exception = driver.OperationalError("server closed the connection")
    return error


@contextmanager
def lossy(database: Database, choose: Choose) -> Iterator[Commits]:
    """Lose replies to this database's commits for the length of the block."""
    commits = Commits(choose)
    engine = database.engine()
    dialect: Any = engine.dialect
    real = dialect.do_commit
    dialect.do_commit = lambda connection: commits.answer(real, connection)
    event.listen(engine, "before_cursor_execute", commits.look)
    try:
        with around_single(database, commits.answer_single):
            yield commits
    finally:
        event.remove(engine, "before_cursor_execute", commits.look)
        del dialect.do_commit
