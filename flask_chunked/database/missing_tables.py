"""Finds the tables and columns that the database lacks, after a statement has failed.

The error's text alone does not suffice: the unknown column may be a misspelt one in a
query of the application. Knows nothing of uploads.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, Table, inspect
from sqlalchemy.exc import SQLAlchemyError

from ..exceptions import MissingColumnError, MissingTableError

#: How SQLite, PostgreSQL and MySQL report an unknown name.
_UNKNOWN_NAME = (
    "no such table",
    "no such column",
    "has no column named",
    "does not exist",
    "doesn't exist",
    "unknown column",
)


def is_unknown_name(error: SQLAlchemyError) -> bool:
    """True if the database does not know a table or column of the statement."""
    text = str(getattr(error, "orig", error)).lower()
    return any(words in text for words in _UNKNOWN_NAME)


def first_missing(
    connection: Connection, tables: Iterable[Table]
) -> MissingTableError | None:
    """Return an error for the first table that does not exist or lacks columns.

    :return: ``None``: all tables exist with all their columns.
    """
    inspector = inspect(connection)
    for table in tables:
        if not inspector.has_table(table.name, schema=table.schema):
            return MissingTableError(table.fullname)
        existing = {
            column["name"]
            for column in inspector.get_columns(table.name, schema=table.schema)
        }
        missing = [column.name for column in table.c if column.name not in existing]
        if missing:
            return MissingColumnError(table.fullname, missing)
    return None
