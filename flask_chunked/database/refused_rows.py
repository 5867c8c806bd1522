"""Which columns a database means when it refuses a row.

Knows the texts and fields of the drivers' errors; nothing of clients.
"""

from __future__ import annotations

import re

from sqlalchemy import CheckConstraint, Table
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
    """The columns of a constraint, as far as the model says which they are."""
    named: set[str] = set()
    of_columns = [one for column in table.c for one in column.constraints]
    for one in (*table.constraints, *of_columns):
        if constraint is None or one.name != constraint:
            continue
        if isinstance(one, ColumnCollectionConstraint):
            named |= {column.name for column in one.columns}
        if isinstance(one, CheckConstraint):
            # Its condition may be a text.
            named |= set(re.findall(r"\w+", str(one.sqltext)))
    return named & set(table.c.keys())
