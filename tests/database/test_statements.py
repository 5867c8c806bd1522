"""The statements: built once for a table, with a text that never changes."""

from __future__ import annotations

import uuid

import pytest
from flask import Flask
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.dml import UpdateBase

from flask_chunked.database.sqlite import PreparedStatement
from flask_chunked.database.statements import Statements
from flask_chunked.engine.states import Event

from ..apps import registered


def test_a_table_has_its_statements_once(app: Flask) -> None:
    table = registered(app).table
    assert Statements.of(table) is Statements.of(table)


#: A termination deletes the row.
CHANGES = [event for event in Event if event is not Event.TERMINATE]


@pytest.mark.parametrize("event", CHANGES)
def test_each_event_has_a_statement_without_lists(app: Flask, event: Event) -> None:
    statements = Statements.of(registered(app).table)
    # A list of values raises ValueError.
    prepared = PreparedStatement(statements.transitions[event], sqlite.dialect())
    assert prepared.writes


@pytest.mark.parametrize("event", CHANGES)
def test_changed_row_is_converted_whatever_was_compiled_before(
    app: Flask, event: Event
) -> None:
    statements = Statements(registered(app).table)
    plain = statements.transitions[event]
    assert not PreparedStatement(plain, sqlite.dialect())._converters
    changed = PreparedStatement(statements.returning(plain), sqlite.dialect())
    number, convert = changed._converters[0]
    assert (number, convert(uuid.UUID(int=7).hex)) == (0, uuid.UUID(int=7))


def test_single_statements_have_no_lists(app: Flask) -> None:
    statements = Statements.of(registered(app).table)
    # With a list of ids; executed in a transaction.
    lists = {"touch_members", "expire_all"}
    single = {
        name: statement
        for name, statement in vars(statements).items()
        if isinstance(statement, UpdateBase) and name not in lists
    }
    assert {"advance", "advance_to_end", "advance_and_finish"} <= set(single)
    for statement in (*single.values(), *statements.ends.values()):
        PreparedStatement(statement, sqlite.dialect())


def test_ends_clear_what_is_reserved(app: Flask) -> None:
    statements = Statements.of(registered(app).table)
    for statement in statements.ends.values():
        assert "reserved=" in str(statement)
