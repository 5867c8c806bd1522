"""Watches the statements of an app's uploads, whichever way they go to the database."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event

from flask_chunked.database.sqlite import PreparedStatement, Result, SQLiteExecutor
from flask_chunked.database.transactions import Database

#: Told a statement's text and how to execute it.
Around = Callable[[str, Callable[[], Result]], Result]


def executor_of(database: Database) -> SQLiteExecutor | None:
    """What single statements go through; ``None``: SQLAlchemy's connections."""
    database.engine()
    return database._executor


@contextmanager
def around_single(database: Database, around: Around) -> Iterator[None]:
    """Intercept single statements, which commit themselves, if an executor runs them.

    An error of :mod:`sqlite3` that is raised there counts as the driver's.
    """
    executor = executor_of(database)
    if executor is None:
        yield
        return
    real = executor.execute_prepared

    def execute(prepared: PreparedStatement, values: Mapping[str, object]) -> Result:
        return around(prepared.text, lambda: real(prepared, values))

    executor.execute_prepared = execute  # type: ignore[method-assign]
    try:
        yield
    finally:
        executor.execute_prepared = real  # type: ignore[method-assign]


@contextmanager
def before_each(database: Database, tell: Callable[[str], None]) -> Iterator[None]:
    """Tell the text of each statement before it is executed; errors count."""

    def by_event(*arguments: Any) -> None:
        tell(str(arguments[2]))

    def by_driver(text: str, execute: Callable[[], Result]) -> Result:
        tell(text)
        return execute()

    engine = database.engine()
    event.listen(engine, "before_cursor_execute", by_event)
    try:
        with around_single(database, by_driver):
            yield
    finally:
        event.remove(engine, "before_cursor_execute", by_event)
