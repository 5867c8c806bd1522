"""What the database lacks of our tables: looked at after a statement failed.

The text of an error alone does not say whose column it is: an application's own query
may have a misspelt one. Knows nothing of uploads.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, Table, inspect
from sqlalchemy.exc import SQLAlchemyError

from ..exceptions import MissingColumnError, MissingTableError

#: How SQLite, PostgreSQL and MySQL report a name that they do not know.
_UNKNOWN_NAME = (
    "no such table",
    "no such column",
    "has no column named",
    "does not exist",
    "doesn't exist",
    "unknown column",
)


def is_unknown_name(error: SQLAlchemyError) -> bool:
    """True if a table or a column that the statement names is not there."""
    text = str(getattr(error, "orig", error)).lower()
    return any(words in text for words in _UNKNOWN_NAME)


def first_missing(
    connection: Connection, tables: Iterable[Table]
) -> MissingTableError | None:
    """The first table that is not there or lacks columns; ``None``: all are whole."""
    seen = inspect(connection)
    for table in tables:
        if not seen.has_table(table.name, schema=table.schema):
            return MissingTableError(table.fullname)
        there = {
            column["name"]
            for column in seen.get_columns(table.name, schema=table.schema)
        }
        missing = [column.name for column in table.c if column.name not in there]
        if missing:
            return MissingColumnError(table.fullname, missing)
    return None
