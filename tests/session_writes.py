"""The ways in which an application writes with its session, and in which it reads.

Each takes a session and a model with a row of id 1 and a column ``text``.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from sqlalchemy import delete, exc, insert, select, text, update

#: Uses a session.
Way = Callable[[Any, Any], object]

SQL = "INSERT INTO note (text) VALUES ('pending')"


def change(session: Any, note: Any) -> None:
    session.get(note, 1).text = "pending"


def remove(session: Any, note: Any) -> None:
    session.delete(session.get(note, 1))


def flush(session: Any, note: Any) -> None:
    session.add(note(text="pending"))
    session.flush()


def begin_now(session: Any) -> None:
    """Python's driver begins no transaction before a savepoint, whose end commits."""
    connection = session.connection()
    if connection.dialect.name == "sqlite":
        driver = connection.connection.driver_connection
        if not driver.in_transaction:
            driver.execute("BEGIN")


def in_savepoint(session: Any, note: Any) -> None:
    begin_now(session)
    with session.begin_nested():
        session.add(note(text="pending"))


def before_savepoint(session: Any, note: Any) -> None:
    flush(session, note)
    session.begin_nested().commit()


def before_rollback(session: Any, note: Any) -> None:
    flush(session, note)
    session.begin_nested().rollback()


def get_or_create(session: Any, note: Any) -> None:
    flush(session, note)
    with suppress(exc.IntegrityError), session.begin_nested():
        session.execute(insert(note).values(id=1, text="again"))


def unread(session: Any, note: Any) -> object:
    # The result that is not read stays alive with the session.
    session.info["result"] = session.execute(text(f"{SQL} RETURNING id"))
    return session.info["result"]


def from_statement(session: Any, note: Any) -> object:
    written = text(f"{SQL} RETURNING *")
    return session.scalars(select(note).from_statement(written)).all()


def in_cte(session: Any, note: Any) -> object:
    gone = delete(note.__table__).returning(note.__table__.c.id).cte()
    return session.execute(select(gone)).all()


#: Writes on every database.
WRITES: dict[str, Way] = {
    "add": lambda session, note: session.add(note(text="pending")),
    "change": change,
    "remove": remove,
    "flush": flush,
    "core-insert": lambda session, note: session.execute(
        insert(note).values(text="pending")
    ),
    "core-insert-table": lambda session, note: session.execute(
        insert(note.__table__).values(text="pending")
    ),
    "core-update": lambda session, note: session.execute(
        update(note).values(text="pending")
    ),
    "core-delete": lambda session, note: session.execute(delete(note)),
    "text": lambda session, note: session.execute(text(SQL)),
    "text-returning": lambda session, note: session.execute(
        text(f"{SQL} RETURNING id")
    ).all(),
    "text-returning-unread": unread,
    "text-comment": lambda session, note: session.execute(text(f"/* blog */ {SQL}")),
    "connection": lambda session, note: session.connection().execute(
        insert(note.__table__).values(text="pending")
    ),
    "driver-sql": lambda session, note: session.connection().exec_driver_sql(SQL),
    "bulk-mappings": lambda session, note: session.bulk_insert_mappings(
        note, [{"text": "pending"}]
    ),
    "bulk-objects": lambda session, note: session.bulk_save_objects(
        [note(text="pending")]
    ),
    "from-statement": from_statement,
    "savepoint": in_savepoint,
    "before-savepoint": before_savepoint,
    "before-rollback": before_rollback,
    "get-or-create": get_or_create,
    "query-update": lambda session, note: session.query(note).update(
        {"text": "pending"}
    ),
}

#: Writes below SQLAlchemy, which SQLite counts.
RAW_WRITES: dict[str, Way] = {
    "raw-cursor": lambda session, note: (
        session.connection().connection.cursor().execute(SQL)
    ),
    "raw-driver": lambda session, note: (
        session.connection().connection.driver_connection.execute(SQL)
    ),
}


def touch(session: Any, note: Any) -> None:
    found = session.get(note, 1)
    found.text = found.text


def read_in_savepoint(session: Any, note: Any) -> None:
    with session.begin_nested():
        session.get(note, 1)
    nested = session.begin_nested()
    session.scalars(select(note)).all()
    nested.rollback()


def rolled_back(session: Any, note: Any) -> None:
    flush(session, note)
    session.rollback()
    session.get(note, 1)


#: Reads on every database.
READS: dict[str, Way] = {
    "get": lambda session, note: session.get(note, 1),
    "for-update": lambda session, note: session.scalars(
        select(note).with_for_update()
    ).all(),
    "text": lambda session, note: session.execute(text("SELECT * FROM note")).all(),
    "text-cte": lambda session, note: session.execute(
        text("WITH x AS (SELECT 'insert into' AS a) SELECT * FROM x")
    ).all(),
    "same-value": touch,
    "savepoints": read_in_savepoint,
    "rolled-back": rolled_back,
    "nothing": lambda session, note: None,
}


def lock_and_set(session: Any, note: Any) -> None:
    """Row locks number a transaction of PostgreSQL, as writes do."""
    session.execute(text("SET LOCAL statement_timeout = 10000"))
    session.scalars(select(note).with_for_update()).all()
    session.execute(text("SELECT * FROM note FOR UPDATE")).all()


def ask(session: Any, note: Any) -> None:
    """A statement that may write and does not."""
    session.execute(text("DO $$ BEGIN PERFORM 1; END $$"))
    session.execute(text("UPDATE note SET text = 'x' WHERE id = 99"))


POSTGRESQL_READS: dict[str, Way] = {"lock-and-set": lock_and_set, "ask": ask}
POSTGRESQL_WRITES: dict[str, Way] = {
    "cte": in_cte,
    "do": lambda session, note: session.execute(text(f"DO $$ BEGIN {SQL}; END $$")),
}
SQLITE_READS: dict[str, Way] = {
    "no-row": lambda session, note: session.execute(
        text("UPDATE note SET text = 'x' WHERE id = 99")
    ),
    "pragma": lambda session, note: session.execute(text("PRAGMA user_version")).all(),
}
