"""Very many rows of uploads at once, and what a statement reads of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from flask import Flask
from sqlalchemy import Connection, event, text

from .apps import registered

#: Half of them unfinished, one each second, the last one an hour ago.
_SERIES = """
INSERT INTO {table} (
    id, blueprint, "user", filename, "offset", length, status, fence, created_at,
    last_activity_at, dialect, partial, attempts, storage_key, raw_metadata
)
WITH RECURSIVE series(i) AS (
    SELECT 0 UNION ALL SELECT i + 1 FROM series WHERE i < {count} - 1
), numbers(i, mod10) AS (SELECT i, i % 10 FROM series)
SELECT {new_id}, 'uploads', {owner}, 'a.bin', 1, 2 - i % 2,
    CASE WHEN i % 2 = 1 THEN 'complete' ELSE 'uploading' END, 0, {moment}, {moment},
    'tus', {false}, 0, '2026/01/01/3b241101-e2bb-4255-8caf-4136c566a962',
    'filename YS5iaW4='
FROM numbers
"""
_SQLITE = {
    "new_id": "lower(hex(randomblob(16)))",
    "moment": "strftime('%Y-%m-%d %H:%M:%f', '{start}', '+' || ({step} * i) "
    "|| ' seconds') || '000'",
    "false": "0",
}
_POSTGRESQL = {
    "new_id": "gen_random_uuid()",
    "moment": "timestamp '{start}' + i * {step} * interval '1 second'",
    "false": "false",
}


def add_crowd(app: Flask, count: int, owner: str, *, age: timedelta) -> None:
    """Insert so many uploads, half of them complete, by one statement.

    :param owner: SQL of the number ``i`` and of its last digit, ``mod10``.
    :param age: of the oldest; the newest is half as old.
    """
    here = registered(app)
    start = datetime.now(timezone.utc) - age
    with app.app_context(), here.database.engine().begin() as connection:
        words = _SQLITE if connection.dialect.name == "sqlite" else _POSTGRESQL
        times = {
            "start": f"{start:%Y-%m-%d %H:%M:%S}",
            "step": f"{age.total_seconds() / 2 / max(count, 1):.9f}",
        }
        values = {name: sql.format(**times) for name, sql in words.items()}
        statement = _SERIES.format(
            table=here.table.name, count=count, owner=owner, **values
        )
        connection.execute(text(statement))


@dataclass
class Reading:
    """What the statements of a block read.

    :ivar indexes: names of those that were used.
    :ivar scans: tables that were read from end to end.
    :ivar rows: how many rows, or steps of SQLite's machine, which each row has some of.
    """

    indexes: set[str] = field(default_factory=set)
    scans: set[str] = field(default_factory=set)
    rows: int = 0


@contextmanager
def watched(app: Flask) -> Iterator[Reading]:
    """Explain what the engine's transactions do, and count what they select.

    Only what goes through SQLAlchemy's connections.
    """
    here = registered(app)
    with app.app_context():
        engine = here.database.engine()
    seen: list[tuple[str, Any]] = []

    def note(*arguments: Any) -> None:
        if arguments[2].startswith(("SELECT", "UPDATE", "DELETE")):
            seen.append((arguments[2], arguments[3]))

    event.listen(engine, "before_cursor_execute", note)
    reading = Reading()
    try:
        yield reading
    finally:
        event.remove(engine, "before_cursor_execute", note)
    explain = _of_sqlite if engine.dialect.name == "sqlite" else _of_postgresql
    with engine.connect() as connection:
        for statement, values in seen:
            explain(connection, statement, values, reading)


def _of_sqlite(
    connection: Connection, statement: str, values: Any, reading: Reading
) -> None:
    plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
    for line in [row[3] for row in plan]:
        words = line.split()
        if "INDEX" in words:
            reading.indexes.add(words[words.index("INDEX") + 1])
        if words[0] == "SCAN" and words[1].startswith("chunked_upload"):
            reading.scans.add(words[1])
    if not statement.startswith("SELECT"):
        return
    raw: Any = connection.connection.driver_connection

    def count() -> int:
        reading.rows += 1
        return 0

    raw.set_progress_handler(count, 1)
    try:
        raw.execute(statement, values).fetchall()
    finally:
        raw.set_progress_handler(None, 1)


def _of_postgresql(
    connection: Connection, statement: str, values: Any, reading: Reading
) -> None:
    analyze = "ANALYZE, TIMING OFF, " if statement.startswith("SELECT") else ""
    answer = connection.exec_driver_sql(
        f"EXPLAIN ({analyze}FORMAT JSON) {statement}", values
    ).scalar_one()
    _add_node(answer[0]["Plan"], reading)


def _add_node(node: dict[str, Any], reading: Reading) -> None:
    if "Index Name" in node:
        reading.indexes.add(node["Index Name"])
    if node["Node Type"] == "Seq Scan":  # Also in parallel.
        reading.scans.add(node["Relation Name"])
    if "Relation Name" in node and "Actual Rows" in node:
        dropped = node.get("Rows Removed by Filter", 0)
        reading.rows += (node["Actual Rows"] + dropped) * node["Actual Loops"]
    for below in node.get("Plans", []):
        _add_node(below, reading)


def settle(app: Flask) -> None:
    """What PostgreSQL does by itself after a while: statistics, visibility."""
    with app.app_context():
        engine = registered(app).database.engine()
        if engine.dialect.name != "postgresql":
            return
        with engine.connect().execution_options(
            isolation_level="AUTOCOMMIT"
        ) as connection:
            connection.execute(text("VACUUM ANALYZE chunked_upload"))
