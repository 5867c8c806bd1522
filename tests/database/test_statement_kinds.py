"""What the text of a statement says about its writes."""

from __future__ import annotations

import pytest

from flask_chunked.database.statement_kinds import StatementKind, kind_of

READS, MAY_WRITE, WRITES = (
    StatementKind.READS,
    StatementKind.MAY_WRITE,
    StatementKind.WRITES,
)

KINDS = {
    "select 1": READS,
    "  \n SELECT updated_at, inserted_into FROM a": READS,
    "/* app:blog */ select 1": READS,
    "-- a comment; insert into a\nselect 1": READS,
    "(select 1) union (select 2)": READS,
    "select 'insert into a', \"update b set c\" from d": READS,
    "SELECT * FROM a FOR UPDATE": READS,
    "select * from a for no key update skip locked": READS,
    "with x as (select 1) select * from x for update": READS,
    "SET LOCAL statement_timeout = 1000": READS,
    "PRAGMA foreign_keys": READS,
    "BEGIN IMMEDIATE": READS,
    "SAVEPOINT sa_savepoint_1": READS,
    "RELEASE SAVEPOINT sa_savepoint_1": READS,
    "ROLLBACK TO SAVEPOINT sa_savepoint_1": READS,
    "LOCK TABLE a IN SHARE MODE": READS,
    "EXPLAIN INSERT INTO a VALUES (1)": READS,
    "EXPLAIN ANALYZE INSERT INTO a VALUES (1)": MAY_WRITE,
    "insert into a values (1)": MAY_WRITE,
    "/* app:blog */ INSERT INTO a VALUES (1)": MAY_WRITE,
    "replace into a values (1)": MAY_WRITE,
    "update a set b = 1": MAY_WRITE,
    "delete from a": MAY_WRITE,
    "select 1; delete from a": MAY_WRITE,
    "select * into a from b": MAY_WRITE,
    "with x as (delete from a) select 1": MAY_WRITE,
    "with x as (update a set b = 1) select 1": MAY_WRITE,
    "merge into a using b on a.id = b.id when matched then delete": MAY_WRITE,
    "call book(1)": MAY_WRITE,
    "copy a from stdin": MAY_WRITE,
    "": MAY_WRITE,
    "insert into a values (1) returning id": WRITES,
    "with x as (delete from a returning id) select * from x": WRITES,
    "create table a (b int)": WRITES,
    "DROP INDEX a": WRITES,
    "truncate a": WRITES,
}


@pytest.mark.parametrize(("statement", "kind"), KINDS.items(), ids=KINDS)
def test_kind_of_a_statement(statement: str, kind: StatementKind) -> None:
    assert kind_of(statement) is kind
