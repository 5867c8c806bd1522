"""Which columns a database means when it refuses a row.

Knows the texts and fields of the drivers' errors; nothing of clients.
"""

from __future__ import annotations

import re

from sqlalchemy import Table
from sqlalchemy.sql.schema import ColumnCollectionConstraint

#: PostgreSQL's detail of a key that is not unique, or that no other row has.
_KEY = re.compile(r"Key \(([^)]*)\)=")


def refused_columns(table: Table, error: Exception) -> set[str]:
    """The columns of the table that a constraint has refused.

    :param error: SQLAlchemy's; its ``orig`` is the driver's.
    :return: empty: the error names none.
    """
    cause = getattr(error, "orig", None)
    diagnosis = getattr(cause, "diag", None)
    if diagnosis is not None:
        named = {diagnosis.column_name}
        key = _KEY.search(diagnosis.message_detail or "")
        if key is not None:
            named |= set(key[1].replace('"', "").split(", "))
        named |= _columns_of(table, diagnosis.constraint_name)
        return named & set(table.c.keys())
    reason = str(cause).partition("\n")[0]
    if reason.startswith("FOREIGN KEY"):
        # SQLite does not say which one.
        return {column.name for column in table.c if column.foreign_keys}
    kind, _, name = reason.partition(" constraint failed: ")
    if kind == "CHECK":
        return _columns_of(table, name)
    prefix = f"{table.name}."
    named = {part.removeprefix(prefix) for part in name.split(", ")}
    return named & set(table.c.keys())


def _columns_of(table: Table, constraint: str | None) -> set[str]:
    return {
        column.name
        for one in table.constraints
        if isinstance(one, ColumnCollectionConstraint)
        and constraint is not None
        and one.name == constraint
        for column in one.columns
    }
