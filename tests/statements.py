"""Watches the statements of an app's uploads, whichever way they go to the database."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event

from flask_chunked.database.sqlite import Driver, Outcome, Prepared
from flask_chunked.database.transactions import Database

#: Told a statement's text and how to execute it.
Around = Callable[[str, Callable[[], Outcome]], Outcome]


def driver_of(database: Database) -> Driver | None:
    """What single statements go through; ``None``: SQLAlchemy's connections."""
    database.engine()
    return database._driver


@contextmanager
def around_single(database: Database, around: Around) -> Iterator[None]:
    """Stand around single statements, which commit themselves, where a driver has them.

    An error of :mod:`sqlite3` that is raised there counts as the driver's.
    """
    driver = driver_of(database)
    if driver is None:
        yield
        return
    real = driver.execute

    def execute(prepared: Prepared, values: Mapping[str, object]) -> Outcome:
        return around(prepared.text, lambda: real(prepared, values))

    driver.execute = execute  # type: ignore[method-assign]
    try:
        yield
    finally:
        driver.execute = real  # type: ignore[method-assign]


@contextmanager
def before_each(database: Database, tell: Callable[[str], None]) -> Iterator[None]:
    """Tell the text of each statement before it is executed; errors count."""

    def by_event(*arguments: Any) -> None:
        tell(str(arguments[2]))

    def by_driver(text: str, execute: Callable[[], Outcome]) -> Outcome:
        tell(text)
        return execute()

    engine = database.engine()
    event.listen(engine, "before_cursor_execute", by_event)
    try:
        with around_single(database, by_driver):
            yield
    finally:
        event.remove(engine, "before_cursor_execute", by_event)
